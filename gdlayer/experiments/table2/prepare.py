"""What a trial of experiment 2 trains and measures."""

import pkgutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gdlayer.conv import GaussianDerivativeConv2d
from gdlayer.datasets import balanced_subset, cats_dogs
from gdlayer.experiments.record import packed
from gdlayer.experiments.run import Task, Workplace, run
from gdlayer.experiments.settings import check_fixed
from gdlayer.experiments.table2.layers import LAYERS, FirstLayer
from gdlayer.experiments.table2.sources import SOURCES, Source
from gdlayer.experiments.table2.trial import Table2Trial
from gdlayer.experiments.training import Standardise, correct
from gdlayer.experiments.weights import save_weights
from gdlayer.fit import fit_filters
from gdlayer.networks.squeezenet import SqueezeNet
from gdlayer.networks.transfer import TransferNetwork, load_weights, replace_first_layer
from gdlayer.networks.vgg16 import IMAGENET_MEAN, IMAGENET_STD, VGG16

Photos = tuple[np.ndarray, np.ndarray]
"""Images (n, h, w, 3) and labels (n,)."""


def prepare(trial: Table2Trial, settings: dict[str, Any], workplace: Workplace) -> Task:
    """The source network, or its weights with a new first layer that trains alone; accuracy on two splits.

    A search measures on pictures of the training split that neither network has seen.
    """
    data = cats_dogs.load(trial.dataset, settings["resolution"])
    training, held_out = _split(data, settings.get("validation", 0), trial.seed)
    before = trial.needs
    source = SOURCES[trial.source]
    if before is not None:
        _train_first(before, workplace)
    torch.manual_seed(trial.seed)  # the network draws random numbers too, before its layer does
    details: dict[str, Any] = {}
    if before is None:
        network = untrained_source(source, settings)
    else:
        network = pkgutil.resolve_name(source.network)(settings)
        load_weights(network, weights_path(before, workplace.results))
        old, row = network.features[0], LAYERS[trial.layer]
        assert isinstance(old, nn.Conv2d)
        layer, details = row.maker()(old, settings, row)
        replace_first_layer(network, layer)
    pixels = pkgutil.resolve_name(source.pixels)()
    model = nn.Sequential(pixels, network).to(workplace.device)
    images, labels = _on_device(training, workplace.device)
    parts = {part: _on_device(photos, workplace.device) for part, photos in held_out.items()}

    def measure() -> dict[str, float]:
        right = {f"{part}_accuracy": correct(model, *split, settings["precision"]) for part, split in parts.items()}
        if "validation" not in settings:
            details["correct"] = {name: packed(hits.cpu().numpy()) for name, hits in right.items()}
        return {name: hits.sum().item() / len(hits) for name, hits in right.items()}

    return Task(
        model,
        images,
        labels,
        measure,
        metrics=tuple(f"{part}_accuracy" for part in parts),
        data={
            "name": data.name,
            "label": data.label,
            "source": data.source,
            "sha256": data.sha256,
            "n_train": len(labels),
            **{f"n_{part}": len(photos[1]) for part, photos in held_out.items()},
            "skipped": len(data.skipped),
            "converted": len(data.converted),
        },
        details=details,
        finish=None if before else partial(save_weights, network, weights_path(trial, workplace.results)),
    )


def untrained_source(source: Source, settings: dict[str, Any]) -> TransferNetwork:
    """The network before the change and before its training on the two classes.

    Of one with published weights only the new last layer trains, the usual transfer learning.
    """
    if not source.pretrained:
        return pkgutil.resolve_name(source.network)(settings)
    network = pkgutil.resolve_name(source.pretrained)(2)
    network.requires_grad_(False)
    network.head.requires_grad_(True)
    return network


def sized_vgg16(settings: dict[str, Any]) -> VGG16:
    """A VGG16 of the widths and sizes in the settings, with random weights."""
    return VGG16(2, widths=settings["widths"], hidden=settings["hidden"], grid=settings["grid"])


def squeezenet(settings: dict[str, Any]) -> SqueezeNet:
    """A SqueezeNet as published, with random weights."""
    check_fixed(settings, {"widths": "as published"})
    return SqueezeNet(2)


def standardised() -> Standardise:
    """Pixels as VGG16's ImageNet weights expect them."""
    return Standardise(IMAGENET_MEAN, IMAGENET_STD)


def free_first_layer(old: nn.Conv2d, settings: dict[str, Any], row: FirstLayer) -> tuple[nn.Module, dict[str, Any]]:
    """The old layer itself, or one that starts by He's rule."""
    if row.start == "original":
        return old, {}
    new = nn.Conv2d(old.in_channels, old.out_channels, row.kernel_size, stride=_stride(old), padding=_padding(old, row))
    nn.init.kaiming_normal_(new.weight, nonlinearity="relu")
    nn.init.zeros_(new.bias)  # type: ignore[arg-type]
    return new, {}


def gaussian_first_layer(old: nn.Conv2d, settings: dict[str, Any], row: FirstLayer) -> tuple[nn.Module, dict[str, Any]]:
    """A Gaussian derivative layer, at random or fitted to the old filters; then with its relative residual.

    On every machine by one algorithm.
    """
    layer = GaussianDerivativeConv2d(
        old.in_channels,
        old.out_channels,
        row.kernel_size,
        order=settings["order"],
        bases=settings["bases"],
        stride=_stride(old),
        padding=_padding(old, row),
        algorithm="dense",
    )
    if row.start == "random":
        return layer, {}
    assert old.bias is not None
    residual = fit_filters(layer, old.weight.detach(), bias=old.bias.detach(), steps=settings["fit_steps"])
    return layer, {"fit_residual": residual}


def weights_path(trial: Table2Trial, results: Path) -> Path:
    """Where the source network's weights lie, beside its record."""
    return (trial.needs or trial).record_path(results).with_suffix(".pt")


def _train_first(source: Table2Trial, workplace: Workplace) -> None:
    """Trains the source network unless it is there with its weights; checks that it is of the present settings."""
    path = weights_path(source, workplace.results)
    lost = not path.exists() and source.record_path(workplace.results).exists()
    run(source, workplace.results, device=workplace.device.type, force=lost)


def _stride(old: nn.Conv2d) -> tuple[int, int]:
    return old.stride[0], old.stride[1]


def _padding(old: nn.Conv2d, row: FirstLayer) -> tuple[int, int]:
    """What keeps the outputs of a larger kernel where they were."""
    assert not isinstance(old.padding, str)
    grown = (row.kernel_size - old.kernel_size[0]) // 2
    return old.padding[0] + grown, old.padding[1] + grown


def _split(data: cats_dogs.PhotoSet, validation: int, seed: int) -> tuple[Photos, dict[str, Photos]]:
    """Photos to train on, and by name those to measure on: of a search, so many of the training split."""
    if not validation:
        held_out = {"val": (data.val_images, data.val_labels), "test": (data.test_images, data.test_labels)}
        return (data.train_images, data.train_labels), held_out
    drawn = balanced_subset(data.train_labels, len(data.train_labels), seed)
    out, kept = drawn[:validation], drawn[validation:]
    photos = data.train_images, data.train_labels
    return (photos[0][kept], photos[1][kept]), {"validation": (photos[0][out], photos[1][out])}


def _on_device(photos: Photos, device: torch.device) -> tuple[Tensor, Tensor]:
    """uint8 images (n, h, w, 3) -> (n, 3, h, w), and their labels."""
    images, labels = photos
    return torch.from_numpy(images).permute(0, 3, 1, 2).to(device), torch.from_numpy(labels).to(device)
