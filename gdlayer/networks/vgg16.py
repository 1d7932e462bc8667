"""VGG16 (Simonyan and Zisserman, 2015), the network of Table 2."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gdlayer._plumbing.checks import integer, positive_int
from gdlayer.networks.transfer import TransferNetwork, he_initialise

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of RGB in [0, 1] over ImageNet: what is subtracted from pixels, and what the difference is divided by."""

CONVOLUTIONS = (2, 2, 3, 3, 3)
"""Convolutions in each of the five stages; with three dense layers, the 16 of the name."""


def convolutions(widths: Sequence[int], in_channels: int) -> nn.Sequential:
    """The five stages: (b, in_channels, h, w) -> (b, widths[4], h // 32, w // 32).

    Raises
    ------
    ValueError, TypeError
        If ``widths`` are not five integers >= 1.
    """
    if len(widths) != len(CONVOLUTIONS):
        raise ValueError(f"widths must be five integers, got {widths!r}")
    layers: list[nn.Module] = []
    for width, count in zip(widths, CONVOLUTIONS, strict=True):
        positive_int("each of widths", width)
        for _ in range(count):
            layers += [nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            in_channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


class VGG16(TransferNetwork):
    """VGG16 without batch normalisation, with the state dict of torchvision's.

    Thirteen 3 x 3 convolutions in five stages, each stage ended by 2 x 2 max pooling; average pooling to ``grid`` x
    ``grid`` cells, so that any input of 32 x 32 pixels or more will do; three dense layers with dropout of one half.
    The defaults are the published network, 138,357,544 parameters at 1000 classes; for a CPU, widths, ``hidden`` and
    ``grid`` can be smaller. All weights start by He's rule over the inputs (gain 1 before the logits) and all biases
    at zero.

    Parameters
    ----------
    num_classes : int
    widths : five ints
        Feature maps of the convolutions of each stage.
    hidden : int
        Units of the two hidden dense layers.
    grid : int
        Cells along each side that the classifier sees.
    in_channels : int

    Attributes
    ----------
    features, classifier : Sequential
        ``features[0]`` is the first layer, ``classifier[6]`` the last.

    Shapes
    ------
    (b, in_channels, h, w), h and w at least 32 -> logits (b, num_classes)

    Raises
    ------
    ValueError, TypeError
        If ``widths`` are not five, or a number is no integer >= 1.
    """

    def __init__(
        self,
        num_classes: int = 2,
        *,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        hidden: int = 4096,
        grid: int = 7,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        self.in_channels = positive_int("in_channels", in_channels)
        self.widths = tuple(widths)
        self.features = convolutions(widths, in_channels)
        self.grid = positive_int("grid", grid)
        self.classifier = nn.Sequential(
            nn.Linear(widths[-1] * grid**2, positive_int("hidden", hidden)),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, positive_int("num_classes", num_classes)),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                he_initialise(module, "linear" if module is self.classifier[-1] else "relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(average_pool(self.features(x), self.grid).flatten(1))


class AdaptedVGG16(TransferNetwork):
    """The thirteen convolutions of VGG16 under a small head, the usual start of transfer learning.

    Average pooling to ``grid`` x ``grid`` cells, one hidden dense layer with dropout of one half, if any, and a dense
    layer to the classes. All weights start by He's rule over the inputs (gain 1 before the logits), biases at zero.

    Parameters
    ----------
    num_classes : int
    widths : five ints
        Feature maps of the convolutions of each stage.
    hidden : int
        Units of the hidden layer; 0 for none.
    grid : int
        Cells along each side that the head sees; with h / 32, all there are.

    Attributes
    ----------
    features, classifier : Sequential
        ``features`` ends before the average pooling.

    Shapes
    ------
    (b, 3, h, w), h and w at least 32 -> logits (b, num_classes)
    """

    def __init__(
        self,
        num_classes: int = 2,
        *,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        hidden: int = 256,
        grid: int = 4,
    ) -> None:
        super().__init__()
        self.features = convolutions(widths, 3)
        self.grid, hidden = positive_int("grid", grid), integer("hidden", hidden, 0)
        seen = widths[-1] * grid**2
        dense = [nn.Linear(seen, hidden), nn.ReLU(inplace=True), nn.Dropout()] if hidden else []
        self.classifier = nn.Sequential(*dense, nn.Linear(hidden or seen, positive_int("num_classes", num_classes)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                he_initialise(module, "linear" if module is self.classifier[-1] else "relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(average_pool(self.features(x), self.grid).flatten(1))


@torch.no_grad()
def load_published(model: AdaptedVGG16, weights: Mapping[str, np.ndarray]) -> None:
    """Copies the convolutions, see :func:`~gdlayer.datasets.weights.vgg16_weights`.

    Raises
    ------
    ValueError
        If their shapes are not those of the network.
    """
    names = [f"conv{stage}_{i}" for stage, count in enumerate(CONVOLUTIONS, 1) for i in range(1, count + 1)]
    layers = (layer for layer in model.features if isinstance(layer, nn.Conv2d))
    for name, layer in zip(names, layers, strict=True):
        for kind, parameter in layer.named_parameters():
            array = weights[f"{name}.{kind}"]
            if array.shape != parameter.shape:
                raise ValueError(f"{name}.{kind} must have shape {tuple(parameter.shape)}, got {array.shape}")
            parameter.copy_(torch.from_numpy(array))


def average_pool(x: Tensor, grid: int) -> Tensor:
    """(..., h, w) -> (..., grid, grid), the means of cells that may overlap, as ``nn.AdaptiveAvgPool2d``.

    On a GPU as products with two matrices, since torch's own gradient is not deterministic there.
    """
    if not x.is_cuda:
        return F.adaptive_avg_pool2d(x, grid)
    rows, columns = (cell_means(size, grid, x.device).to(x.dtype) for size in x.shape[-2:])
    return rows @ x @ columns.mT


def cell_means(size: int, grid: int, device: torch.device | None = None) -> Tensor:
    """(grid, size): row i: 1 / n at the n places of cell i: floor(i size / grid) to ceil((i + 1) size / grid) - 1."""
    cell, place = torch.arange(grid, device=device)[:, None], torch.arange(size, device=device)
    inside = (place >= cell * size // grid) & (place * grid < (cell + 1) * size)
    return inside.double() / inside.sum(1, keepdim=True)
