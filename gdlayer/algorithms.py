"""One linear map, two algorithms: what they cost, and which is cheaper.

The dense algorithm is one convolution with the filters of eqs (2) and (3). A separated layer, eq. (4), can also be
computed by its factors, as an inverted bottleneck:

===========  =====================  =========================  =======================
algorithm    1 x 1                  k x k, channel by channel  1 x 1
===========  =====================  =========================  =======================
factorised   f_in to B N, by beta   B N                        B N to f_out, by lambda
===========  =====================  =========================  =======================

A layer with ``sampling="hybrid"``, separated or not, has a third algorithm, "smoothed" (:mod:`gdlayer.hybrid`).

With groups, M = max(B, groups) takes the place of B. In training, both compute the gradient of the filters, f_in f_out
k k sums over the image, as one dense product: it is cheaper than the gradients of the factors, and nothing between the
factors needs to be kept. On a CPU what is between them is computed for a part of the images at a time
(:data:`PART_BYTES`).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

from gdlayer._plumbing.modes import autocast_on, compiling, recorded, tracing, with_known_signature

COST = {"dense": 1.0, "pointwise": 1.5, "depthwise": 4.5, "moved": 5.0}
"""Time of a multiply-add in a dense, a 1 x 1 and a channel-by-channel convolution, and of a value written between two
of them or copied to another memory format; the first is the unit. One set for two CPUs with AVX-512: fitted to ``make
bench`` on one thread of an Intel in float32, and of an AMD in float32 and bfloat16. A clock would choose otherwise in
the next run; this choice depends on sizes and dtype alone."""


def _multiplies_bfloat16_as_float32() -> bool:
    """Whether this CPU has instructions for vectors of bfloat16, but none for matrices (AMX).

    Those are made for dense convolutions: with them a training step by factors was slower at every size measured.
    """
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of torch do not tell
    return capabilities.get("avx512_bf16", False) and not capabilities.get("amx_bf16", True)


KNOWN_DTYPES = {torch.float32} | ({torch.bfloat16} if _multiplies_bfloat16_as_float32() else set())
"""Of maps on a CPU for which the costs hold, in their relation to one another."""


class Sizes(NamedTuple):
    """Everything that the work of an algorithm depends on."""

    in_channels: int
    """f_in."""
    out_channels: int
    """f_out."""
    num_kernels: int
    """N."""
    bases: int
    """B."""
    kernel_size: tuple[int, int]
    """(kh, kw)."""
    in_pixels: int
    """h w of the input."""
    out_pixels: int
    """h w of the output."""
    groups: int = 1
    """As of nn.Conv2d."""
    stencil_size: int = 1
    """s, of "hybrid" kernels."""


class Work(NamedTuple):
    """What is done to one image: multiply-adds by kind of convolution, and values moved."""

    dense: int = 0
    pointwise: int = 0
    depthwise: int = 0
    moved: int = 0

    @property
    def cost(self) -> float:
        """In units of a dense convolution's multiply-add."""
        return sum(COST[kind] * count for kind, count in self._asdict().items())


class Factors(NamedTuple):
    """Three convolutions in a row, without bias; the first has the layer's groups, the last as many or more."""

    first: Tensor
    """(C, f_in/groups, 1, 1)."""
    depthwise: Tensor
    """(C, 1, kh, kw)."""
    last: Tensor
    """(f_out, C/groups of the last, 1, 1)."""

    @property
    def last_groups(self) -> int:
        """Of the last convolution."""
        return self.depthwise.shape[0] // self.last.shape[1]

    def in_groups(self, groups: int) -> "Factors":
        """The same with these groups in the last one too: blocks on a diagonal, which CPUs multiply no slower."""
        blocks = self.depthwise.shape[0] // self.last.shape[1]  # torch 2.4 compiles no property, nor _replace
        if not tracing() and blocks == groups:  # a trace records no question about sizes
            return self
        last = _block_diagonal(self.last.view(blocks, -1, self.last.shape[1]), groups)
        return Factors(self.first, self.depthwise, last)


def factorised(beta: Tensor, lam: Tensor, kernels: Tensor, groups: int) -> Factors:
    """Eq. (4) as it stands: beta (M, N, f_in/groups), lam (M, f_out/M, N), kernels (M, N, kh, kw)."""
    first, depthwise, last = beta.flatten(0, 1), kernels.flatten(0, 1), lam.flatten(0, 1)
    return _bounded(first[..., None, None], depthwise[:, None], last[..., None, None])


