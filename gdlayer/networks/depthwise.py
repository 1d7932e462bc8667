"""A small depthwise separable network, whose trained filters the book fits."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

DEVIATION = 0.02
"""Of the weights of the depthwise filters at the start, as ConvNeXt has it."""


class DepthwiseNet(nn.Module):
    """A 3 x 3 convolution, then blocks of a depthwise and a 1 x 1 convolution, global average pooling, dense.

    Batch normalisation and a rectifier follow each convolution; 2 x 2 max pooling follows the first block.

    Parameters
    ----------
    widths : ints
        Feature maps of the first convolution and of each block; a block filters those of the one before.
    kernel_size : int
        Of the depthwise filters, odd.
    in_channels, num_classes : int

    Shapes
    ------
    (b, in_channels, h, w) -> logits (b, num_classes)
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 64, 128),
        *,
        kernel_size: int = 7,
        in_channels: int = 1,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        first, *_, last = widths
        stages = _stage(nn.Conv2d(in_channels, first, 3, padding="same", bias=False))
        for number, (before, after) in enumerate(pairwise(widths)):
            depthwise = nn.Conv2d(before, before, kernel_size, padding="same", groups=before, bias=False)
            nn.init.normal_(depthwise.weight, std=DEVIATION)
            stages += _stage(depthwise) + _stage(nn.Conv2d(before, after, 1, bias=False))
            if number == 0:
                stages.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*stages)
        self.classifier = nn.Linear(last, num_classes)

    def depthwise(self) -> dict[str, nn.Conv2d]:
        """The depthwise convolutions by their names."""
        return {
            name: module
            for name, module in self.named_modules()
            if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
        }

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((-2, -1)))


def _stage(conv: nn.Conv2d) -> list[nn.Module]:
    return [conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU(inplace=True)]
