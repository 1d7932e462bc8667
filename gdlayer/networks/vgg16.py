"""VGG16 (Simonyan and Zisserman, 2015), the network of Table 2."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gdlayer.checks import positive_int
from gdlayer.datasets import find
from gdlayer.datasets.weights import VGG16_IMAGENET
from gdlayer.networks.transfer import TransferNetwork, he_initialise, load_weights

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What these weights expect to be subtracted from RGB in [0, 1], and the difference to be divided by."""

CONVOLUTIONS = (2, 2, 3, 3, 3)
"""Convolutions in each of the five stages; with three dense layers, the 16 of the name."""


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
        if len(widths) != len(CONVOLUTIONS):
            raise ValueError(f"widths must be five integers, got {widths!r}")
        self.in_channels = positive_int("in_channels", in_channels)
        self.widths = tuple(widths)
        layers: list[nn.Module] = []
        for width, count in zip(widths, CONVOLUTIONS, strict=True):
            positive_int("each of widths", width)
            for _ in range(count):
                layers += [nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                in_channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.grid = positive_int("grid", grid)
        self.classifier = nn.Sequential(
            nn.Linear(in_channels * grid**2, positive_int("hidden", hidden)),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, positive_int("num_classes", num_classes)),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                he_initialise(module, "linear" if module is self.head else "relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(average_pool(self.features(x), self.grid).flatten(1))

    @property
    def head(self) -> nn.Linear:
        """The layer that gives the classes."""
        head = self.classifier[6]
        assert isinstance(head, nn.Linear)
        return head


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


def replace_head(model: VGG16, num_classes: int) -> None:
    """Gives ``model`` a new last dense layer, initialised for ``num_classes``, where the old one was."""
    new = nn.Linear(model.head.in_features, positive_int("num_classes", num_classes))
    he_initialise(new, "linear")
    model.classifier[6] = new.to(model.head.weight)


def imagenet_vgg16(num_classes: int = 2) -> VGG16:
    """The published network with the weights that torchvision publishes, and a new head.

    Raises
    ------
    DataError
        The file is nowhere, or another; see :func:`gdlayer.datasets.find`.
    """
    path, _ = find(VGG16_IMAGENET)
    with torch.device("meta"):  # 138 million random numbers would not be used
        model = VGG16(1000)
    load_weights(model, path)
    replace_head(model, num_classes)
    return model
