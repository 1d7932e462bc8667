"""The fully trainable Gaussian derivative convolutional layer, eqs (2), (3) and (4)."""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from inspect import signature
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from gdlayer._plumbing.checks import boolean, int_pair, nonnegative_number, one_of, positive_int, positive_number
from gdlayer._plumbing.modes import as_leaf, autocast_off, autocast_on, of_whole_parameters, recorded, tracing
from gdlayer._plumbing.padding import pad
from gdlayer._plumbing.parameters import check_settable
from gdlayer.algorithms import (
    FULL,
    HYBRID,
    KNOWN_DTYPES,
    SEPARATED,
    Factors,
    Sizes,
    cheapest,
    convolve,
    factorised,
    one_tap_dilation,
)
from gdlayer.basis import (
    SAMPLINGS,
    KernelConstants,
    hybrid_factors,
    jet_orders,
    kernel_constants,
    rotation,
    sampled_kernels,
)
from gdlayer.geometry import GEOMETRY, Geometry
from gdlayer.hybrid import smoothed, split_padding, stencil_size
from gdlayer.initialization import RELU_GAIN, mixing_std
from gdlayer.plain import padding_step, plain_conv2d
from gdlayer.sampling import SamplingReport, sampling_report
from gdlayer.synthesis import SynthesizedConv2d, check_finite

PLACE = ("device", "dtype")
"""Arguments of a layer that say where it is, and not what it is."""


