"""The local N-jet: anisotropic, oriented and shifted two-dimensional Gaussian derivative kernels, eq. (1)."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from gdlayer.hermite import standard_gaussian_derivatives
from gdlayer.precision import autocast_off


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
    batch = torch.broadcast_shapes(sigma.shape[:-2], mu.shape[:-2], theta.shape[:-1])
    sigma, mu, theta = (t.expand(*batch, *shape) for t, shape in ((sigma, (n, 2)), (mu, (n, 2)), (theta, (n,))))
    constants = kernel_constants(orders, kernel_size, dtype=theta.dtype, device=theta.device)
    return sampled_kernels(sigma, mu, theta, *constants).unflatten(-1, kernel_size)


def kernel_constants(
    orders: Sequence[tuple[int, int]],
    kernel_size: tuple[int, int],
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
) -> tuple[Tensor, Tensor, int]:
    """What :func:`sampled_kernels` needs on its device.

    The points of the grid in homogeneous coordinates x, y, 1, (3, kh kw); the orders (N, 2); the highest of them.
    """
    x, y = sampling_grid(kernel_size, dtype=dtype, device=device)
    x, y = x.expand(kernel_size), y[:, None].expand(kernel_size)
    return (
        torch.stack((x, y, torch.ones_like(x))).flatten(1),
        torch.tensor(orders, device=device),
        max(map(max, orders)),
    )


def sampled_kernels(sigma: Tensor, mu: Tensor, theta: Tensor, grid: Tensor, orders: Tensor, highest: int) -> Tensor:
    """:func:`gaussian_derivative_kernels` from prepared constants, points in a row: (..., N, kh kw).

    No data goes between host and device, so a CUDA graph can hold it.
    """
    trains = torch.is_grad_enabled() and (sigma.requires_grad or mu.requires_grad or theta.requires_grad)
    if trains and not traced():
        return _Kernels.apply(sigma, mu, theta, grid, orders, highest)
    return _evaluate(sigma, mu, theta, grid, orders, highest, 0)[0]


def traced() -> bool:
    """Whether torch follows every operation, where an autograd function would hide some.

    A compiler makes derivatives of its own, and fuses them; a tracer writes operations down; torch.func transforms
    them; and in forward mode, derivatives of the function's own derivatives would be dropped.
    """
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # type: ignore[reportPrivateImportUsage]
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )


class _Kernels(torch.autograd.Function):
    r"""Eq. (1) with its derivatives in closed form: they are made of Gaussian derivatives again.

    With :math:`t = A\,(x, y, 1)^\top = ((u - \mu_1) / \sigma_1, (v - \mu_2) / \sigma_2)` and the standard derivatives
    g of :func:`~gdlayer.hermite.standard_gaussian_derivatives`,

    .. math::
        \frac{\partial g_p}{\partial t} = g_{p+1}, \qquad
        \frac{\partial G_p}{\partial \sigma} = \sigma\, G_{p+2} \text{ (heat equation)}
    """

    @staticmethod
    def forward(
        ctx: Any, sigma: Tensor, mu: Tensor, theta: Tensor, grid: Tensor, orders: Tensor, highest: int
    ) -> Tensor:
        kernels, *factors = _evaluate(sigma, mu, theta, grid, orders, highest, 2)
        ctx.highest = highest
        ctx.save_for_backward(sigma, mu, theta, grid, orders, *factors)
        return kernels

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        *tensors, g, scale, precision, rotation = ctx.saved_tensors
        if torch.is_grad_enabled():  # derivatives of derivatives are asked for
            _, g, scale, precision, rotation = _evaluate(*tensors, highest=ctx.highest, derivatives=2)
        other = g[0].flip(-2) * (grad * scale).unsqueeze(-2)  # (..., N, 2, kh kw)
        with autocast_off(grad.device):
            by_x, by_y, by_1 = ((g[1] * other) @ tensors[3].mT).unbind(-1)  # sums over the points, by A
        cos, sin = rotation.unbind(-1)
        return (
            precision * (g[2] * other).sum(-1),
            -precision * by_1,
            (precision * (cos * by_y - sin * by_x)).sum(-1),
            None,
            None,
            None,
        )


def _evaluate(
    sigma: Tensor, mu: Tensor, theta: Tensor, grid: Tensor, orders: Tensor, highest: int, derivatives: int
) -> tuple[Tensor, ...]:
    """Kernels (..., N, kh kw), and what their derivatives need.

    g of so many more orders (d, ..., N, 2, kh kw); the factor 1 / (2 pi sigma_1^(p+1) sigma_2^(q+1)), (..., N, 1); 1 /
    sigma (..., N, 2); and the directions of u and v (..., N, 2, 2).
    """
    precision = sigma.reciprocal()
    cos, sin = torch.cos(theta), torch.sin(theta)
    rotation = torch.stack((cos, sin, -sin, cos), -1).unflatten(-1, (2, 2))
    affine = torch.cat((rotation, -mu[..., None]), -1) * precision[..., None]  # A, (..., N, 2, 3)
    with autocast_off(theta.device):
        t = affine @ grid
    g = torch.stack(standard_gaussian_derivatives(t, highest + derivatives))
    d, kernel, axis = (torch.arange(n, device=orders.device) for n in (derivatives + 1, *orders.shape))
    g = g[orders + d[:, None, None], ..., kernel[:, None], axis, :].movedim((1, 2), (-3, -2))
    scale = (precision ** (orders + 1)).prod(-1, keepdim=True) / (2 * math.pi)
    u, v = g[0].unbind(-2)
    return u * v * scale, g, scale, precision, rotation
