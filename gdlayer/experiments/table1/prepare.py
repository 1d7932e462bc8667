"""What a trial of experiment 1 trains and measures."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gdlayer.datasets import balanced_subset, fashion_mnist
from gdlayer.experiments.table1.layers import LAYERS
from gdlayer.experiments.table1.trial import FashionMnistTrial, Table1Trial
from gdlayer.networks.convolutions import ConvSpec
from gdlayer.networks.four_conv import FourConv
from gdlayer.trials.record import packed
from gdlayer.trials.settings import check_fixed
from gdlayer.trials.task import Task, Workplace
from gdlayer.trials.training import Standardise, correct

PIXEL_MEAN, PIXEL_STD = 0.2860, 0.3530
"""Of the 60,000 training images, pixels scaled to [0, 1]."""

FIXED = {
    "activation": "relu",
    "optimiser": "adam",
    "input": "standardised",
    "subset": "class-balanced, nested",
}
"""Choices for which the code has no other option, so that the list of choices cannot claim one."""

Maker = Callable[[ConvSpec], nn.Module]
"""What makes the convolutions of the network."""


def as_they_are(images: Tensor) -> Tensor:
    return images


AS_THEY_ARE = {"accuracy": as_they_are}


def prepare(trial: Table1Trial, settings: dict[str, Any], workplace: Workplace) -> Task:
    """A four-convolution network of a layer type; its accuracy as :func:`task` measures it."""
    return task(trial, settings, workplace, partial(build_network, LAYERS[trial.layer].maker(), settings))


def task(
    trial: FashionMnistTrial,
    settings: dict[str, Any],
    workplace: Workplace,
    build: Callable[[], nn.Module],
    views: Mapping[str, Callable[[Tensor], Tensor]] = AS_THEY_ARE,
) -> Task:
    """The network that ``build`` makes; its accuracy on test images, or for a search on the images held out.

    Parameters
    ----------
    trial, settings, workplace : as for :func:`prepare`
    build : function
        Makes the network, which takes uint8 images; called after torch is seeded.
    views : {metric: function of images}
        What the network is tested on, by the name of the metric after "test" or "validation".
    """
    data = fashion_mnist.load(trial.dataset)
    subset = balanced_subset(data.train_labels, trial.n_train, trial.seed)
    part, *held_out = _held_out(data, trial, settings)
    images, labels, held_out_images, held_out_labels = (
        torch.from_numpy(array).to(workplace.device)
        for array in (data.train_images[subset, None], data.train_labels[subset], *held_out)
    )
    torch.manual_seed(trial.seed)
    model = build().to(workplace.device)

    details: dict[str, Any] = {}

    def measure() -> dict[str, float]:
        right = {
            f"{part}_{name}": correct(model, view(held_out_images), held_out_labels, settings["precision"])
            for name, view in views.items()
        }
        if part == "test":
            details["correct"] = {name: packed(hits.cpu().numpy()) for name, hits in right.items()}
        return {name: hits.sum().item() / len(hits) for name, hits in right.items()}

    return Task(
        model,
        images,
        labels,
        measure,
        metrics=tuple(f"{part}_{name}" for name in views),
        data={
            "name": data.name,
            "source": data.source,
            "sha256": data.sha256,
            "n_train": len(labels),
            f"n_{part}": len(held_out_labels),
        },
        details=details,
    )


def build_network(conv: Maker, settings: dict[str, Any]) -> nn.Sequential:
    """The network of experiment 1 by its open choices: uint8 images (b, 1, 28, 28) -> logits (b, 10).

    Raises
    ------
    ValueError
        If a choice is one that the code does not offer.
    """
    check_fixed(settings, FIXED)
    network = FourConv(
        conv,
        widths=settings["widths"],
        bases=settings["bases"],
        kernel_size=settings["kernel_size"],
        pooled=settings["pooled"],
        norm=settings["norm"],
        init=settings["initialisation"],
        sigma_min=settings["sigma_min"],
    )
    return nn.Sequential(Standardise([PIXEL_MEAN], [PIXEL_STD]), network)


def _held_out(
    data: fashion_mnist.ImageSet, trial: FashionMnistTrial, settings: dict[str, Any]
) -> tuple[str, np.ndarray, np.ndarray]:
    """The test images and labels, all unless ``n_test`` says how many; of a search the next training images."""
    if "validation" not in settings:
        n_test = settings.get("n_test")
        return "test", data.test_images[:n_test, None], data.test_labels[:n_test]
    drawn = balanced_subset(data.train_labels, trial.n_train + settings["validation"], trial.seed)
    others = drawn[trial.n_train :]  # the draw begins with the images to train on
    return "validation", data.train_images[others, None], data.train_labels[others]