def _block_diagonal(lam: Tensor, groups: int) -> Tensor:
    """lam (M, f, N) of M blocks as filters over the M/groups N channels of a group, zero between blocks.

    (M f, M/groups N, 1, 1).
    """
    blocks = lam.unflatten(0, (groups, -1)).movedim(1, 3)  # (groups, f, N, m)
    diagonal = torch.eye(blocks.shape[-1], device=lam.device) > 0
    placed = torch.where(diagonal, blocks[..., None], 0)  # diag_embed, which exporters by trace do not know
    return placed.permute(0, 4, 1, 3, 2).flatten(0, 2).flatten(1)[..., None, None]


def _bounded(first: Tensor, depthwise: Tensor, last: Tensor) -> Factors:
    """The same product, scaled so that what is between the convolutions is nowhere larger than the image.

    So it is finite if the image is. The scale is a power of two, which rounds nothing.
    """
    scale = _power_of_two(_amplification(first) * _amplification(depthwise))
    return Factors(first / scale, depthwise, last * scale)


def _amplification(filters: Tensor) -> Tensor:
    """By how much a convolution can enlarge the largest value of an image; 1 if it cannot."""
    return filters.abs().sum((1, 2, 3)).amax(0).clamp_min(1)


def _power_of_two(number: Tensor) -> Tensor:
    """The smallest that is not less; a constant to autograd, as the derivative of a step is 0."""
    return 2.0 ** number.detach().log2().ceil()  # exporters by trace know no exp2


