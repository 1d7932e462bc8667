"""Experiment 1: layers compared on Fashion-MNIST with training sets of five sizes."""

from typing import Any

import torch

from gdlayer.datasets import balanced_subset, fashion_mnist
from gdlayer.experiments.run import Outcome, Workplace
from gdlayer.experiments.training import Recipe, Standardise, accuracy, train
from gdlayer.experiments.trial import Table1Trial, check_fixed
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


def conduct(trial: Table1Trial, settings: dict[str, Any], workplace: Workplace) -> Outcome:
    """Trains one four-convolution network and measures its accuracy on all test images."""
    data = fashion_mnist.load(trial.dataset)
    subset = balanced_subset(data.train_labels, trial.n_train, trial.seed)
    train_images, train_labels, test_images, test_labels = (
        torch.from_numpy(array).to(workplace.device)
        for array in (
            data.train_images[subset, None],
            data.train_labels[subset],
            data.test_images[:, None],
            data.test_labels,
        )
    )
    torch.manual_seed(trial.seed)
    model = build_network(trial.layer, settings).to(workplace.device)
    recipe = Recipe.of(settings, trial.seed)

    def evaluate() -> dict[str, float]:
        return {"test_accuracy": accuracy(model, test_images, test_labels, recipe.precision)}

    run = train(
        model,
        train_images,
        train_labels,
        evaluate,
        recipe,
        checkpoint=workplace.checkpoint,
        settings=settings,
    )
    return Outcome(
        model,
        run,
        {"test_accuracy": run.curve[-1]["test_accuracy"]},
        {
            "name": data.name,
            "source": data.source,
            "sha256": data.sha256,
            "n_train": len(train_labels),
            "n_test": len(test_labels),
        },
    )


def build_network(layer: str, settings: dict[str, Any]) -> torch.nn.Sequential:
    """The network of experiment 1 by its open choices: uint8 images (b, 1, 28, 28) -> logits (b, 10).

    Raises
    ------
    ValueError
        If a choice is one that the code does not offer.
    """
    check_fixed(settings, FIXED)
    network = FourConv(
        layer,
        widths=settings["widths"],
        bases=settings["bases"],
        kernel_size=settings["kernel_size"],
        pooled=settings["pooled"],
        norm=settings["norm"],
        init=settings["initialisation"],
        sigma_min=settings["sigma_min"],
    )
    return torch.nn.Sequential(Standardise([PIXEL_MEAN], [PIXEL_STD]), network)
