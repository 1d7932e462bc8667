"""Convolutions padded as Keras does: "same" for every stride."""

from typing import Any

from torch import Tensor, nn

from gdlayer._plumbing.checks import one_of
from gdlayer._plumbing.padding import pad
from gdlayer.algorithms import dense


def padded_conv2d(
    x: Tensor,
    filters: Tensor,
    bias: Tensor | None,
    kernel_size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: str | tuple[int, int],
    dilation: tuple[int, ...],
    groups: int,
    *,
    padding_mode: str,
) -> Tensor:
    """A convolution with every padding mode, and Keras' "same" for every stride; of ``kernel_size`` are the filters."""
    x, zeros = pad(x, kernel_size, stride, padding, dilation, padding_mode)
    return dense(x, filters, bias, stride, zeros, dilation, groups)


class Conv2dSame(nn.Conv2d):
    """nn.Conv2d whose ``padding="same"`` gives ceil(in / stride) for every stride; it takes no other padding."""

    def __init__(self, *args: Any, padding: Any = "same", **kwargs: Any) -> None:
        one_of("padding", padding, ("same",))
        super().__init__(*args, **kwargs)
        self.padding = "same"

    def forward(self, input: Tensor) -> Tensor:
        return padded_conv2d(
            input,
            self.weight,
            self.bias,
            self.kernel_size,
            self.stride,
            "same",
            self.dilation,
            self.groups,
            padding_mode=self.padding_mode,
        )
