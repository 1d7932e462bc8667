"""Experiment 3: nuclei segmented by a classical and a Gaussian derivative U-net."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gdlayer.datasets import nuclei
from gdlayer.experiments.record import write_beside
from gdlayer.experiments.run import Outcome, Workplace
from gdlayer.experiments.training import Recipe, Standardise, forward, train
from gdlayer.experiments.trial import Search, Table3Trial, check_fixed
from gdlayer.networks.unet import UNet

FIXED = {"architecture": "14 convolutions, widths 8-16-32"}
"""Choices with no other option in the code, so that the list of choices cannot say what is not done."""

METRICS = ("pixel_accuracy", "dice", "iou", "background_accuracy")
TEST_FRACTION = 0.25
"""Of the tiles, where they are split one by one."""
FOLDS = 5
"""Of the cross-validation by patient or source image; seed s holds out fold s modulo 5."""
SHOWN = 4
"""Test tiles whose predictions are kept for Figure 2."""


def conduct(trial: Table3Trial, settings: dict[str, Any], workplace: Workplace) -> Outcome:
    """Trains one U-net on the training tiles and measures it on all pixels of the others.

    A search cuts the training tiles again, and measures on the patients held out: the others have no part in it.
    """
    check_fixed(settings, FIXED)
    data = nuclei.tiles(nuclei.load(trial.dataset), settings["tile_size"])
    train_tiles, held_out = split(data, trial.split, trial.seed)
    part, prefix = "test", ""
    if isinstance(trial, Search):
        kept, out = nuclei.group_split(data.groups[train_tiles], settings["validation"], trial.seed)
        train_tiles, held_out = train_tiles[kept], train_tiles[out]
        part, prefix = "validation", "validation_"
    images = torch.from_numpy(data.images).permute(0, 3, 1, 2)
    masks = torch.from_numpy(data.masks).long()
    scaled = data.images[train_tiles] / 255
    mean, std = scaled.mean((0, 1, 2)).tolist(), scaled.std((0, 1, 2)).tolist()

    torch.manual_seed(trial.seed)
    model = nn.Sequential(Standardise(mean, std), UNet(trial.layer, kernel_size=settings["kernel_size"]))
    model = model.to(workplace.device)
    recipe = Recipe.of(settings, trial.seed)
    held_out_images, held_out_masks = images[held_out].to(workplace.device), masks[held_out].to(workplace.device)

    def evaluate() -> dict[str, float]:
        metrics = pixel_metrics(predict(model, held_out_images, recipe.precision), held_out_masks)
        return {f"{prefix}{name}": value for name, value in metrics.items()}

    run = train(
        model,
        images[train_tiles].to(workplace.device),
        masks[train_tiles].to(workplace.device),
        evaluate,
        recipe,
        checkpoint=workplace.checkpoint,
        settings=settings,
    )
    if part == "test":
        shown = np.linspace(0, len(held_out) - 1, SHOWN).round().astype(int)
        _save_pictures(
            workplace.record.with_suffix(".npz"),
            images=data.images[held_out[shown]],
            masks=data.masks[held_out[shown]],
            predicted=predict(model, held_out_images[shown], recipe.precision).bool().cpu().numpy(),
            names=np.array([data.names[i] for i in held_out[shown]]),
        )
    return Outcome(
        model,
        run,
        {f"{prefix}{name}": run.curve[-1][f"{prefix}{name}"] for name in METRICS},
        {
            "name": data.name,
            "label": data.label,
            "source": data.source,
            "sha256": data.sha256,
            "n_train": len(train_tiles),
            f"n_{part}": len(held_out),
            "groups_on_both_sides": len(set(data.groups[train_tiles]) & set(data.groups[held_out])),
        },
    )


def split(data: nuclei.NucleusSet, by: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training and test tiles: by tile three to one as in the paper, or with whole groups apart.

    There, seeds are the folds of a cross-validation: five seeds together test on each patient once.
    """
    if by == "tile":
        return nuclei.tile_split(len(data.images), round(len(data.images) * (1 - TEST_FRACTION)), seed)
    return nuclei.group_fold(data.groups, FOLDS, seed % FOLDS)


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, precision: str, batch_size: int = 16) -> Tensor:
    """The likelier class of every pixel, (n, h, w), in evaluation mode."""
    model.eval()
    return torch.cat([forward(model, x, precision).argmax(1) for x in images.split(batch_size)])


def pixel_metrics(predicted: Tensor, truth: Tensor) -> dict[str, float]:
    r"""Of all pixels together; nuclei are the positives.

    .. math:: \text{Dice} = \frac{2 TP}{2 TP + FP + FN}, \qquad \text{IoU} = \frac{TP}{TP + FP + FN}

    ``background_accuracy`` is the pixel accuracy of calling everything background. Where there is no nucleus and none
    is predicted, Dice and IoU are 1.
    """
    predicted, truth = predicted.bool(), truth.bool()
    hit = (predicted & truth).sum().item()
    wrong = (predicted ^ truth).sum().item()
    return {
        "pixel_accuracy": 1 - wrong / truth.numel(),
        "dice": 2 * hit / (2 * hit + wrong) if hit + wrong else 1.0,
        "iou": hit / (hit + wrong) if hit + wrong else 1.0,
        "background_accuracy": 1 - truth.sum().item() / truth.numel(),
    }


def _save_pictures(path: Path, **arrays: np.ndarray) -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # pyright: ignore[reportArgumentType]
    write_beside(path, stream.getvalue())
