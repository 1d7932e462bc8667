r"""Lindeberg's hybrid discretisation: a sampled Gaussian, then central differences; and its algorithm.

All derivatives of one Gaussian G are small stencils D on one smoothed map, :math:`\phi^{p,q} = D^{p,q} * G`. In one
dimension the differences are :math:`\delta_x f(n) = \frac12 (f(n + 1) - f(n - 1))`, :math:`\delta_{xx} f(n) = f(n + 1)
- 2 f(n) + f(n - 1)` and their products. Those along the axes u and v of the Gaussian combine them:

.. math:: D^{p,q} = [(\delta_x \cos\theta + \delta_y \sin\theta)^p\, (-\delta_x \sin\theta + \delta_y \cos\theta)^q]

where the brackets write :math:`\delta_{x^a} \delta_{y^b}` for each product. A stencil for orders up to p + q = K has
the side s = 3 for K up to 2, 5 up to 4, and so on; with a Gaussian in a window of k - s + 1 pixels it makes a kernel of
k. Where the Gaussian does not fall to zero in its window, the differences see the edge.

So a layer whose kernels share one geometry per basis needs no k x k convolution from f_in to f_out maps. The algorithm
"smoothed" is two convolutions, equal to the dense one up to rounding:

===========  ==================================  ================================
algorithm    s x s, the mixed stencils           k - s + 1, channel by channel
===========  ==================================  ================================
smoothed     f_in to f_out, at stride 1          f_out, by the bases' Gaussians
===========  ==================================  ================================

It works for every stride, padding and dilation. Multiply-adds against dense: s^2 / k^2 + (k - s + 1)^2 / (f_in k^2).
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

from gdlayer._plumbing.modes import autocast_off, autocast_on, compiling, recorded, with_known_signature
from gdlayer.algorithms import PART_BYTES, channels_last, like


def stencil_size(orders: Sequence[tuple[int, int]]) -> int:
    """s, the side of the smallest square that holds the differences of all these orders (p, q)."""
    return 2 * math.ceil(max(map(sum, orders)) / 2) + 1


class Stencils(NamedTuple):
    """Directional differences as polynomials in cos(theta) and sin(theta)."""

    exponents: Tensor
    """Of the cosine and of the sine in every term, (2, N, K + 1); the terms that an order does not have are zero."""
    terms: Tensor
    """The stencil that each term multiplies, (N, K + 1, s s)."""


def stencils(orders: Sequence[tuple[int, int]]) -> Stencils:
    """The :class:`Stencils` of N pairs (p, q), float64 tensors on the CPU."""
    size, highest = stencil_size(orders), max(map(sum, orders))
    lines = [_difference(order, size) for order in range(highest + 1)]
    terms = torch.zeros(len(orders), highest + 1, size, size, dtype=torch.float64, device="cpu")
    for n, (p, q) in enumerate(orders):
        for i in range(p + 1):  # from the first bracket i times cos delta_x, from the second j times -sin delta_x
            for j in range(q + 1):
                product = lines[p + q - i - j][:, None] * lines[i + j]
                terms[n, i + q - j] += math.comb(p, i) * math.comb(q, j) * (-1) ** j * product
    cosines = torch.arange(highest + 1, device="cpu")
    totals = torch.tensor([p + q for p, q in orders], device="cpu")[:, None]
    exponents = torch.stack(torch.broadcast_tensors(cosines, (totals - cosines).clamp_min(0)))
    return Stencils(exponents.to(terms), terms.flatten(2))


def _difference(order: int, size: int) -> Tensor:
    """The central difference of this order as a mask of convolution, (size,)."""
    mask = torch.ones(1, 1, 1, dtype=torch.float64, device="cpu")
    for factor in [(0.5, 0.0, -0.5)] * (order % 2) + [(1.0, -2.0, 1.0)] * (order // 2):
        mask = F.conv1d(mask, mask.new_tensor(factor[::-1]).view(1, 1, 3), padding=2)
    edge = (size - mask.shape[-1]) // 2
    return F.pad(mask, (edge, edge)).flatten()


def turned(theta: Tensor, of: Stencils) -> Tensor:
    """The differences along the axes at angle theta (..., N) or (..., 1): (..., N, s s), as masks of convolution."""
    cos, sin = (
        t[..., None] ** exponents for t, exponents in zip((theta.cos(), theta.sin()), of.exponents, strict=True)
    )
    with autocast_off(theta.device):
        return ((cos * sin)[..., None, :] @ of.terms).squeeze(-2)


def composed(gaussians: Tensor, differences: Tensor) -> Tensor:
    """Convolutions of Gaussians (..., M, h, w) with N/M stencils each (..., N, s s), whole: (..., N, kh kw)."""
    size = math.isqrt(differences.shape[-1])
    maps = gaussians.reshape(1, -1, *gaussians.shape[-2:])
    masks = differences.flip(-1).reshape(-1, 1, size, size)
    with autocast_off(gaussians.device):
        kernels = F.conv2d(maps, masks, padding=size - 1, groups=maps.shape[1])
    return kernels.reshape(*differences.shape[:-1], -1)


def smoothed(
    x: Tensor,
    mixed: Tensor,
    gaussians: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Tensor:
    """x (..., f_in, h, w), zero-padded, through mixed stencils and one Gaussian per output map.

    Parameters
    ----------
    mixed : (f_out, f_in/groups, s, s)
    gaussians : (f_out, 1, kh - s + 1, kw - s + 1)
    bias, stride, padding, dilation, groups :
        As of F.conv2d.
    """
    if x.dim() == 3:
        return smoothed(x[None], mixed, gaussians, bias, stride, padding, dilation, groups)[0]
    tensors: tuple[Any, ...] = (x, mixed, gaussians, bias)
    if autocast_on(x.device):
        dtype = torch.get_autocast_dtype(x.device.type)
        tensors = tuple(t if t is None else t.to(dtype) for t in tensors)
    x, mixed, gaussians, bias = tensors
    early, late = split_padding(padding, dilation, mixed.shape[-1])
    y = F.conv2d(channels_last(x), mixed, None, 1, early, dilation, groups)
    if x.device.type != "cpu" or (recorded() and not compiling()):
        return like(x, F.conv2d(y, gaussians, bias, stride, late, dilation, len(gaussians)))
    function = _CompiledSmoothing if compiling() else _Smoothing
    return like(x, function.apply(y, gaussians, bias, stride, late, dilation))  # type: ignore[arg-type]


def split_padding(
    padding: tuple[int, ...], dilation: tuple[int, ...], size: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Zeros around the first and the second convolution: beyond the reach of a stencil its answer is zero."""
    early = tuple(min(p, d * (size - 1)) for p, d in zip(padding, dilation, strict=True))
    return (early[0], early[1]), (padding[0] - early[0], padding[1] - early[1])