def dense_work(sizes: Sizes) -> Work:
    """Of the dense algorithm on one image, forward."""
    taps = sizes.kernel_size[0] * sizes.kernel_size[1]
    return Work(dense=sizes.out_pixels * sizes.in_channels // sizes.groups * sizes.out_channels * taps)


def factorised_work(sizes: Sizes) -> Work:
    """Of the factorised algorithm on one image, forward."""
    maps = max(sizes.bases, sizes.groups) * sizes.num_kernels
    ends = sizes.in_pixels * sizes.in_channels + sizes.out_pixels * sizes.out_channels
    return Work(
        pointwise=maps * ends // sizes.groups,
        depthwise=maps * sizes.out_pixels * sizes.kernel_size[0] * sizes.kernel_size[1],
        moved=ends + maps * (sizes.in_pixels + sizes.out_pixels),
    )


def smoothed_work(sizes: Sizes) -> Work:
    """Of the algorithm "smoothed" on one image, forward.

    In a depthwise layer the smoothing is a convolution of the same kind as the dense one, and counted as such.
    """
    height, width = (side - sizes.stencil_size + 1 for side in sizes.kernel_size)
    stencils = sizes.in_pixels * sizes.in_channels // sizes.groups * sizes.out_channels * sizes.stencil_size**2
    smoothing = sizes.out_pixels * sizes.out_channels * height * width
    alike = sizes.groups == sizes.in_channels > 1
    return Work(
        dense=stencils + smoothing * alike,
        depthwise=smoothing * (not alike),
        moved=sizes.in_pixels * (sizes.in_channels + sizes.out_channels) + 2 * sizes.out_pixels * sizes.out_channels,
    )


WORK = {"dense": dense_work, "factorised": factorised_work, "smoothed": smoothed_work}
"""By the name of the algorithm."""
FULL = ("dense",)
"""Algorithms of the full layer."""
SEPARATED = ("dense", "factorised")
"""Algorithms of the separated layer."""
HYBRID = ("dense", "smoothed")
"""Algorithms of both with "hybrid" kernels."""


def cheapest(algorithms: Sequence[str], sizes: Sizes) -> str:
    """The algorithm of least cost on a CPU in one of :data:`KNOWN_DTYPES`, with gradients and without.

    One choice serves both: the gradient of the input costs what the forward pass costs, and the gradient of the
    filters is the same dense product in both algorithms. A depthwise layer of up to :data:`LARGEST_LAST` pixels is not
    smoothed: two small convolutions channel by channel took 1.4 times longer than one without gradients.

    Parameters
    ----------
    algorithms : sequence of str
        :data:`FULL`, :data:`SEPARATED` or :data:`HYBRID`.
    sizes : :class:`Sizes`
    """
    if sizes.groups == sizes.in_channels > 1 and max(sizes.kernel_size) <= LARGEST_LAST:
        algorithms = [algorithm for algorithm in algorithms if algorithm != "smoothed"]
    return min(algorithms, key=lambda algorithm: WORK[algorithm](sizes).cost)


LARGEST_LAST = 13
"""Above this side of the kernel, oneDNN has slow ways in one memory format of the two. In channels_last, the gradient
of the filters takes 50 to 110 times longer on images wider than 28 pixels. In the default format, a depthwise
convolution without gradients takes 16 to 50 times longer."""
LARGEST_DEPTHWISE = 7
"""Depthwise kernels with a side above this are trained in channels_last, in 0.3 to 0.9 of the time."""


def dense(
    x: Tensor,
    filters: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Tensor:
    """F.conv2d, for large kernels on a CPU in the memory format in which it is fast; the output has that of x."""
    settings = (filters, bias, stride, padding, dilation, groups)
    if recorded() or x.dim() != 4 or x.device.type != "cpu":
        return F.conv2d(x, *settings)
    side = max(filters.shape[-2:])
    if side <= LARGEST_DEPTHWISE:
        return F.conv2d(x, *settings)
    trained, depthwise = filters.requires_grad and torch.is_grad_enabled(), groups == x.shape[1] > 1
    if depthwise and (trained or side > LARGEST_LAST):
        return like(x, F.conv2d(x.contiguous(memory_format=torch.channels_last), *settings))
    if not depthwise and trained and side > LARGEST_LAST:
        return like(x, F.conv2d(x.contiguous(), *settings))
    return F.conv2d(x, *settings)


def convolve(
    x: Tensor,
    filters: Tensor | None,
    factors: Factors,
    bias: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Tensor:
    """x (..., f_in, h, w), zero-padded, through the factors: equal to F.conv2d with the filters that they make.

    ``filters``, the product of the factors, gets the gradients in their place; where it is None, the three
    convolutions are differentiated one by one.
    """
    if x.dim() == 3:
        return convolve(x[None], filters, factors, bias, stride, padding, dilation, groups)[0]
    tensors: tuple[Any, ...] = (x, filters, *factors, bias)
    if autocast_on(x.device):
        dtype = torch.get_autocast_dtype(x.device.type)
        tensors = tuple(t if t is None else t.to(dtype) for t in tensors)
    if filters is None:
        x, _, *factors_and_bias = tensors
        return _apply_factors(x, *factors_and_bias, stride, padding, dilation, groups)
    function = _CompiledConvolution if compiling() else _Convolution
    return function.apply(*tensors, *stride, *padding, *dilation, groups)  # type: ignore[return-value]


def _apply_factors(
    x: Tensor, first: Tensor, depthwise: Tensor, last: Tensor, bias: Tensor | None, *settings: Any
) -> Tensor:
    """The bracket of eq. (4) from inside out, and the sum by lambda."""
    *pairs, groups = settings
    channels = depthwise.shape[0]
    scale = _power_of_two(_amplification(last))  # applied after the sum, so that no sum has infinities of both signs
    last, bias = last / scale, bias if bias is None else bias / scale

    def apply(x: Tensor) -> Tensor:
        y = _mixed(channels_last(x), first, groups=groups)  # sum over i of beta I
        y = F.conv2d(y, depthwise, None, *pairs, groups=channels)  # phi * (beta I)
        y = _mixed(y, last, bias, groups)  # eq. (4): lambda (beta phi * I), summed over n
        return like(x, y.mul_(scale))

    return _in_parts(apply, x, channels * x.shape[2] * x.shape[3])


def _mixed(x: Tensor, weight: Tensor, bias: Tensor | None = None, groups: int = 1) -> Tensor:
    """A 1 x 1 convolution."""
    return F.conv2d(x, weight, bias, dilation=one_tap_dilation(x.device), groups=groups)


def one_tap_dilation(device: torch.device) -> tuple[int, int]:
    """The dilation of 1 x 1 convolutions, which means nothing to one tap.

    With (1, 1) torch takes another way for fewer than 16 images on one thread of a CPU, up to 2.3 times slower in
    float32.
    """
    return (2, 2) if device.type == "cpu" else (1, 1)


def _in_parts(function: Callable[[Tensor], Tensor], images: Tensor, values: int) -> Tensor:
    """``function(images)``; on a CPU of as many at a time as a cache holds, with ``values`` values made of each.

    The values of a whole batch are also so many that malloc gives their memory back to the system at every call, and
    gets it anew page by page.
    """
    if recorded() or images.device.type != "cpu":  # a recorded loop would fix the number of images
        return function(images)
    at_a_time = max(PART_BYTES * torch.get_num_threads() // (values * images.itemsize), 1)
    if len(images) <= at_a_time:
        return function(images)
    return torch.cat([function(part) for part in images.split(at_a_time)])


def channels_last(x: Tensor) -> Tensor:
    """x in that memory format, by a way that vmap knows too; rows in one are copied faster."""
    if compiling():
        return x.contiguous(memory_format=torch.channels_last)
    b, c, h, w = x.shape
    return x.flatten(2).transpose(1, 2).contiguous().view(b, h, w, c).movedim(3, 1)


def like(x: Tensor, y: Tensor) -> Tensor:
    """y in the memory format that F.conv2d gives for x."""
    return channels_last(y) if x.movedim(1, -1).is_contiguous() and not x.is_contiguous() else y.contiguous()


PART_BYTES = 2 << 20
"""Of maps between two convolutions, per thread: what a core's own cache holds about."""
TENSORS = 6
"""Of the arguments of :class:`_Convolution`, those that come first: x, filters, the three factors and the bias."""


@with_known_signature
class _Convolution(torch.autograd.Function):
    """Output and input gradient through the factors, the gradient of the filters by one dense product.

    Stride, padding and dilation come as two integers each, then the groups: torch.func takes a tuple apart and does not
    put it together.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(*inputs: Any) -> Tensor:  # torch inspects the signature at every call: short is fast
        x, _, *tensors = inputs[:TENSORS]
        return _apply_factors(x, *tensors, *_settings(inputs))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        tensors, ctx.settings = inputs[:TENSORS], _settings(inputs)
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, filters, first, depthwise, last, _ = ctx.saved_tensors
        by_x = by_filters = by_bias = None
        grad = channels_last(grad)
        if ctx.needs_input_grad[1]:
            arranged = channels_last if max(filters.shape[-2:]) <= LARGEST_LAST else torch.Tensor.contiguous
            by_filters = conv2d_weight(arranged(x), filters.shape, arranged(grad), *ctx.settings)
        if ctx.needs_input_grad[TENSORS - 1]:
            by_bias = grad.sum((0, 2, 3))
        if ctx.needs_input_grad[0]:
            if torch.is_grad_enabled():  # this backward pass is differentiated itself: by the filters, not the factors
                by_x = conv2d_input(x.shape, filters, grad, *ctx.settings)
            else:
                by_x = _input_gradient(x, grad, first, depthwise, last, *ctx.settings)
        return by_x, by_filters, None, None, None, by_bias, *(None,) * 7

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        x, filters, *_ = ctx.saved_tensors
        by_x, by_filters, *_, by_bias = tangents[:TENSORS]
        return F.conv2d(by_x, filters, by_bias, *ctx.settings) + F.conv2d(x, by_filters, None, *ctx.settings)


def _settings(inputs: Sequence[Any]) -> tuple[Any, Any, Any, int]:
    """Stride, padding, dilation and groups, as convolutions take them."""
    numbers = inputs[TENSORS:]
    return numbers[:2], numbers[2:4], numbers[4:6], numbers[6]


class _CompiledConvolution(_Convolution):
    """The same without a forward-mode derivative, which torch.compile refuses."""

    jvp = torch.autograd.Function.jvp


def _input_gradient(x: Tensor, grad: Tensor, first: Tensor, depthwise: Tensor, last: Tensor, *settings: Any) -> Tensor:
    """The transposes of the three convolutions, last first."""
    *pairs, groups = settings
    stride, padding, dilation = pairs
    sizes = zip(x.shape[-2:], grad.shape[-2:], depthwise.shape[-2:], *pairs, strict=True)
    unread = [size - ((out - 1) * s - 2 * p + d * (k - 1) + 1) for size, out, k, s, p, d in sizes]
    by_last, by_first = _transposed(last, groups), _transposed(first, groups)

    def apply(grad: Tensor) -> Tensor:
        g = _mixed(grad, by_last, groups=groups)
        g = F.conv_transpose2d(g, depthwise, None, stride, padding, unread, len(depthwise), dilation)
        return like(x, _mixed(g, by_first, groups=groups))

    return _in_parts(apply, grad, len(depthwise) * x.shape[2] * x.shape[3])


def _transposed(filters: Tensor, groups: int) -> Tensor:
    """Filters of the transposed 1 x 1 convolution: (c, f/groups, 1, 1) from (f, c/groups, 1, 1)."""
    return filters.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
