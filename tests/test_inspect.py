"""What a layer tells of itself: its text, the check of its samples, and its pictures."""

import copy
import math
import re
import sys
import warnings
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from gdlayer import GaussianDerivativeConv2d, plot_filters, plot_kernels
from gdlayer.basis import jet_orders
from gdlayer.related import RFNNConv2d
from gdlayer.sampling import SamplingReport


def shaped(
    kernel_size: int | tuple[int, int],
    order: Any,
    *,
    sigma: Any,
    mu: Any = 0.0,
    theta: Any = 0.0,
    **options: Any,
) -> GaussianDerivativeConv2d:
    """A layer with this geometry."""
    layer = GaussianDerivativeConv2d(
        1, options.get("bases", 1), kernel_size, order=order, dtype=torch.float64, sigma_min=0.01, **options
    )
    layer.sigma = sigma
    with torch.no_grad():
        layer.mu.copy_(torch.as_tensor(mu))
        layer.theta.copy_(torch.as_tensor(theta))
    return layer


def quiet(layer: GaussianDerivativeConv2d, tolerance: float = 0.1) -> SamplingReport:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return layer.check_derivatives(tolerance)


# extra_repr


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"shared": ["sigma", "theta"]}, "shared=('sigma', 'theta'), algorithm="),
        ({"isotropic": True}, "isotropic=True, algorithm="),
        ({"sigma_min": 0.8, "sigma_max": 3.0}, "sigma_min=0.8, sigma_max=3, algorithm="),
    ],
    ids=str,
)
def test_repr_names_a_constraint_only_where_there_is_one(options, text):
    plain = repr(GaussianDerivativeConv2d(3, 8, 5))
    assert not any(name in plain for name in options)
    assert f"trainable=('sigma', 'mu', 'theta'), {text}" in repr(GaussianDerivativeConv2d(3, 8, 5, **options))


# check_derivatives


def monomial(a: int, b: int, order: tuple[int, int], sigma: Tensor, u: float, v: float) -> float:
    """f_ab at a point of the kernel's own frame, from its centre."""
    scaled = (-u / sigma[0]) ** a * (-v / sigma[1]) ** b * sigma[0] ** order[0] * sigma[1] ** order[1]
    return float(scaled) / math.factorial(a) / math.factorial(b)


def literal_errors(
    order: tuple[int, int], sigma: Tensor, mu: Tensor, theta: float, size: tuple[int, int], points: int
) -> tuple[float, float]:
    """Sampling and truncation error as sums in loops, the integrals by the midpoint rule with many points a pixel."""
    cos, sin = math.cos(theta), math.sin(theta)

    def turned(x: float, y: float) -> tuple[float, float]:
        return x * cos + y * sin - float(mu[0]), -x * sin + y * cos - float(mu[1])

    def sums(per_pixel: int) -> tuple[dict[tuple[int, int], float], float]:
        values: dict[tuple[int, int], float] = {}
        squares = 0.0
        for row in range(size[0] * per_pixel):
            for column in range(size[1] * per_pixel):
                x = (column - (size[1] * per_pixel - 1) / 2) / per_pixel
                y = (row - (size[0] * per_pixel - 1) / 2) / per_pixel
                u, v = turned(x, y)
                phi = oracle.gaussian_derivative(order[0], u, float(sigma[0]))
                phi *= oracle.gaussian_derivative(order[1], v, float(sigma[1]))
                squares += phi**2 / per_pixel**2
                for a in range(sum(order) + 1):
                    for b in range(sum(order) + 1 - a):
                        term = phi * monomial(a, b, order, sigma, u, v) / per_pixel**2
                        values[a, b] = values.get((a, b), 0.0) + term
        return values, squares

    at_pixels, _ = sums(1)
    integrals, inside = sums(points)
    whole = 1.0
    for d, s in zip(order, sigma.tolist(), strict=True):  # the integral of G_d squared, numerically
        x = np.linspace(-12 * s, 12 * s, 4001)
        whole *= np.trapezoid([oracle.gaussian_derivative(d, t, s) ** 2 for t in x], x)
    return max(abs(at_pixels[ab] - integrals[ab]) for ab in at_pixels), 1 - inside / whole


