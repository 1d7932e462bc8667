"""The local N-jet: anisotropic, oriented and shifted two-dimensional Gaussian derivative kernels, eq. (1)."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from gdlayer.hermite import gaussian_derivatives


def jet_orders(order: int | Iterable[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    """The derivative orders (p, q) of a basis.

    Parameters
    ----------
    order : int or iterable of (p, q)
        An integer K stands for the N-jet, all p + q <= K: N = (K + 1)(K + 2)/2 kernels, listed by total order and
        then by p: (0,0), (0,1), (1,0), (0,2), (1,1), (2,0), ... An explicit list is taken as it is.

    Raises
    ------
    ValueError
        If K or an order is not an integer >= 0, or the list is empty or repeats a pair.
    """
    if isinstance(order, int) and not isinstance(order, bool):
        if order < 0:
            raise ValueError(f"order must be an integer >= 0 or a list of pairs (p, q), got {order}")
        return tuple((p, total - p) for total in range(order + 1) for p in range(total + 1))
    try:
        orders = tuple(tuple(pair) for pair in order)  # type: ignore[union-attr]
    except TypeError:
        raise ValueError(f"order must be an integer >= 0 or a list of pairs (p, q), got {order!r}") from None
    for pair in orders:
        if len(pair) != 2 or any(not isinstance(d, int) or isinstance(d, bool) or d < 0 for d in pair):
            raise ValueError(f"each derivative order must be a pair (p, q) of integers >= 0, got {pair!r}")
    if not orders or len(set(orders)) != len(orders):
        raise ValueError(f"order must list at least one pair (p, q), each once, got {orders!r}")
    return orders  # type: ignore[return-value]


def sampling_grid(
    kernel_size: tuple[int, int], *, dtype: torch.dtype | None = None, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Coordinates x (kw,) along columns and y (kh,) along rows, in pixels, centred at 0.

    An odd size samples the integers, an even size the half-integers between them.
    """
    y, x = (torch.arange(k, dtype=dtype, device=device) - (k - 1) / 2 for k in kernel_size)
    return x, y


def gaussian_derivative_kernels(
    sigma: Tensor,
    mu: Tensor,
    theta: Tensor,
    orders: Sequence[tuple[int, int]],
    kernel_size: tuple[int, int],
) -> Tensor:
    r"""Kernels of eq. (1), point-sampled on the grid of :func:`sampling_grid`.

    .. math::
        \phi^{b,n}(x, y) &= G_{p_n}(u - \mu_1, \sigma_1)\; G_{q_n}(v - \mu_2, \sigma_2) \\
        u &= x \cos\theta + y \sin\theta, \qquad v = -x \sin\theta + y \cos\theta

    Each kernel has its own :math:`\sigma, \mu, \theta`. The shift is applied in the rotated frame, so the kernel's
    centre is :math:`R_\theta^\top \mu`; the kernels are neither normalised by their sum nor by :math:`\sigma^{p+q}`.

    Parameters
    ----------
    sigma, mu : tensors of shape (..., N, 2)
        Standard deviations and shifts along u and v, in pixels.
    theta : tensor of shape (..., N)
        Angle of the u axis against the columns' axis x, counter-clockwise in the frame (x, y), in radians.
    orders : N pairs (p, q)
    kernel_size : (kh, kw)

    Returns
    -------
    tensor of shape (..., N, kh, kw)

    Raises
    ------
    ValueError
        If a shape does not fit the number of orders.
    """
    n = len(orders)
    for name, parameter, shape in (("sigma", sigma, (n, 2)), ("mu", mu, (n, 2)), ("theta", theta, (n,))):
        if parameter.shape[-len(shape) :] != shape:
            raise ValueError(
                f"{name} must have shape (..., {', '.join(map(str, shape))}), got {tuple(parameter.shape)}"
            )
    x, y = sampling_grid(kernel_size, dtype=theta.dtype, device=theta.device)
    y = y[:, None]
    cos, sin = torch.cos(theta)[..., None, None], torch.sin(theta)[..., None, None]  # (..., N, 1, 1)
    u = x * cos + y * sin  # (..., N, kh, kw)
    v = y * cos - x * sin
    p, q = zip(*orders, strict=True)
    return _derivative(u, mu[..., 0], sigma[..., 0], p) * _derivative(v, mu[..., 1], sigma[..., 1], q)


def _derivative(position: Tensor, mu: Tensor, sigma: Tensor, order: Sequence[int]) -> Tensor:
    """G of order[n] along one axis for every kernel n: positions (..., N, kh, kw), mu and sigma (..., N)."""
    g = gaussian_derivatives(position - mu[..., None, None], sigma[..., None, None], max(order))
    return torch.stack([g[p].select(-3, n) for n, p in enumerate(order)], dim=-3)
