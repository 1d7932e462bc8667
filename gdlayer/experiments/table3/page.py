"""Table 3 and Figure 2: nuclei segmented by U-nets."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from markupsafe import Markup

from gdlayer._plumbing.extras import extra
from gdlayer.datasets import nuclei
from gdlayer.experiments.table3 import EXPERIMENT, LAYERS
from gdlayer.experiments.table3.trial import Table3Trial
from gdlayer.report import markup
from gdlayer.report.cells import Selector, select
from gdlayer.report.chapter import costs
from gdlayer.report.grid import Panel, grid
from gdlayer.report.loaded import Loaded
from gdlayer.trials.trial import Trial

with extra("report"):
    import matplotlib.pyplot as plt
    import pandas as pd
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

QUESTION = "Can a U-net of these layers, with a quarter of the parameters, compete with a classical one?"
METRICS = {"pixel_accuracy": "accuracy", "dice": "Dice", "iou": "IoU", "nucleus_f1": "F1"}
F1 = "F1: by nucleus; one is found where a predicted nucleus overlaps it at an IoU above 0.5."
BEFORE_F1 = "A dash under F1 beside other numbers: the record was made before it was measured."
SPLITS = {"tile": "by tile", "group": "by patient or image"}
ERRORS = ListedColormap(["#FFFFFF", "#D55E00", "#0072B2"])
"""White right, orange a nucleus invented, blue a nucleus missed."""
_ROWS = {layer.title: {"layer": layer.name} for layer in LAYERS.values()}


def table(loaded: Loaded, *, dataset: str) -> Markup:
    """HTML of the table for one data set: a row per network, columns four metrics for each split."""
    columns: dict[str, Selector] = {
        markup.lines(title, markup.small(SPLITS[split])): {"split": split, "metric": metric, "dataset": dataset}
        for split in Table3Trial.splits
        for metric, title in METRICS.items()
    }
    foot = {"everything background": [_background(loaded.cells, column) for column in columns.values()]}
    shown = [loaded.cells] if loaded.beside is None else [loaded.cells, loaded.beside]
    lacking = any(_seeds(cells, dataset, "nucleus_f1") < _seeds(cells, dataset, "pixel_accuracy") for cells in shown)
    note = markup.note(markup.sentences(F1, BEFORE_F1 if lacking else ""))
    return grid(loaded, _ROWS, columns, corner=nuclei.LABELS[dataset], foot=foot) + note


def panels(loaded: Loaded) -> list[Panel]:
    """What the paper prints, by data set."""
    columns = {"accuracy, by tile": {"split": "tile", "metric": "pixel_accuracy"}}
    return [
        Panel(
            f"{EXPERIMENT.title}, {nuclei.LABELS[dataset]}",
            {layer.title: {"layer": layer.name, "dataset": dataset} for layer in LAYERS.values() if layer.in_paper},
            columns,
        )
        for dataset in loaded.datasets
        if dataset not in Table3Trial.not_in_paper
    ]


def durations(loaded: Loaded, *, dataset: str) -> Markup:
    """HTML of parameters and seconds per trial; see :func:`gdlayer.report.chapter.costs`."""
    columns = {SPLITS[split]: {"split": split} for split in Table3Trial.splits}
    return costs(select(loaded.cells, {"dataset": dataset}), _ROWS, columns)


def picture_path(trial: Trial, results: Path) -> Path:
    """Where the test tiles lie that a trial keeps for Figure 2, with its predictions."""
    return trial.record_path(results).with_suffix(".npz")


def kept_pictures(results: Path, profile: str, dataset: str) -> dict[str, Path]:
    """{network: its pictures}, both networks of Figure 2, split by tile, of the first seed that has both, or empty."""
    for path in sorted((results / profile / EXPERIMENT.name / dataset).glob("unet-tile-s*.npz")):
        other = path.with_name(f"gaussian-{path.name}")
        if other.exists():
            return {"unet": path, "gaussian-unet": other}
    return {}


def figure2(pictures: Mapping[str, Path]) -> Figure:
    """Figure 2: a column per test tile; rows the input, the truth, each network's prediction and its errors.

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
        rows.append((LAYERS[layer].title, arrays["predicted"], "gray"))
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


def _seeds(cells: pd.DataFrame, dataset: str, metric: str) -> int:
    """Trials that have a metric."""
    return sum(select(cells, {"dataset": dataset, "metric": metric})["seeds"].tolist())


def _background(cells: pd.DataFrame, column: Mapping[str, str]) -> str:
    """What calling every pixel background scores: its accuracy, or 0 for what counts nuclei."""
    if column["metric"] != "pixel_accuracy":
        return "0.0"
    found = select(cells, {**column, "metric": "background_accuracy"})["mean"]
    return f"{found.mean():.1f}" if len(found) else "—"
