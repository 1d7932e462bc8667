"""Structured receptive fields: learned combinations of a fixed Gaussian derivative basis, reference [10]."""

from typing import Any, Unpack

import torch
from torch import Tensor, nn

from gdlayer._plumbing.checks import odd_int, one_of, positive_int, positive_number
from gdlayer._plumbing.modes import autocast_off, of_whole_parameters
from gdlayer._plumbing.parameters import check_settable, parameters_behind
from gdlayer.basis import normalised_kernels
from gdlayer.initialization import RELU_GAIN, mixing_std
from gdlayer.synthesis import ConvOptions, SynthesizedConv2d

ORDERS = ((0, 0), (1, 0), (0, 1), (2, 0), (0, 2), (1, 1), (3, 0), (0, 3), (2, 1), (1, 2))
"""Derivative orders (p, q) in the order in which RFNN numbers its kernels: 6 of them make order 2, 10 order 3."""


class RFNNConv2d(SynthesizedConv2d):
    r"""The convolution of structured receptive field networks (Jacobsen et al., 2016), reference [10].

    >>> import torch
    >>> from gdlayer.related import RFNNConv2d
    >>> layer = RFNNConv2d(16, 32, kernel_size=7, sigma=1.0)
    >>> layer(torch.randn(8, 16, 28, 28)).shape
    torch.Size([8, 32, 28, 28])

    The filters are learned mixtures of Gaussian derivatives that do not change.

    .. math:: W_j^i = \sum_n \alpha_{j,n}^i\, \phi^n

    with :func:`~gdlayer.basis.normalised_kernels` of one fixed sigma; only alpha trains.

    Parameters
    ----------
    in_channels, out_channels, stride, padding, dilation, padding_mode, bias :
        As :class:`~gdlayer.synthesis.SynthesizedConv2d`; no bias by default, as published.
    kernel_size : int
        Odd. Published: 11 for sigma = 1.5, 7 for sigma = 1.
    sigma : float
        In pixels, positive.
    num_kernels : int
        N, from 1 to 10: the first N of :data:`ORDERS` are used.
    init : "variance_preserving" or "authors"
        alpha normal, see :mod:`gdlayer.initialization`; or uniform on (-1, 1), as published.

    Attributes
    ----------
    alpha : (f_out, f_in, N)
    kernels : (N, k, k), a buffer

    Raises
    ------
    ValueError, TypeError
        If an argument is not what its entry allows; the message quotes it.
    """

    mixing = ("alpha",)
    kernels: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        sigma: float,
        num_kernels: int = 10,
        bias: bool = False,
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
        if positive_int("num_kernels", num_kernels) > len(ORDERS):
            raise ValueError(f"num_kernels must be 1 to {len(ORDERS)}, got {num_kernels}")
        self.sigma = positive_number("sigma", sigma)
        self.init = one_of("init", init, ("variance_preserving", "authors"))
        self.gain = positive_number("gain", gain)
        self.alpha = nn.Parameter(torch.empty(out_channels, in_channels, num_kernels, device=device, dtype=dtype))
        self.reset_parameters()

    def _set_constants(self) -> None:
        like = next(iter(parameters_behind(self, "alpha").values()), self.alpha)
        self.register_buffer("kernels", self._fixed_kernels(like), persistent=False)

    def _fixed_kernels(self, like: Tensor) -> Tensor:
        sigma = torch.tensor(self.sigma, dtype=torch.float64, device="cpu")
        kernels = normalised_kernels(sigma, ORDERS[: self.alpha.shape[2]], self.kernel_size[0] // 2)
        return kernels.to(like)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws alpha anew from torch's global generator, as ``init`` says; a bias becomes zero."""
        check_settable(self)
        self._set_constants()
        std = mixing_std(self.kernels, self.in_channels, self.gain)
        if self.init == "authors":
            self.alpha.uniform_(-1, 1)
        else:
            self.alpha.normal_().mul_(std)
        if self.bias is not None:
            self.bias.zero_()

    def meaning(self) -> dict[str, Any]:
        return {**super().meaning(), "sigma": self.sigma}

    @of_whole_parameters
    def filters(self) -> Tensor:
        kernels = (
            self._fixed_kernels(self.alpha) if self.kernels.is_meta else self.kernels
        )  # as alpha may be assigned alone
        with autocast_off(self.alpha.device):
            filters = self.alpha.flatten(0, 1) @ kernels.flatten(1)  # the sum over n
            return filters.view(*self.alpha.shape[:2], *self.kernel_size)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, sigma={self.sigma}, num_kernels={len(self.kernels)}"
