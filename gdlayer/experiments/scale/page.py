"""Scale generalisation: test accuracy by the size of the test images."""

import numpy as np
from markupsafe import Markup

from gdlayer._plumbing.extras import extra
from gdlayer.experiments.scale import EXPERIMENT, LAYERS
from gdlayer.report.cells import KIND, main_kind, select
from gdlayer.report.chapter import costs
from gdlayer.report.grid import Panel, grid
from gdlayer.report.loaded import Loaded

with extra("report"):
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

QUESTION = "Do scale channels keep their accuracy on images of another size?"
TRAINED = 28
"""The size of the training images in pixels."""
SIZES: list[int] = EXPERIMENT.choices["sizes"]["value"]


def metric_at(size: int) -> str:
    """The name of the test accuracy on images of a size."""
    return f"test_accuracy_at_{size}"


def factor(size: int) -> str:
    """A size against that of training: "2.00 ×"."""
    return f"{size / TRAINED:.2f} ×"


def numbers(loaded: Loaded) -> list[int]:
    """Numbers of training images that are planned or have records."""
    return sorted({n for frame in (loaded.cells, loaded.plan) for n in frame["n_train"]})


def table(loaded: Loaded) -> Markup:
    """HTML of the table: a row per network, a column per size; see :func:`gdlayer.report.grid.grid`."""
    found = numbers(loaded)
    rows = {
        f"{layer.title}{f', {n:,} images' if len(found) > 1 else ''}": {"layer": layer.name, "n_train": n}
        for n in found
        for layer in LAYERS.values()
    }
    columns = {f"{size} px, {factor(size)}": {"metric": metric_at(size)} for size in SIZES}
    return grid(loaded, rows, columns, corner="network")


def panels(loaded: Loaded) -> list[Panel]:
    """None: the paper has no such numbers."""
    return []


def durations(loaded: Loaded) -> Markup:
    """HTML of parameters and seconds per trial; see :func:`gdlayer.report.chapter.costs`."""
    rows = {layer.title: {"layer": layer.name} for layer in LAYERS.values()}
    return costs(loaded.cells, rows, {f"{n:,} images": {"n_train": n} for n in numbers(loaded)})


def curves(loaded: Loaded) -> Figure | None:
    """Test accuracy by size, a line per network, with 95 % intervals over seeds; None without records.

    Of the data set, profile, precision and device that most cells have.
    """
    if (kind := main_kind(loaded.cells)) is None:
        return None
    shown = select(loaded.cells, dict(zip(KIND, kind, strict=True)))
    found = sorted(set(shown["n_train"]))
    figure, axes = plt.subplots(
        1, len(found), figsize=(6.4 * len(found), 3.8), squeeze=False, sharey=True, layout="constrained"
    )
    factors = np.array(SIZES) / TRAINED
    for axis, n in zip(axes.flat, found, strict=True):
        axis.axvline(1, color="black", lw=0.8, ls=":")
        for layer in LAYERS.values():
            own = select(shown, {"layer": layer.name, "n_train": n}).set_index("metric")
            own = own.reindex([metric_at(size) for size in SIZES])
            error = np.nan_to_num((own["high"] - own["mean"]).to_numpy(float))
            axis.errorbar(
                factors, own["mean"], yerr=error, color=layer.colour, marker=layer.marker, label=layer.title, capsize=2
            )
        axis.set_xscale("log", base=2)
        axis.set_xticks(factors, [f"{value:.2f}" for value in factors])
        axis.minorticks_off()
        axis.set(title=f"{n:,} training images", xlabel=f"size of the test images / {TRAINED} pixels")
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("test accuracy, %")
    axes[0, 0].legend(frameon=False)
    return figure
