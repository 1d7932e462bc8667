"""Displaced aggregation units: filters as mixtures of shifted isotropic Gaussians, references [8, 13, 14]."""

from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gdlayer._plumbing.checks import int_pair, odd_int, one_of, positive_number
from gdlayer._plumbing.modes import autocast_off, of_whole_parameters
from gdlayer._plumbing.parameters import check_settable
from gdlayer.basis import sampling_grid
from gdlayer.geometry import inverse_softplus
from gdlayer.initialization import RELU_GAIN, mixing_std
from gdlayer.synthesis import ConvOptions, SynthesizedConv2d


class DAUConv2d(SynthesizedConv2d):
    r"""The convolution of DAU-ConvNet (Tabernik et al., 2016 to 2020) with learned shifts and scales.

    >>> import torch
    >>> from gdlayer.related import DAUConv2d
    >>> layer = DAUConv2d(16, 32, kernel_size=9, units=(2, 2))
    >>> layer(torch.randn(8, 16, 28, 28)).shape
    torch.Size([8, 32, 28, 28])

    A filter is a sum of displaced aggregation units: a few round Gaussians, each with its own weight and shift.

    .. math:: W_j^i = \sum_k w_k \frac{g_k}{\sum_{x,y} g_k(x, y)}, \qquad
        g_k(x, y) = e^{-((x - \mu_{k,1})^2 + (y - \mu_{k,2})^2) / 2\sigma_k^2}

    Each filter j and channel i has its own units k, each of 4 numbers: 4 units f_in f_out parameters in all.

    Parameters
    ----------
    in_channels, out_channels, stride, padding, dilation, padding_mode, bias :
        As :class:`~gdlayer.synthesis.SynthesizedConv2d`; no bias by default.
    kernel_size : int
        k, odd. Shifts are kept within :math:`\pm(\lfloor k/2 \rfloor - 0.01)`, by projection in training.
    units : (nx, ny)
        Units start on a regular grid, nx along x and ny along y.
    sigma_min : float
        Lower bound of sigma in pixels: :math:`\sigma = \sigma_{min} + \mathrm{softplus}(s)`. At the start sigma is 0.5.
    init : "variance_preserving" or "authors"
        w normal, see :mod:`gdlayer.initialization`; or normal with deviation 0.1, as published.

    Attributes
    ----------
    w : (f_out, f_in, units); mu : (f_out, f_in, units, 2), in pixels; raw_sigma : the s, (f_out, f_in, units)

    Raises
    ------
    ValueError, TypeError
        If an argument is not what its entry allows; the message quotes it.
    """

    once_weight = "w"
    mixing = ("w",)
    shaping = ("raw_sigma", "mu")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        units: tuple[int, int] = (5, 2),
        bias: bool = False,
        sigma_min: float = 0.1,
        init: str = "variance_preserving",
        gain: float = RELU_GAIN,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Unpack[ConvOptions],
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            odd_int("kernel_size", kernel_size),
            bias=bias,
            device=device,
            dtype=dtype,
            **options,
        )
        if kernel_size < 3:
            raise ValueError(f"kernel_size must be 3 or more, got {kernel_size}")
        self.sigma_min = positive_number("sigma_min", sigma_min)
        if self.sigma_min >= 0.5:
            raise ValueError(f"sigma_min must be between 0 and 0.5 pixels, got {sigma_min!r}")
        self.units = int_pair("units", units)
        self.max_shift = kernel_size // 2 - 0.01
        self.init = one_of("init", init, ("variance_preserving", "authors"))
        self.gain = positive_number("gain", gain)
        shape = (out_channels, in_channels, self.units[0] * self.units[1])
        self.w = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.mu = nn.Parameter(torch.empty((*shape, 2), device=device, dtype=dtype))
        self.raw_sigma = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.reset_parameters()

    @property
    def sigma(self) -> Tensor:
        """Standard deviations (f_out, f_in, units) in pixels."""
        return self.sigma_min + F.softplus(self.raw_sigma)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """mu on its grid, sigma = 0.5, weights anew from torch's global generator; a bias becomes zero."""
        check_settable(self)
        m = self.kernel_size[0] // 2 - 1
        x, y = ((torch.arange(n) + 0.5) * (2 * m + 1) / n - 0.5 - m for n in self.units)
        self.mu.copy_(torch.cartesian_prod(x, y))
        self.raw_sigma.copy_(inverse_softplus(torch.full_like(self.raw_sigma, 0.5 - self.sigma_min)))
        self.w.normal_(std=0.1)
        if self.init == "variance_preserving":
            gx, gy = self._profiles()
            kernels = gy[..., :, None] * gx[..., None, :]
            self.w.mul_(mixing_std(kernels, self.in_channels, self.gain) / 0.1)
        if self.bias is not None:
            self.bias.zero_()

    def meaning(self) -> dict[str, Any]:
        return {**super().meaning(), "sigma_min": self.sigma_min}

    def _profiles(self) -> tuple[Tensor, Tensor]:
        """The factors of g_k / sum g_k along x and y, each (f_out, f_in, units, k)."""
        x, _ = sampling_grid(self.kernel_size, dtype=self.mu.dtype, device=self.mu.device)
        sigma = self.sigma[..., None]
        # softmax stays finite where every sample of g_k underflows to zero
        gx, gy = (torch.softmax(-0.5 * ((x - self.mu[..., i, None]) / sigma) ** 2, -1) for i in (0, 1))
        return gx, gy

    @of_whole_parameters
    def filters(self) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.mu.clamp_(-self.max_shift, self.max_shift)
        gx, gy = self._profiles()
        with autocast_off(self.mu.device):
            return (gy * self.w[..., None]).transpose(-2, -1) @ gx  # the sum over units k

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, units={self.units}"
