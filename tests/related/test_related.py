"""The layers compared with, against their published formulas, written out as loops over numbers."""

import json
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from layer_table import convolution_in, dau, insensitive, njet, perturbed, rfnn, semi_structured
from torch import nn

from gdlayer._plumbing.padding import PADDING_MODES
from gdlayer.basis import normalised_kernels
from gdlayer.geometry import clipped
from gdlayer.related import (
    DAUConv2d,
    NJetConv2d,
    RFNNConv2d,
    ScaleSpaceConv2d,
    SemiStructuredConv2d,
    TranslationInsensitiveConv2d,
)
from gdlayer.related.rfnn import ORDERS
from gdlayer.synthesis import SynthesizedConv2d

every_layer = pytest.mark.parametrize("make", [rfnn, dau, njet, semi_structured, insensitive])


# The formulas


def profiles(sigma: float, half_size: int) -> list[np.ndarray]:
    """g and its derivatives as RFNN publishes them, each times sigma to its order."""
    x = np.arange(-half_size, half_size + 1, dtype=float)
    g = np.exp(-(x**2) / (2 * sigma**2))
    g /= g.sum()
    return [
        g,
        sigma * (-x / sigma**2) * g,
        sigma**2 * (x**2 - sigma**2) / sigma**4 * g,
        sigma**3 * (-(x**3 - 3 * x * sigma**2) / sigma**6) * g,
        sigma**4 * (x**4 - 6 * x**2 * sigma**2 + 3 * sigma**4) / sigma**8 * g,
    ]


@pytest.mark.parametrize(("sigma", "kernel_size"), [(1.5, 11), (1.0, 7), (0.8, 5)])
@pytest.mark.parametrize("count", range(1, 11))
def test_rfnn_kernels_are_the_published_ones_in_their_order(sigma, kernel_size, count):
    g, d1, d2, d3, _ = profiles(sigma, kernel_size // 2)
    # along rows, along columns: g, x, y, xx, yy, xy, xxx, yyy, xxy, xyy
    factors = [(g, g), (g, d1), (d1, g), (g, d2), (d2, g), (d1, d1), (g, d3), (d3, g), (d1, d2), (d2, d1)]
    layer = RFNNConv2d(1, 1, kernel_size, sigma=sigma, num_kernels=count, dtype=torch.float64)
    expected = np.array([np.outer(rows, columns) for rows, columns in factors[:count]])
    np.testing.assert_allclose(layer.kernels, expected, rtol=1e-12, atol=1e-16)
    in_float32 = RFNNConv2d(1, 1, kernel_size, sigma=sigma, num_kernels=count).kernels
    np.testing.assert_allclose(in_float32, expected, rtol=1e-6, atol=1e-9)


def test_six_kernels_make_order_two_and_ten_order_three():
    assert set(ORDERS[:6]) == {(p, q) for p in range(3) for q in range(3) if p + q <= 2}
    assert set(ORDERS) == {(p, q) for p in range(4) for q in range(4) if p + q <= 3}
    assert len(ORDERS) == 10


@given(st.floats(0.5, 3), st.integers(1, 8), st.lists(st.tuples(*[st.integers(0, 4)] * 2), min_size=1, max_size=4))
def test_normalised_kernels(sigma, half_size, orders):
    """By the published polynomials, and by sigma^p (-1/(sqrt 2 sigma))^p H_p(x / (sqrt 2 sigma)) g."""
    published = profiles(sigma, half_size)
    hermite = [
        [
            sigma**p
            * (-1 / (math.sqrt(2) * sigma)) ** p
            * oracle.hermite(p, x / (math.sqrt(2) * sigma))
            * published[0][x + half_size]
            for x in range(-half_size, half_size + 1)
        ]
        for p in range(5)
    ]
    ours = normalised_kernels(torch.tensor(sigma, dtype=torch.float64), tuple(orders), half_size)
    for g in (published, hermite):
        expected = np.array([np.outer(g[q], g[p]) for p, q in orders])
        np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-14)


