"""Networks that were trained before, and of which the first layer alone is trained anew, as Table 2 asks."""

import zipfile
from copy import deepcopy
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor, nn

from gdlayer._plumbing.state import OwnState
from gdlayer.datasets import DataCorruptError

_ZIP = b"PK\x03\x04"


class TransferNetwork(nn.Module):
    """A network whose first layer, ``features[0]``, can be replaced and trained alone.

    Attributes
    ----------
    features, classifier : Sequential
    first_layer_only : bool
        Set by :func:`replace_first_layer`. Then ``train()`` leaves all but the first layer in evaluation mode.
    """

    features: nn.Sequential
    classifier: nn.Sequential
    first_layer_only: bool = False

    def train(self, mode: bool = True) -> Self:
        super().train(mode and not self.first_layer_only)
        self.features[0].train(mode)
        self.training = mode
        return self


def replace_first_layer(model: TransferNetwork, new_layer: nn.Module) -> list[nn.Parameter]:
    """Puts ``new_layer`` first and freezes all the rest, as Table 2 asks; returns the parameters to train.

    The rest needs no gradients and stays in evaluation mode, dropout off, even after ``model.train()``.

    Parameters
    ----------
    model : TransferNetwork
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
        If its outputs have another shape than those of the layer that it replaces; then ``model`` is as before.
    """
    old = model.features[0]
    channels, like = old.in_channels, next(old.parameters())
    assert isinstance(channels, int)
    new_layer = new_layer.to(like)
    images = like.new_zeros(1, channels, 32, 33)
    given, expected = tuple(images.shape), _output_shape(old, images)
    try:
        found = _output_shape(new_layer, images)
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


def load_weights(model: nn.Module, path: Path) -> None:
    """Loads the state dict in a file. The checksums in a zip file, torch's present format, are compared.

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
    layers = {f"{path}." if path else "": layer for path, layer in model.named_modules() if isinstance(layer, OwnState)}
    for prefix, layer in layers.items():
        layer.up_to_date(state, prefix)
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    for name in {**expected, **found}:
        if found.get(name) != expected.get(name) and not name.endswith("_extra_state"):
            raise DataCorruptError(
                f"{path} holds other weights: {name} has shape {found.get(name)}, expected {expected.get(name)}"
            )
    for prefix, layer in layers.items():
        try:
            layer.set_extra_state(state[f"{prefix}_extra_state"])
        except (KeyError, RuntimeError) as error:
            raise DataCorruptError(f"{path} holds other weights: {prefix}_extra_state: {error}") from error
    model.load_state_dict(state)


@torch.no_grad()
def _output_shape(layer: nn.Module, images: Tensor) -> tuple[int, ...]:
    """Of a copy in evaluation mode, so that nothing of the layer changes."""
    return tuple(deepcopy(layer).eval()(images).shape)


def he_initialise(layer: nn.Conv2d | nn.Linear, nonlinearity: Literal["linear", "relu"]) -> None:
    """He's rule over the inputs for the weight, zero for the bias."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity=nonlinearity)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
