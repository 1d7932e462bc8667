"""Table 1: test accuracy on Fashion-MNIST by layer type and size of the training set."""

import csv
import html
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import t as student_t

from gdlayer.experiments.trial import LAYERS
from gdlayer.report.records import ROOT

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

_COLOURS = ("#000000", "#E69F00", "#56B4E9", "#D55E00", "#CC79A7", "#009E73", "#888888", "#0072B2")
_MARKERS = "osD^v>P*"


def published(path: Path = ROOT / "data" / "paper" / "table1.csv") -> dict[tuple[str, int], float]:
    """The paper's Table 1: {(layer, n_train): test accuracy in percent}."""
    with path.open(encoding="utf-8", newline="") as stream:
        return {
            (row["layer"], int(row["n_train"])): float(row["test_accuracy_percent"]) for row in csv.DictReader(stream)
        }


def summarise(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """One row a cell: mean, deviation and 95 % interval over seeds, beside the paper's number.

    Cells differ by layer and n_train, and also by data set, profile, precision and device: those are never averaged
    together. Accuracies are in percent; ``low`` and ``high`` bound the mean by Student's t, and are empty for one seed.
    """
    rows = [
        {
            "layer": r["trial"]["layer"],
            "n_train": r["trial"]["n_train"],
            "dataset": r["trial"]["dataset"],
            "profile": r["trial"]["profile"],
            "precision": r["hyperparameters"]["precision"],
            "device": r["machine"]["device"],
            "parameters": r["parameters"],
            "accuracy": 100 * r["metrics"]["test_accuracy"],
            "seconds": r["seconds"],
        }
        for r in records
    ]
    keys = ["layer", "n_train", "dataset", "profile", "precision", "device", "parameters"]
    table = pd.DataFrame(rows, columns=[*keys, "accuracy", "seconds"])
    cells = table.groupby(keys, sort=False, as_index=False).agg(
        seeds=("accuracy", "size"), mean=("accuracy", "mean"), std=("accuracy", "std"), seconds=("seconds", "sum")
    )
    half = student_t.ppf(0.975, cells["seeds"] - 1) * cells["std"] / np.sqrt(cells["seeds"])  # NaN for one seed
    cells["low"], cells["high"] = cells["mean"] - half, cells["mean"] + half
    paper = published()
    cells["paper"] = [paper.get(cell, np.nan) for cell in zip(cells["layer"], cells["n_train"], strict=True)]
    order = {layer: i for i, layer in enumerate(LAYERS)}
    cells = cells.sort_values(["n_train", "layer", "dataset"], key=lambda c: c.map(order) if c.name == "layer" else c)
    return cells.reset_index(drop=True)


def write_csv(cells: pd.DataFrame, path: Path) -> None:
    """The cells as a CSV file, three decimals."""
    cells.to_csv(path, index=False, float_format="%.3f", lineterminator="\n")


def render(cells: pd.DataFrame, record: pd.DataFrame | None = None) -> str:
    """HTML of the table: a row a training set size, a column a layer, the paper's number in parentheses under ours.

    Every cell says what it is: † embedded sample instead of the data set, ‡ smaller budget than the full protocol;
    a dash where no record exists. With ``record``, another line shows the committed record in brackets.
    """
    sizes = sorted({n for _, n in published()} | set(cells["n_train"]))
    head = "".join(
        f"<th>{html.escape(TITLES[layer])}{'<br><small>(control)</small>' if layer in CONTROLS else ''}</th>"
        for layer in LAYERS
    )
    rows = []
    for n in sizes:
        entries = "".join(f"<td>{_entry(cells, record, layer, n)}</td>" for layer in LAYERS)
        rows.append(f"<tr><th>{n:,}</th>{entries}</tr>")
    counts = "".join(f"<td>{_parameters(cells, layer)}</td>" for layer in LAYERS)
    table = (
        '<table class="results"><thead><tr><th>training images</th>'
        f"{head}</tr></thead><tbody>{''.join(rows)}<tr><th>parameters</th>{counts}</tr></tbody></table>\n"
    )
    return f"{table}<p><small>{_legend(table, cells, record)}</small></p>"


def learning_curves(records: Sequence[dict[str, Any]]) -> Figure:
    """Training loss against the step, a panel a training set size, a line a layer (mean over seeds)."""
    sizes = sorted({r["trial"]["n_train"] for r in records})
    columns = min(len(sizes), 3)
    height = -(-(len(sizes) + (len(sizes) > 1)) // columns)
    figure, axes = plt.subplots(
        height, columns, figsize=(3.2 * columns + 1, 2.7 * height), squeeze=False, sharey=True, layout="constrained"
    )
    for axis, n in zip(axes.flat, sizes, strict=False):
        for layer, colour in zip(LAYERS, _COLOURS, strict=True):
            curves = [r["curve"] for r in records if (r["trial"]["layer"], r["trial"]["n_train"]) == (layer, n)]
            if curves:
                loss = np.array([[np.nan if p["train_loss"] is None else p["train_loss"] for p in c] for c in curves])
                axis.plot([p["step"] for p in curves[0]], loss.mean(0), color=colour, label=TITLES[layer], lw=1.4)
        axis.set(title=f"{n:,} images", xlabel="training step", yscale="log")
        axis.grid(alpha=0.3)
    for row in axes:
        row[0].set_ylabel("training loss")
    for axis in axes.flat[len(sizes) :]:
        axis.axis("off")
    _name_layers(figure, "outside right center" if height == 1 else (0.72, 0.12))
    return figure


def accuracy_against_parameters(cells: pd.DataFrame) -> Figure:
    """Test accuracy against the number of trainable parameters, smallest and largest training set; 95 % intervals."""
    sizes = sorted(set(cells["n_train"]))
    sizes = sizes if len(sizes) == 1 else [sizes[0], sizes[-1]]
    figure, axes = plt.subplots(
        1, len(sizes), figsize=(4.2 * len(sizes) + 1.6, 3.6), squeeze=False, layout="constrained"
    )
    for axis, n in zip(axes.flat, sizes, strict=True):
        for layer, colour, marker in zip(LAYERS, _COLOURS, _MARKERS, strict=True):
            chosen = _find(cells, layer, n)
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
        axis.set_xticks([7500, 10000, 20000, 50000], ["7,500", "10,000", "20,000", "50,000"])
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


def _find(cells: pd.DataFrame, layer: str, n: int) -> pd.DataFrame:
    return cells.loc[(cells["layer"] == layer) & (cells["n_train"] == n)]


def _entry(cells: pd.DataFrame, record: pd.DataFrame | None, layer: str, n: int) -> str:
    lines = [_values(cells, layer, n)]
    if record is not None:
        lines.append(f"<small>[{_values(record, layer, n)}]</small>")
    paper = published().get((layer, n))
    if paper is not None:
        lines.append(f"<small>({paper:.1f})</small>")
    return "<br>".join(lines)


def _values(cells: pd.DataFrame, layer: str, n: int) -> str:
    def value(cell: Any) -> str:
        spread = f" ± {cell.std:.1f}" if cell.seeds > 1 else ""
        marks = ("†" if cell.dataset.endswith("-sample") else "") + ("‡" if cell.profile != "paper" else "")
        return f"{cell.mean:.1f}{spread}{marks}"

    return ", ".join(value(cell) for cell in _find(cells, layer, n).itertuples()) or "—"


def _parameters(cells: pd.DataFrame, layer: str) -> str:
    return ", ".join(f"{count:,}" for count in sorted(set(cells.loc[cells["layer"] == layer, "parameters"]))) or "—"


def _legend(table: str, cells: pd.DataFrame, record: pd.DataFrame | None) -> str:
    """What the signs in the table mean, of those that are there."""
    seeds = sorted(set(cells["seeds"]))
    notes = [
        "Test accuracy in percent, mean ± standard deviation over seeds "
        f"({' or '.join(map(str, seeds)) or 'no'} seed{'s' * (seeds != [1])} a cell); in parentheses the paper's."
    ]
    if record is not None:
        notes.append("In brackets: the run kept in the repository.")
    if "†" in table:
        notes.append("† Trained and tested on the small sample embedded in the repository, not on the data set.")
    if "‡" in table:
        profiles = {*cells["profile"], *(() if record is None else record["profile"])} - {"paper"}
        names = html.escape(", ".join(sorted(profiles)))
        notes.append(f"‡ Reduced budget (profile {names}): cannot be held against the paper's number.")
    if "—" in table:
        notes.append("— No record: the embedded sample is too small for this column, or the trial was not run.")
    return " ".join(notes)
