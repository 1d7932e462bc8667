"""Gaussian derivative networks: layers that are covariant under rescaling, shared by scale channels, reference [11]."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gdlayer._plumbing.checks import one_of, positive_int, positive_number
from gdlayer._plumbing.modes import autocast_off
from gdlayer._plumbing.parameters import check_settable
from gdlayer._plumbing.state import OwnState
from gdlayer.initialization import RELU_GAIN, mixing_std
from gdlayer.synthesis import DTYPES

_DIFFERENCES = {0: [0.0, 1.0, 0.0], 1: [-0.5, 0.0, 0.5], 2: [1.0, -2.0, 1.0]}
"""Central differences by order."""
_ORDERS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
"""Along x and y: of L, L_x, L_y, L_xx, L_xy, L_yy."""


class ScaleSpaceConv2d(OwnState):
    r"""The Gaussian derivative layer of Lindeberg (2022): a learned combination of the 2-jet of the smoothed maps.

    >>> import torch
    >>> from gdlayer.related import ScaleSpaceConv2d
    >>> layer = ScaleSpaceConv2d(16, 32, sigma=1.5)
    >>> layer(torch.randn(8, 16, 28, 28), scale=2.0).shape  # the same weights at sigma = 3
    torch.Size([8, 32, 28, 28])

    .. math::
        J &= \sum_i C_0 L + \sigma\, (C_x L_x + C_y L_y)
            + \tfrac12 \sigma^2 (C_{xx} L_{xx} + C_{xy} L_{xy} + C_{yy} L_{yy}) \\
        L &= T(\sigma^2) * I_i

    with coefficients C of its own for each output j and input i. T is the discrete Gaussian
    (:func:`~gdlayer.related.scale_space.smoothing`), and derivatives are central differences. The powers of sigma
    normalise them, so that the layer is covariant: with the scale s, an image that is s times as large gives the
    response of the original at scale 1, s times as large. It is exact on continuous images; on pixels the images must
    be smooth. But for factors of the weights, the layer is a :class:`~gdlayer.GaussianDerivativeConv2d` with
    ``order=2``, ``sampling="discrete"``, ``normalise=1`` and one fixed, round, centred geometry.

    Parameters
    ----------
    in_channels, out_channels : int
    sigma : float
        In pixels at scale 1, positive; it does not train.
    gain : float
        g of the initialisation: C normal, see :mod:`gdlayer.initialization`. What the author uses is not known to us.

    Attributes
    ----------
    coefficients : (f_out, f_in, 6)
        C in the order of the formula.

    Raises
    ------
    ValueError, TypeError
        If an argument is not what its entry allows; the message quotes it.
    """

    once_weight = "coefficients"
    mixing = ("coefficients",)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        sigma: float,
        gain: float = RELU_GAIN,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if dtype is not None:
            one_of("dtype", dtype, DTYPES)
        self.in_channels = positive_int("in_channels", in_channels)
        self.out_channels = positive_int("out_channels", out_channels)
        self.sigma = positive_number("sigma", sigma)
        self.gain = positive_number("gain", gain)
        self.coefficients = nn.Parameter(
            torch.empty(out_channels, in_channels, len(_ORDERS), device=device, dtype=dtype)
        )
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws the weights anew from torch's global generator, for unit variance at scale 1."""
        check_settable(self)
        size = 2 * int(5 * self.sigma) + 9
        impulse = torch.zeros(size, size, device=self.coefficients.device, dtype=self.coefficients.dtype)
        impulse[size // 2, size // 2] = 1
        kernels = F.conv2d(_smoothed(impulse[None, None], self.sigma), self._jet(self.sigma)[:, None])[0]
        self.coefficients.normal_().mul_(mixing_std(kernels, self.in_channels, self.gain))

    def meaning(self) -> dict[str, Any]:
        return {"sigma": self.sigma}

    def _jet(self, sigma: float) -> Tensor:
        """The scale-normalised differences, (6, 3, 3): 1, sigma and sigma^2 / 2 times those of order 0, 1 and 2."""
        dx, dy = (
            self.coefficients.new_tensor([_DIFFERENCES[order] for order in orders])
            for orders in zip(*_ORDERS, strict=True)
        )
        factors = self.coefficients.new_tensor([(1, sigma, sigma**2 / 2)[p + q] for p, q in _ORDERS])
        return dy[:, :, None] * dx[:, None, :] * factors[:, None, None]

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        """x (b, f_in, h, w) -> J (b, f_out, h, w) at ``scale`` times sigma; outside of x are zeros."""
        sigma = self.sigma * positive_number("scale", scale)
        with autocast_off(x.device):
            filters = torch.tensordot(self.coefficients, self._jet(sigma), 1)  # the sum over the 2-jet
        return F.conv2d(_smoothed(x, sigma), filters)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, sigma={self.sigma:.4g}"


def smoothing(size: int, sigma: float) -> Tensor:
    r"""The matrix that smooths a line of ``size`` pixels by the discrete Gaussian, with zeros outside.

    .. math:: S_{ij} = T(i - 1 - j), \qquad
        T(n) = e^{-\sigma^2} I_n(\sigma^2)
        = \frac1{2\pi} \int_{-\pi}^{\pi} e^{\sigma^2 (\cos\omega - 1)} e^{i\omega n}\, d\omega

    Its result has a pixel more at each end, for the central differences that follow.

    Parameters
    ----------
    size : int
    sigma : float
        In pixels.

    Returns
    -------
    tensor of float64, shape (size + 2, size)
    """
    period = 2 * (size + 8 * math.ceil(sigma))  # as long as what its repetition adds to T is below rounding
    omega = torch.arange(period // 2 + 1, dtype=torch.float64) * (2 * math.pi / period)
    taps = torch.fft.irfft(torch.exp(sigma**2 * (omega.cos() - 1)), n=period)
    return taps[(torch.arange(-1, size + 1)[:, None] - torch.arange(size)).abs()]


def _smoothed(x: Tensor, sigma: float) -> Tensor:
    """L (b, c, h + 2, w + 2): x smoothed along both axes."""
    rows, columns = (smoothing(n, sigma).to(x) for n in x.shape[-2:])
    return rows @ x @ columns.mT


class ScaleChannelNetwork(nn.Module):
    r"""Lindeberg's network: one chain of Gaussian derivative layers at several scales, and the maximum over them.

    >>> import torch
    >>> from gdlayer.related import ScaleChannelNetwork
    >>> network = ScaleChannelNetwork()
    >>> network(torch.randn(8, 1, 28, 28)).shape
    torch.Size([8, 10])

    .. math:: \sigma_{k, s} = s\, \sigma_0\, r^{k - 1}

    is the scale of layer k in channel s. All channels share coefficients, batch normalisation, whose statistics are of
    all channels together, and the dense layer. Each layer is followed by normalisation and ReLU. After the last, each
    map is reduced to its maximum over positions, the dense layer makes logits, and the largest over the channels
    counts. So an image that is larger by the ratio of two scales has in one channel what it had in the other.

    The published network reads the last layer at the central pixel, and its layers make the logits; the maximum over
    positions is of Perzanowski and Lindeberg (2024). Widths, depth, :math:`\sigma_0`, r and scales are ours: those of
    the published networks were not at hand.

    Parameters
    ----------
    widths : ints
        Feature maps of each layer.
    scales : floats
        s of each channel, positive.
    sigma, ratio : float
        :math:`\sigma_0` in pixels, and r.
    in_channels, num_classes : int

    Shapes
    ------
    (b, in_channels, h, w) -> logits (b, num_classes)

    Raises
    ------
    ValueError, TypeError
        If an argument is not what its entry allows; the message quotes it.
    """

    def __init__(
        self,
        *,
        widths: Sequence[int] = (16, 16, 16, 32),
        scales: Sequence[float] = (0.5, 0.5**0.5, 1.0, 2**0.5, 2.0),
        sigma: float = 1.0,
        ratio: float = 2**0.5,
        in_channels: int = 1,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        if not widths or not scales:
            raise ValueError(f"widths and scales must not be empty, got {widths!r} and {scales!r}")
        positive_number("sigma", sigma)
        positive_number("ratio", ratio)
        self.scales = tuple(positive_number("each of scales", scale) for scale in scales)
        fan_in = (in_channels, *widths)
        self.convs = nn.ModuleList(
            ScaleSpaceConv2d(f_in, f_out, sigma=sigma * ratio**k)
            for k, (f_in, f_out) in enumerate(zip(fan_in, widths, strict=False))
        )
        self.norms = nn.ModuleList(map(nn.BatchNorm2d, widths))
        self.classifier = nn.Linear(fan_in[-1], num_classes)

    def channels(self, x: Tensor) -> Tensor:
        """The logits of each scale channel, (scales, b, num_classes)."""
        maps = [x] * len(self.scales)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            j = torch.cat([conv(own, scale) for own, scale in zip(maps, self.scales, strict=True)])
            maps = F.relu(norm(j), inplace=True).chunk(len(self.scales))
        return self.classifier(torch.stack([own.amax((-2, -1)) for own in maps]))

    def forward(self, x: Tensor) -> Tensor:
        return self.channels(x).amax(0)