def mixed(kernels: np.ndarray, weight: Callable[[int, int, int], float], f_out: int, f_in: int) -> np.ndarray:
    """W_j^i = sum_n weight(j, i, n) phi^n."""
    filters = np.zeros((f_out, f_in, *kernels.shape[1:]))
    for j in range(f_out):
        for i in range(f_in):
            for n, kernel in enumerate(kernels):
                filters[j, i] += weight(j, i, n) * kernel
    return filters


def naive_rfnn(layer: RFNNConv2d) -> np.ndarray:
    alpha = layer.alpha.detach().numpy()
    g = profiles(layer.sigma, layer.kernel_size[0] // 2)
    kernels = np.array([np.outer(g[q], g[p]) for p, q in ORDERS[: alpha.shape[2]]])
    return mixed(kernels, lambda j, i, n: alpha[j, i, n], layer.out_channels, layer.in_channels)


def naive_njet(layer: NJetConv2d) -> np.ndarray:
    alpha, sigma = layer.alpha.detach().numpy(), 2 ** layer.log2_sigma.item()
    g = profiles(sigma, math.ceil(2 * sigma + 0.5))
    kernels = np.array([np.outer(g[q], g[p]) for p, q in layer.orders])
    return mixed(kernels, lambda j, i, n: alpha[n, i, j], layer.out_channels, layer.in_channels)


def naive_dau(layer: DAUConv2d) -> np.ndarray:
    """A loop over filters, channels, units and pixels."""
    w, mu, sigma = (t.detach().numpy() for t in (layer.w, layer.mu, layer.sigma))
    f_out, f_in, units = w.shape
    size = layer.kernel_size[0]
    filters = np.zeros((f_out, f_in, size, size))
    for j, i, k in np.ndindex(f_out, f_in, units):
        g = np.empty((size, size))
        for row, column in np.ndindex(size, size):
            x, y = column - (size - 1) / 2, row - (size - 1) / 2
            squared = (x - mu[j, i, k, 0]) ** 2 + (y - mu[j, i, k, 1]) ** 2
            g[row, column] = math.exp(-squared / (2 * sigma[j, i, k] ** 2))
        filters[j, i] += w[j, i, k] * g / g.sum()
    return filters


def naive_filters(layer: SynthesizedConv2d) -> np.ndarray:
    if isinstance(layer, RFNNConv2d):
        return naive_rfnn(layer)
    if isinstance(layer, NJetConv2d):
        return naive_njet(layer)
    assert isinstance(layer, DAUConv2d)
    return naive_dau(layer)


@st.composite
def layers(draw: st.DrawFn) -> tuple[SynthesizedConv2d, dict[str, Any], int]:
    """A layer, the options that every convolution has, and a seed."""
    pair = st.one_of(st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 3)))
    options = {
        "stride": draw(pair),
        "padding": draw(st.one_of(st.sampled_from(["same", "valid"]), st.integers(0, 2))),
        "dilation": draw(st.integers(1, 2)),
        "padding_mode": draw(st.sampled_from(PADDING_MODES)),
        "bias": draw(st.booleans()),
    }
    channels = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    seed = draw(st.integers(0, 2**32 - 1))
    torch.manual_seed(seed)
    init = {"init": draw(st.sampled_from(["variance_preserving", "authors"])), "dtype": torch.float64}
    size = draw(st.sampled_from([3, 5, 7]))
    kind = draw(st.sampled_from(["rfnn", "dau", "njet"]))
    if kind == "rfnn":
        own = {"sigma": draw(st.floats(0.5, 3)), "num_kernels": draw(st.integers(1, 10))}
        layer = RFNNConv2d(*channels, size, **own, **init, **options)
    elif kind == "dau":
        layer = DAUConv2d(*channels, size, units=draw(st.tuples(*[st.integers(1, 3)] * 2)), **init, **options)
    else:
        layer = NJetConv2d(*channels, order=draw(st.integers(0, 4)), **init, **options)
    return perturbed(layer).eval(), options, seed  # in training DAU would first bring back what is now out of bounds


def as_pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


