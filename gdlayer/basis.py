"""The local N-jet: anisotropic, oriented and shifted two-dimensional Gaussian derivative kernels, eq. (1)."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from gdlayer._plumbing.checks import int_pair, is_integer, nonnegative_number, one_of
from gdlayer._plumbing.modes import autocast_off, has_values, recorded
from gdlayer._plumbing.quadrature import gauss_legendre
from gdlayer.discrete import Spectrum, discrete_kernels, spectrum
from gdlayer.hermite import gaussian_derivatives, standard_gaussian_derivatives
from gdlayer.hybrid import Stencils, composed, stencil_size, stencils, turned

SAMPLINGS = ("point", "integrated", "discrete", "hybrid")
PIXEL_NODES = 7
"""Nodes across a pixel that average a kernel: for orders up to 4, to 1e-7 of its peak at sigma 0.5, 4e-4 at 0.3."""


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
    orders = _pairs(order)
    if len(set(orders)) != len(orders):
        raise ValueError(f"order must list each pair (p, q) once, got {orders!r}")
    return orders


def _pairs(order: int | Iterable[Sequence[int]]) -> tuple[tuple[int, int], ...]:
    """:func:`jet_orders`, where a pair may stand twice."""
    if is_integer(order):
        if order < 0:
            raise ValueError(f"order must be an integer >= 0 or a list of pairs (p, q), got {order}")
        return tuple((p, total - p) for total in range(order + 1) for p in range(total + 1))
    try:
        orders = tuple(tuple(pair) for pair in order)  # type: ignore[union-attr]
    except TypeError:
        raise ValueError(f"order must be an integer >= 0 or a list of pairs (p, q), got {order!r}") from None
    for pair in orders:
        if len(pair) != 2 or not all(is_integer(d) and d >= 0 for d in pair):
            raise ValueError(f"each derivative order must be a pair (p, q) of integers >= 0, got {pair!r}")
    if not orders:
        raise ValueError("order must list at least one pair (p, q), got none")
    return tuple((int(p), int(q)) for p, q in orders)


def sampling_grid(
    kernel_size: tuple[int, int], *, dtype: torch.dtype | None = None, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Coordinates x (kw,) along columns and y (kh,) along rows, in pixels, centred at 0.

    An odd size samples the integers, an even size the half-integers between them.
    """
    y, x = (torch.arange(k, dtype=dtype, device=device) - (k - 1) / 2 for k in kernel_size)
    return x, y


def rotation(theta: Tensor) -> Tensor:
    r"""The matrix :math:`R_\theta = \begin{pmatrix} \cos\theta & \sin\theta \\ -\sin\theta & \cos\theta \end{pmatrix}`.

    (u, v) = R (x, y): its rows are the directions of u and v.

    Parameters
    ----------
    theta : tensor of shape (...)
        In radians.

    Returns
    -------
    tensor of shape (..., 2, 2)
    """
    cos, sin = torch.cos(theta), torch.sin(theta)
    return torch.stack((cos, sin, -sin, cos), -1).view(*theta.shape, 2, 2)


