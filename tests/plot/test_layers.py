"""Pictures of layers: their values, labels and sizes."""

import sys
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import nn

from gdlayer import GaussianDerivativeConv2d, MissingExtraError, plot_filters, plot_kernels
from gdlayer.related import RFNNConv2d


def pixels(figure: Figure) -> np.ndarray:
    """The image of a picture with one line; gaps are NaN."""
    return values(figure.axes[0])


def values(axes: Axes) -> np.ndarray:
    [image] = axes.images
    array = image.get_array()
    assert array is not None
    return np.ma.filled(np.ma.masked_invalid(np.ma.asarray(array, dtype=float)), np.nan)


def labels(figure: Figure, line: int = 0) -> tuple[list[str], list[str]]:
    axes = figure.axes[line]
    return [t.get_text() for t in axes.get_xticklabels()], [t.get_text() for t in axes.get_yticklabels()]


def test_kernels_are_drawn_by_basis_and_order():
    layer = GaussianDerivativeConv2d(3, 4, (5, 3), order=1, bases=2)
    figure = plot_kernels(layer)
    assert labels(figure) == (["(0, 0)", "(0, 1)", "(1, 0)"], ["0", "1"])
    image = pixels(figure)
    assert image.shape == (2 * 6 - 1, 3 * 4 - 1)
    assert np.isnan(image[5]).all()
    assert np.isnan(image[:, [3, 7]]).all()
    for b in range(2):
        for n in range(3):
            drawn = image[6 * b : 6 * b + 5, 4 * n : 4 * n + 3]
            kernel = layer.kernels()[b, n].detach().numpy()
            np.testing.assert_allclose(drawn, kernel / np.abs(kernel).max(), rtol=1e-5)
    assert figure.axes[0].images[0].get_clim() == (-1, 1)
    assert len(figure.axes) == 1


@pytest.mark.parametrize(("f_in", "f_out"), [(3, 5), (1, 7), (2, 16), (6, 2), (1, 1)])
def test_filters_are_drawn_by_map_with_one_range(f_in, f_out):
    layer = GaussianDerivativeConv2d(f_in, f_out, 3, order=1)
    figure = plot_filters(layer)
    filters = layer.filters().detach().numpy()
    *lines, bar = figure.axes
    assert len(bar.images) == 0
    limit = np.abs(filters).max()
    outputs = []
    for line, axes in enumerate(lines):
        [image] = axes.images
        assert image.get_clim() == pytest.approx((-limit, limit))
        columns, rows = labels(figure, line)
        assert rows == [str(i) for i in range(f_in)]
        assert axes.yaxis.get_visible() == (f_in > 1)
        drawn_line = values(axes)
        for place, j in enumerate(columns):
            for i in range(f_in):
                drawn = drawn_line[4 * i : 4 * i + 3, 4 * place : 4 * place + 3]
                np.testing.assert_allclose(drawn, filters[int(j), i], rtol=1e-6)
        outputs += columns
    assert outputs == [str(j) for j in range(f_out)]


def test_unused_places_stay_empty():
    figure = plot_filters(GaussianDerivativeConv2d(1, 7, 3))  # 3, 3 and 1
    assert [len(labels(figure, line)[0]) for line in range(3)] == [3, 3, 1]
    last = values(figure.axes[2])
    assert np.isnan(last[:, 3:]).all()
    assert not np.isnan(last[:, :3]).any()


@pytest.mark.parametrize(
    "arguments",
    [(1, 16, 7, 16, 3), (3, 64, 7, 1, 3), (16, 32, 5, 4, 6), (64, 64, 7, 1, 0), (64, 2, 3, 1, 2), (1, 1, 1, 1, 0)],
    ids=str,
)
def test_pictures_fit_a_page_and_labels_do_not_touch(arguments):
    f_in, f_out, kernel_size, bases, order = arguments
    layer = GaussianDerivativeConv2d(f_in, f_out, kernel_size, bases=bases, order=order)
    for figure in (plot_kernels(layer), plot_filters(layer)):
        width, height = figure.get_size_inches()
        assert width <= 8.2
        assert height <= 13
        figure.draw_without_rendering()
        for line in figure.axes[:1]:
            for axis, side in ((line.get_xticklabels(), 0), (line.get_yticklabels(), 1)):
                boxes = sorted((label.get_window_extent().get_points()[:, side] for label in axis), key=lambda b: b[0])
                assert all(a[1] <= b[0] for a, b in pairwise(boxes))
        inside = figure.bbox
        for axes in figure.axes:
            box = axes.get_tightbbox()
            assert box is not None
            assert box.x0 >= inside.x0 - 1
            assert box.x1 <= inside.x1 + 1
            assert box.y1 <= inside.y1 + 1


def test_other_layers_with_filters_can_be_drawn():
    figure = plot_filters(RFNNConv2d(2, 3, 7, sigma=1.0))
    assert labels(figure) == (["0", "1", "2"], ["0", "1"])


def test_a_dead_layer_can_be_drawn(device):
    layer = GaussianDerivativeConv2d(2, 2, 5, dtype=torch.bfloat16, device=device)
    nn.init.zeros_(layer.omega)
    with torch.no_grad():
        layer.mu.fill_(1e4)  # every kernel is zero on the grid
    for figure in (plot_kernels(layer), plot_filters(layer)):
        assert (pixels(figure)[:5, :5] == 0).all()


def test_pictures_need_no_pyplot():
    before = set(mpl._pylab_helpers.Gcf.figs)  # type: ignore[attr-defined]
    plot_kernels(GaussianDerivativeConv2d(1, 1, 3))
    assert set(mpl._pylab_helpers.Gcf.figs) == before  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("plot", "layer", "message"),
    [
        (plot_kernels, nn.Conv2d(1, 1, 3), "layer must be a GaussianDerivativeConv2d, got Conv2d"),
        (plot_filters, nn.Conv2d(1, 1, 3), "layer must be a GaussianDerivativeConv2d or its like, got Conv2d"),
    ],
    ids=["kernels", "filters"],
)
def test_other_things_cannot_be_drawn(plot, layer, message):
    with pytest.raises(TypeError, match=f"^{message}$"):
        plot(layer)


@pytest.mark.parametrize("plot", [plot_kernels, plot_filters])
def test_without_matplotlib_the_error_names_the_extra(plot, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"^matplotlib is not installed: pip install 'gdlayer\[report\]'$"):
        plot(GaussianDerivativeConv2d(1, 1, 3))
