"""Modules of torch alone that compute a convolution with given filters: what a layer is deployed as."""

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from gdlayer._plumbing.padding import same_padding

PAD = {
    "zeros": nn.ZeroPad2d,
    "reflect": nn.ReflectionPad2d,
    "replicate": nn.ReplicationPad2d,
    "circular": nn.CircularPad2d,
}
"""Modules that pad, by mode."""


def plain_conv2d(
    filters: Tensor,
    bias: Tensor | None = None,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: str | tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    padding_mode: str = "zeros",
    memory_format: torch.memory_format = torch.contiguous_format,
) -> nn.Module:
    """A convolution with copies of the filters (f_out, f_in/groups, kh, kw) and the bias, padded as a layer is.

    The filters are in ``memory_format``, by which torch chooses that of the outputs.

    Returns
    -------
    Module
        nn.Conv2d where both sides are padded by the same number. Otherwise, and that is for "same" padding only,
        nn.Sequential of a padding module and nn.Conv2d. Where padding depends on the size of the image, as with an odd
        kernel at stride 2, the padding module is an fx.GraphModule of F.pad, which is right for every size.
    """
    kernel_size = filters.shape[2], filters.shape[3]
    pad, zeros = padding_step(kernel_size, stride, padding, dilation, padding_mode, all_modes=True)
    conv = nn.Conv2d(
        filters.shape[1] * groups,
        filters.shape[0],
        kernel_size,
        stride=stride,
        padding=zeros,
        dilation=dilation,
        groups=groups,
        padding_mode=cast(Literal["zeros", "reflect", "replicate", "circular"], "zeros" if pad else padding_mode),
        bias=bias is not None,
        device="meta",  # where initialisation draws no random numbers
        dtype=filters.dtype,
    ).to_empty(device=filters.device)
    with torch.no_grad():
        conv.weight.data = torch.empty_like(conv.weight, memory_format=memory_format).copy_(filters)
        if bias is not None and conv.bias is not None:
            conv.bias.copy_(bias)
    return nn.Sequential(pad, conv) if pad else conv


def padding_step(
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: str | tuple[int, int],
    dilation: tuple[int, int],
    padding_mode: str,
    *,
    all_modes: bool = False,
) -> tuple[nn.Module | None, tuple[int, int]]:
    """A module that pads before a convolution, if one is needed, and the ``padding`` of the convolution itself.

    ``all_modes`` says that the convolution pads in the other modes too, and not only with zeros.
    """
    axes = tuple(zip(kernel_size, stride, dilation, strict=True))
    fixed = _same_for_all_sizes(axes) if padding == "same" else tuple((p, p) for p in padding)
    if fixed is None:
        return _traced(_SamePad(axes, padding_mode)), (0, 0)
    (top, bottom), (left, right) = fixed
    if (top, left) == (bottom, right) and (all_modes or padding_mode == "zeros"):
        return None, (cast(int, top), cast(int, left))
    return PAD[padding_mode]((left, right, top, bottom)), (0, 0)


def _same_for_all_sizes(axes: Sequence[tuple[int, int, int]]) -> tuple[tuple[int, int], ...] | None:
    """Padding (before, after) for each axis (kernel, stride, dilation) that suits images of every size, if there is.

    It is where what goes before is always the same: one row more than needed after makes no further output.
    """
    fixed = []
    for axis in axes:
        stride = axis[1]
        before, after = zip(*(same_padding(size, *axis) for size in range(1, stride + 1)), strict=True)
        if len(set(before)) > 1:
            return None
        fixed.append((before[0], max(after)))
    return tuple(fixed)


class _SamePad(nn.Module):
    """Padding by the size of the image."""

    def __init__(self, axes: Sequence[tuple[int, int, int]], padding_mode: str) -> None:
        super().__init__()
        self.axes = axes
        self.mode = "constant" if padding_mode == "zeros" else padding_mode

    def forward(self, input: Tensor) -> Tensor:
        (top, bottom), (left, right) = (same_padding(input.shape[axis], *self.axes[axis]) for axis in (-2, -1))
        return F.pad(input, (left, right, top, bottom), self.mode)


def _traced(module: nn.Module) -> fx.GraphModule:
    """Its operations alone, without its class, which other programs need not know."""
    return fx.GraphModule(module, fx.Tracer().trace(module), "SamePad2d")
