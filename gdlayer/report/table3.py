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
from gdlayer.report.chapter import costs

TITLES = {
    "unet": "U-net",
    "gaussian-unet": "Gaussian U-net",
    "unet-bn": "U-net with BN (control)",
}
METRICS = {"pixel_accuracy": "accuracy", "dice": "Dice", "iou": "IoU"}
SPLITS = {"tile": "by tile", "group": "by patient or image"}
ERRORS = ListedColormap(["#FFFFFF", "#D55E00", "#0072B2"])
"""White right, orange a nucleus invented, blue a nucleus missed."""


def render(
    cells: pd.DataFrame, record: pd.DataFrame | None = None, plan: pd.DataFrame | None = None, *, dataset: str
) -> str:
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
    rows = {TITLES[layer]: {"layer": layer} for layer in Table3Trial.layers}
    foot = {"everything background": [_background(cells, column) for column in columns.values()]}
    return grid("table3", rows, columns, cells, record, plan, corner=html.escape(nuclei.LABELS[dataset]), foot=foot)


def durations(cells: pd.DataFrame, dataset: str) -> str:
    """HTML of parameters and seconds a trial; see :func:`gdlayer.report.chapter.costs`."""
    rows = {TITLES[layer]: {"layer": layer} for layer in Table3Trial.layers}
    columns = {html.escape(SPLITS[split]): {"split": split} for split in Table3Trial.splits}
    return costs(find(cells, {"dataset": dataset}), rows, columns)


def picture_path(trial: Table3Trial, results: Path) -> Path:
    """Where the test tiles lie that a trial keeps for Figure 2, with its predictions."""
    return trial.record_path(results).with_suffix(".npz")


def kept_pictures(results: Path, profile: str, dataset: str) -> dict[str, Path]:
    """{network: its pictures}, both networks of Figure 2, split by tile, of the first seed that has both, or empty."""
    for path in sorted((results / profile / "table3" / dataset).glob("unet-tile-s*.npz")):
        other = path.with_name(f"gaussian-{path.name}")
        if other.exists():
            return {"unet": path, "gaussian-unet": other}
    return {}


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
