"""What a trial of experiment 3 trains and measures."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gdlayer._plumbing.extras import extra
from gdlayer.datasets import nuclei
from gdlayer.experiments.table3.layers import LAYERS
from gdlayer.experiments.table3.trial import Table3Search, Table3Trial
from gdlayer.trials.record import write_beside
from gdlayer.trials.settings import check_fixed
from gdlayer.trials.task import Task, Workplace
from gdlayer.trials.training import Standardise, forward

with extra("experiments"):
    from scipy import ndimage
    from torchmetrics.functional.detection import panoptic_quality

FIXED = {"architecture": "14 convolutions, widths 8-16-32"}
"""Choices for which the code has no other option, so that the list of choices cannot claim one."""

METRICS = ("pixel_accuracy", "dice", "iou", "nucleus_f1", "background_accuracy")
TEST_FRACTION = 0.25
"""Of the tiles, where they are split one by one."""
FOLDS = 5
"""Of the cross-validation by patient or source image; seed s holds out fold s modulo 5."""
SHOWN = 4
"""Test tiles whose predictions are kept for Figure 2."""
_WITHIN_A_TILE = np.array([np.zeros((3, 3)), [[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.zeros((3, 3))])
"""Which of its neighbours in (tile, y, x) a pixel is connected with."""


def prepare(trial: Table3Trial, settings: dict[str, Any], workplace: Workplace) -> Task:
    """A U-net for the training tiles, measured on all pixels of the others; some of its predictions are kept.

    A search does the same on the spare images: no picture of a patient that a table tests has a part in it.
    """
    check_fixed(settings, FIXED)
    sought = isinstance(trial, Table3Search)
    data = nuclei.tiles((nuclei.load_spare if sought else nuclei.load)(trial.dataset), settings["tile_size"])
    train_tiles, held_out = split(data, trial.split, trial.seed)
    held_out = held_out[: settings.get("n_test")]
    part, prefix = ("validation", "validation_") if sought else ("test", "")
    images = torch.from_numpy(data.images).permute(0, 3, 1, 2)
    masks = torch.from_numpy(data.masks).long()
    scaled = data.images[train_tiles] / 255
    mean, std = scaled.mean((0, 1, 2)).tolist(), scaled.std((0, 1, 2)).tolist()
    torch.manual_seed(trial.seed)
    network = LAYERS[trial.layer].maker()(kernel_size=settings["kernel_size"])
    model = nn.Sequential(Standardise(mean, std), network).to(workplace.device)
    precision = settings["precision"]
    held_out_images, held_out_masks = images[held_out].to(workplace.device), masks[held_out].to(workplace.device)

    def measure() -> dict[str, float]:
        predicted = predict(model, held_out_images, precision)
        metrics = pixel_metrics(predicted, held_out_masks) | {"nucleus_f1": nucleus_f1(predicted, held_out_masks)}
        return {f"{prefix}{name}": metrics[name] for name in METRICS}

    def save_pictures() -> None:
        shown = np.linspace(0, len(held_out) - 1, SHOWN).round().astype(int)
        _save_arrays(
            workplace.record.with_suffix(".npz"),
            images=data.images[held_out[shown]],
            masks=data.masks[held_out[shown]],
            predicted=predict(model, held_out_images[shown], precision).bool().cpu().numpy(),
            names=np.array([data.names[i] for i in held_out[shown]]),
        )

    return Task(
        model,
        images[train_tiles].to(workplace.device),
        masks[train_tiles].to(workplace.device),
        measure,
        metrics=tuple(f"{prefix}{name}" for name in METRICS),
        data={
            "name": data.name,
            "label": data.label,
            "source": data.source,
            "sha256": data.sha256,
            "n_train": len(train_tiles),
            f"n_{part}": len(held_out),
            "groups_on_both_sides": len(set(data.groups[train_tiles]) & set(data.groups[held_out])),
        },
        finish=None if sought else save_pictures,
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


def nucleus_f1(predicted: Tensor, truth: Tensor) -> float:
    r"""Of all nuclei of all tiles together: a nucleus is found where a predicted one overlaps it at an IoU above 1/2.

    .. math:: F_1 = \frac{2 TP}{2 TP + FP + FN}

    Nuclei are the components of a mask, pixels being neighbours across a side; nuclei that touch in the mask are one.
    No two predicted nuclei can find the same one. Where there is none and none is predicted, F1 is 1.

    Parameters
    ----------
    predicted, truth : (n, h, w), 1 where there is a nucleus
    """
    predicted_mask, true_mask = (mask.bool().cpu().numpy() for mask in (predicted, truth))
    either = predicted_mask | true_mask
    if not either.any():
        return 1.0
    found, true = (_nuclei_at(either, mask) for mask in (predicted_mask, true_mask))
    quality = panoptic_quality(found, true, things={1}, stuffs={0}, return_sq_and_rq=True, return_per_class=True)
    return quality[0, 2].item()  # the recognition quality, which is F1, of class 1


def _nuclei_at(points: np.ndarray, masks: np.ndarray) -> Tensor:
    """(1, number of points, 2): whether a point is of a nucleus, and of which. All other points decide nothing."""
    numbers, _ = ndimage.label(masks, structure=_WITHIN_A_TILE)  # pyright: ignore[reportGeneralTypeIssues]
    return torch.from_numpy(np.stack([masks[points], numbers[points]], -1).astype(np.int64))[None]


def _save_arrays(path: Path, **arrays: np.ndarray) -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # pyright: ignore[reportArgumentType]
    write_beside(path, stream.getvalue())