@given(layers())
@settings(max_examples=120)
def test_layers_equal_their_definitions(drawn):
    """Filters by loops; the convolution by loops, with each option handed on; deploy() the same."""
    layer, options, seed = drawn
    torch.manual_seed(seed + 1)
    x = torch.randn(1, layer.in_channels, 8, 9, dtype=torch.float64)
    filters = naive_filters(layer)
    np.testing.assert_allclose(layer.filters().detach(), filters, rtol=1e-9, atol=1e-13)

    stride, dilation = as_pair(options["stride"]), as_pair(options["dilation"])
    size = (filters.shape[2], filters.shape[3])
    extent = dilation[0] * (size[0] - 1) + 1
    if options["padding"] != "same":
        assume(8 + 2 * (0 if options["padding"] == "valid" else options["padding"]) >= extent)
    elif options["padding_mode"] in ("reflect", "circular"):
        assume(extent // 2 < 8)
    planes = [oracle.pad(i, size, stride, options["padding"], dilation, options["padding_mode"]) for i in x[0].numpy()]
    expected = np.array(
        [
            sum(oracle.correlate(plane, filters[j, i], stride, dilation) for i, plane in enumerate(planes))
            + (0 if layer.bias is None else layer.bias[j].item())
            for j in range(layer.out_channels)
        ]
    )
    assert (layer.bias is not None) == options["bias"]
    np.testing.assert_allclose(layer(x)[0].detach(), expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(layer.deploy()(x), layer(x))


# DAU


@pytest.mark.parametrize(
    ("kernel_size", "units", "x", "y"),
    [
        (7, (5, 2), [-2, -1, 0, 1, 2], [-1.25, 1.25]),
        (7, (1, 2), [0], [-1.25, 1.25]),
        (9, (2, 2), [-1.75, 1.75], [-1.75, 1.75]),
        (3, (2, 1), [-0.25, 0.25], [0]),
        (5, 3, [-1, 0, 1], [-1, 0, 1]),
    ],
)
def test_dau_starts_on_the_published_grid(kernel_size, units, x, y):
    layer = DAUConv2d(2, 3, kernel_size, units=units)
    m = kernel_size // 2 - 1
    for values, n in ((x, layer.units[0]), (y, layer.units[1])):
        formula = [i * (2 * m + 1) / n + (2 * m + 1) / (2 * n) - 1 / 2 - m for i in range(n)]
        assert formula == pytest.approx(values)
    expected = torch.tensor([(a, b) for a in x for b in y], dtype=torch.float32)
    torch.testing.assert_close(layer.mu.detach(), expected.expand(3, 2, -1, 2))
    torch.testing.assert_close(layer.sigma, torch.full((3, 2, len(x) * len(y)), 0.5))


@pytest.mark.parametrize("kernel_size", [3, 7])
def test_dau_shifts_are_projected_in_training_only(kernel_size):
    layer = dau(1, 2, kernel_size=kernel_size)
    bound = kernel_size // 2 - 0.01
    far = torch.tensor([[-100.0, 100.0], [0.5, -0.25]])
    inside = torch.tensor([[-bound, bound], [0.5, -0.25]])
    layer.mu.data.copy_(far)
    layer.eval().filters()
    torch.testing.assert_close(layer.mu.detach(), far.expand(2, 1, 2, 2))
    filters = layer.train().filters()
    torch.testing.assert_close(layer.mu.detach(), inside.expand(2, 1, 2, 2))
    assert filters.isfinite().all()
    assert (filters.abs().sum((-2, -1)) > 0).all()


@pytest.mark.parametrize("optimiser", [torch.optim.Adam, torch.optim.SGD])
def test_dau_sigma_stays_above_its_bound_and_nothing_is_nan(optimiser):
    layer = DAUConv2d(1, 2, 7, sigma_min=0.2)
    steps = optimiser(layer.parameters(), lr=10.0)
    x = torch.randn(1, 1, 8, 8)
    smallest = math.inf
    for _ in range(200):
        steps.zero_grad()
        layer(x).sum().backward()
        for parameter in layer.parameters():
            assert parameter.grad is not None
            assert parameter.grad.isfinite().all()
            parameter.grad = torch.randn_like(parameter)
        steps.step()
        smallest = min(smallest, layer.sigma.min().item())
        assert layer.filters().isfinite().all()
    assert smallest == pytest.approx(0.2)
    assert smallest >= torch.tensor(0.2)


# N-Jet


@pytest.mark.parametrize(("s", "size"), [(0.0, 7), (1.0, 11), (-1.0, 5), (-3.0, 3), (0.4, 9), (2.0, 19)])
def test_njet_support_follows_its_scale(s, size):
    layer = njet(2, 3, dtype=torch.float64)
    assert layer.kernel_size == (7, 7)
    assert set(layer.orders) == {(p, q) for p in range(3) for q in range(3) if p + q <= 2}
    with torch.no_grad():
        layer.log2_sigma.fill_(s)
    assert layer.sigma.item() == pytest.approx(2**s)
    x = torch.randn(1, 2, 12, 13, dtype=torch.float64)
    assert layer(x).shape == (1, 3, 12, 13)
    assert layer.kernel_size == (size, size)
    assert f"sigma={2**s:.3f}" in repr(layer)
    plain = layer.deploy()
    assert convolution_in(plain).kernel_size == (size, size)
    torch.testing.assert_close(plain(x), layer(x))
    other = njet(2, 3, dtype=torch.float64)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))


