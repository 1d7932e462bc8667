"""Table 1: test accuracy on Fashion-MNIST by layer type and size of the training set."""

import html
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from gdlayer.experiments.trial import Table1Trial
from gdlayer.report.cells import find, grid, published
from gdlayer.report.chapter import costs
from gdlayer.report.markup import note

LAYERS = Table1Trial.layers
TITLES = {
    "free-form": "Free-form 3×3",
    "rfnn": "RFNN",
    "dau": "DAU",
    "ours": "Ours",
    "ours-few": "Ours-few",
    "ours-separated": "Ours-separated",
    "free-form-same-support": "Free-form 7×7",
    "n-jet": "N-Jet",
}
CONTROLS = ("free-form-same-support", "n-jet")
"""Columns that the paper lacks."""
MAIN = Table1Trial.networks[0]
"""The network of the main table."""
SIZES = tuple(sorted({int(cell[1]) for cell, _ in published("table1")}))
"""Numbers of training images in the paper."""

_COLOURS = ("#000000", "#E69F00", "#56B4E9", "#D55E00", "#CC79A7", "#009E73", "#888888", "#0072B2")
_MARKERS = "osD^v>P*"


def render(
    cells: pd.DataFrame,
    record: pd.DataFrame | None = None,
    plan: pd.DataFrame | None = None,
    *,
    network: str = MAIN,
) -> str:
    """HTML of the table: a row a training set size, a column a layer; see :func:`gdlayer.report.cells.grid`.

    Parameters
    ----------
    cells, record, plan : as for the grid
    network : "unpooled" or "pooled"
    """
    own = find(cells, {"network": network})
    asked = own if plan is None else find(plan, {"network": network})
    sizes = sorted({*(SIZES if network == MAIN else ()), *own["n_train"], *asked["n_train"]})
    if not sizes:
        return note(f"The {network} network is not part of this profile.")
    columns = {
        html.escape(TITLES[layer]) + "<br><small>(control)</small>" * (layer in CONTROLS): {"layer": layer}
        for layer in LAYERS
    }
    counts = [sorted(set(find(own, column)["parameters"])) for column in columns.values()]
    return grid(
        "table1",
        {f"{n:,}": {"n_train": n, "network": network, "metric": "test_accuracy"} for n in sizes},
        columns,
        cells,
        record,
        plan,
        corner="training images",
        foot={"parameters": [", ".join(f"{count:,}" for count in found) or "—" for found in counts]},
    )


def durations(cells: pd.DataFrame, *, network: str = MAIN) -> str:
    """HTML of the seconds a trial; see :func:`gdlayer.report.chapter.costs`."""
    own = find(cells, {"network": network})
    rows = {html.escape(TITLES[layer]): {"layer": layer} for layer in LAYERS}
    return costs(own, rows, {f"{n:,} images": {"n_train": n} for n in sorted(set(own["n_train"]))})


def learning_curves(records: Sequence[dict[str, Any]], *, network: str = MAIN) -> Figure | None:
    """Training loss against the step, a panel a training set size, a line a layer; None without records.

    A line is the mean over the seeds of one kind of run, of the kind with the most.
    """
    records = [r for r in records if r["trial"]["network"] == network]
    if not records:
        return None
    sizes = sorted({r["trial"]["n_train"] for r in records})
    columns = min(len(sizes), 3)
    height = -(-(len(sizes) + (len(sizes) > 1)) // columns)
    figure, axes = plt.subplots(
        height, columns, figsize=(3.2 * columns + 1, 2.7 * height), squeeze=False, sharey=True, layout="constrained"
    )
    for axis, n in zip(axes.flat, sizes, strict=False):
        for layer, colour in zip(LAYERS, _COLOURS, strict=True):
            found = [r for r in records if (r["trial"]["layer"], r["trial"]["n_train"]) == (layer, n)]
            if curves := [r["curve"] for r in _of_one_kind(found)]:
                loss = np.array([[np.nan if p["train_loss"] is None else p["train_loss"] for p in c] for c in curves])
                axis.plot([p["step"] for p in curves[0]], loss.mean(0), color=colour, label=TITLES[layer], lw=1.4)
        axis.set(title=f"{n:,} images", xlabel="training step", yscale="log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.3)
    for row in axes:
        row[0].set_ylabel("training loss")
    for axis in axes.flat[len(sizes) :]:
        axis.axis("off")
    _name_layers(figure, "outside right center" if height == 1 else (0.72, 0.12))
    return figure


def _of_one_kind(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of the precision and device that most of them share."""
    kinds = [(r["hyperparameters"]["precision"], r["machine"]["device"]) for r in records]
    most = max(sorted(set(kinds)), key=kinds.count, default=None)
    return [record for record, kind in zip(records, kinds, strict=True) if kind == most]


def accuracy_against_parameters(cells: pd.DataFrame, *, network: str = MAIN) -> Figure | None:
    """Test accuracy against the number of trainable parameters, smallest and largest training set; 95 % intervals.

    None without records.
    """
    cells = find(cells, {"network": network})
    sizes = sorted(set(cells["n_train"]))
    if not sizes:
        return None
    sizes = sizes if len(sizes) == 1 else [sizes[0], sizes[-1]]
    figure, axes = plt.subplots(
        1, len(sizes), figsize=(4.2 * len(sizes) + 1.6, 3.6), squeeze=False, layout="constrained"
    )
    for axis, n in zip(axes.flat, sizes, strict=True):
        for layer, colour, marker in zip(LAYERS, _COLOURS, _MARKERS, strict=True):
            chosen = find(cells, {"layer": layer, "n_train": n})
            if len(chosen):
                error = np.nan_to_num((chosen["high"] - chosen["mean"]).to_numpy())
                axis.errorbar(
                    chosen["parameters"],
                    chosen["mean"],
                    yerr=error,
                    fmt=marker,
                    color=colour,
                    label=TITLES[layer],
                    capsize=2,
                    ms=7,
                )
        axis.set(title=f"{n:,} images", xlabel="trainable parameters", xscale="log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("test accuracy, %")
    _name_layers(figure, "outside right center")
    return figure


def _name_layers(figure: Figure, place: Any) -> None:
    """One legend for all panels: every layer that any of them shows."""
    handles = {
        label: handle for axis in figure.axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    shown = [title for title in TITLES.values() if title in handles]
    figure.legend([handles[title] for title in shown], shown, loc=place, frameon=False)
