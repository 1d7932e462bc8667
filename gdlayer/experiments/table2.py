"""Experiment 2: the first layer of a VGG16 for cats and dogs, replaced and trained alone."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gdlayer.conv import GaussianDerivativeConv2d
from gdlayer.datasets import balanced_subset, cats_dogs
from gdlayer.experiments.record import write_beside
from gdlayer.experiments.run import Outcome, Workplace, run
from gdlayer.experiments.training import Recipe, Standardise, accuracy, train
from gdlayer.experiments.trial import Search, Table2Trial
from gdlayer.fit import fit_filters
from gdlayer.networks import vgg16


def conduct(trial: Table2Trial, settings: dict[str, Any], workplace: Workplace) -> Outcome:
    """Trains the source network, or takes its weights and trains a new first layer alone; accuracy on two splits.

    A search measures on pictures of the training split that neither network has seen.
    """
    data = cats_dogs.load(trial.dataset, settings["resolution"])
    train_images, train_labels = data.train_images, data.train_labels
    parts = {"val": (data.val_images, data.val_labels), "test": (data.test_images, data.test_labels)}
    if isinstance(trial, Search):
        drawn = balanced_subset(train_labels, len(train_labels), trial.seed)
        held_out, kept = drawn[: settings["validation"]], drawn[settings["validation"] :]
        parts = {"validation": (train_images[held_out], train_labels[held_out])}
        train_images, train_labels = train_images[kept], train_labels[kept]
    details: dict[str, Any] = {}
    if trial.layer == "source":
        torch.manual_seed(trial.seed)
        network = source_network(trial.source, settings)
    else:
        network, details = with_new_first_layer(trial, settings, workplace)
    model = nn.Sequential(Standardise(vgg16.IMAGENET_MEAN, vgg16.IMAGENET_STD), network).to(workplace.device)
    recipe = Recipe.of(settings, trial.seed)
    measured_on = {
        name: (_images(images, workplace.device), torch.from_numpy(labels).to(workplace.device))
        for name, (images, labels) in parts.items()
    }

    def evaluate() -> dict[str, float]:
        return {f"{name}_accuracy": accuracy(model, *split, recipe.precision) for name, split in measured_on.items()}

    outcome = train(
        model,
        _images(train_images, workplace.device),
        torch.from_numpy(train_labels).to(workplace.device),
        evaluate,
        recipe,
        checkpoint=workplace.checkpoint,
        settings=settings,
    )
    if trial.layer == "source":
        _save_weights(network, weights_path(trial, workplace.results))
    return Outcome(
        model,
        outcome,
        {name: outcome.curve[-1][name] for name in (f"{part}_accuracy" for part in parts)},
        {
            "name": data.name,
            "label": data.label,
            "source": data.source,
            "sha256": data.sha256,
            "n_train": len(train_labels),
            **{f"n_{part}": len(labels) for part, (_, labels) in parts.items()},
            "skipped": len(data.skipped),
            "converted": len(data.converted),
        },
        details,
    )


def source_network(source: str, settings: dict[str, Any]) -> vgg16.VGG16:
    """The network before the change, untrained: "scratch" at reduced widths, or "imagenet" with the published weights.

    Of the latter only the new last layer trains, the usual transfer learning.
    """
    if source == "scratch":
        return vgg16.VGG16(2, widths=settings["widths"], hidden=settings["hidden"], grid=settings["grid"])
    network = vgg16.imagenet_vgg16(2)
    network.requires_grad_(False)
    network.classifier[6].requires_grad_(True)
    return network


def with_new_first_layer(
    trial: Table2Trial, settings: dict[str, Any], workplace: Workplace
) -> tuple[vgg16.VGG16, dict[str, Any]]:
    """The trained source network with the trial's layer in the place of its first, all else frozen."""
    before = trial.needs
    assert before is not None
    path = weights_path(before, workplace.results)
    lost = not path.exists() and before.record_path(workplace.results).exists()
    run(before, workplace.results, device=workplace.device.type, force=lost)  # or checks that it is of these settings
    torch.manual_seed(trial.seed)
    network = vgg16.VGG16(2, widths=settings["widths"], hidden=settings["hidden"], grid=settings["grid"])
    vgg16.load_weights(network, path)
    old = network.features[0]
    assert isinstance(old, nn.Conv2d)
    layer, details = first_layer(trial.layer, old, settings)
    vgg16.replace_first_layer(network, layer)
    return network, details


def first_layer(name: str, old: nn.Conv2d, settings: dict[str, Any]) -> tuple[nn.Module, dict[str, Any]]:
    """A new first layer by its name in the trial, for the place of ``old``; and, if fitted, its relative residual."""
    if name == "free-form-original":
        return old, {}
    if name == "free-form":
        new = nn.Conv2d(old.in_channels, old.out_channels, 3, padding=1)
        nn.init.kaiming_normal_(new.weight, nonlinearity="relu")
        nn.init.zeros_(new.bias)  # type: ignore[arg-type]
        return new, {}
    kernel_size = int(name.split("-")[1][0])
    layer = GaussianDerivativeConv2d(
        old.in_channels, old.out_channels, kernel_size, order=settings["order"], bases=settings["bases"]
    )
    if not name.endswith("-fitted"):
        return layer, {}
    assert old.bias is not None
    residual = fit_filters(layer, old.weight.detach(), bias=old.bias.detach(), steps=settings["fit_steps"])
    return layer, {"fit_residual": residual}


def weights_path(trial: Table2Trial, results: Path) -> Path:
    """Where the source network's weights lie, beside its record."""
    return (trial.needs or trial).record_path(results).with_suffix(".pt")


def _images(images: np.ndarray, device: torch.device) -> Tensor:
    """uint8 (n, h, w, 3) -> (n, 3, h, w)."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).to(device)


def _save_weights(network: nn.Module, path: Path) -> None:
    stream = io.BytesIO()
    torch.save(network.state_dict(), stream)
    write_beside(path, stream.getvalue())