LARGEST_DIRECT = 7
"""Above this side of the window, and at stride 1, the gradient of the Gaussians goes through frequencies: the direct
way of oneDNN takes 2 to 3 times longer at 11 and 13 pixels, and a third of the time at 5."""


@with_known_signature
class _Smoothing(torch.autograd.Function):
    """A convolution channel by channel, with a fast gradient of large windows."""

    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        y, gaussians, bias, *settings = inputs
        return F.conv2d(y, gaussians, bias, *settings, groups=len(gaussians))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        y, gaussians, _, *ctx.settings = inputs
        ctx.save_for_backward(y, gaussians)
        ctx.save_for_forward(y, gaussians)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        grad = channels_last(grads[0])
        y, gaussians = ctx.saved_tensors
        stride, padding, dilation = ctx.settings
        by_y = by_gaussians = by_bias = None
        if ctx.needs_input_grad[0]:
            by_y = conv2d_input(y.shape, gaussians, grad, stride, padding, dilation, len(gaussians))
        if ctx.needs_input_grad[1]:
            if max(gaussians.shape[-2:]) > LARGEST_DIRECT and max(stride) == 1:
                correlate = torch.ops.gdlayer.correlated if compiling() else correlated
                by_gaussians = correlate(y, grad, padding, dilation, gaussians.shape[-2:]).to(gaussians.dtype)
            else:
                by_gaussians = conv2d_weight(y, gaussians.shape, grad, stride, padding, dilation, len(gaussians))
        if ctx.needs_input_grad[2]:
            by_bias = grad.sum((0, 2, 3))
        return by_y, by_gaussians, by_bias, None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        y, gaussians = ctx.saved_tensors
        by_y, by_gaussians, by_bias, *_ = tangents
        settings = {"groups": len(gaussians), **dict(zip(("stride", "padding", "dilation"), ctx.settings, strict=True))}
        return F.conv2d(by_y, gaussians, by_bias, **settings) + F.conv2d(y, by_gaussians, **settings)


class _CompiledSmoothing(_Smoothing):
    """The same without a forward-mode derivative, which torch.compile refuses."""

    jvp = torch.autograd.Function.jvp


def correlated(y: Tensor, grad: Tensor, padding: list[int], dilation: list[int], window: list[int]) -> Tensor:
    """The sums over images and pixels of a padded y times grad, at the shifts of the window, by its frequencies.

    (C, 1, *window), in float32 or better.
    """
    reach = [d * (side - 1) + 1 for d, side in zip(dilation, window, strict=True)]
    sides = zip(y.shape[-2:], padding, reach, strict=True)
    size = [8 * math.ceil(max(h + p, r) / 8) for h, p, r in sides]  # no shift is taken for another; 8 is fast
    at_a_time = max(PART_BYTES * torch.get_num_threads() // (y.shape[1] * math.prod(size) * 8), 1)
    exact = torch.promote_types(y.dtype, torch.float32)
    products: Any = 0
    for part, its_grad in zip(y.split(at_a_time), grad.split(at_a_time), strict=True):
        of_y, of_grad = (torch.fft.rfft2(t.contiguous().to(exact), s=size) for t in (part, its_grad))
        products = products + (of_y * of_grad.conj()).sum(0)
    at_shifts = torch.fft.irfft2(products, s=size).roll(list(padding), (-2, -1))
    return at_shifts[:, None, : reach[0] : dilation[0], : reach[1] : dilation[1]].contiguous()


@torch.library.custom_op(  # older versions of torch cannot read a schema from these annotations
    "gdlayer::correlated",
    mutates_args=(),
    schema="(Tensor y, Tensor grad, SymInt[] padding, SymInt[] dilation, SymInt[] window) -> Tensor",
)
def _as_one_operation(y: Tensor, grad: Tensor, padding: list[int], dilation: list[int], window: list[int]) -> Tensor:
    """:func:`correlated` for compilers, which do not look into it: they cannot write code for complex numbers."""
    return correlated(y, grad, padding, dilation, window)


@_as_one_operation.register_fake
def _(y: Tensor, grad: Tensor, padding: list[int], dilation: list[int], window: list[int]) -> Tensor:
    return y.new_empty(y.shape[1], 1, *window, dtype=torch.promote_types(y.dtype, torch.float32))
