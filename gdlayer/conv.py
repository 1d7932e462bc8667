"""The fully trainable Gaussian derivative convolutional layer, eqs (2), (3) and (4)."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gdlayer.basis import jet_orders, kernel_constants, sampled_kernels
from gdlayer.evaluate import FULL, SEPARATED, Factors, cheapest, convolve, factorised, filter_then_mix, mix_then_filter
from gdlayer.initialization import RELU_GAIN, mixing_std
from gdlayer.synthesis import (
    SynthesizedConv2d,
    autocast_off,
    inverse_softplus,
    one_of,
    pad,
    positive_int,
    positive_number,
)

GEOMETRY = ("sigma", "mu", "theta")


class GaussianDerivativeConv2d(SynthesizedConv2d):
    r"""Convolution with learned linear combinations of anisotropic, oriented, shifted Gaussian derivatives.

    With B bases of N kernels :math:`\phi^{b,n} = G_{p_n, q_n}(\mu^{b,n}, \sigma^{b,n}, \theta^{b,n})`, eq. (1),
    basis b makes the feature maps :math:`j = 1, \dots, f_{out}/B` of its group:

    .. math::
        J_{(b-1) f_{out}/B + j} &= \sum_i \Big(\sum_n \omega^{b,i}_{j,n} \phi^{b,n}\Big) * I_i
            && \text{full, eq. (3); eq. (2) for B = 1} \\
        J_{(b-1) f_{out}/B + j} &= \sum_n \lambda^b_{j,n} \Big(\sum_i \beta^{b,i}_n \phi^{b,n} * I_i\Big)
            && \text{separated, eq. (4)}

    The separated layer is the full one with :math:`\omega^{b,i}_{j,n} = \lambda^b_{j,n} \beta^{b,i}_n`. As
    everywhere in deep learning, * is cross-correlation.

    Where sampling breaks: below about half a pixel the samples of a kernel no longer act as a derivative of a
    Gaussian, the sooner the higher its order (chapter 2). Therefore
    :math:`\sigma = \sigma_{min} + \mathrm{softplus}(s)`, and s is what trains.

    Parameters
    ----------
    in_channels, out_channels : int
        f_in and f_out; f_out must be a multiple of ``bases``.
    kernel_size : int or (kh, kw)
        Odd or even; the grid is centred.
    order : int or list of (p, q)
        K for the N-jet of all p + q <= K, or the orders themselves.
    bases : int
        B. One basis is shared by f_out/B filters; B = f_out gives each filter its own.
    separated : bool
        Eq. (4) instead of eq. (3).
    stride, padding, dilation, padding_mode, bias :
        As :class:`~gdlayer.synthesis.SynthesizedConv2d`. Dilation spreads the samples of the kernel: at dilation d
        lengths are in units of d pixels.
    trainable : iterable of "sigma", "mu", "theta"
        Which of them train; the mixing weights always do.
    sigma_min : float
        Lower bound of sigma in pixels, positive.
    init : "variance_preserving" or "authors"
        The mixing weights at the start: normal, so that :math:`E[J^2] = g^2 E[I^2]` for white input
        (:mod:`gdlayer.initialization`); or uniform on (-1, 1) as in the authors' code at the time of the paper. The
        geometry is theirs in both: sigma ~ U(0.5, 2), mu ~ U(-1, 1), theta ~ U(-pi, pi); a ``sigma_min`` above 0.5
        moves the first to U(sigma_min, sigma_min + 1.5).
    algorithm : "auto", "dense", or "filter_then_mix", "mix_then_filter" (full), "factorised" (separated)
        How the layer is computed (:mod:`gdlayer.evaluate`); "auto" takes what the cost model says is cheapest.
    gain : float
        g of the variance-preserving initialisation; sqrt(2) suits a ReLU that follows.

    Attributes
    ----------
    weight : (B, f_out/B, f_in, N), full only
    beta : (B, N, f_in) and lam : (B, f_out/B, N), separated only
    sigma : (B, N, 2), in pixels; can be assigned
    raw_sigma : (B, N, 2), the s above; mu : (B, N, 2), in pixels; theta : (B, N), in radians
    bias : (f_out,) or None

    Raises
    ------
    ValueError, TypeError
        If an argument is none of these.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        order: int | Iterable[Sequence[int]] = 3,
        bases: int = 1,
        separated: bool = False,
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = "same",
        dilation: int | tuple[int, int] = 1,
        padding_mode: str = "zeros",
        bias: bool = True,
        trainable: Iterable[str] = GEOMETRY,
        sigma_min: float = 0.5,
        init: str = "variance_preserving",
        gain: float = RELU_GAIN,
        algorithm: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            padding_mode=padding_mode,
            bias=bias,
            device=device,
            dtype=dtype,
        )
        self.orders = jet_orders(order)
        self.bases = positive_int("bases", bases)
        if out_channels % bases:
            raise ValueError(f"out_channels must be a multiple of bases, got {out_channels} and {bases}")
        trainable = (
            tuple(trainable) if isinstance(trainable, Iterable) and not isinstance(trainable, str) else trainable
        )
        if not isinstance(trainable, tuple) or any(name not in GEOMETRY for name in trainable):
            raise ValueError(f"trainable must list some of 'sigma', 'mu', 'theta', got {trainable!r}")
        self.separated = separated
        self.trainable = trainable
        self.sigma_min = positive_number("sigma_min", sigma_min)
        self.init = one_of("init", init, ("variance_preserving", "authors"))
        self.gain = positive_number("gain", gain)
        self.algorithm = one_of("algorithm", algorithm, ("auto", *(SEPARATED if separated else FULL)))

        b, n, per_basis = bases, len(self.orders), out_channels // bases

        def parameter(*shape: int, requires_grad: bool = True) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype), requires_grad)

        self.raw_sigma = parameter(b, n, 2, requires_grad="sigma" in trainable)
        self.mu = parameter(b, n, 2, requires_grad="mu" in trainable)
        self.theta = parameter(b, n, requires_grad="theta" in trainable)
        if separated:
            self.beta = parameter(b, n, in_channels)
            self.lam = parameter(b, per_basis, n)
        else:
            self.weight = parameter(b, per_basis, in_channels, n)
        self._set_constants()
        self.reset_parameters()

    def _set_constants(self) -> None:
        self._constants = kernel_constants(
            self.orders, self.kernel_size, dtype=self._kernel_dtype, device=self.theta.device
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        self._set_constants()
        return self

    @property
    def _kernel_dtype(self) -> torch.dtype:
        """float32 or better."""
        return torch.promote_types(self.raw_sigma.dtype, torch.float32)

    @property
    def sigma(self) -> Tensor:
        """Standard deviations (B, N, 2) in pixels, above ``sigma_min`` by construction."""
        return self.sigma_min + F.softplus(self.raw_sigma)

    @sigma.setter
    def sigma(self, value: Tensor | float) -> None:
        excess = torch.as_tensor(value, dtype=self._kernel_dtype, device=self.raw_sigma.device) - self.sigma_min
        if not bool(((excess > 0) & excess.isfinite()).all()):
            raise ValueError(f"sigma must be finite and greater than sigma_min = {self.sigma_min}, got {value!r}")
        with torch.no_grad():
            self.raw_sigma.copy_(inverse_softplus(excess))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws every parameter anew from torch's global generator, as ``init`` says; the bias becomes zero."""
        low = max(0.5, self.sigma_min)
        sigma = torch.empty_like(self.raw_sigma, dtype=self._kernel_dtype).uniform_(low, low + 1.5)
        self.raw_sigma.copy_(inverse_softplus((sigma - self.sigma_min).clamp_min(1e-3)))
        self.mu.uniform_(-1, 1)
        self.theta.uniform_(-math.pi, math.pi)
        if self.bias is not None:
            self.bias.zero_()
        if self.init == "authors":
            for weights in (self.beta, self.lam) if self.separated else (self.weight,):
                weights.uniform_(-1, 1)
            return
        std = mixing_std(self.kernels(), self.in_channels, self.gain)  # (B, N)
        if self.separated:
            share = self.gain / math.sqrt(len(self.orders))
            self.beta.normal_().mul_(std[:, :, None] / share)
            self.lam.normal_().mul_(share)
        else:
            self.weight.normal_().mul_(std[:, None, None, :])

    def kernels(self) -> Tensor:
        """The kernels phi of eq. (1), shape (B, N, kh, kw), in float32 or better."""
        return self._sampled_kernels().unflatten(-1, self.kernel_size)

    def _sampled_kernels(self) -> Tensor:
        sigma, mu, theta = (t.to(self._kernel_dtype) for t in (self.sigma, self.mu, self.theta))
        return sampled_kernels(sigma, mu, theta, *self._constants)

    def filters(self) -> Tensor:
        """The filters of eqs (2) and (3), the sums over n of weight times kernel: (f_out, f_in, kh, kw)."""
        with autocast_off(self.theta.device):
            return self._mix(self._sampled_kernels())

    def _mix(self, kernels: Tensor) -> Tensor:
        # (B, f_out/B, f_in, N)
        weight = self.lam[:, :, None, :] * self.beta.mT[:, None, :, :] if self.separated else self.weight
        filters = weight.flatten(1, 2).to(kernels.dtype) @ kernels  # (B, f_out/B * f_in, kh * kw)
        return filters.view(self.out_channels, self.in_channels, *self.kernel_size).to(weight.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., f_in, h, w) -> J (..., f_out, h_out, w_out), by ``algorithm``."""
        algorithm = self._cheapest(x) if self.algorithm == "auto" else self.algorithm
        if algorithm == "dense":
            return super().forward(x)
        if x.dim() == 3:
            return self(x[None])[0]
        with autocast_off(x.device):
            kernels = self._sampled_kernels()
            through_filters = torch.is_grad_enabled() and not torch.compiler.is_compiling()
            filters = self._mix(kernels) if through_filters else None
            with torch.set_grad_enabled(torch.is_grad_enabled() and not through_filters):
                factors = self._factors(algorithm, kernels.unflatten(-1, self.kernel_size).to(self.theta.dtype))
        x, zeros = pad(x, self.kernel_size, self.stride, self.padding, self.dilation, self.padding_mode)
        y = convolve(x, filters, factors, self.stride, zeros, self.dilation)
        return y if self.bias is None else y + self.bias.to(y.dtype)[:, None, None]

    def _factors(self, algorithm: str, kernels: Tensor) -> Factors:
        if algorithm == "factorised":
            return factorised(self.beta, self.lam, kernels)
        return (filter_then_mix if algorithm == "filter_then_mix" else mix_then_filter)(self.weight, kernels)

    def _cheapest(self, x: Tensor) -> str:
        """The cost model knows float32 on a CPU; a compiler, and whatever else, gets the dense way."""
        if (
            torch.compiler.is_compiling()
            or (x.device.type, x.dtype) != ("cpu", torch.float32)
            or torch.is_autocast_enabled("cpu")
        ):
            return "dense"
        train = torch.is_grad_enabled()
        return cheapest(
            SEPARATED if self.separated else FULL,
            self.in_channels,
            self.out_channels,
            len(self.orders),
            self.bases,
            self.kernel_size,
            x.shape[-2] * x.shape[-1],
            -(-x.shape[-2] // self.stride[0]) * -(-x.shape[-1] // self.stride[1]),
            filters_train=train,
            input_trains=train and x.requires_grad,
        )

    def extra_repr(self) -> str:
        k = max(p + q for p, q in self.orders)
        order = k if self.orders == jet_orders(k) else list(self.orders)
        return (
            f"{super().extra_repr()}, order={order}, bases={self.bases}, separated={self.separated}, "
            f"trainable={self.trainable}, algorithm={self.algorithm!r}"
        )
