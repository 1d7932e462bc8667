"""Experiment 1: layers compared on Fashion-MNIST with training sets of five sizes."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gdlayer.datasets import balanced_subset, fashion_mnist
from gdlayer.experiments.record import check_current, peak_memory_bytes, provenance, read_record, reserve
from gdlayer.experiments.training import Recipe, accuracy, train
from gdlayer.experiments.trial import Trial, describe, hyperparameters
from gdlayer.networks.four_conv import FourConv

PIXEL_MEAN, PIXEL_STD = 0.2860, 0.3530
"""Of the 60,000 training images, pixels scaled to [0, 1]."""

FIXED = {
    "activation": "relu",
    "optimiser": "adam",
    "input": "standardised",
    "subset": "class-balanced, nested",
}
"""Choices with no other option in the code, so that the list of choices cannot say what is not done."""


def run(trial: Trial, results: Path, *, device: str = "cpu", force: bool = False) -> dict[str, Any]:
    """Trains one network and writes its record; a finished record is returned as it is.

    Parameters
    ----------
    trial : Trial
    results : path
        The record goes to ``trial.record_path(results)``; a checkpoint lies beside it while the trial runs.
    device : "cpu" or "cuda"
    force : bool
        Run even if the record exists, and replace it when done.

    Raises
    ------
    gdlayer.experiments.record.ResultsError
        If the record cannot be written, or exists with other hyper-parameters.
    gdlayer.datasets.DataError
        If the data cannot be had.
    """
    settings = hyperparameters(trial)
    path = trial.record_path(results)
    if not force and (finished := read_record(path)):
        check_current(finished, settings, path)
        return finished
    with reserve(path) as place:
        if not force and (finished := read_record(path)):  # by the process that held the place until now
            return finished
        checkpoint = path.with_name(f".{trial.id}.checkpoint")
        record = _train(trial, settings, checkpoint, torch.device(device))
        place.write(record)
        checkpoint.unlink(missing_ok=True)
    return record


def build_network(layer: str, settings: dict[str, Any]) -> FourConv:
    """The network of experiment 1 by its open choices.

    Raises
    ------
    ValueError
        If a choice is one that the code does not offer.
    """
    for name, value in FIXED.items():
        if settings[name] != value:
            raise ValueError(f"{name} is {settings[name]!r}, allowed is {value!r}")
    return FourConv(
        layer,
        widths=settings["widths"],
        bases=settings["bases"],
        kernel_size=settings["kernel_size"],
        pooled=settings["pooled"],
        norm=settings["norm"],
        init=settings["initialisation"],
        sigma_min=settings["sigma_min"],
    )


def standardise(images: np.ndarray) -> torch.Tensor:
    """uint8 (n, h, w) -> float32 (n, 1, h, w): (pixels / 255 - mean) / deviation."""
    return (torch.from_numpy(images)[:, None].float() / 255 - PIXEL_MEAN) / PIXEL_STD


def _train(trial: Trial, settings: dict[str, Any], checkpoint: Path, device: torch.device) -> dict[str, Any]:
    started = datetime.now(UTC)
    data = fashion_mnist.load(trial.dataset)
    subset = balanced_subset(data.train_labels, trial.n_train, trial.seed)
    train_images = standardise(data.train_images[subset]).to(device)
    train_labels = torch.from_numpy(data.train_labels[subset]).to(device)
    test_images = standardise(data.test_images).to(device)
    test_labels = torch.from_numpy(data.test_labels).to(device)

    torch.manual_seed(trial.seed)
    model = build_network(trial.layer, settings).to(device)
    recipe = Recipe(
        seed=trial.seed,
        **{name: settings[name] for name in Recipe.__dataclass_fields__ if name != "seed"},
    )

    def evaluate() -> dict[str, float]:
        return {"test_accuracy": accuracy(model, test_images, test_labels, recipe.precision)}

    outcome = train(model, train_images, train_labels, evaluate, recipe, checkpoint=checkpoint, settings=settings)
    return {
        "trial": describe(trial),
        "hyperparameters": settings,
        "metrics": {"test_accuracy": outcome.curve[-1]["test_accuracy"]},
        "curve": outcome.curve,
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(outcome.seconds, 3),
        "peak_memory_bytes": peak_memory_bytes(device.type),
        "data": {
            "name": data.name,
            "source": data.source,
            "sha256": data.sha256,
            "n_train": len(train_labels),
            "n_test": len(test_labels),
        },
        **provenance(device.type, torch.get_num_threads()),
    }