def gaussian_derivative_kernels(
    sigma: Tensor,
    mu: Tensor,
    theta: Tensor,
    orders: int | Iterable[Sequence[int]],
    kernel_size: int | tuple[int, int],
    *,
    sampling: str = "point",
    normalise: float = 0.0,
) -> Tensor:
    r"""Kernels of eq. (1) on the grid of :func:`sampling_grid`.

    >>> import torch
    >>> from gdlayer import gaussian_derivative_kernels
    >>> sigma, mu, theta = torch.full((2, 2), 1.5), torch.zeros(2, 2), torch.zeros(2)
    >>> kernels = gaussian_derivative_kernels(sigma, mu, theta, orders=[(0, 0), (1, 0)], kernel_size=(7, 9))
    >>> kernels.shape
    torch.Size([2, 7, 9])

    .. math::
        \phi^{b,n}(x, y) &= G_{p_n}(u - \mu_1, \sigma_1)\; G_{q_n}(v - \mu_2, \sigma_2) \\
        u &= x \cos\theta + y \sin\theta, \qquad v = -x \sin\theta + y \cos\theta

    Each kernel has its own :math:`\sigma, \mu, \theta`. The shift is applied in the rotated frame, so the kernel's
    centre is :math:`R_\theta^\top \mu`; the kernels are not normalised by their sum.

    They are made for convolution. A layer correlates, which mirrors them: the ramp I = x correlated with the kernel
    (1, 0) gives -1, and every odd p + q changes the sign so.

    ``sampling`` says what stands for a kernel at a pixel:

    - "point": its value at the centre, as in the paper;
    - "integrated": its average over the pixel, :math:`\int_{-1/2}^{1/2}\! \int_{-1/2}^{1/2} \phi(x + a, y + b)\, da\,
      db`, by quadrature: differences of erf and of lower derivatives, where the kernel is not rotated. The average adds
      1/12 to the variances;
    - "discrete": Lindeberg's discrete analogue: where the kernel is neither
      rotated nor shifted, central differences of :math:`e^{-\sigma^2} I_n(\sigma^2)`. It is for a sigma up to half the
      window; above, its integral over frequencies loses accuracy (:func:`~gdlayer.discrete.discrete_kernels`);
    - "hybrid": Lindeberg's hybrid: central differences of the Gaussian's values at the pixels (:mod:`gdlayer.hybrid`).
      They cost least and are farthest from the derivatives at small sigma: a first difference adds 1/3 to the
      variance, a second 1/6. The window must hold the differences: 3 pixels up to order 2, 5 up to order 4.

    Points are closest to the continuous kernel from a sigma of about 1 on. Below, derivatives by averages answer a
    constant with zero at every shift, and err on their monomial like points of one order less; discrete kernels are
    exact on polynomials, but only where they are centred on a pixel. The book's chapter on kernels measures it, the one
    on cost what each takes: several times as long as points.

    Parameters
    ----------
    sigma, mu : tensors of shape (..., N, 2)
        Standard deviations, positive, and shifts along u and v, in pixels.
    theta : tensor of shape (..., N)
        Angle of the u axis against the columns' axis x, counter-clockwise in the frame (x, y), in radians.
    orders : int or N pairs (p, q)
        As of :func:`jet_orders`; a pair may stand several times.
    kernel_size : int or (kh, kw)
    sampling : "point", "integrated", "discrete" or "hybrid"
    normalise : float
        gamma >= 0 of scale-normalised derivatives (Lindeberg): the factor :math:`\sigma_1^{\gamma p}\,
        \sigma_2^{\gamma q}`. At 1 the kernels have no unit but pixels ** -2 of the Gaussian.

    Returns
    -------
    tensor of shape (..., N, kh, kw)

    Raises
    ------
    ValueError, TypeError
        If an argument is not what its entry allows, a shape does not fit the number of orders, sigma, mu and theta are
        not of one floating-point dtype, or a number of theirs is not finite, or one of the kernels. Numbers are not
        looked at on the device "meta" and while torch records or transforms the operations.
    """
    one_of("sampling", sampling, SAMPLINGS)
    nonnegative_number("normalise", normalise)
    orders, kernel_size = _pairs(orders), int_pair("kernel_size", kernel_size)
    n = len(orders)
    for name, parameter, shape in (("sigma", sigma, (n, 2)), ("mu", mu, (n, 2)), ("theta", theta, (n,))):
        if not isinstance(parameter, Tensor) or not parameter.is_floating_point():
            kind = parameter.dtype if isinstance(parameter, Tensor) else repr(parameter)
            raise TypeError(f"{name} must be a tensor of a floating-point dtype, got {kind}")
        if parameter.shape[-len(shape) :] != shape:
            raise ValueError(
                f"{name} must have shape (..., {', '.join(map(str, shape))}), got {tuple(parameter.shape)}"
            )
    if not sigma.dtype == mu.dtype == theta.dtype:
        raise TypeError(f"sigma, mu and theta must have the same dtype, got {sigma.dtype}, {mu.dtype}, {theta.dtype}")
    readable = has_values(sigma, mu, theta)
    if readable:
        _check_all("sigma", sigma, sigma.isfinite() & (sigma > 0), "positive and finite")
        _check_all("mu", mu, mu.isfinite(), "finite")
        _check_all("theta", theta, theta.isfinite(), "finite")
    batch = torch.broadcast_shapes(sigma.shape[:-2], mu.shape[:-2], theta.shape[:-1])
    sigma, mu, theta = (t.expand(*batch, *shape) for t, shape in ((sigma, (n, 2)), (mu, (n, 2)), (theta, (n,))))
    constants = kernel_constants(orders, kernel_size, sampling, dtype=theta.dtype, device=theta.device)
    kernels = sampled_kernels(sigma, mu, theta, constants, orders, normalise)
    if readable:
        allowed = f"finite in {kernels.dtype}, by lower orders, a smaller normalise or a larger sigma"
        _check_all("kernels", kernels, kernels.isfinite(), allowed)
    return kernels.unflatten(-1, kernel_size)