@pytest.mark.parametrize(("s", "bound"), [(99.0, 4.0), (-99.0, 0.25)])
def test_njet_scale_keeps_its_bounds(s, bound):
    """In evaluation sigma is clipped; training brings s itself back, and its gradient is not lost at the bound."""
    layer = njet(1, 2, sigma_min=0.25, sigma_max=4.0, dtype=torch.float64)
    nn.init.constant_(layer.log2_sigma, s)
    filters = layer.eval().filters()
    assert (layer.sigma.item(), layer.log2_sigma.item()) == (bound, s)
    assert torch.equal(layer.train().filters(), filters)
    assert layer.log2_sigma.item() == math.log2(bound)
    layer.filters().square().sum().backward()
    assert layer.log2_sigma.grad is not None
    assert layer.log2_sigma.grad.abs() > 0


@pytest.mark.parametrize(("x", "expected"), [(-3, (-2, 0)), (-2, (-2, 1)), (0.5, (0.5, 1)), (2, (2, 1)), (3, (2, 0))])
def test_a_clipped_parameter_can_leave_its_bound(x, expected):
    x = torch.tensor(float(x), requires_grad=True)
    value = clipped(x, -2.0, 2.0)
    (slope,) = torch.autograd.grad(value, x)
    assert (value.item(), slope.item()) == expected


def test_njet_passes_nan_on():
    """As any layer does: training that diverges is seen in its loss."""
    layer = njet(1, 2)
    nn.init.constant_(layer.log2_sigma, math.nan)
    assert layer(torch.ones(1, 1, 5, 5)).isnan().all()


@pytest.mark.parametrize("shift", [-1e3, 40.0, 1e6])
def test_dau_units_far_outside_stay_finite(shift):
    """A step too large, before training brings them back: a Gaussian that is zero at every sample still sums to one."""
    layer = DAUConv2d(1, 2, 7, dtype=torch.float64).eval()
    nn.init.ones_(layer.w)
    nn.init.constant_(layer.mu, shift)
    filters = layer.filters()
    torch.testing.assert_close(filters.sum((-2, -1)), torch.full((2, 1), 10.0, dtype=torch.float64))
    corner = -1 if shift > 0 else 0
    torch.testing.assert_close(filters[..., corner, corner], torch.full((2, 1), 10.0, dtype=torch.float64))


def test_rfnn_kernels_are_computed_in_float64():
    """And rounded once, also where the layer comes from the meta device."""
    exact = rfnn(1, 2, dtype=torch.float64).kernels
    for dtype in (torch.float32, torch.bfloat16):
        assert torch.equal(rfnn(1, 2, dtype=dtype).kernels, exact.to(dtype))
    empty = rfnn(1, 2, device="meta").to_empty(device="cpu").double()
    empty.reset_parameters()
    assert torch.equal(empty.kernels, exact)