@given(
    order=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    sigma=st.tuples(st.floats(0.4, 3), st.floats(0.4, 3)),
    mu=st.tuples(st.floats(-2, 2), st.floats(-2, 2)),
    theta=st.floats(-4, 4),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
@settings(max_examples=15)
def test_errors_are_the_sums_and_integrals_they_are_defined_by(order, sigma, mu, theta, size):
    report = quiet(shaped(size, [order], sigma=torch.tensor(sigma).double(), mu=mu, theta=theta))
    sampling, truncation = literal_errors(order, torch.tensor(sigma), torch.tensor(mu), theta, size, points=8)
    assert float(report.sampling) == pytest.approx(sampling, abs=0.01 * max(1, sampling))
    assert float(report.truncation) == pytest.approx(truncation, abs=0.01)


@given(
    order=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    sigma=st.tuples(st.floats(1, 2), st.floats(1, 2)),
    mu=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
    theta=st.floats(-4, 4),
)
def test_wide_kernels_in_wide_windows_are_derivatives(order, sigma, mu, theta):
    report = quiet(shaped(33, [order], sigma=torch.tensor(sigma), mu=mu, theta=theta))
    assert float(report.sampling) < 5e-3
    assert float(report.truncation) < 1e-6


@pytest.mark.parametrize("kernel_size", [1, 3, 4, 7, (3, 9)])
def test_a_kernel_that_leaves_the_window_is_not_taken_for_an_undersampled_one(kernel_size):
    """At the edge, a sum over pixels is the midpoint rule: its error stays below the tolerance."""
    for seed in range(20):
        torch.manual_seed(seed)
        sigma = torch.empty(1, 10, 2).uniform_(1, 5)
        layer = shaped(kernel_size, 3, sigma=sigma, mu=3 * torch.randn(1, 10, 2), theta=3 * torch.randn(1, 10))
        report = quiet(layer)
        assert not report.undersampled.any()
        assert report.truncation.max() > 0.3
        assert ((report.truncation >= 0) & (report.truncation <= 1)).all()


@pytest.mark.parametrize(("degree", "sigma"), [(1, 0.55), (2, 0.6), (3, 0.7)])
def test_the_tolerance_is_reached_where_the_docstring_says(degree, sigma):
    orders = [(degree, 0), (0, degree)]
    shifts = torch.linspace(-0.5, 0.5, 11)

    def worst(sigma: float) -> float:
        return max(float(quiet(shaped(9, orders, sigma=sigma, mu=float(mu))).sampling.max()) for mu in shifts)

    assert worst(sigma - 0.06) > 0.1 > worst(sigma + 0.05)


def test_order_three_at_half_a_pixel_is_not_excused_by_luck():
    """There the moment of its own order is off by an eighth only, as chapter 2 notes; that of a ramp is not."""
    for mu in (0.0, 0.25, 0.4):
        assert float(quiet(shaped(9, [(3, 0)], sigma=0.5, mu=(mu, 0.0))).sampling) > 0.3


def test_samples_of_any_density_agree_that_a_tiny_kernel_is_wrong():
    for sigma in (0.02, 0.05, 0.1, 0.2, 0.3):
        for mu in (0.0, 0.3, 0.5):
            assert quiet(shaped(5, 1, sigma=sigma, mu=mu)).undersampled.all(), (sigma, mu)


FINE = shaped(9, 1, sigma=1.0)


def test_nothing_is_said_of_derivatives():
    report = FINE.check_derivatives()  # a warning would be an error
    assert report.faults() == []
    assert not report.undersampled.any()
    assert not report.truncated.any()
    assert (report.orders, report.window, report.tolerance) == (jet_orders(1), (9, 9), 0.1)


def test_warnings_name_the_worst_kernels():
    sigma = torch.ones(2, 3, 2)
    sigma[0, 2] = torch.tensor([0.31, 0.5])
    sigma[1, 0, 1] = 6.0
    layer = shaped(9, 1, sigma=sigma, bases=2)
    with pytest.warns(UserWarning, match="1 of 6 kernels") as caught:
        report = layer.check_derivatives()
    assert [str(warning.message) for warning in caught] == report.faults()
    assert {warning.filename for warning in caught} == {__file__}
    first, second = report.faults()
    assert re.fullmatch(
        r"undersampled, error above 10%: 1 of 6 kernels "
        r"\(basis 0, kernel 2, order \(1, 0\), sigma \(0\.31, 0\.50\): \d+%\)\. A larger sigma_min .*",
        first,
    )
    assert re.fullmatch(
        r"truncated, more than 10% of the energy outside the 9 x 9 window: 1 of 6 kernels "
        r"\(basis 1, kernel 0, order \(0, 0\), sigma \(1\.00, 6\.00\): \d+%\)\. A larger kernel_size .*",
        second,
    )
    assert report.undersampled.nonzero().tolist() == [[0, 2]]
    assert report.truncated.nonzero().tolist() == [[1, 0]]


def test_of_many_kernels_three_are_named_the_worst_first():
    sigma = torch.full((1, 10, 2), 0.5)
    sigma[0, 4] = 0.2
    report = quiet(shaped(7, 3, sigma=sigma))
    [text] = report.faults()
    found = [float(percent) for percent in re.findall(r"\): (\d+)%", text)]
    assert len(found) == 3
    assert found == sorted(found, reverse=True)
    assert found[0] == round(100 * float(report.sampling.max()))
    assert f"; and {int(report.undersampled.sum()) - 3} more). " in text


def test_the_tolerance_is_the_users():
    layer = shaped(9, 1, sigma=0.6)
    assert layer.check_derivatives().faults() == []
    assert quiet(layer, 0.01).undersampled.any()
    assert "error above 1%: " in quiet(layer, 0.01).faults()[0]
    with pytest.raises(ValueError, match=r"^tolerance must be a positive number, got 0$"):
        layer.check_derivatives(0)


def test_report_is_a_table():
    sigma = torch.tensor([[[0.4, 2.0], [1.0, 1.0]]])
    report = quiet(shaped((3, 5), [(1, 0), (0, 2)], sigma=sigma))
    header, first, second = str(report).splitlines()
    assert header.split() == ["basis", "kernel", "order", "sigma", "sampling", "truncation"]
    assert re.fullmatch(r" +0 +0 +\(1, 0\) +\(0\.40, 2\.00\) +\d+\.\d% +\d+\.\d%  undersampled, truncated", first)
    assert re.fullmatch(r" +0 +1 +\(0, 2\) +\(1\.00, 1\.00\) +\d\.\d% +\d+\.\d%  truncated", second)


@pytest.mark.parametrize("name", ["sigma", "mu", "theta"])
def test_geometry_that_is_not_finite_is_named(name):
    layer = copy.deepcopy(FINE)
    with torch.no_grad():
        (layer.raw_sigma if name == "sigma" else getattr(layer, name)).view(-1)[1] = math.nan
    with pytest.raises(ValueError, match=f"^{name} must be finite, got NaN or infinity$"):
        layer.check_derivatives()


def test_check_leaves_no_trace(device):
    layer = GaussianDerivativeConv2d(2, 4, 7, bases=2, dtype=torch.bfloat16, device=device)
    before, random = copy.deepcopy(layer.state_dict()), torch.get_rng_state()
    report = quiet(layer)
    assert report.sampling.shape == report.truncation.shape == (2, 10)
    assert (report.sigma.device.type, report.sigma.requires_grad) == ("cpu", False)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert all(p.grad is None for p in layer.parameters())


# Pictures


def pixels(figure: Figure) -> np.ndarray:
    """The image of the only line of a picture, gaps being NaN."""
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
    nn.init.zeros_(layer.weight)
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
def test_without_matplotlib_one_line_says_what_is_needed(plot, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"^pictures of a layer need matplotlib: pip install matplotlib$"):
        plot(GaussianDerivativeConv2d(1, 1, 3))
