"""Table 3 and Figure 2: nuclei segmented by U-nets."""

import html
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from gdlayer.datasets import nuclei
from gdlayer.experiments.trial import Table3Trial
from gdlayer.report.cells import find, grid

TITLES = {
    "unet": "U-net",
    "gaussian-unet": "Gaussian U-net",
    "unet-bn": "U-net with BN (control)",
}
METRICS = {"pixel_accuracy": "accuracy", "dice": "Dice", "iou": "IoU"}
SPLITS = {"tile": "by tile", "group": "by patient or image"}
ERRORS = ListedColormap(["#FFFFFF", "#D55E00", "#0072B2"])
"""White right, orange a nucleus invented, blue a nucleus missed."""


def render(cells: pd.DataFrame, dataset: str, record: pd.DataFrame | None = None) -> str:
    """HTML of the table for one data set: a row a network, columns three metrics for each split."""
    columns = {
        f"{title}<br><small>{html.escape(SPLITS[split])}</small>": {
            "split": split,
            "metric": metric,
            "dataset": dataset,
        }
        for split in Table3Trial.splits
        for metric, title in METRICS.items()
    }
    counts = {layer: sorted(set(find(cells, {"layer": layer})["parameters"])) for layer in Table3Trial.layers}
    rows = {
        f"{TITLES[layer]}<br><small>{' or '.join(f'{c:,}' for c in counts[layer]) or '—'} parameters</small>": {
            "layer": layer
        }
        for layer in Table3Trial.layers
    }
    foot = {"everything background": [_background(cells, column) for column in columns.values()]}
    return grid("table3", rows, columns, cells, record, corner=html.escape(nuclei.LABELS[dataset]), foot=foot)


def figure2(pictures: Mapping[str, Path]) -> Figure:
    """Figure 2: a column a test tile; rows the input, the truth, each network's prediction and its errors.

    Parameters
    ----------
    pictures : {network: .npz beside its record}
        All of the same split and seed, so of the same tiles.

    Raises
    ------
    ValueError
        If the tiles differ.
    """
    loaded = {layer: dict(np.load(path)) for layer, path in pictures.items()}
    first = next(iter(loaded.values()))
    if any(not np.array_equal(first["names"], other["names"]) for other in loaded.values()):
        raise ValueError(f"pictures are of different tiles: {', '.join(map(str, pictures.values()))}")
    rows = [("input", first["images"], None), ("truth", first["masks"], "gray")]
    for layer, arrays in loaded.items():
        missed = 2 * (arrays["masks"] & ~arrays["predicted"])
        rows.append((TITLES[layer], arrays["predicted"], "gray"))
        rows.append(("its errors", (arrays["predicted"] & ~arrays["masks"]) + missed, ERRORS))
    n = len(first["images"])
    size = (1.7 * n + 0.5, 1.75 * len(rows))
    figure, axes = plt.subplots(len(rows), n, figsize=size, squeeze=False, layout="constrained")
    for line, (title, images, colours) in zip(axes, rows, strict=True):
        for axis, image in zip(line, images, strict=True):
            axis.imshow(image, cmap=colours, vmin=0, vmax=2 if colours is ERRORS else 1, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(title)
    return figure


def _background(cells: pd.DataFrame, column: Mapping[str, str]) -> str:
    """What calling every pixel background scores: its accuracy, or 0 for Dice and IoU, which count nuclei."""
    if column["metric"] != "pixel_accuracy":
        return "0.0"
    found = find(cells, {**column, "metric": "background_accuracy"})["mean"]
    return f"{found.mean():.1f}" if len(found) else "—"