@pytest.mark.parametrize(
    ("make", "options", "other", "name"),
    [
        (DAUConv2d, {"kernel_size": 7}, {"kernel_size": 9}, "kernel_size"),
        (DAUConv2d, {"kernel_size": 7}, {"kernel_size": 7, "sigma_min": 0.2}, "sigma_min"),
        (RFNNConv2d, {"kernel_size": 7, "sigma": 1}, {"kernel_size": 7, "sigma": 1.5}, "sigma"),
        (TranslationInsensitiveConv2d, {"stride": 1}, {"stride": 2}, "kernel_size"),
        (NJetConv2d, {}, {"sigma_max": 8.0}, "sigma_max"),
        (SemiStructuredConv2d, {"kernel_size": 3}, {"kernel_size": 3, "sigma_min": 0.2}, "sigma_min"),
        (ScaleSpaceConv2d, {"sigma": 1.0}, {"sigma": 2.0}, "sigma"),
    ],
    ids=str,
)
def test_state_dicts_of_other_layers_are_refused(make, options, other, name):
    ours, theirs = make(2, 4, **options), make(2, 4, **other)
    message = f"_extra_state: {name} must be {json.dumps(ours.meaning()[name])}, that of the layer, got "
    with pytest.raises(RuntimeError, match=re.escape(message + json.dumps(theirs.meaning()[name]))):
        ours.load_state_dict(theirs.state_dict())


# Parameters, gradients, initialisation


@pytest.mark.parametrize(("f_in", "f_out"), [(1, 4), (3, 5)])
def test_parameter_counts(f_in, f_out):
    for bias in (False, True):
        for layer, expected in (
            (RFNNConv2d(f_in, f_out, 11, sigma=1.5, bias=bias), 10 * f_in * f_out),
            (RFNNConv2d(f_in, f_out, 7, sigma=1.0, num_kernels=6, bias=bias), 6 * f_in * f_out),
            (DAUConv2d(f_in, f_out, 7, bias=bias), 4 * 10 * f_in * f_out),
            (DAUConv2d(f_in, f_out, 7, units=(3, 1), bias=bias), 4 * 3 * f_in * f_out),
            (NJetConv2d(f_in, f_out, bias=bias), 10 * f_in * f_out + 1),
            (NJetConv2d(f_in, f_out, order=1, bias=bias), 3 * f_in * f_out + 1),
        ):
            count = sum(p.numel() for p in layer.parameters() if p.requires_grad)
            assert count == expected + bias * f_out
            assert f"parameters={count} (" in repr(layer)


def test_the_authors_initialisations():
    alpha = RFNNConv2d(40, 40, 7, sigma=1.0, init="authors").alpha
    assert -1 <= alpha.min() < -0.99
    assert 0.99 < alpha.max() < 1
    assert alpha.std().item() == pytest.approx(1 / math.sqrt(3), rel=0.03)
    w = DAUConv2d(40, 40, 7, init="authors").w
    assert w.std().item() == pytest.approx(0.1, rel=0.03)
    assert abs(w.mean()) < 0.005
    layer = NJetConv2d(40, 40, init="authors")
    assert layer.alpha.std().item() == pytest.approx(1, rel=0.03)
    assert abs(layer.alpha.mean()) < 0.05
    assert layer.sigma.item() == 1


@every_layer
@pytest.mark.parametrize("gain", [1.0, None])
def test_second_moment_is_kept(make, gain):
    """For white input E[J^2] = |W|^2 E[I^2], which has to be g^2 E[I^2], with He's gain if none is given."""
    options = {} if gain is None else {"gain": gain}
    energies = []
    for seed in range(40):
        torch.manual_seed(seed)
        energies.append(make(12, 12, **options).filters().detach().square().sum((1, 2, 3)).mean())
    assert float(torch.stack(energies).mean()) == pytest.approx(2 if gain is None else gain**2, rel=0.06)


# Arguments

