"""Table 1: test accuracy on Fashion-MNIST by layer type and size of the training set; its figures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from gdlayer._plumbing.extras import extra
from gdlayer.experiments.table1 import EXPERIMENT, LAYERS
from gdlayer.experiments.table1.trial import Table1Trial
from gdlayer.report import markup
from gdlayer.report.cells import rows_of, select
from gdlayer.report.chapter import costs
from gdlayer.report.grid import Panel, grid
from gdlayer.report.loaded import Loaded
from gdlayer.trials.experiment import LayerType
from gdlayer.trials.settings import hyperparameters

with extra("report"):
    import matplotlib.pyplot as plt
    import pandas as pd
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter
    from scipy import stats

QUESTION = "Is the layer more accurate than earlier layers on Fashion-MNIST?"
MAIN = Table1Trial.networks[0]
"""The network of the main table."""
SIZES = tuple(sorted({int(cell[1]) for cell, _ in EXPERIMENT.published}))
"""Numbers of training images in the paper."""
UNDERFIT = (
    "the layers that end with a higher loss tend to be the less accurate ones on test images: they have learned too"
    " little rather than too much"
)
OVERFIT = (
    "the layers that end with a lower loss tend to be the less accurate ones on test images: fitting the training"
    " images more closely does not help"
)
MAY_BE_CHANCE = "the loss at the end does not clearly tell which layer is more accurate on test images"


def table(loaded: Loaded, *, network: str = MAIN) -> Markup:
    """HTML of the table: a row per training set size, a column per layer; see :func:`gdlayer.report.grid.grid`.

    Parameters
    ----------
    loaded : what there is
    network : "unpooled", "pooled" or "batch-norm"
    """
    own = select(loaded.cells, {"network": network})
    sizes = sorted({*_sizes(loaded, network), *(SIZES if network == MAIN else ())})
    if not sizes:
        return markup.note(f"The {network} network is not part of this profile.")
    columns = {
        layer.title if layer.in_paper else markup.lines(layer.title, markup.small("(control)")): {"layer": layer.name}
        for layer in _layers(loaded, network)
    }
    counts = [sorted(set(select(own, column)["parameters"])) for column in columns.values()]
    return grid(
        loaded,
        {f"{n:,}": {"n_train": n, "network": network, "metric": "test_accuracy"} for n in sizes},
        columns,
        corner="training images",
        foot={"parameters": [", ".join(f"{count:,}" for count in found) or "—" for found in counts]},
    )


def panels(loaded: Loaded) -> list[Panel]:
    """The table of each network that may be the paper's, of the paper's layers and sizes."""
    found = []
    for network in Table1Trial.as_published:
        asked = _sizes(loaded, network)
        rows = {f"{n:,}": {"n_train": n, "network": network, "metric": "test_accuracy"} for n in SIZES if n in asked}
        columns = {layer.title: {"layer": layer.name} for layer in LAYERS.values() if layer.in_paper}
        found.append(Panel(f"{EXPERIMENT.title}, {network} network", rows, columns))
    return found


def durations(loaded: Loaded, *, network: str = MAIN) -> Markup:
    """HTML of the seconds per trial; see :func:`gdlayer.report.chapter.costs`."""
    own = select(loaded.cells, {"network": network})
    rows = {layer.title: {"layer": layer.name} for layer in _layers(loaded, network)}
    return costs(own, rows, {f"{n:,} images": {"n_train": n} for n in sorted(set(own["n_train"]))})


def lengths(loaded: Loaded) -> Markup:
    """HTML of how long the profile trains: steps and epochs, a row per network, a column per training set size."""
    found: dict[tuple[str, int], set[str]] = {}
    for cell in rows_of(loaded.plan):
        names = ("layer", "dataset", "n_train", "network")
        trial = Table1Trial(profile=loaded.profile, **{name: getattr(cell, name) for name in names})
        settings = hyperparameters(trial)
        epochs = settings["steps"] * settings["batch_size"] / cell.n_train
        found.setdefault((cell.network, cell.n_train), set()).add(f"{settings['steps']:,} ({epochs:.0f})")
    networks, sizes = dict.fromkeys(network for network, _ in found), sorted({n for _, n in found})
    body = {network: [" or ".join(sorted(found.get((network, n), {"—"}))) for n in sizes] for network in networks}
    return markup.table(["steps (epochs)", *(f"{n:,} images" for n in sizes)], body)


def _sizes(loaded: Loaded, network: str) -> set[int]:
    """Sizes that are planned or have records."""
    return {n for frame in (loaded.cells, loaded.plan) for n in select(frame, {"network": network})["n_train"]}


def _layers(loaded: Loaded, network: str) -> list[LayerType]:
    """Layer types that are planned or have records; in the main network also the rest of the paper's."""
    frames = [loaded.cells, loaded.plan, *([] if loaded.beside is None else [loaded.beside])]
    names = {name for frame in frames for name in select(frame, {"network": network})["layer"]}
    return [layer for name, layer in LAYERS.items() if name in names or (layer.in_paper and network == MAIN)]


