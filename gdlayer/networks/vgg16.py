"""VGG16 (Simonyan and Zisserman, 2015), and how Table 2 retrains its first layer alone."""

import zipfile
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor, nn

from gdlayer.checks import positive_int
from gdlayer.datasets import DataCorruptError, find
from gdlayer.datasets.weights import VGG16_IMAGENET

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""What these weights expect to be subtracted from RGB in [0, 1], and the difference to be divided by."""

_ZIP = b"PK\x03\x04"

CONVOLUTIONS = (2, 2, 3, 3, 3)
"""Convolutions in each of the five stages; with three dense layers, the 16 of the name."""


class VGG16(nn.Module):
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
    first_layer_only : bool
        Set by :func:`replace_first_layer`; then ``train()`` leaves all but the first layer in evaluation mode.

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
        self.avgpool = nn.AdaptiveAvgPool2d(positive_int("grid", grid))
        self.classifier = nn.Sequential(
            nn.Linear(in_channels * grid**2, positive_int("hidden", hidden)),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, positive_int("num_classes", num_classes)),
        )
        self.first_layer_only = False
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                _initialise(module, "linear" if module is self.classifier[6] else "relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.first_layer_only:
            for part in (*list(self.features)[1:], self.avgpool, self.classifier):
                part.train(False)
        return self


def replace_head(model: VGG16, num_classes: int) -> None:
    """Gives ``model`` a new last dense layer, initialised for ``num_classes``, where the old one was."""
    old = model.classifier[6]
    assert isinstance(old, nn.Linear)
    new = nn.Linear(old.in_features, positive_int("num_classes", num_classes))
    _initialise(new, "linear")
    model.classifier[6] = new.to(old.weight)


def replace_first_layer(model: VGG16, new_layer: nn.Module) -> list[nn.Parameter]:
    """Puts ``new_layer`` first and freezes all the rest, as Table 2 asks; returns the parameters to train.

    The rest needs no gradients and stays in evaluation mode, dropout off, even after ``model.train()``.

    Parameters
    ----------
    model : VGG16
        Changed in place.
    new_layer : module
        Moved to the device and dtype of the model. The rectifier after the first layer stays.

    Returns
    -------
    list of parameters
        Those of ``new_layer`` that require gradients.

    Raises
    ------
    ValueError
        If it does not map (b, in_channels, h, w) to (b, widths[0], h, w); then ``model`` is as before.
    """
    second = model.features[2]
    assert isinstance(second, nn.Conv2d)
    new_layer = new_layer.to(second.weight)
    given, expected = (1, model.in_channels, 32, 33), (1, model.widths[0], 32, 33)
    try:
        with torch.no_grad():
            found = tuple(deepcopy(new_layer).eval()(second.weight.new_zeros(given)).shape)
    except RuntimeError as error:
        raise ValueError(f"new_layer must map shape {given} to {expected}: {error}") from error
    if found != expected:
        raise ValueError(f"new_layer must map shape {given} to {expected}, got {found}")
    trained = [parameter for parameter in new_layer.parameters() if parameter.requires_grad]
    model.features[0] = new_layer
    model.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_()
    model.first_layer_only = True
    model.train(model.training)
    return trained


def load_weights(model: VGG16, path: Path) -> None:
    """Loads the state dict in a file, this module's or torchvision's; a model on the meta device is materialised.

    The checksums in a zip file, torch's present format, are compared. torchvision's file has an older format without
    checksums; :func:`imagenet_vgg16` compares its SHA256.

    Raises
    ------
    DataCorruptError
        The file is damaged, or not a state dict of just these names and shapes; then ``model`` is as before.
    OSError
        It cannot be opened.
    """
    with path.open("rb") as stream:
        try:
            if stream.read(len(_ZIP)) == _ZIP and (member := zipfile.ZipFile(stream).testzip()):
                raise zipfile.BadZipFile(f"checksum of {member}")
            stream.seek(0)
            state = torch.load(stream, map_location="cpu", weights_only=True)
        except Exception as error:  # of many kinds, OSError among them
            raise DataCorruptError(f"{path} is damaged or no file of weights ({type(error).__name__})") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise DataCorruptError(f"{path} holds no state dict")
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    for name in {**expected, **found}:
        if found.get(name) != expected.get(name):
            raise DataCorruptError(
                f"{path} holds other weights: {name} has shape {found.get(name)}, expected {expected.get(name)}"
            )
    model.load_state_dict(state, assign=next(model.parameters()).is_meta)


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


def _initialise(layer: nn.Conv2d | nn.Linear, nonlinearity: Literal["linear", "relu"]) -> None:
    nn.init.kaiming_normal_(layer.weight, nonlinearity=nonlinearity)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
