"""The local N-jet: anisotropic, oriented and shifted two-dimensional Gaussian derivative kernels, eq. (1)."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

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

    The points of the grid (2, kh kw); for kernel n, axis a and d = 0, 1, 2 more derivatives the row (order + d, n, a)
    of all (K + 3) 2N Gaussian derivatives, (3, 2N); and K, the highest order along one axis.
    """
    x, y = sampling_grid(kernel_size, dtype=dtype, device=device)
    grid = torch.stack((x.expand(kernel_size), y[:, None].expand(kernel_size))).flatten(1)
    along_axes = [order for pair in orders for order in pair]
    rows = [[(order + d) * len(along_axes) + i for i, order in enumerate(along_axes)] for d in range(3)]
    return grid, torch.tensor(rows, device=device), max(along_axes)


def sampled_kernels(sigma: Tensor, mu: Tensor, theta: Tensor, grid: Tensor, rows: Tensor, highest: int) -> Tensor:
    """:func:`gaussian_derivative_kernels` from prepared constants, points in a row: (..., N, kh kw).

    No data goes between host and device, so a CUDA graph can hold it.
    """
    trains = torch.is_grad_enabled() and (sigma.requires_grad or mu.requires_grad or theta.requires_grad)
    # a compiler makes its own derivatives, and fuses them
    if trains and not torch.compiler.is_compiling() and not forward_mode():
        return _Kernels.apply(sigma, mu, theta, grid, rows, highest)[0]
    return _evaluate(sigma, mu, theta, grid, rows[:1], highest)[0]


def forward_mode() -> bool:
    """Whether derivatives are taken along with the values: then torch drops those of an autograd function's own."""
    return forward_ad._current_level >= 0


class _Kernels(torch.autograd.Function):
    r"""Eq. (1) with its derivatives in closed form: they are made of Gaussian derivatives again.

    .. math::
        \frac{\partial G_p(u - \mu, \sigma)}{\partial u} = G_{p+1} = -\frac{\partial G_p}{\partial \mu}, \qquad
        \frac{\partial G_p}{\partial \sigma} = \sigma\, G_{p+2} \text{ (heat equation)}, \qquad
        \frac{\partial (u, v)}{\partial \theta} = (v, -u)
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        sigma: Tensor, mu: Tensor, theta: Tensor, grid: Tensor, rows: Tensor, highest: int
    ) -> tuple[Tensor, ...]:
        kernels, g, uv = _evaluate(sigma, mu, theta, grid, rows, highest)
        return kernels, *_differentiate(g, uv)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        *tensors, ctx.highest = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*tensors, *output[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        if (grad := grads[0]) is None:
            return (None,) * 6
        *tensors, by_uv, by_theta = ctx.saved_tensors
        if torch.is_grad_enabled():  # derivatives of derivatives are asked for
            by_uv, by_theta = _differentiate(*_evaluate(*tensors, highest=ctx.highest)[1:])
        grad = grad.movedim(-2, 0)
        shift, heat = (grad[:, None] * by_uv).sum(-1).movedim((1, 2), (-2, -1))
        return tensors[0] * heat, -shift, (grad * by_theta).sum(-1).movedim(0, -1), None, None, None


def _evaluate(
    sigma: Tensor, mu: Tensor, theta: Tensor, grid: Tensor, rows: Tensor, highest: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Kernels (..., N, kh kw); G of every order of ``rows`` and axis (d, N, 2, ..., kh kw); u, v (N, 2, ..., kh kw)."""
    sigma, mu = (t.movedim((-2, -1), (0, 1))[..., None] for t in (sigma, mu))
    theta = theta.movedim(-1, 0)
    cos, sin = torch.cos(theta), torch.sin(theta)
    rotation = torch.stack((cos, sin, -sin, cos), 1).unflatten(1, (2, 2))
    uv = (rotation[..., None] * grid.view(2, *(1 for _ in theta.shape[1:]), -1)).sum(2)
    g = gaussian_derivatives(uv - mu, sigma, highest + len(rows) - 1)
    g = g.flatten(0, 2)[rows.flatten()].view(len(rows), *uv.shape)
    return (g[0, :, 0] * g[0, :, 1]).movedim(0, -2), g, uv


def _differentiate(g: Tensor, uv: Tensor) -> tuple[Tensor, Tensor]:
    """Every kernel's derivatives by u and v, the first and the second (2, N, 2, ..., kh kw), and by theta."""
    by_uv = g[1:] * g[0].flip(1)
    by_u, by_v = by_uv[0].unbind(1)
    u, v = uv.unbind(1)
    return by_uv, by_u * v - by_v * u
