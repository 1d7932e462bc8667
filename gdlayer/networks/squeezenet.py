"""SqueezeNet 1.1 (Iandola et al., 2016), the network trained on ImageNet that Table 2 can be run with everywhere."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from gdlayer._plumbing.checks import positive_int
from gdlayer.datasets.weights import SQUEEZENET_MEAN, squeezenet_weights
from gdlayer.networks.transfer import TransferNetwork, he_initialise

FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
"""Squeezed maps, and expanded maps of either size, of the fire modules 2 to 9."""
POOLED = (2, 4, 6)
"""Fire modules that 3 x 3 max pooling of stride 2 precedes."""


class Fire(nn.Module):
    """Squeeze by a 1 x 1 convolution, then expand by a 1 x 1 and a 3 x 3 one: (b, f_in, h, w) -> (b, 2 f, h, w)."""

    def __init__(self, in_channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu_()
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], 1).relu_()


class BlueGreenRed(nn.Module):
    """uint8 RGB images (b, 3, h, w) -> float, as weights from Caffe expect them, SqueezeNet's unless told."""

    mean: Tensor

    def __init__(self, mean: Sequence[float] = SQUEEZENET_MEAN) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        return images.flip(1).float() - self.mean


class SqueezeNet(TransferNetwork):
    """SqueezeNet 1.1 with the state dict of torchvision's.

    A 3 x 3 convolution of stride 2 without padding, eight fire modules, dropout, a 1 x 1 convolution to the classes and
    the average over the image. The published network applies a rectifier before that average. It is left out here: with
    two classes, an image whose maps are all negative would have no gradient.

    Parameters
    ----------
    num_classes : int

    Shapes
    ------
    (b, 3, h, w) as :class:`BlueGreenRed` gives them, h and w at least 17 -> logits (b, num_classes)

    Raises
    ------
    ValueError, TypeError
        If ``num_classes`` is no integer >= 1.
    """

    def __init__(self, num_classes: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(inplace=True)]
        maps = 64
        for number, (squeezed, expanded) in enumerate(FIRES, 2):
            if number in POOLED:
                layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            layers.append(Fire(maps, squeezed, expanded))
            maps = 2 * expanded
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(), nn.Conv2d(maps, positive_int("num_classes", num_classes), 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                he_initialise(module, "linear" if module is self.head else "relu")

    @property
    def head(self) -> nn.Conv2d:
        """The convolution that gives the classes."""
        head = self.classifier[1]
        assert isinstance(head, nn.Conv2d)
        return head

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x)).mean((-2, -1))


def imagenet_squeezenet(num_classes: int = 2) -> SqueezeNet:
    """The published network with the weights that come with the package, and a new layer for the classes."""
    model = SqueezeNet(num_classes)
    load_published(model, squeezenet_weights())
    return model


@torch.no_grad()
def load_published(model: SqueezeNet, weights: Mapping[str, np.ndarray]) -> None:
    """Copies weights by their published names, see :func:`~gdlayer.datasets.weights.squeezenet_weights`."""
    fires = [layer for layer in model.features if isinstance(layer, Fire)]
    convolutions = {"conv1": model.features[0], "conv10": model.head}
    for number, fire in enumerate(fires, 2):
        convolutions[f"fire{number}.squeeze1x1"] = fire.squeeze
        convolutions[f"fire{number}.expand1x1"] = fire.expand1x1
        convolutions[f"fire{number}.expand3x3"] = fire.expand3x3
    for name, array in weights.items():
        layer, kind = name.rsplit(".", 1)
        convolutions[layer].get_parameter(kind).copy_(torch.from_numpy(array))
