"""Semi-structured filters: free-form filters composed with one learned Gaussian per layer, reference [9]."""

import math
from typing import Any, Unpack

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn import functional as F

from gdlayer._plumbing.checks import one_of, positive_int, positive_number
from gdlayer._plumbing.modes import as_leaf, autocast_off, has_values, of_whole_parameters
from gdlayer._plumbing.padding import pad
from gdlayer._plumbing.parameters import check_settable
from gdlayer.geometry import clipped
from gdlayer.initialization import RELU_GAIN, mixing_std
from gdlayer.plain import plain_conv2d
from gdlayer.synthesis import ConvOptions, SynthesizedConv2d


class SemiStructuredConv2d(SynthesizedConv2d):
    r"""The convolution of Shelhamer, Wang and Darrell (2019), reference [9].

    >>> import torch
    >>> from gdlayer.related import SemiStructuredConv2d
    >>> layer = SemiStructuredConv2d(16, 32, kernel_size=3)
    >>> layer(torch.randn(8, 16, 28, 28)).shape
    torch.Size([8, 32, 28, 28])

    All input maps are blurred with one Gaussian of learned size and shape, then convolved with free-form filters F:
    together, a convolution with blurred filters W. The free-form part keeps the detail, three more numbers per layer
    learn how far it reaches.

    .. math::
        W_j^i(\mathbf{x}) &= \sum_{\mathbf{q}} F_j^i(\mathbf{q})\, g_\Sigma(\mathbf{x} - d\,\mathbf{q}) \\
        g_\Sigma(\mathbf{x}) &= \frac{e^{-\mathbf{x}^\top \Sigma^{-1} \mathbf{x} / 2}}
        {\sum_{\mathbf{x}'} e^{-\mathbf{x}'^\top \Sigma^{-1} \mathbf{x}' / 2}} \\
        \Sigma &= U^\top U, \qquad U = \begin{pmatrix} e^a & b \\ 0 & e^c \end{pmatrix}

    with the dilation d of F; a, b and c train (log-Cholesky). Here :math:`\mathbf{x} = (x, y)`, x along columns. The
    samples of the Gaussian cover :math:`2 \sqrt{\Sigma_{11}}` pixels to the left and right and :math:`2
    \sqrt{\Sigma_{22}}` up and down, rounded, at least one, found anew at every call: 5 x 5 at the start, where
    :math:`\Sigma` is the unit matrix.

    In three things it is not the published layer. The image is padded once, for both steps, so the layer is a
    convolution with W up to the border; the published one pads the image and then the blurred image. The reach of the
    samples is rounded to the nearest pixel, not up: rounded up, it jumps at :math:`\sigma = 1`, where training starts.
    And a, b, c have bounds: one step that is too large would ask for a Gaussian that does not fit in memory.

    Parameters
    ----------
    in_channels, out_channels, stride, padding, padding_mode, bias :
        As :class:`~gdlayer.synthesis.SynthesizedConv2d`; no bias by default, as published. Outputs have the size that
        F gives alone: the reach of the Gaussian is padded on top.
    kernel_size : int or (kh, kw)
        Of F.
    dilation : int or pair
        Of F; the Gaussian is sampled on every pixel.
    groups : int
        As of nn.Conv2d.
    sigma_min, sigma_max : float
        In pixels, below and above 1: :math:`e^a` and :math:`e^c` are kept between them, and b between
        :math:`\pm\sigma_{max}`, by projection in training.
    init : "variance_preserving" or "authors"
        F normal, see :mod:`gdlayer.initialization`; or Glorot's uniform, as published.

    Attributes
    ----------
    free : (f_out, f_in/groups, kh, kw), the F above
    log_scale : (2,), a and c
    shear : (), b

    Raises
    ------
    ValueError, TypeError
        If an argument is not what its entry allows; the message quotes it.
    """

    once_weight = "free"
    mixing = ("free",)
    shaping = ("log_scale", "shear")

    capturable = False
    """A CUDA graph cannot hold it: the Gaussian's size is read from a, b and c at every call."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        groups: int = 1,
        bias: bool = False,
        sigma_min: float = 0.1,
        sigma_max: float = 16.0,
        init: str = "variance_preserving",
        gain: float = RELU_GAIN,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Unpack[ConvOptions],
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias=bias, device=device, dtype=dtype, **options)
        self.groups = positive_int("groups", groups)
        for name, channels in (("in_channels", self.in_channels), ("out_channels", self.out_channels)):
            if channels % self.groups:
                raise ValueError(f"{name} must be a multiple of groups, got {channels} and {groups}")
        self.sigma_min, self.sigma_max = (
            positive_number("sigma_min", sigma_min),
            positive_number("sigma_max", sigma_max),
        )
        if not self.sigma_min < 1 < self.sigma_max:
            raise ValueError(f"sigma_min must be below 1 pixel and sigma_max above, got {sigma_min} and {sigma_max}")
        self.bounds = math.log(sigma_min), math.log(sigma_max)
        self.init = one_of("init", init, ("variance_preserving", "authors"))
        self.gain = positive_number("gain", gain)
        shape = self.out_channels, self.in_channels // self.groups, *self.kernel_size
        self.free = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.log_scale = nn.Parameter(torch.empty(2, device=device, dtype=dtype))
        self.shear = nn.Parameter(torch.empty((), device=device, dtype=dtype))
        self.reset_parameters()

    @property
    def covariance(self) -> Tensor:
        """Sigma (2, 2) in square pixels, for (x, y)."""
        u1, b, u2 = self._cholesky()
        return torch.stack((u1 * u1, u1 * b, u1 * b, b * b + u2 * u2)).view(2, 2)

    @property
    def sigma(self) -> Tensor:
        """Standard deviations (2,) along x and y, in pixels."""
        return self.covariance.diagonal().sqrt()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """The Gaussian round with sigma = 1, F anew from torch's global generator; a bias becomes zero."""
        check_settable(self)
        self.log_scale.zero_()
        self.shear.zero_()
        if self.init == "authors":
            nn.init.xavier_uniform_(self.free)
        else:
            taps = self.free[0, 0].numel()  # W is a sum of as many shifted Gaussians
            gaussian = self._gaussian((2, 2)).expand(taps, -1, -1)
            self.free.normal_().mul_(mixing_std(gaussian, self.free.shape[1], self.gain)[0])
        if self.bias is not None:
            self.bias.zero_()

    def meaning(self) -> dict[str, Any]:
        return {"sigma_min": self.sigma_min, "sigma_max": self.sigma_max}

    @of_whole_parameters
    def gaussian(self) -> Tensor:
        """The samples of the Gaussian, (2 ey + 1, 2 ex + 1), at its present reach; they sum to one."""
        return self._gaussian(self._reach())

    def _cholesky(self) -> tuple[Tensor, Tensor, Tensor]:
        """e^a, b and e^c within their bounds."""
        low, high = self.bounds
        u1, u2 = clipped(self.log_scale, low, high).exp().unbind()
        return u1, clipped(self.shear, -math.exp(high), math.exp(high)), u2

    def _gaussian(self, reach: tuple[int, int]) -> Tensor:
        """The exponent is -|z|^2 / 2 with U^T z = (x, y)."""
        y, x = (torch.arange(-e, e + 1, dtype=self.shear.dtype, device=self.shear.device) for e in reach)
        u1, b, u2 = self._cholesky()
        z1 = x / u1
        z2 = (y[:, None] - b * z1) / u2
        exponent = -0.5 * (z1**2 + z2**2)
        return torch.softmax(exponent.flatten(), 0).view_as(exponent)

    def _reach(self) -> tuple[int, int]:
        """(ey, ex): pixels that the Gaussian covers on each side of its centre."""
        (low, high), (a, c), b = self.bounds, self.log_scale.tolist(), self.shear.item()
        largest = math.exp(high)
        if self.training and not (low <= a <= high and low <= c <= high and abs(b) <= largest):
            with torch.no_grad():
                self.log_scale.clamp_(low, high)
                self.shear.clamp_(-largest, largest)
        u1, u2 = (math.exp(min(high, max(low, s))) for s in (a, c))
        sigma = math.hypot(min(largest, abs(b)), u2), u1
        return max(1, round(2 * sigma[0])), max(1, round(2 * sigma[1]))

    def _window(self, reach: tuple[int, int]) -> tuple[tuple[int, int], str | tuple[int, int]]:
        """The size of W, and the padding that gives a convolution with W the outputs of one with F."""
        (kh, kw), (dh, dw), (ey, ex) = self.kernel_size, self.dilation, reach
        size = dh * (kh - 1) + 1 + 2 * ey, dw * (kw - 1) + 1 + 2 * ex
        return size, self.padding if isinstance(self.padding, str) else (self.padding[0] + ey, self.padding[1] + ex)

    @of_whole_parameters
    def filters(self) -> Tensor:
        with autocast_off(self.free.device):
            free = self.free.flatten(0, 1)[:, None]
            blurred = F.conv_transpose2d(free, self.gaussian()[None, None], stride=self.dilation)  # the sum over q
        return blurred.view(*self.free.shape[:2], *blurred.shape[2:])

    def forward(self, x: Tensor) -> Tensor:
        """x (..., f_in, h, w) -> J (..., f_out, h_out, w_out): blurred, then convolved with F."""
        if isinstance(x, Proxy):
            return as_leaf(self, x)
        reach = self._reach()
        with autocast_off(x.device):
            g = self._gaussian(reach)
        size, padding = self._window(reach)
        x, zeros = pad(x, size, self.stride, padding, (1, 1), self.padding_mode)
        x = F.conv2d(x, g.expand(self.in_channels, 1, -1, -1), padding=zeros, groups=self.in_channels)
        return F.conv2d(x, self.free, self.bias, self.stride, 0, self.dilation, self.groups)

    def _padded(self, filters: Tensor, bias: Tensor | None, groups: int) -> nn.Module:
        _, padding = self._window(self._reach())
        return plain_conv2d(
            filters, bias, stride=self.stride, padding=padding, groups=groups, padding_mode=self.padding_mode
        )

    def extra_repr(self) -> str:
        sigma = "({:.3f}, {:.3f})".format(*self.sigma.tolist()) if has_values(self.shear) else "?"
        return f"{super().extra_repr()}, sigma={sigma}"
