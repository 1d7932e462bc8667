"""Resolution learning: a Gaussian derivative basis with one learned scale per layer, reference [15]."""

import math
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from gdlayer._plumbing.checks import one_of, positive_number
from gdlayer._plumbing.modes import autocast_off, has_values, of_whole_parameters, tracing
from gdlayer._plumbing.parameters import check_settable
from gdlayer.basis import jet_orders, normalised_kernels
from gdlayer.geometry import clipped
from gdlayer.initialization import RELU_GAIN, mixing_std
from gdlayer.synthesis import ConvOptions, SynthesizedConv2d


class NJetConv2d(SynthesizedConv2d):
    r"""The convolution of N-JetNet (Pintea et al., 2021), reference [15].

    >>> import torch
    >>> from gdlayer.related import NJetConv2d
    >>> layer = NJetConv2d(16, 32, order=3)
    >>> layer(torch.randn(8, 16, 28, 28)).shape
    torch.Size([8, 32, 28, 28])

    The filters of a layer share one learned scale, and the size of the kernel follows it.

    .. math:: W_j^i = \sum_n \alpha^i_{n,j}\, \phi^n(\sigma), \qquad \sigma = 2^s

    with :func:`~gdlayer.basis.normalised_kernels` of one scale, learned through s. The kernel covers
    -e, ..., e with :math:`e = \lceil 2\sigma + 1/2 \rceil`, found anew at every call: 7 x 7 at the initial sigma = 1.

    Unlike the published layer, sigma has bounds: one step that is too large would ask for a kernel that does not fit in
    memory. Ordinary training never reaches them.

    Parameters
    ----------
    in_channels, out_channels, stride, padding, dilation, padding_mode, bias :
        As :class:`~gdlayer.synthesis.SynthesizedConv2d`; no bias by default, as published.
    order : int
        K of the N-jet.
    sigma_min, sigma_max : float
        Bounds of sigma in pixels, below and above 1; in training s is clamped to them. At sigma = 16 the kernel is
        67 x 67.
    init : "variance_preserving" or "authors"
        alpha normal, see :mod:`gdlayer.initialization`; or standard normal, as published.

    Attributes
    ----------
    alpha : (N, f_in, f_out)
    log2_sigma : (), the s above

    Raises
    ------
    ValueError, TypeError
        If an argument is not what its entry allows; the message quotes it.
    """

    mixing = ("alpha",)
    shaping = ("log2_sigma",)
    capturable = False
    """A CUDA graph holds it at one size only, which sigma sets at every call, see :meth:`resize`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        order: int = 3,
        bias: bool = False,
        sigma_min: float = 0.1,
        sigma_max: float = 16.0,
        init: str = "variance_preserving",
        gain: float = RELU_GAIN,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Unpack[ConvOptions],
    ) -> None:
        super().__init__(in_channels, out_channels, 7, bias=bias, device=device, dtype=dtype, **options)
        self.orders = jet_orders(order)
        self.sigma_min, self.sigma_max = (
            positive_number("sigma_min", sigma_min),
            positive_number("sigma_max", sigma_max),
        )
        if not self.sigma_min < 1 < self.sigma_max:
            raise ValueError(f"sigma_min must be below 1 pixel and sigma_max above, got {sigma_min} and {sigma_max}")
        self.bounds = math.log2(sigma_min), math.log2(sigma_max)
        self.init = one_of("init", init, ("variance_preserving", "authors"))
        self.gain = positive_number("gain", gain)
        self.log2_sigma = nn.Parameter(torch.zeros((), device=device, dtype=dtype))
        self.alpha = nn.Parameter(torch.empty(len(self.orders), in_channels, out_channels, device=device, dtype=dtype))
        self.reset_parameters()

    @property
    def sigma(self) -> Tensor:
        """The scale of the layer, in pixels."""
        s = clipped(self.log2_sigma, *self.bounds)
        return 2.0**s if tracing() else torch.exp2(s)  # exporters by trace know no exp2

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """sigma = 1, and alpha anew from torch's global generator, as ``init`` says; a bias becomes zero."""
        check_settable(self)
        self.log2_sigma.zero_()
        self.kernel_size = (7, 7)
        self.alpha.normal_()
        std = mixing_std(normalised_kernels(self.sigma, self.orders, 3), self.in_channels, self.gain)
        if self.init == "variance_preserving":
            self.alpha.mul_(std[:, None, None])
        if self.bias is not None:
            self.bias.zero_()

    def meaning(self) -> dict[str, Any]:
        return {"sigma_min": self.sigma_min, "sigma_max": self.sigma_max}

    @of_whole_parameters
    def kernels(self) -> Tensor:
        """The kernels at the present scale, shape (N, k, k)."""
        if not (self.log2_sigma.is_cuda and torch.cuda.is_current_stream_capturing()):
            self.resize(self.log2_sigma.item())
        return normalised_kernels(self.sigma, self.orders, self.kernel_size[0] // 2)

    @torch.no_grad()
    def resize(self, log2_sigma: float) -> tuple[int, int]:
        """Sets ``kernel_size`` to what a scale s asks for, and returns it; in training clamps the layer's own s.

        Every call of the layer does, except while a CUDA graph is captured: there no value can be read.
        """
        low, high = self.bounds
        if self.training and not low <= log2_sigma <= high:
            self.log2_sigma.clamp_(low, high)
        half_size = math.ceil(2 ** (1 + min(high, log2_sigma)) + 0.5)  # if s is NaN, the largest
        self.kernel_size = (2 * half_size + 1, 2 * half_size + 1)
        return self.kernel_size

    @of_whole_parameters
    def filters(self) -> Tensor:
        with autocast_off(self.alpha.device):
            kernels = self.kernels()
            weights = self.alpha.permute(2, 1, 0).reshape(1, -1, len(kernels))
            filters = torch.bmm(weights, kernels.reshape(1, len(kernels), -1))  # the sum over n
            return filters.view(self.out_channels, self.in_channels, *self.kernel_size)

    def extra_repr(self) -> str:
        sigma = f"{self.sigma.item():.3f}" if has_values(self.log2_sigma) else "?"
        return f"{super().extra_repr()}, kernels={len(self.orders)}, sigma={sigma}"
