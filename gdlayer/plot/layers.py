"""Pictures of a layer: its kernels and its filters."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gdlayer._plumbing.extras import extra
from gdlayer.conv import GaussianDerivativeConv2d
from gdlayer.synthesis import SynthesizedConv2d

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

WIDTH, HEIGHT = 7.2, 9.0
"""Largest width and height of all images of a picture together, in inches."""
PANEL = 0.7
"""Largest width of one image, in inches."""
LABELS = 32
"""Largest number of labels along one axis; beyond it, only every second, third, ... label is written."""


def plot_kernels(layer: GaussianDerivativeConv2d) -> "Figure":
    """The present kernels of a layer: one row per basis, one column per order (p, q).

    >>> from gdlayer import GaussianDerivativeConv2d, plot_kernels
    >>> plot_kernels(GaussianDerivativeConv2d(3, 16, 7, bases=4)).savefig("kernels.png")  # doctest: +SKIP

    Red is positive, blue negative, white zero. Each kernel has its own colour range, symmetric about zero. The figure
    is not registered with pyplot: save it with ``savefig``; a notebook shows it after ``%matplotlib inline``.

    Raises
    ------
    TypeError
        If ``layer`` is not a Gaussian derivative layer.
    MissingExtraError
        If matplotlib is not installed.
    """
    if not isinstance(layer, GaussianDerivativeConv2d):
        raise TypeError(f"layer must be a GaussianDerivativeConv2d, got {type(layer).__name__}")
    kernels = layer.kernels().detach()
    largest = kernels.abs().amax((-2, -1), keepdim=True).clamp_min(torch.finfo(kernels.dtype).tiny)
    orders = [f"({p}, {q})" for p, q in layer.orders]
    figure, _ = _draw([kernels / largest], [orders], range(layer.bases), 1.0, rows="basis", columns="order (p, q)")
    return figure


def plot_filters(layer: SynthesizedConv2d) -> "Figure":
    """The present filters of a layer: one column per output map, one row per input map.

    >>> from gdlayer import GaussianDerivativeConv2d, plot_filters
    >>> plot_filters(GaussianDerivativeConv2d(3, 16, 7, bases=4)).savefig("filters.png")  # doctest: +SKIP

    Many output maps are wrapped into several lines, like text. Red is positive, blue negative, white zero. All
    filters have the same colour range, symmetric about zero. The figure is of the kind that :func:`plot_kernels`
    returns.

    Raises
    ------
    TypeError
        If ``layer`` is not a layer that computes its filters (:class:`~gdlayer.synthesis.SynthesizedConv2d`).
    MissingExtraError
        If matplotlib is not installed.
    """
    if not isinstance(layer, SynthesizedConv2d):
        raise TypeError(f"layer must be a GaussianDerivativeConv2d or its like, got {type(layer).__name__}")
    filters = layer.filters().detach().float().transpose(0, 1)  # (f_in, f_out, kh, kw)
    f_in, f_out = filters.shape[:2]
    lines = max(1, round(math.sqrt(f_out / f_in)))
    per_line = math.ceil(f_out / lines)
    figure, image = _draw(
        filters.split(per_line, 1),
        [range(f_out)[first : first + per_line] for first in range(0, f_out, per_line)],
        range(f_in),
        float(filters.abs().max()),
        rows="input map",
        columns="output map",
    )
    figure.colorbar(image, ax=figure.axes, fraction=0.05, aspect=40, pad=0.02)
    return figure


def _draw(
    lines: Sequence[Tensor],
    names: Sequence[Sequence[Any]],
    row_names: Sequence[Any],
    limit: float,
    *,
    rows: str,
    columns: str,
) -> "tuple[Figure, AxesImage]":
    """Draws lines of images (rows, columns, kh, kw), coloured from -limit to limit; also returns the first image."""
    with extra("report"):
        from matplotlib import colormaps
        from matplotlib.figure import Figure
    height, width, kh, kw = lines[0].shape
    panel = min(PANEL, WIDTH / width, HEIGHT / (len(lines) * height) * kw / kh)
    upright = panel < 0.45 and len(str(names[0][0])) > 3
    size = max(2.4, width * panel + 0.8), len(lines) * (height * panel * kh / kw + (0.7 if upright else 0.4)) + 0.2
    figure = Figure(figsize=size, layout="constrained")
    for axes, images, line_names in zip(figure.subplots(len(lines), squeeze=False)[:, 0], lines, names, strict=True):
        axes.imshow(
            _mosaic(images, width).cpu().numpy(),
            cmap=colormaps["RdBu_r"].with_extremes(bad="0.8"),
            vmin=-limit,
            vmax=limit,
            interpolation="nearest",
        )
        axes.set(ylabel=rows)
        axes.xaxis.tick_top()
        axes.tick_params(length=0, labelsize=8)
        axes.tick_params(axis="x", rotation=90 if upright else 0)
        axes.spines[:].set_visible(False)
        for axis, items, k in ((axes.xaxis, line_names, kw), (axes.yaxis, row_names, kh)):
            shown = range(0, len(items), math.ceil(len(items) / LABELS))
            axis.set_ticks([i * (k + 1) + (k - 1) / 2 for i in shown], [str(items[i]) for i in shown])
        if height == 1:
            axes.yaxis.set_visible(False)
    figure.axes[0].set_title(columns, fontsize="medium")
    return figure, figure.axes[0].images[0]


def _mosaic(images: Tensor, width: int) -> Tensor:
    """Joins images (rows, columns, kh, kw) into one, separated by lines of NaN and padded to ``width`` columns."""
    rows, columns, kh, kw = images.shape
    framed = F.pad(images.float(), (0, 1, 0, 1, 0, width - columns), value=math.nan)
    return framed.transpose(1, 2).reshape(rows * (kh + 1), width * (kw + 1))[:-1, :-1]
