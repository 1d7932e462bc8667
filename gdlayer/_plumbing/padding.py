"""Padding of images: every mode of nn.Conv2d, and Keras' "same" for every stride."""

from typing import cast

from torch import Tensor
from torch.nn import functional as F

from gdlayer._plumbing.checks import int_pair, one_of
from gdlayer._plumbing.modes import compiling, tracing

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


def padding_of(padding: str | int | tuple[int, int]) -> str | tuple[int, int]:
    """The argument ``padding`` of a layer: "same", or a pair of integers >= 0; "valid" is (0, 0)."""
    if isinstance(padding, str):
        return (0, 0) if one_of("padding", padding, ("same", "valid")) == "valid" else "same"
    return int_pair("padding", padding, minimum=0)


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Padding (before, after) along one axis that gives ceil(size / stride) outputs, an odd one longer after.

    No branch depends on ``size``, which a compiler or tracer may leave open.
    """
    total = dilation * (kernel - 1)
    if stride > 1:
        total -= (size - 1) % stride  # the rows between the last window's first row and the last row
        if dilation * (kernel - 1) < stride - 1:  # windows may leave rows unread
            total *= (total + stride) // stride  # 0 if it is negative, else 1
    return total // 2, total - total // 2


def pad(
    x: Tensor,
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: str | tuple[int, int],
    dilation: tuple[int, ...],
    mode: str,
) -> tuple[Tensor, tuple[int, int]]:
    """Splits padding between F.pad and F.conv2d.

    Returns x, padded here unless equal zeros on both sides are all that is needed, and the ``padding`` to give to
    F.conv2d.
    """
    if x.dim() < 3:
        return x, (0, 0)  # F.conv2d says what is wrong
    if padding == "same":
        axes = zip(x.shape[-2:], kernel_size, stride, dilation, strict=True)
        before, after = zip(*(same_padding(*axis) for axis in axes), strict=True)
    else:
        before = after = cast(tuple[int, int], padding)
    varies = padding == "same" and max(stride) > 1
    known = not (varies and (compiling() or tracing()))  # else the comparison would fix the size of images
    if mode == "zeros" and known and before == after:
        return x, (before[0], before[1])
    return F.pad(x, (before[1], after[1], before[0], after[0]), "constant" if mode == "zeros" else mode), (0, 0)