def learning_curves(records: Sequence[dict[str, Any]], *, network: str = MAIN) -> Figure | None:
    """Training loss against the step, a panel per training set size, a line per layer; None without records.

    A line is the mean over the seeds of one kind of run, of the kind with the most. Each panel has its own axes.
    """
    sizes = sorted({r["trial"]["n_train"] for r in records if r["trial"]["network"] == network})
    if not sizes:
        return None
    columns = min(len(sizes), 2)
    height = -(-len(sizes) // columns)
    figure, axes = plt.subplots(
        height, columns, figsize=(3.6 * columns, 2.5 * height + 0.8), squeeze=False, layout="constrained"
    )
    for axis, n in zip(axes.flat, sizes, strict=False):
        for layer in LAYERS.values():
            if curves := [r["curve"] for r in _runs_of(records, layer, n, network)]:
                loss = np.array([[np.nan if p["train_loss"] is None else p["train_loss"] for p in c] for c in curves])
                axis.plot([p["step"] for p in curves[0]], loss.mean(0), color=layer.colour, label=layer.title, lw=1.4)
        axis.set(title=f"{n:,} images", xlabel="training step", yscale="log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.3)
    for row in axes:
        row[0].set_ylabel("training loss")
    for axis in axes.flat[len(sizes) :]:
        axis.axis("off")
    _name_layers(figure)
    return figure


def _runs_of(records: Sequence[dict[str, Any]], layer: LayerType, n: int, network: str) -> list[dict[str, Any]]:
    """The records of a cell, of the precision and device that most of them share."""
    cell = {"layer": layer.name, "n_train": n, "network": network}
    found = [r for r in records if cell.items() <= r["trial"].items()]
    kinds = [(r["hyperparameters"]["precision"], r["machine"]["device"]) for r in found]
    most = max(sorted(set(kinds)), key=kinds.count, default=None)
    return [record for record, kind in zip(found, kinds, strict=True) if kind == most]


def lesson(records: Sequence[dict[str, Any]], *, network: str = MAIN) -> Markup:
    """HTML of what the learning curves teach: whether a layer's loss at the end tells how accurate it is.

    By Spearman's rank correlation, over the layers, of the mean training loss at the last point and the mean test
    accuracy, at a level of 5 %. Sizes with fewer than three layers, or with equal values alone, tell nothing.
    """
    told: dict[str, list[tuple[int, float]]] = {}
    for n in sorted({r["trial"]["n_train"] for r in records}):
        found = [runs for layer in LAYERS.values() if (runs := _runs_of(records, layer, n, network))]
        losses = [np.mean([r["curve"][-1]["train_loss"] for r in runs]) for runs in found]
        accuracies = [np.mean([r["metrics"]["test_accuracy"] for r in runs]) for runs in found]
        if len(found) > 2 and len({*losses}) > 1 and len({*accuracies}) > 1:
            correlation, chance = np.asarray(stats.spearmanr(losses, accuracies), float)
            reading = MAY_BE_CHANCE if chance >= 0.05 else UNDERFIT if correlation < 0 else OVERFIT
            told.setdefault(reading, []).append((n, correlation))
    sentences = []
    for reading, panels in told.items():
        sizes = " and ".join(", ".join(f"{n:,}" for n, _ in panels).rsplit(", ", 1))
        correlations = ", ".join(f"{correlation:+.2f}".replace("-", "−") for _, correlation in panels)
        sentences.append(f"With {sizes} images {reading} (rank correlation {correlations}).")
    return markup.paragraph(markup.sentences(*sentences)) if sentences else Markup()


def accuracy_by_size(loaded: Loaded) -> Figure | None:
    """Test accuracy against the number of training images, a line per layer: the paper's, and here with 95 % intervals.

    None without records.
    """
    cells = select(loaded.cells, {"network": MAIN})
    if cells.empty:
        return None
    figure, (paper, here) = plt.subplots(1, 2, figsize=(8, 4.2), sharex=True, sharey=True, layout="constrained")
    for layer in (layer for layer in LAYERS.values() if layer.in_paper):
        style = {"color": layer.colour, "marker": layer.marker, "label": layer.title, "ms": 5}
        printed = [EXPERIMENT.published.get(((layer.name, str(n)), "test_accuracy")) for n in SIZES]
        paper.plot(SIZES, printed, **style)
        own = select(cells, {"layer": layer.name}).sort_values("n_train")
        if len(own):
            error = np.nan_to_num((own["high"] - own["mean"]).to_numpy(float))
            here.errorbar(own["n_train"], own["mean"], yerr=error, capsize=2, **style)
    run = f"here: {', '.join(loaded.datasets)}, profile {loaded.profile}"
    for axis, title in ((paper, "the paper"), (here, run)):
        axis.set(xlabel="training images", xscale="log")
        axis.set_title(title, size=10)
        axis.set_xticks(SIZES, [f"{n:,}" for n in SIZES], size=8)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    paper.set_ylabel("test accuracy, %")
    _name_layers(figure)
    return figure


def accuracy_against_parameters(cells: pd.DataFrame, *, network: str = MAIN) -> Figure | None:
    """Test accuracy against the number of trainable parameters, smallest and largest training set; 95 % intervals.

    None without records.
    """
    cells = select(cells, {"network": network})
    sizes = sorted(set(cells["n_train"]))
    if not sizes:
        return None
    sizes = sizes if len(sizes) == 1 else [sizes[0], sizes[-1]]
    figure, axes = plt.subplots(1, len(sizes), figsize=(4 * len(sizes), 4.2), squeeze=False, layout="constrained")
    for axis, n in zip(axes.flat, sizes, strict=True):
        for layer in LAYERS.values():
            chosen = select(cells, {"layer": layer.name, "n_train": n})
            if len(chosen):
                error = np.nan_to_num((chosen["high"] - chosen["mean"]).to_numpy())
                axis.errorbar(
                    chosen["parameters"],
                    chosen["mean"],
                    yerr=error,
                    fmt=layer.marker,
                    color=layer.colour,
                    label=layer.title,
                    capsize=2,
                    ms=7,
                )
        axis.set(title=f"{n:,} images", xlabel="trainable parameters", xscale="log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("test accuracy, %")
    _name_layers(figure)
    return figure


def _name_layers(figure: Figure) -> None:
    """One legend for all panels, below them: every layer that any of them shows."""
    handles = {
        label: handle for axis in figure.axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    shown = [layer.title for layer in LAYERS.values() if layer.title in handles]
    figure.legend([handles[title] for title in shown], shown, loc="outside lower center", ncols=3, frameon=False)
