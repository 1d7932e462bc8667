"""Experiment 1: layers compared on Fashion-MNIST with training sets of five sizes."""

from typing import Any

import torch

from gdlayer.datasets import balanced_subset, fashion_mnist
from gdlayer.experiments.run import Outcome, Workplace
from gdlayer.experiments.training import Recipe, Standardise, accuracy, train
from gdlayer.experiments.trial import Search, Table1Trial, check_fixed
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
    """Trains one four-convolution network and measures its accuracy on all test images.

    A search measures on further training images, of the same draw, instead.
    """
    data = fashion_mnist.load(trial.dataset)
    subset = balanced_subset(data.train_labels, trial.n_train, trial.seed)
    part, images, labels = "test", data.test_images, data.test_labels
    if isinstance(trial, Search):
        drawn = balanced_subset(data.train_labels, trial.n_train + settings["validation"], trial.seed)
        others = drawn[trial.n_train :]  # the draw begins with the subset
        part, images, labels = "validation", data.train_images[others], data.train_labels[others]
    train_images, train_labels, held_out_images, held_out_labels = (
        torch.from_numpy(array).to(workplace.device)
        for array in (data.train_images[subset, None], data.train_labels[subset], images[:, None], labels)
    )
    torch.manual_seed(trial.seed)
    model = build_network(trial.layer, settings).to(workplace.device)
    recipe = Recipe.of(settings, trial.seed)

    def evaluate() -> dict[str, float]:
        return {f"{part}_accuracy": accuracy(model, held_out_images, held_out_labels, recipe.precision)}

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
        {f"{part}_accuracy": run.curve[-1][f"{part}_accuracy"]},
        {
            "name": data.name,
            "source": data.source,
            "sha256": data.sha256,
            "n_train": len(train_labels),
            f"n_{part}": len(held_out_labels),
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