class GaussianDerivativeConv2d(Geometry, SynthesizedConv2d):
    r"""Convolution with learned linear combinations of anisotropic, oriented, shifted Gaussian derivatives.

    >>> import torch
    >>> from gdlayer import GaussianDerivativeConv2d
    >>> layer = GaussianDerivativeConv2d(16, 32, kernel_size=7, order=3, bases=8)  # in the place of nn.Conv2d
    >>> layer(torch.randn(8, 16, 28, 28)).shape
    torch.Size([8, 32, 28, 28])

    A basis is a set of N kernels: derivatives of Gaussians, each with its own scale, shift and angle. Every filter is
    a weighted sum of the kernels of one basis. Scales, shifts, angles and weights all train, and a filter has N weights
    for each input map, however large it is.

    Draw the parameters anew with :meth:`reset_parameters`, not with torch.nn.init: ``omega`` has other axes than a
    filter, so ``kaiming_normal_`` and its like take a wrong fan-in from it, and know nothing of the kernels' norms.

    With B bases of N kernels :math:`\phi^{b,n} = G_{p_n, q_n}(\mu^{b,n}, \sigma^{b,n}, \theta^{b,n})`, eq. (1),
    basis b makes :math:`f_{out}/B` feature maps, :math:`j = 1, \dots, f_{out}/B`:

    .. math::
        J_{(b-1) f_{out}/B + j} &= \sum_i \Big(\sum_n \omega^{b,i}_{j,n} \phi^{b,n}\Big) * I_i
            && \text{full, eq. (3)} \\
        J_{(b-1) f_{out}/B + j} &= \sum_n \lambda^b_{j,n} \Big(\sum_i \beta^{b,i}_n \phi^{b,n} * I_i\Big)
            && \text{separated, eq. (4)}

    Eq. (2) is eq. (3) with B = 1. The separated layer is the full one with :math:`\omega^{b,i}_{j,n} =
    \lambda^b_{j,n} \beta^{b,i}_n`. As everywhere in deep learning, * is cross-correlation.

    With ``groups``, as nn.Conv2d has them, i runs over the inputs of the output's group, and the mixing weights are of
    one basis and one group: :math:`M = \max(B, \mathrm{groups})` takes the place of B in their shapes.

    Sampling breaks below a sigma of about half a pixel, and for higher orders earlier: the samples of a kernel no
    longer act as a derivative of a Gaussian (the book's chapter on kernels; :meth:`check_derivatives` tells which). So
    sigma has a lower bound and may have an upper one: the parameter s trains, and sigma is a function of it
    (:class:`~gdlayer.geometry.Geometry`).

    A state dict of a layer with other bounds, or another kernel size, order, ``sampling`` or ``normalise``, is refused:
    the same numbers would make other filters.

    Parameters
    ----------
    in_channels, out_channels : int
        f_in and f_out; f_out must be a multiple of ``bases``.
    kernel_size : int or (kh, kw)
        Odd or even; the grid is centred.
    order : int or list of (p, q)
        K for the N-jet of all p + q <= K, or the orders themselves.
    bases : int
        The number of bases, B. Each basis is shared by f_out/B filters; with B = f_out each filter has its own.
    separated : bool
        Eq. (4) instead of eq. (3).
    stride, padding, dilation, padding_mode, bias :
        As :class:`~gdlayer.synthesis.SynthesizedConv2d`. Dilation spreads the samples of the kernel: at dilation d
        lengths are in units of d pixels.
    groups : int
        As of nn.Conv2d; a depthwise layer has f_in groups. B divides their number, and groups/B of them share a basis;
        or B is a multiple of it, and each group has B/groups bases of its own.
    trainable : iterable of "sigma", "mu", "theta"
        Those that train. The mixing weights always do, until frozen by ``requires_grad_(False)`` like any parameter.
    shared : iterable of "sigma", "mu", "theta"
        Those that have one value per basis, shared by its N kernels. All three together give the basis as the paper
        defines it, with one geometry.
    isotropic : bool
        Round kernels, :math:`\sigma_1 = \sigma_2`: one parameter instead of two.
    sigma_min, sigma_max : float
        Bounds of sigma in pixels, both positive; None means no upper bound. ``sigma_max`` is above
        :data:`~gdlayer.geometry.NARROWEST`.
    start_sigma : (low, high) or None
        Range in pixels that sigma is drawn from, between its bounds; None is that of the authors' code, (0.5, 2) where
        the bounds allow it (:meth:`~gdlayer.geometry.Geometry.reset_geometry`). It does not grow with the window.
    start_mu : float
        mu is drawn from -start_mu to start_mu, in pixels.
    sampling : "point", "integrated", "discrete" or "hybrid"
        What stands for a kernel at a pixel (:func:`~gdlayer.gaussian_derivative_kernels`): its value at the
        centre, as in the paper; its average over the pixel; its discrete analogue; or differences of one sampled
        Gaussian per basis. The last needs sigma, mu and theta ``shared``, and makes large kernels cheap: "auto" then
        computes s x s stencils and one smoothing of each output map (:mod:`gdlayer.hybrid`).
    normalise : float
        gamma >= 0 of scale-normalised derivatives, the factor :math:`\sigma_1^{\gamma p} \sigma_2^{\gamma q}`: with 1
        as in RFNN and N-Jet, with 0 the kernels of the paper. The variance-preserving initialisation takes account of
        it.
    init : "variance_preserving" or "authors"
        How the mixing weights start: normal, so that :math:`E[J^2] = g^2 E[I^2]` for white input
        (:mod:`gdlayer.initialization`); or uniform on (-1, 1) as in the authors' code at the time of the paper. The
        geometry starts as theirs in both cases, unless ``start_sigma`` and ``start_mu`` say otherwise.
    algorithm : "auto", "dense", "factorised" (separated only) or "smoothed" (hybrid only)
        How the layer is computed (:mod:`gdlayer.algorithms`); "auto" is the cheapest by a cost model (:meth:`chosen`).
    gain : float
        g of the variance-preserving initialisation; sqrt(2) is for a ReLU after the layer.

    Attributes
    ----------
    omega : (M, f_out/M, f_in/groups, N)
        Mixing weights, full only; M = B without groups.
    beta : (M, N, f_in/groups)
        Mixing weights over input maps, separated only.
    lam : (M, f_out/M, N)
        Mixing weights over kernels, separated only.
    sigma : (B, N, 2)
        In pixels; can be assigned.
    raw_sigma : (B, N, 2)
        The s above.
    mu : (B, N, 2)
        In pixels.
    theta : (B, N)
        In radians. Shared parameters have size 1 on axis N; an isotropic ``raw_sigma`` has size 1 on its last axis.
    bias : (f_out,) or None
    filter_map : Module or None
        Assign a module, such as a weight or a spectral normalisation, and the filters pass through it.

    Raises
    ------
    ValueError, TypeError
        If an argument is not what its entry allows; the message quotes it.
    """

    once_weight = "omega"

    _constants: KernelConstants
    """They are no buffers: conversions to another dtype round buffers, and so do averages of models."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = "same",
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        order: int | Iterable[Sequence[int]] = 3,
        bases: int = 1,
        separated: bool = False,
        trainable: Iterable[str] = GEOMETRY,
        shared: Iterable[str] = (),
        isotropic: bool = False,
        sigma_min: float = 0.5,
        sigma_max: float | None = None,
        start_sigma: Sequence[float] | None = None,
        start_mu: float = 1.0,
        sampling: str = "point",
        normalise: float = 0.0,
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
        self.groups = positive_int("groups", groups)
        for name, channels in (("in_channels", self.in_channels), ("out_channels", self.out_channels)):
            if channels % self.groups:
                raise ValueError(f"{name} must be a multiple of groups, got {channels} and {groups}")
        self.filter_map: nn.Module | None = None
        self.orders = jet_orders(order)
        self.bases = positive_int("bases", bases)
        if self.out_channels % self.bases:
            raise ValueError(f"out_channels must be a multiple of bases, got {out_channels} and {bases}")
        blocks = max(self.bases, self.groups)
        if blocks % min(self.bases, self.groups):
            raise ValueError(f"bases must divide groups or be a multiple of them, got {bases} and {groups}")
        self.separated = boolean("separated", separated)
        self.sampling = one_of("sampling", sampling, SAMPLINGS)
        self.normalise = nonnegative_number("normalise", normalise)
        self.init = one_of("init", init, ("variance_preserving", "authors"))
        self.gain = positive_number("gain", gain)
        self.algorithm = one_of("algorithm", algorithm, ("auto", *self._algorithms))
        ratio = self.stride[0] * self.stride[1]  # of pixels, input to output: no choice depends on the size of images
        sizes = Sizes(
            self.in_channels,
            self.out_channels,
            len(self.orders),
            self.bases,
            self.kernel_size,
            ratio,
            1,
            self.groups,
            stencil_size(self.orders),
        )
        self._cheapest = cheapest(self._algorithms, sizes)

        n, per_block, per_group = len(self.orders), self.out_channels // blocks, self.in_channels // self.groups
        self.set_geometry(
            self.bases,
            n,
            trainable=trainable,
            shared=shared,
            isotropic=isotropic,
            sigma_min=sigma_min,
            sigma_max=sigma_max,
            start_sigma=start_sigma,
            start_mu=start_mu,
            device=device,
            dtype=dtype,
        )
        if self.sampling == "hybrid" and set(self.shared) != set(GEOMETRY):
            raise ValueError(
                f"shared must be {GEOMETRY} for sampling='hybrid', whose differences are taken of one Gaussian per "
                f"basis, got {self.shared}"
            )
        self.mixing = ("beta", "lam") if self.separated else ("omega",)
        if self.separated:
            self.beta = nn.Parameter(torch.empty(blocks, n, per_group, device=device, dtype=dtype))
            self.lam = nn.Parameter(torch.empty(blocks, per_block, n, device=device, dtype=dtype))
        else:
            self.omega = nn.Parameter(torch.empty(blocks, per_block, per_group, n, device=device, dtype=dtype))
        self.reset_parameters()

    def _set_constants(self) -> None:
        with torch.inference_mode(False):  # they may serve a training step later
            self._constants = self._constants_for(self.theta.device, self._kernel_dtype)

    def _constants_for(self, device: torch.device, dtype: torch.dtype) -> KernelConstants:
        return kernel_constants(self.orders, self.kernel_size, self.sampling, dtype=dtype, device=device)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws every parameter anew from torch's global generator, as ``init`` says; the bias becomes zero."""
        check_settable(self)
        self._set_constants()
        self.reset_geometry()
        if self.bias is not None:
            self.bias.zero_()
        std = self.per_block(mixing_std(self.kernels(), self.in_channels // self.groups, self.gain))  # (M, N)
        if self.init == "authors":
            for weights in self._mixing:
                weights.uniform_(-1, 1)
        elif self.separated:
            share = self.gain / math.sqrt(len(self.orders))
            self.beta.normal_().mul_(std[:, :, None] / share)
            self.lam.normal_().mul_(share)
        else:
            self.omega.normal_().mul_(std[:, None, None, :])

    def meaning(self) -> dict[str, Any]:
        """What the kernels are, besides their parameters."""
        names = ("kernel_size", "order", "sampling", "normalise")
        return {**super().meaning(), **{name: getattr(self, name) for name in names}}

    @of_whole_parameters
    def kernels(self) -> Tensor:
        """The kernels phi of eq. (1), as ``sampling`` and ``normalise`` say: (B, N, kh, kw), in float32 or better."""
        return self._sampled_kernels().unflatten(-1, self.kernel_size)

    def per_block(self, of_bases: Tensor) -> Tensor:
        """What each block of outputs takes from its basis: (B, ...) -> (M, ...)."""
        shared_by = max(self.groups // self.bases, 1)
        return of_bases if shared_by == 1 else of_bases.repeat_interleave(shared_by, 0)

    def _sampled_kernels(self, normalised: bool = True) -> Tensor:
        """The kernels, their pixels in a row: (B, N, kh kw)."""
        sigma, mu, theta = self._stored_geometry()
        gamma = self.normalise if normalised else 0
        return sampled_kernels(sigma, mu, theta, self._constants_like(theta), self.orders, gamma)

    def _stored_geometry(self) -> tuple[Tensor, Tensor, Tensor]:
        """The geometry, once per basis where "hybrid" kernels share it."""
        sigma, mu, theta = self.geometry()
        return (sigma[:, :1], mu[:, :1], theta[:, :1]) if self.sampling == "hybrid" else (sigma, mu, theta)

    def _constants_like(self, theta: Tensor) -> KernelConstants:
        """The constants where theta is, in its dtype."""
        grid = self._constants.grid
        if grid.device == theta.device and grid.dtype == theta.dtype:
            return self._constants
        if recorded():  # parameters that torch.func puts in the place of the layer's
            return self._constants_for(theta.device, theta.dtype)
        self._set_constants()  # parameters of a replica, or assigned one by one
        return self._constants

    @of_whole_parameters
    def filters(self) -> Tensor:
        """The filters of eqs (2) and (3), the sums over n of omega times kernel: (f_out, f_in/groups, kh, kw).

        They have passed through ``filter_map``, if there is one.
        """
        with autocast_off(self.theta.device):
            filters = self._mix(self._sampled_kernels(), self.kernel_size)
            return filters if self.filter_map is None else self.filter_map(filters)

    def _mix(self, phi: Tensor, size: tuple[int, int]) -> Tensor:
        """The filters (f_out, f_in/groups, *size) made of kernels phi (B, N, pixels)."""
        # eq. (4), J = lambda (beta phi * I), is eq. (3) with omega = lambda beta: einsum("bjn,bni->bjin", lam, beta)
        omega = self.lam[:, :, None, :] * self.beta.transpose(1, 2)[:, None, :, :] if self.separated else self.omega
        # eq. (3), and eq. (2) where B = 1: the sums over n of omega phi, einsum("bjin,bnp->bjip", omega, phi)
        filters = torch.bmm(omega.reshape(self.bases, -1, omega.shape[-1]).to(phi.dtype), phi)
        return filters.view(self.out_channels, -1, *size).to(omega.dtype)

    @classmethod
    def recommended(
        cls, in_channels: int, out_channels: int, kernel_size: int | tuple[int, int], **options: Any
    ) -> Self:
        """A layer whose large kernels are cheap: "hybrid" 2-jets, one geometry per basis, a basis for 8 maps or fewer.

        >>> from gdlayer import GaussianDerivativeConv2d
        >>> layer = GaussianDerivativeConv2d.recommended(64, 64, 15)
        >>> layer.sampling, layer.order, layer.bases
        ('hybrid', 2, 8)

        The geometry starts with the size of the window: sigma from a 16th to an 8th of it, mu up to an 8th of it, so
        that three sigma fit; where bounds of sigma or a window below 7 pixels do not allow it, as usual.

        Parameters
        ----------
        in_channels, out_channels, kernel_size :
            As of the layer. It costs less than nn.Conv2d from about 7 pixels on.
        **options :
            Other arguments of the layer; they take the place of the recommended ones.
        """
        eighth = (min(int_pair("kernel_size", kernel_size)) - stencil_size([(2, 0)]) + 1) / 8
        low, high = options.get("sigma_min", 0.5), options.get("sigma_max") or math.inf
        start = {"start_sigma": (max(eighth / 2, low), eighth), "start_mu": eighth} if low < eighth <= high else {}
        usual = {
            "order": 2,
            "bases": out_channels // math.gcd(positive_int("out_channels", out_channels), 8),
            "shared": GEOMETRY,
            "sampling": "hybrid",
            **start,
        }
        return cls(in_channels, out_channels, kernel_size, **{**usual, **options})

    @torch.no_grad()
    @of_whole_parameters
    def receptive_field(self) -> Tensor:
        r"""Height and width of the image that each kernel needs around its pixel, in pixels: (B, N, 2).

        It is that of the centred window that holds the Gaussian to three sigma: along x,

        .. math:: 1 + 2 \big(|c_x| + 3 \sqrt{\sigma_1^2 \cos^2 \theta + \sigma_2^2 \sin^2 \theta}\big), \qquad
            c = R_\theta^\top \mu

        and s - 1 more for the differences of "hybrid" kernels; at dilation d the unit is d pixels. A UserWarning tells
        where it is larger than the window, which cuts the kernel.
        """
        sigma, mu, theta = self.geometry()
        turn = rotation(theta)  # (B, N, 2, 2)
        centre = (turn * mu[..., None]).sum(-2).abs()  # R^T mu, along x and y
        reach = centre + 3 * (turn * sigma[..., None]).square().sum(-2).sqrt()
        sides = (1 + 2 * reach + (stencil_size(self.orders) - 1) * (self.sampling == "hybrid")).flip(-1)
        cut = (sides > torch.tensor(self.kernel_size, device=sides.device)).any(-1)
        if bool(cut.any()):
            height, width = self.kernel_size
            warnings.warn(
                f"{int(cut.sum())} of {cut.numel()} kernels are cut by the {height} x {width} window, the largest "
                f"needs {float(sides.amax()):.1f} pixels: a larger kernel_size holds them, a sigma_max keeps them "
                "small",
                stacklevel=4,
            )
        return 1 + (sides - 1) * torch.tensor(self.dilation, device=sides.device)

    @torch.no_grad()
    @of_whole_parameters
    def check_derivatives(self, tolerance: float = 0.1) -> SamplingReport:
        """How far the samples of each kernel are from the derivative that they stand for.

        A kernel is *undersampled* if it changes faster than the pixels can follow: ``report.sampling`` is above
        ``tolerance``. So is a "hybrid" kernel whose Gaussian the window cuts, as its differences see the edge
        (:meth:`receptive_field`). It is *truncated* if it does not fit the window of ``kernel_size``:
        ``report.truncation`` is above ``tolerance``. One UserWarning for each of the two faults names the worst
        kernels. At dilation d the unit of length is d pixels.

        Parameters
        ----------
        tolerance : float
            Positive. The sampling error is 0.1 at sigma 0.55 for first derivatives, 0.6 for second and 0.7 for third.

        Returns
        -------
        :class:`~gdlayer.sampling.SamplingReport`
            Prints as a table.

        Raises
        ------
        ValueError
            If sigma, mu or theta is not finite, or ``tolerance`` not positive.
        """
        kernels = self._sampled_kernels(normalised=False).unflatten(-1, self.kernel_size)
        report = sampling_report(kernels, *self.geometry(), self.orders, positive_number("tolerance", tolerance))
        for message in report.faults():
            warnings.warn(message, stacklevel=4)
        return report

    def forward(self, x: Tensor) -> Tensor:
        """x (..., f_in, h, w) -> J (..., f_out, h_out, w_out), by :meth:`chosen`."""
        if isinstance(x, Proxy):
            return as_leaf(self, x)
        algorithm = self.chosen(x)
        if algorithm == "dense" or not self._fits(x):
            return super().forward(x)
        if algorithm == "smoothed":
            with autocast_off(x.device):
                mixed, gaussians = self._smoothing()
            x, zeros = pad(x, self.kernel_size, self.stride, self.padding, self.dilation, self.padding_mode)
            return smoothed(x, mixed, gaussians, self.bias, self.stride, zeros, self.dilation, self.groups)
        with autocast_off(x.device):
            kernels = self._sampled_kernels()
            trained = any(t.requires_grad for t in (x, kernels, *self._mixing, self.bias) if t is not None)
            trains = trained and torch.is_grad_enabled() and not tracing()  # a trace holds no autograd function
            filters = self._mix(kernels, self.kernel_size) if trains else None
            with torch.no_grad() if trains else nullcontext():
                factors = self._factors(kernels).in_groups(self.groups)
        x, zeros = pad(x, self.kernel_size, self.stride, self.padding, self.dilation, self.padding_mode)
        return convolve(x, filters, factors, self.bias, self.stride, zeros, self.dilation, self.groups)

    def _smoothing(self) -> tuple[Tensor, Tensor]:
        """The mixed stencils (f_out, f_in/groups, s, s) and the Gaussian of every output map (f_out, 1, h, w)."""
        sigma, mu, theta = self._stored_geometry()
        constants = self._constants_like(theta)
        assert constants.hybrid is not None
        gaussians, stencils = hybrid_factors(sigma, mu, theta, constants.hybrid, constants.powers, self.normalise)
        side = stencil_size(self.orders)
        of_outputs = gaussians.repeat_interleave(self.out_channels // self.bases, 0)
        return self._mix(stencils, (side, side)), of_outputs.to(self.theta.dtype)

    def _two_steps(self) -> nn.Module:
        """The algorithm "smoothed" as plain convolutions, and a padding module where they need one."""
        mixed, gaussians = self._smoothing()
        options = self.stride, self.padding, self.dilation, self.padding_mode
        pad_first, zeros = padding_step(self.kernel_size, *options)
        early, late = split_padding(zeros, self.dilation, mixed.shape[-1])
        common: dict[str, Any] = {"dilation": self.dilation, "memory_format": torch.channels_last}
        steps = (
            pad_first,
            plain_conv2d(mixed, padding=early, groups=self.groups, **common),
            plain_conv2d(gaussians, self.bias, stride=self.stride, padding=late, groups=self.out_channels, **common),
        )
        return nn.Sequential(*(step for step in steps if step is not None))

    def _factors(self, kernels: Tensor) -> Factors:
        """The three convolutions that make the filters, from kernels (B, N, kh kw)."""
        phi = self.per_block(kernels.unflatten(-1, self.kernel_size).to(self.theta.dtype))
        return factorised(self.beta, self.lam, phi, self.groups)

    @torch.no_grad()
    @of_whole_parameters
    def deploy(self, algorithm: str = "auto") -> nn.Module:
        """Modules of torch alone with the present filters and the same outputs; this layer does not change.

        The dense form is one convolution, padded by a step of its own where :func:`~gdlayer.plain.plain_conv2d` cannot
        do without. The factorised form is an nn.Sequential of plain convolutions, as the factors of the filters are:
        1 x 1, channel by channel, and 1 x 1 in groups. The smoothed form is two: the mixed stencils, and channel by
        channel the Gaussians. The output of these two forms is in the memory format channels_last.

        Parameters
        ----------
        algorithm : "auto", "dense", "factorised" (separated only) or "smoothed" (hybrid only)
            Only the first two with a ``filter_map``. "auto" is the layer's own ``algorithm``, or if that is "auto", the
            cheapest by the cost model: "dense" where it does not know, see :meth:`chosen`.

        Raises
        ------
        ValueError
            If a parameter is NaN or infinite: the message names it.
        """
        if one_of("algorithm", algorithm, ("auto", *self._algorithms)) == "auto":
            algorithm = self._choice(self.theta)
        if algorithm == "dense":
            return super().deploy()
        check_finite(self)
        if algorithm == "smoothed":
            return self._two_steps().train(self.training)
        factors = self._factors(self._sampled_kernels())
        first, depthwise, last = factors
        dilation = one_tap_dilation(last.device)
        return nn.Sequential(
            plain_conv2d(first, dilation=dilation, groups=self.groups, memory_format=torch.channels_last),
            self._padded(depthwise, None, len(depthwise)),
            plain_conv2d(last, self.bias, dilation=dilation, groups=factors.last_groups),
        ).train(self.training)

    def _fits(self, x: Tensor) -> bool:
        """Whether the layer can take x; if not, F.conv2d says what is wrong."""
        if tracing():
            return True  # a trace records no question about sizes
        return x.dim() in (3, 4) and x.shape[-3] == self.in_channels and x.shape[-2] > 0 and x.shape[-1] > 0

    def chosen(self, x: Tensor) -> str:
        """The name of the algorithm that computes the layer for x.

        "dense" with a ``filter_map``. Otherwise ``algorithm``, unless that is "auto": then the cheapest by
        :func:`gdlayer.algorithms.cheapest` if x is on a CPU and computed in float32, or on one without AMX in bfloat16,
        which is what the cost model knows, and "dense" otherwise.
        """
        return self._choice(x)

    def _choice(self, like: Tensor) -> str:
        """The algorithm for maps of this device and dtype."""
        if self.filter_map is not None:
            return "dense"
        if self.algorithm != "auto":
            return self.algorithm
        if like.device.type != "cpu":
            return "dense"
        dtype = torch.get_autocast_dtype("cpu") if autocast_on(like.device) else like.dtype
        return self._cheapest if dtype in KNOWN_DTYPES else "dense"

    @property
    def _mixing(self) -> tuple[Tensor, ...]:
        return tuple(getattr(self, name) for name in self.mixing)

    @property
    def _algorithms(self) -> tuple[str, ...]:
        if self.filter_map is not None:
            return FULL
        if self.sampling == "hybrid":
            return HYBRID
        return SEPARATED if self.separated else FULL

    @property
    def order(self) -> int | list[tuple[int, int]]:
        """K if the kernels are a whole N-jet in its order, otherwise the list of (p, q)."""
        k = max(p + q for p, q in self.orders)
        return k if self.orders == jet_orders(k) else list(self.orders)

    def config(self) -> dict[str, Any]:
        """The arguments that make a layer like this one, in Python's own types; device and dtype are left out.

        ``trainable`` is what trains now. Parameters are not in it, but in the state dict. ``json.dumps`` takes it, and
        :meth:`from_config` takes what ``json.loads`` gives back.
        """
        arguments = {name: getattr(self, name) for name in signature(type(self)).parameters if name not in PLACE}
        return {**arguments, "bias": self.bias is not None}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **options: Any) -> Self:
        """A new layer from the :meth:`config` of another; ``options`` such as ``device`` come on top."""
        return cls(**{**config, **options})

    def extra_repr(self) -> str:
        constraints = {
            "shared": (),
            "isotropic": False,
            "sigma_min": 0.5,
            "sigma_max": None,
            "start_sigma": None,
            "start_mu": 1.0,
            "sampling": "point",
            "normalise": 0.0,
        }
        chosen = "".join(
            f", {name}={value:.4g}" if isinstance(value, float) else f", {name}={value!r}"
            for name, usual in constraints.items()
            if (value := getattr(self, name)) != usual
        )
        return (
            f"{super().extra_repr()}, order={self.order}, bases={self.bases}, separated={self.separated}, "
            f"trainable={self.trainable}{chosen}, algorithm={self.algorithm!r}"
        )
