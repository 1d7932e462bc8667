"""The U-net of Table 3: one definition, with free-form or Gaussian derivative convolutions."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gdlayer._plumbing.checks import one_of, positive_int
from gdlayer.block import ConvBlock
from gdlayer.conv import GaussianDerivativeConv2d
from gdlayer.initialization import RELU_GAIN
from gdlayer.padding import Conv2dSame


def free_form_conv(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, output: bool = False
) -> nn.Conv2d:
    """Free-form filters by He's rule."""
    conv = Conv2dSame(in_channels, out_channels, kernel_size, stride=stride, bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="linear" if output else "relu")
    return conv


def gaussian_conv(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, output: bool = False
) -> GaussianDerivativeConv2d:
    """Eq. (3) with K = 2 and B = f_out / 4; the output layer with K = 3 and B = 1.

    On every machine by one algorithm.
    """
    return GaussianDerivativeConv2d(
        in_channels,
        out_channels,
        kernel_size,
        order=3 if output else 2,
        bases=1 if output else out_channels // 4,
        stride=stride,
        bias=False,
        gain=1 if output else RELU_GAIN,
        algorithm="dense",
    )


CONVOLUTIONS: dict[str, Callable[..., nn.Module]] = {"free-form": free_form_conv, "gaussian": gaussian_conv}


class Encoder(nn.Module):
    """Two convolutions and a third of stride 2: x -> (features for the decoder, half their size)."""

    def __init__(self, block: Callable[..., ConvBlock], in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = block(in_channels, out_channels)
        self.conv2 = block(out_channels, out_channels)
        self.down = block(out_channels, out_channels, stride=2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv2(self.conv1(x))
        return x, self.down(x)


class Decoder(nn.Module):
    """Up-sampling to the size of the encoder's features and a convolution, then two of both concatenated."""

    def __init__(self, block: Callable[..., ConvBlock], in_channels: int, out_channels: int, conv2: ConvBlock) -> None:
        super().__init__()
        self.up = block(in_channels, out_channels)
        self.conv1 = block(2 * out_channels, out_channels)
        self.conv2 = conv2

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        x = self.up(F.interpolate(x, size=features.shape[-2:], mode="nearest"))
        return self.conv2(self.conv1(torch.cat([features, x], 1)))


class UNet(nn.Module):
    """A U-net (Ronneberger et al., 2015) matching the published counts: 97,202 and 25,298.

    Widths 8-16-32 unless told, and 14 convolutions, all of one layer type: on each of two levels two and a strided one,
    at the bottom two, on each level upwards one after the up-sampling and two after the concatenation; the very last is
    the output. The paper prints no more of its nets than the counts, which others match too.

    Up-sampling repeats pixels (nearest neighbour): it adds no smoothing of its own to a comparison of filters, is the
    default of Keras, in which the authors write, and has a deterministic gradient on a GPU, as bilinear has not.

    ===============  =========  =============================================  ==========
    ``convolution``  ``norm``   what it is                                     parameters
    ===============  =========  =============================================  ==========
    ``free-form``    ``beta``   the classical net: beta is a bias              97,202
    ``gaussian``     ``batch``  the paper's: eq. (3) with K = 2, B = f_out/4,  25,298
                                the output with K = 3, B = 1; all with BN
    ``free-form``    ``batch``  the classical net with BN, a control           97,404
    ``free-form``    ``batch``  the same at widths 4-8-16, a control of the    24,704
                                size of the Gaussian net
    ===============  =========  =============================================  ==========

    All convolutions are initialised by one rule, to keep the second moment of white input, with the gain of a
    rectifier where one follows. There is no Gaussian net without BN: features are not white, and the kernels of order
    zero amplify what is smooth, so that over 14 layers its logits would start at a hundred and more.

    Parameters
    ----------
    convolution : "gaussian" or "free-form"
    norm : "batch" or "beta"
        As :class:`~gdlayer.block.ConvBlock`.
    kernel_size : int
        Support of all filters, of either type; the paper says 5 x 5 of the classical net only.
    widths : three int
        Channels of the two levels and of the bottom.
    in_channels, num_classes : int

    Shapes
    ------
    (b, in_channels, h, w) -> logits (b, num_classes, h, w), for every h and w.

    Raises
    ------
    ValueError
        If ``convolution`` or ``norm`` is unknown, or ``widths`` are not three integers from 1 on.
    """

    def __init__(
        self,
        convolution: str = "gaussian",
        *,
        norm: str = "batch",
        kernel_size: int = 5,
        widths: Sequence[int] = (8, 16, 32),
        in_channels: int = 3,
        num_classes: int = 2,
    ) -> None:
        super().__init__()
        conv = CONVOLUTIONS[one_of("convolution", convolution, CONVOLUTIONS)]
        if len(widths) != 3:
            raise ValueError(f"widths must be three integers >= 1, got {widths!r}")
        first, second, bottom = (positive_int("each of widths", width) for width in widths)

        def block(f_in: int, f_out: int, *, stride: int = 1) -> ConvBlock:
            return ConvBlock(conv(f_in, f_out, kernel_size, stride=stride), norm=norm)

        output = ConvBlock(conv(first, num_classes, kernel_size, output=True), norm=norm, activation=nn.Identity())
        self.enc0 = Encoder(block, in_channels, first)
        self.enc1 = Encoder(block, first, second)
        self.bottom = nn.Sequential(OrderedDict(conv1=block(second, bottom), conv2=block(bottom, bottom)))
        self.dec1 = Decoder(block, bottom, second, conv2=block(second, second))
        self.dec0 = Decoder(block, second, first, conv2=output)

    def forward(self, x: Tensor) -> Tensor:
        features0, x = self.enc0(x)
        features1, x = self.enc1(x)
        return self.dec0(self.dec1(self.bottom(x), features1), features0)
