"""What a trial on scale generalisation trains, and the test images of other sizes."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gdlayer.experiments.scale.layers import CHANNELS, LAYERS
from gdlayer.experiments.scale.trial import ScaleTrial
from gdlayer.experiments.table1.prepare import PIXEL_STD, task
from gdlayer.networks.four_conv import FourConv
from gdlayer.trials.settings import check_fixed
from gdlayer.trials.task import Task, Workplace
from gdlayer.trials.training import Standardise

FIXED = {
    "resampling": "bicubic, antialiased",
    "activation": "relu",
    "optimiser": "adam",
    "input": "scaled, not shifted",
    "subset": "class-balanced, nested",
}
"""Choices for which the code has no other option."""


class Canvas(nn.Module):
    """Images (b, c, h, w) in the middle of a square of zeros, (b, c, size, size)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, images: Tensor) -> Tensor:
        (top, bottom), (left, right) = (((self.size - n) // 2, (self.size - n + 1) // 2) for n in images.shape[-2:])
        return F.pad(images, (left, right, top, bottom))


def rescaled(images: Tensor, size: int) -> Tensor:
    """uint8 images (n, c, h, w) resampled to (n, c, size, size) and rounded to whole grey levels."""
    if images.shape[-2:] == (size, size):
        return images
    made = F.interpolate(images.float(), (size, size), mode="bicubic", antialias=True)
    return made.round().clamp(0, 255).to(torch.uint8)


def prepare(trial: ScaleTrial, settings: dict[str, Any], workplace: Workplace) -> Task:
    """A network trained on images as they are; its accuracy on the test images at every size.

    Of a search the accuracy on the images held out, as they are.
    """
    views = {f"accuracy_at_{size}": partial(rescaled, size=size) for size in settings["sizes"]}
    build = partial(build_network, trial.layer, settings)
    if "validation" in settings:
        return task(trial, settings, workplace, build)
    return task(trial, settings, workplace, build, views)


def build_network(layer: str, settings: dict[str, Any]) -> nn.Sequential:
    """The network of a layer type: uint8 images (b, 1, h, w) up to the size of the canvas -> logits (b, 10).

    Raises
    ------
    ValueError
        If a choice is one that the code does not offer.
    """
    check_fixed(settings, FIXED)
    make = LAYERS[layer].maker()
    if layer == CHANNELS:
        check_fixed(settings, {"norm": "batch", "global_pooling": "max", "initialisation": "variance_preserving"})
        network = make(
            widths=settings["widths"],
            scales=settings["scales"],
            sigma=settings["first_sigma"],
            ratio=settings["sigma_ratio"],
        )
    else:
        network = FourConv(
            make,
            widths=settings["widths"],
            bases=settings["bases"],
            kernel_size=settings["kernel_size"],
            norm=settings["norm"],
            init=settings["initialisation"],
            sigma_min=settings["sigma_min"],
            global_pooling=settings["global_pooling"],
        )
    return nn.Sequential(Canvas(settings["canvas"]), Standardise([0.0], [PIXEL_STD]), network)