def _check_all(name: str, values: Tensor, right: Tensor, allowed: str) -> None:
    if not bool(right.all()):
        raise ValueError(f"{name} must be {allowed}, got {values[~right][0].item()}")


def normalised_kernels(sigma: Tensor, orders: Sequence[tuple[int, int]], half_size: int) -> Tensor:
    r"""Isotropic, centred kernels, normalised in scale and by the Gaussian's sum over the samples.

    .. math:: \phi^{p,q}(x, y) = g_p(x)\, g_q(y), \qquad
        g_p(x) = \sigma^p\, \frac{G_p(x, \sigma)}{\sum_{x'} G_0(x', \sigma)}

    Parameters
    ----------
    sigma : scalar tensor, in pixels
    orders : N pairs (p, q)
    half_size : int
        e: the kernel covers -e, ..., e.

    Returns
    -------
    tensor of shape (N, 2e + 1, 2e + 1)
    """
    x = torch.arange(-half_size, half_size + 1, dtype=sigma.dtype, device=sigma.device)
    g = gaussian_derivatives(x, sigma, max(map(max, orders)))
    scale = torch.stack([sigma**p for p in range(len(g))]) / g[0].sum()
    g = g * scale[:, None]
    return torch.stack([g[q][:, None] * g[p] for p, q in orders])


class KernelConstants(NamedTuple):
    """What kernels are computed from besides sigma, mu and theta."""

    grid: Tensor
    """x, y and 1 in pixels, (3, P): at the centres of the pixels, or at the nodes of every pixel that is averaged."""
    powers: Tensor
    """p + 1 and q + 1, (N, 2)."""
    rows: Tensor
    """Where the factors g(u) and g(v) of a kernel and of its slopes along u and v stand in all orders of g, (orders,
    N, 2), flattened: (2, N, 3). The three products have the orders (p, q), (p + 1, q) and (p, q + 1)."""
    weights: Tensor | None
    """Of the nodes of a pixel, for "integrated" alone."""
    spectrum: Spectrum | None
    """For "discrete" alone."""
    hybrid: "HybridConstants | None"
    """For "hybrid" alone."""


class HybridConstants(NamedTuple):
    """What makes "hybrid" kernels: one Gaussian and its differences."""

    gaussian: KernelConstants
    window: tuple[int, int]
    """What stencils leave of the kernel's, in pixels."""
    stencils: Stencils