POSITIVE = "must be a positive number, got"
NJET_BOUNDS = "sigma_min must be below 1 pixel and sigma_max above, got"


@pytest.mark.parametrize(
    ("make", "arguments", "error", "message"),
    [
        (rfnn, {"kernel_size": 6}, ValueError, "kernel_size must be odd, got 6"),
        (rfnn, {"kernel_size": 0}, ValueError, "kernel_size must be an integer >= 1, got 0"),
        (rfnn, {"kernel_size": (3, 3)}, TypeError, "kernel_size must be an integer >= 1, got (3, 3)"),
        (rfnn, {"sigma": 0}, ValueError, f"sigma {POSITIVE} 0"),
        (rfnn, {"sigma": -1.5}, ValueError, f"sigma {POSITIVE} -1.5"),
        (rfnn, {"sigma": math.nan}, ValueError, f"sigma {POSITIVE} nan"),
        (rfnn, {"sigma": math.inf}, ValueError, f"sigma {POSITIVE} inf"),
        (rfnn, {"sigma": "1"}, TypeError, f"sigma {POSITIVE} '1'"),
        (rfnn, {"num_kernels": 11}, ValueError, "num_kernels must be 1 to 10, got 11"),
        (rfnn, {"num_kernels": 0}, ValueError, "num_kernels must be an integer >= 1, got 0"),
        (rfnn, {"num_kernels": 6.0}, TypeError, "num_kernels must be an integer >= 1, got 6.0"),
        (dau, {"kernel_size": 4}, ValueError, "kernel_size must be odd, got 4"),
        (dau, {"kernel_size": 1}, ValueError, "kernel_size must be 3 or more, got 1"),
        (dau, {"units": 0}, ValueError, "units must be an integer >= 1 or a pair of them, got 0"),
        (dau, {"units": (5, 2, 1)}, TypeError, "units must be an integer >= 1 or a pair of them, got (5, 2, 1)"),
        (dau, {"sigma_min": 0.5}, ValueError, "sigma_min must be between 0 and 0.5 pixels, got 0.5"),
        (dau, {"sigma_min": 0}, ValueError, f"sigma_min {POSITIVE} 0"),
        (dau, {"sigma_min": None}, TypeError, f"sigma_min {POSITIVE} None"),
        (njet, {"order": -1}, ValueError, "order must be an integer >= 0 or a list of pairs (p, q), got -1"),
        (njet, {"sigma_min": 0}, ValueError, f"sigma_min {POSITIVE} 0"),
        (njet, {"sigma_max": math.inf}, ValueError, f"sigma_max {POSITIVE} inf"),
        (njet, {"sigma_min": 1}, ValueError, f"{NJET_BOUNDS} 1 and 16.0"),
        (njet, {"sigma_max": 0.5}, ValueError, f"{NJET_BOUNDS} 0.1 and 0.5"),
        *(
            (make, *case)
            for make in (rfnn, dau, njet, semi_structured, insensitive)
            for case in (
                ({"f_in": 0}, ValueError, "in_channels must be an integer >= 1, got 0"),
                ({"f_out": 2.0}, TypeError, "out_channels must be an integer >= 1, got 2.0"),
                ({"stride": 0}, ValueError, "stride must be an integer >= 1 or a pair of them, got 0"),
                ({"padding": "full"}, ValueError, "padding must be one of 'same', 'valid', got 'full'"),
                ({"dilation": -1}, ValueError, "dilation must be an integer >= 1 or a pair of them, got -1"),
                ({"init": "he"}, ValueError, "init must be one of 'variance_preserving', 'authors', got 'he'"),
                ({"gain": 0}, ValueError, f"gain {POSITIVE} 0"),
                ({"gain": "relu"}, TypeError, f"gain {POSITIVE} 'relu'"),
            )
        ),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_wrong_arguments(make, arguments, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        make(**{"f_in": 2, "f_out": 3, **arguments})


@every_layer
def test_unknown_keywords_are_not_swallowed(make):
    with pytest.raises(TypeError, match="'transposed'"):
        make(2, 3, transposed=True)
