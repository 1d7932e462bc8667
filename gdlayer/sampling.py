"""Errors of sampling a Gaussian derivative in a window of pixels; derived in the book's chapter on kernels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gdlayer.basis import gaussian_derivative_kernels, rotation, sampling_grid

NAMED = 3
"""The most kernels that a warning names."""


@dataclass(frozen=True)
class SamplingReport:
    r"""Errors of every kernel; it prints as a table.

    Applied to the monomial :math:`f_{ab} = \sigma_1^p \sigma_2^q\, (-\tilde u)^a (-\tilde v)^b / a!\, b!`, with
    :math:`\tilde u = (u - \mu_1) / \sigma_1` and :math:`\tilde v = (v - \mu_2) / \sigma_2`, the derivative of order
    (p, q) gives 1 if (a, b) = (p, q), and 0 for all other :math:`a + b \le p + q`. What the samples give instead:

    .. math::
        e_{\text{sampling}} &= \max_{a + b \le p + q} \Big| \sum_{\text{pixels}} f_{ab}\, \phi
            - \int_{\text{window}} f_{ab}\, \phi \,\Big| \\
        e_{\text{truncation}} &= 1 - \int_{\text{window}} \phi^2 \Big/ \int \phi^2

    The sampling error compares sum and integral over the same window, so that a truncated kernel does not count as
    undersampled; kernels at the edge keep the error of the midpoint rule, a few hundredths. The maximum over all (a, b)
    is taken because the error of one moment alone can vanish by chance at some sigma or shift.

    Attributes
    ----------
    orders : N pairs (p, q)
    sigma : (B, N, 2), in pixels
    window : (kh, kw)
    sampling : (B, N), from 0
    truncation : (B, N), from 0 to 1
    tolerance : float
    """

    orders: tuple[tuple[int, int], ...]
    sigma: Tensor
    window: tuple[int, int]
    sampling: Tensor
    truncation: Tensor
    tolerance: float

    @property
    def undersampled(self) -> Tensor:
        """(B, N), true where ``sampling`` is above ``tolerance``."""
        return self.sampling > self.tolerance

    @property
    def truncated(self) -> Tensor:
        """(B, N), true where ``truncation`` is above ``tolerance``."""
        return self.truncation > self.tolerance

    def faults(self) -> list[str]:
        """Texts of warnings: one about undersampled kernels and one about truncated kernels, if there are any."""
        limit, (height, width) = f"{self.tolerance:.0%}", self.window
        texts = []
        if bool(self.undersampled.any()):
            texts.append(
                f"undersampled, error above {limit}: {self._worst(self.sampling)}. "
                "A larger sigma_min keeps kernels from it, and a larger kernel_size hybrid ones whose Gaussian is cut."
            )
        if bool(self.truncated.any()):
            texts.append(
                f"truncated, more than {limit} of the energy outside the {height} x {width} window: "
                f"{self._worst(self.truncation)}. A larger kernel_size holds them, a sigma_max keeps them small."
            )
        return texts

    def _worst(self, errors: Tensor) -> str:
        """How many kernels are above the tolerance, and the first few."""
        count = int((errors > self.tolerance).sum())
        worst = errors.flatten().argsort(descending=True)[: min(count, NAMED)].tolist()
        texts = [
            f"basis {b}, kernel {n}, order {self.orders[n]}, sigma {self._pair(b, n)}: {errors[b, n]:.0%}"
            for b, n in (divmod(index, len(self.orders)) for index in worst)
        ]
        more = f"; and {count - NAMED} more" if count > NAMED else ""
        return f"{count} of {errors.numel()} kernels ({'; '.join(texts)}{more})"

    def _pair(self, b: int, n: int) -> str:
        first, second = self.sigma[b, n].tolist()
        return f"({first:.2f}, {second:.2f})"

    def __str__(self) -> str:
        lines = [f"{'basis':>5} {'kernel':>6} {'order':>7} {'sigma':>14} {'sampling':>9} {'truncation':>10}"]
        for b in range(len(self.sigma)):
            for n, order in enumerate(self.orders):
                marks = ("undersampled", self.undersampled[b, n]), ("truncated", self.truncated[b, n])
                lines.append(
                    f"{b:5} {n:6} {order!s:>7} {self._pair(b, n):>14} {self.sampling[b, n]:9.1%} "
                    f"{self.truncation[b, n]:10.1%}  {', '.join(mark for mark, is_so in marks if is_so)}".rstrip()
                )
        return "\n".join(lines)


def sampling_report(
    kernels: Tensor,
    sigma: Tensor,
    mu: Tensor,
    theta: Tensor,
    orders: Sequence[tuple[int, int]],
    tolerance: float,
) -> SamplingReport:
    """Compares samples with the kernels of eq. (1). Integrals are sums over a grid much finer than the pixels.

    Parameters
    ----------
    kernels : (B, N, kh, kw)
        The samples.
    sigma, mu, theta : (B, N, 2), (B, N, 2), (B, N)
    orders : N pairs (p, q)
    tolerance : float

    Raises
    ------
    ValueError
        If sigma, mu or theta is not finite.
    """
    for name, values in (("sigma", sigma), ("mu", mu), ("theta", theta)):
        if not bool(values.isfinite().all()):
            raise ValueError(f"{name} must be finite, got NaN or infinity")
    kernels, sigma, mu, theta = (t.detach().to("cpu", torch.float64) for t in (kernels, sigma, mu, theta))
    bases, _, height, width = kernels.shape
    errors = torch.tensor(
        [
            [_errors(kernels[b, n], sigma[b, n], mu[b, n], theta[b, n], order) for n, order in enumerate(orders)]
            for b in range(bases)
        ],
        dtype=torch.float64,
    )
    return SamplingReport(tuple(orders), sigma, (height, width), errors[..., 0], errors[..., 1], tolerance)


def _errors(samples: Tensor, sigma: Tensor, mu: Tensor, theta: Tensor, order: tuple[int, int]) -> tuple[float, float]:
    """Sampling and truncation error of one kernel, its samples (kh, kw)."""
    dense = min(max(math.ceil(2 / float(sigma.min())), 4), 64)  # points per pixel, from two per sigma on
    wide, far = sigma * dense, mu * dense  # the same lengths in units of the points
    size = samples.shape[0] * dense, samples.shape[1] * dense
    fine = gaussian_derivative_kernels(wide[None], far[None], theta[None], [order], size)[0]
    error = _moments(samples, sigma, mu, theta, order) - _moments(fine, wide, far, theta, order)
    energy = math.prod(
        math.gamma(d + 0.5) / (2 * math.pi * float(s) ** (2 * d + 1)) for d, s in zip(order, wide, strict=True)
    )
    return float(error.abs().max()), max(0.0, 1 - float(fine.square().sum()) / energy)


def _moments(kernel: Tensor, sigma: Tensor, mu: Tensor, theta: Tensor, order: tuple[int, int]) -> Tensor:
    """Sums of a kernel (kh, kw) times f_ab over its points: (K + 1, K + 1) for K = p + q, zero where a + b > K."""
    x, y = sampling_grid((kernel.shape[0], kernel.shape[1]), dtype=kernel.dtype)
    points = torch.stack(torch.meshgrid(x, y, indexing="xy")).flatten(1)  # (2, kh kw)
    u, v = (rotation(theta) @ points - mu[:, None]) / sigma[:, None]
    powers = torch.arange(sum(order) + 1, dtype=kernel.dtype)
    factorials = torch.exp(torch.lgamma(powers + 1))
    along_u, along_v = ((-t) ** powers[:, None] / factorials[:, None] for t in (u, v))
    moments = (along_u * kernel.flatten()) @ along_v.mT * (sigma[0] ** order[0] * sigma[1] ** order[1])
    return moments * (powers[:, None] + powers <= sum(order))