def kernel_constants(
    orders: Sequence[tuple[int, int]],
    kernel_size: tuple[int, int],
    sampling: str = "point",
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> KernelConstants:
    """The :class:`KernelConstants` of a window, computed on the CPU in float64 and then converted.

    Raises
    ------
    ValueError
        If "hybrid" kernels do not fit the window.
    """

    def converted(values: Tensor) -> Tensor:
        return values.to(device, dtype)

    x, y = sampling_grid(kernel_size, dtype=torch.float64, device=torch.device("cpu"))
    weights = None
    if sampling == "integrated":
        t, w = gauss_legendre(PIXEL_NODES)
        x, y = x[:, None, None] + t / 2, y[:, None, None, None] + t[:, None] / 2
        weights = converted((w[:, None] * w).flatten() / 4)
    else:
        y = y[:, None]
    points = torch.stack(torch.broadcast_tensors(x, y)).flatten(1)
    pairs = torch.tensor(orders, device="cpu")
    products = pairs[:, None] + torch.tensor([(0, 0), (1, 0), (0, 1)], device="cpu")  # (N, 3, 2)
    rows = products * pairs.numel() + torch.arange(pairs.numel(), device="cpu").view(-1, 1, 2)
    at = Spectrum(*map(converted, spectrum(points, orders, kernel_size))) if sampling == "discrete" else None
    hybrid = None
    if sampling == "hybrid":
        side = stencil_size(orders)
        if min(kernel_size) < side:
            raise ValueError(
                f"kernel_size must be at least {side} for sampling='hybrid' with orders p + q up to "
                f"{max(map(sum, orders))}, got {kernel_size}"
            )
        window = kernel_size[0] - side + 1, kernel_size[1] - side + 1
        gaussian = kernel_constants([(0, 0)], window, dtype=dtype, device=device)
        hybrid = HybridConstants(gaussian, window, Stencils(*map(converted, stencils(orders))))
    return KernelConstants(
        converted(torch.cat((points, torch.ones_like(points[:1])))),
        converted(pairs + 1),
        rows.movedim(-1, 0).contiguous().to(device),
        weights,
        at,
        hybrid,
    )


def sampled_kernels(
    sigma: Tensor,
    mu: Tensor,
    theta: Tensor,
    constants: KernelConstants,
    orders: Sequence[tuple[int, int]],
    normalise: float = 0.0,
) -> Tensor:
    """:func:`gaussian_derivative_kernels` from prepared constants, all points in one row.

    No data moves between host and device, so a CUDA graph can capture it.

    Parameters
    ----------
    sigma, mu, theta : tensors of shape (..., N, 2), (..., N, 2), (..., N)
    constants : KernelConstants
        Of their dtype and device.
    orders : N pairs (p, q)
    normalise : float
        As of :func:`gaussian_derivative_kernels`.

    Returns
    -------
    tensor of shape (..., N, kh kw)
    """
    grid, powers, rows, weights, at, hybrid = constants
    if hybrid is not None:
        return composed(*hybrid_factors(sigma, mu, theta, hybrid, powers, normalise))
    if at is not None:
        kernels = discrete_kernels(sigma, mu, theta, at, orders)
    else:
        kernels = _point_kernels(sigma, mu, theta, grid, powers, rows, max([max(pair) for pair in orders]))
        if weights is not None:
            with autocast_off(theta.device):
                kernels = kernels.unflatten(-1, (-1, weights.shape[0])) @ weights
    return kernels * _scale_factors(sigma, powers, normalise) if normalise else kernels


def hybrid_factors(
    sigma: Tensor, mu: Tensor, theta: Tensor, of: HybridConstants, powers: Tensor, normalise: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Gaussians (..., M, h, w) and the stencils (..., N, s s) that make "hybrid" kernels.

    ``powers`` are p + 1 and q + 1. sigma, mu and theta are as in :func:`sampled_kernels`, with M = N, or have M = 1 in
    the place of N where all kernels share them.
    """
    grid, once, rows, *_ = of.gaussian
    values = _point_kernels(sigma[..., None, :], mu[..., None, :], theta[..., None], grid, once, rows, 0)
    differences = turned(theta, of.stencils)
    if normalise:
        differences = differences * _scale_factors(sigma, powers, normalise)
    return values.squeeze(-2).unflatten(-1, of.window), differences


def _scale_factors(sigma: Tensor, powers: Tensor, normalise: float) -> Tensor:
    """Of scale-normalised derivatives: (..., N, 1)."""
    return (sigma ** (normalise * (powers - 1))).prod(-1, keepdim=True)


def _point_kernels(
    sigma: Tensor, mu: Tensor, theta: Tensor, grid: Tensor, powers: Tensor, rows: Tensor, highest: int
) -> Tensor:
    """Eq. (1) at the points of ``grid``: (..., N, P)."""
    trains = torch.is_grad_enabled() and (sigma.requires_grad or mu.requires_grad or theta.requires_grad)
    if trains and not recorded():  # a compiler and torch.func make their own derivatives of _evaluate
        return _Kernels.apply(sigma, mu, theta, grid, powers, rows, highest + 1)  # type: ignore[return-value]
    return _evaluate(sigma, mu, theta, grid, powers, rows[..., :1], highest)[0]


class _Kernels(torch.autograd.Function):
    r"""Eq. (1) with its derivatives in closed form: they are made of Gaussian derivatives again.

    With :math:`t = A\,(x, y, 1)^\top = ((u - \mu_1) / \sigma_1, (v - \mu_2) / \sigma_2)` and the standard derivatives
    g of :func:`~gdlayer.hermite.standard_gaussian_derivatives`,

    .. math::
        \phi = \frac{g_p(t_1)\, g_q(t_2)}{2 \pi\, \sigma_1^{p+1} \sigma_2^{q+1}}, \qquad
        \frac{\partial g_p}{\partial t} = g_{p+1}
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        # Nobody writes to constants, so they go without the checks that saved tensors have.
        geometry, ctx.constants = inputs[:3], inputs[3:]
        kernels, *factors = _evaluate(*inputs)
        ctx.save_for_backward(*geometry, *factors)
        ctx.save_for_forward(*geometry)
        return kernels

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        *geometry, products, scale, precision, frame = ctx.saved_tensors
        if torch.is_grad_enabled() or any(forward_ad.unpack_dual(t).tangent is not None for t in geometry):
            # This backward pass is differentiated itself, so what forward left without a derivative is made anew.
            _, products, scale, precision, frame = _evaluate(*geometry, *ctx.constants)
        grid, powers, *_ = ctx.constants
        with autocast_off(grad.device):
            sums = (products * (grad * scale).unsqueeze(-2)) @ grid.mT  # over the points: (..., N, 3, 3)
        by_frame = precision[..., None] * sums[..., 1:, :]
        by_x, by_y, by_1 = by_frame.unbind(-1)
        cos, sin, _ = frame.unbind(-1)
        return (
            -precision * ((frame * by_frame).sum(-1) + powers * sums[..., :1, 2]),  # of A, and of the scale
            -by_1,
            (cos * by_y - sin * by_x).sum(-1),
            None,
            None,
            None,
            None,
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        geometry, (grid, powers, *_) = ctx.saved_tensors, ctx.constants
        by_sigma, by_mu, by_theta = (
            torch.zeros_like(t) if tangent is None else tangent for t, tangent in zip(geometry, tangents, strict=False)
        )
        kernels, products, scale, precision, frame = _evaluate(*geometry, *ctx.constants)
        cos, sin, _ = frame.unbind(-1)
        moved = torch.stack((-sin * by_theta[..., None], cos * by_theta[..., None], -by_mu), -1)  # of the frame
        grown = precision * by_sigma  # of log sigma
        with autocast_off(grid.device):
            along = (precision[..., None] * (moved - grown[..., None] * frame)) @ grid
        slopes = (along * products[..., 1:, :]).sum(-2) * scale
        return slopes - (powers * grown).sum(-1, keepdim=True) * kernels


def _evaluate(
    sigma: Tensor, mu: Tensor, theta: Tensor, grid: Tensor, powers: Tensor, rows: Tensor, highest: int
) -> tuple[Tensor, ...]:
    """Kernels (..., N, kh kw), and the factors of their first derivatives.

    ``powers`` are p + 1 and q + 1; ``highest`` is the highest order in ``rows``. The factors are the products of g(u)
    and g(v) in ``rows``, (..., N, 3, kh kw); the scale 1 / (2 pi sigma_1^(p+1) sigma_2^(q+1)), (..., N, 1); 1 / sigma,
    (..., N, 2); and the frame, which takes (x, y, 1) to (u - mu_1, v - mu_2), (..., N, 2, 3).
    """
    precision = sigma.reciprocal()
    frame = torch.cat((rotation(theta), -mu[..., None]), -1)
    with autocast_off(theta.device):
        t = (frame * precision[..., None]) @ grid
    g = torch.cat(standard_gaussian_derivatives(t, highest), -3).flatten(-3, -2)  # (..., orders N 2, kh kw)
    g_u, g_v = torch.unflatten(g.index_select(g.dim() - 2, rows.flatten()), -2, rows.shape).unbind(-4)
    products = g_u * g_v
    scale_u, scale_v = (precision**powers).unbind(-1)
    scale = (scale_u * scale_v).unsqueeze(-1) / (2 * math.pi)
    kernels = products[..., 0, :] * scale  # eq. (1): G_p(u - mu_1, sigma_1) G_q(v - mu_2, sigma_2)
    return kernels, products, scale, precision, frame
