"""What stands for a kernel at a pixel: averages and discrete analogues, against pyscsp, scipy and each other."""

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ive, ndtr
from torch.autograd import gradcheck, gradgradcheck

from gdlayer import GaussianDerivativeConv2d, deploy, gaussian_derivative_kernels, replace_conv2d
from gdlayer.basis import SAMPLINGS, jet_orders
from gdlayer.geometry import GEOMETRY

GOLDEN = json.loads(Path(__file__).with_name("golden").joinpath("pyscsp_kernels.json").read_text("utf-8"))
NEW = ("integrated", "discrete", "hybrid")
WORST = {"point": 0.346, "integrated": 0.1, "discrete": 0.0, "hybrid": 0.028}


def shared(sampling: str) -> dict[str, Any]:
    """The options that a layer of this sampling must have."""
    return {"sampling": sampling, "shared": GEOMETRY if sampling == "hybrid" else ()}


def kernel(order, sigma, mu=(0.0, 0.0), theta=0.0, size: Any = (7, 7), **options: Any) -> np.ndarray:
    s, m, t = (torch.tensor([value], dtype=torch.float64) for value in (sigma, mu, theta))
    return gaussian_derivative_kernels(s, m, t, [order], size, **options)[0].numpy()


def average(p: int, x: np.ndarray, sigma: float) -> np.ndarray:
    """G_p over the pixels at x: differences of G_(p-1), and of its integral where p = 0."""

    def integral(t: float) -> float:
        return float(ndtr(t / sigma)) if p == 0 else oracle.gaussian_derivative(p - 1, t, sigma)

    return np.array([integral(t + 0.5) - integral(t - 0.5) for t in x])


def bessel(p: int, radius: int, sigma: float) -> np.ndarray:
    """Central differences of exp(-sigma^2) I_n(sigma^2), n = -radius, ..., radius."""
    far = radius + p
    line = ive(np.abs(np.arange(-far, far + 1)), sigma**2)
    for mask in [[0.5, 0, -0.5]] * (p % 2) + [[1, -2, 1]] * (p // 2):
        line = np.convolve(line, mask, "same")
    return line[p : len(line) - p]


def geometry(n: int, seed: int = 0) -> list[torch.Tensor]:
    torch.manual_seed(seed)
    sigma, mu, theta = 0.4 + torch.rand(n, 2), 2 * torch.rand(n, 2) - 1, 6 * torch.rand(n) - 3
    return [t.double().requires_grad_() for t in (sigma, mu, theta)]


@pytest.mark.parametrize("case", GOLDEN["discrete"], ids=lambda case: f"sigma {case['sigma']}, theta {case['theta']}")
def test_discrete_kernels_are_those_of_pyscsp(case):
    size = GOLDEN["size"], GOLDEN["size"]
    for order, expected in zip(GOLDEN["orders"], case["kernels"], strict=True):
        ours = kernel(
            tuple(order), [case["sigma"]] * 2, theta=case["theta"], size=size, sampling="discrete", normalise=1
        )
        np.testing.assert_allclose(ours.flatten(), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("case", GOLDEN["integrated"], ids=lambda case: f"sigma {case['sigma']}")
def test_integrated_gaussians_are_those_of_pyscsp(case):
    ours = kernel((0, 0), [case["sigma"]] * 2, size=(GOLDEN["size"],) * 2, sampling="integrated")
    np.testing.assert_allclose(ours, np.outer(case["line"], case["line"]), rtol=0, atol=1e-7)


@given(
    order=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    sigma=st.tuples(st.floats(0.5, 3), st.floats(0.5, 3)),
    mu=st.tuples(st.floats(-2, 2), st.floats(-2, 2)),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
)
@settings(max_examples=20)
def test_integrated_kernels_are_differences_of_erf_and_lower_derivatives(order, sigma, mu, size):
    y, x = (np.arange(k) - (k - 1) / 2 for k in size)
    expected = np.outer(average(order[1], y - mu[1], sigma[1]), average(order[0], x - mu[0], sigma[0]))
    peak = math.prod(np.abs(average(d, np.arange(-9, 9) / 8, s)).max() for d, s in zip(order, sigma, strict=True))
    ours = kernel(order, sigma, mu, size=size, sampling="integrated")
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6 * peak)


@given(
    order=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    sigma=st.tuples(st.floats(0.05, 2.5), st.floats(0.05, 2.5)),
    shift=st.tuples(st.integers(-1, 1), st.integers(-1, 1)),
)
@settings(max_examples=20)
def test_discrete_kernels_are_differences_of_bessel_functions(order, sigma, shift):
    """A shift by whole pixels moves them."""
    wide = np.outer(bessel(order[1], 4, sigma[1]), bessel(order[0], 4, sigma[0]))
    expected = wide[1 - shift[1] : 8 - shift[1], 1 - shift[0] : 8 - shift[0]]
    ours = kernel(order, sigma, shift, sampling="discrete")
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6 * np.abs(wide).max())


def test_rotated_averages_are_sums_over_fine_points():
    sigma, mu, theta, fine, size = (0.7, 1.3), (0.4, -0.8), 0.9, 15, (4, 3)
    for order in [(0, 0), (2, 1), (0, 3)]:
        points = oracle.kernel(order, np.multiply(sigma, fine), np.multiply(mu, fine), theta, (60, 45))
        scale = fine ** (2 + sum(order))  # from lengths in pixels to lengths in points
        expected = points.reshape(size[0], fine, size[1], fine).mean((1, 3)) * scale
        ours = kernel(order, sigma, mu, theta, size, sampling="integrated")
        np.testing.assert_allclose(ours, expected, rtol=0, atol=5e-3 * np.abs(expected).max())


@pytest.mark.parametrize("sampling", NEW)
def test_half_a_turn(sampling):
    for p, q in jet_orders(3):
        turned = kernel((p, q), (0.5, 1.2), (-0.3, 0.6), 0.7 + math.pi, sampling=sampling)
        here = kernel((p, q), (0.5, 1.2), (0.3, -0.6), 0.7, sampling=sampling)
        np.testing.assert_allclose(turned, (-1) ** (p + q) * here, atol=1e-10)


@pytest.mark.parametrize("sampling", ["integrated", "discrete"])
@pytest.mark.parametrize("theta", [0.0, 0.7])
def test_answers_to_constants_are_right_at_small_scales(sampling, theta):
    for order in jet_orders(2):
        phi = kernel(order, (0.4, 0.9), theta=theta, size=(15, 15), sampling=sampling)
        assert phi.sum() == pytest.approx(float(order == (0, 0)), abs=1e-4)


@pytest.mark.parametrize("theta", [0.0, 0.7])
def test_discrete_kernels_have_the_covariance_of_the_continuous_ones(theta):
    sigma, n = (0.5, 0.9), np.arange(-7, 8)
    phi = kernel((0, 0), sigma, theta=theta, size=(15, 15), sampling="discrete")
    xx, xy, yy = ((phi * product).sum() for product in (n * n, n * n[:, None], (n * n)[:, None]))
    turn = np.array([[math.cos(theta), math.sin(theta)], [-math.sin(theta), math.cos(theta)]])
    np.testing.assert_allclose([[xx, xy], [xy, yy]], turn.T @ np.diag(np.square(sigma)) @ turn, atol=1e-5)


@given(
    order=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    theta=st.floats(-4, 4),
    sigma=st.tuples(st.floats(0.1, 1), st.floats(0.1, 1)),
)
@settings(max_examples=15)
def test_discrete_kernels_differentiate_polynomials_at_every_scale(order, theta, sigma):
    """Of all monomials up to the order, in the kernel's frame, the own one alone has an answer: (-1)^(p + q)."""
    p, q = order
    phi = kernel(order, sigma, theta=theta, size=(17, 17), sampling="discrete")
    x = np.arange(-8, 9)
    u, v = x * math.cos(theta) + x[:, None] * math.sin(theta), x[:, None] * math.cos(theta) - x * math.sin(theta)
    for a in range(p + q + 1):
        for b in range(p + q + 1 - a):
            answer = (phi * (-u) ** a * (-v) ** b).sum() / math.factorial(a) / math.factorial(b)
            assert answer == pytest.approx(float((a, b) == order), abs=1e-3), (a, b)


@pytest.mark.parametrize("sampling", NEW)
def test_wide_kernels_come_close_to_points(sampling):
    errors = []
    for sigma in (1.5, 2.5, 4.0):
        point, other = (
            kernel((2, 1), (sigma,) * 2, (0.3, 0.4), 0.5, (33, 33), sampling=s) for s in ("point", sampling)
        )
        errors.append(np.abs(other - point).max() / np.abs(point).max())
    assert 0.4 > errors[0] > 2 * errors[1] > 3 * errors[2]  # as 1 / sigma^2


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("order", [2, [(3, 1), (0, 3)]])
def test_gradcheck(sampling, order):
    orders = jet_orders(order)

    def kernels(*parameters: torch.Tensor) -> torch.Tensor:
        return gaussian_derivative_kernels(*parameters, orders, (5, 6), sampling=sampling, normalise=0.7)  # type: ignore[misc]

    assert gradcheck(kernels, geometry(len(orders)))
    if len(orders) == 2:  # the second derivatives of six would take long
        assert gradgradcheck(kernels, geometry(2))


@pytest.mark.parametrize("sampling", NEW)
def test_float32(sampling):
    orders = jet_orders(3)
    exact = geometry(len(orders))
    kernels = gaussian_derivative_kernels(*exact, orders, (7, 7), sampling=sampling)  # type: ignore[misc]
    single = gaussian_derivative_kernels(*(t.float() for t in exact), orders, (7, 7), sampling=sampling)  # type: ignore[misc]
    assert single.dtype == torch.float32
    error = (single - kernels).abs().amax((1, 2)) / kernels.abs().amax((1, 2))
    assert error.max() < 2e-5


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_scale_normalised_derivatives(sampling):
    sigma, mu, theta = (t.detach() for t in geometry(10))
    plain, normalised = (
        gaussian_derivative_kernels(sigma, mu, theta, jet_orders(3), (5, 5), sampling=sampling, normalise=gamma)
        for gamma in (0, 0.5)
    )
    for n, (p, q) in enumerate(jet_orders(3)):
        factor = float(sigma[n, 0]) ** (0.5 * p) * float(sigma[n, 1]) ** (0.5 * q)
        torch.testing.assert_close(normalised[n], factor * plain[n])


def test_normalised_initialisation_keeps_the_second_moment():
    torch.manual_seed(0)
    layer = GaussianDerivativeConv2d(64, 256, 7, bases=256, normalise=1.0, sigma_min=1.0, gain=1.0)
    energy = layer.filters().detach().square().sum((1, 2, 3)).mean()
    assert float(energy) == pytest.approx(1, abs=0.05)
    plain = GaussianDerivativeConv2d(64, 256, 7, bases=256, sigma_min=1.0, gain=1.0)
    assert plain.omega.std() > 1.5 * layer.omega.std()  # normalised kernels have larger norms


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_report_judges_the_kernels_without_their_factor(sampling):
    layer = GaussianDerivativeConv2d(1, 1, 9, order=2, normalise=1.0, dtype=torch.float64, **shared(sampling))
    layer.sigma = 0.51
    with torch.no_grad():
        layer.mu.zero_()
        layer.theta.zero_()
    worst = float(layer.check_derivatives(tolerance=1.0).sampling.max())
    assert WORST[sampling] == pytest.approx(worst, abs=0.01)


@pytest.mark.parametrize("separated", [False, True])
@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_layers_carry_the_options(sampling, separated):
    options = {"order": 2, "bases": 2, "separated": separated, "normalise": 0.5, **shared(sampling)}
    layer = GaussianDerivativeConv2d(2, 4, 5, **options)
    x = torch.randn(2, 2, 9, 9)
    torch.testing.assert_close(
        layer.kernels(),
        gaussian_derivative_kernels(*layer.geometry(), layer.orders, (5, 5), sampling=sampling, normalise=0.5),
    )
    again = GaussianDerivativeConv2d.from_config(json.loads(json.dumps(layer.config())))
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again(x), layer(x))
    torch.testing.assert_close(deploy(torch.nn.Sequential(layer))(x), layer(x), rtol=1e-4, atol=1e-5)
    assert "normalise=0.5" in repr(layer)
    assert (f"sampling={sampling!r}" in repr(layer)) == (sampling != "point")
    point = GaussianDerivativeConv2d(2, 4, 5, **(options | {"sampling": "point", "normalise": 0.0}))
    shapes, others = ({name: p.shape for name, p in it.named_parameters()} for it in (point, layer))
    assert shapes == others


def test_replace_passes_the_options_on():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 5, padding=2))
    replaced = replace_conv2d(net, sampling="discrete", normalise=1)
    layers = [m for m in net.modules() if isinstance(m, GaussianDerivativeConv2d)]
    assert replaced
    assert [(layer.sampling, layer.normalise) for layer in layers] == [("discrete", 1)]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"sampling": "bessel"},
            ValueError,
            "sampling must be one of 'point', 'integrated', 'discrete', 'hybrid', got 'bessel'",
        ),
        ({"normalise": -1}, ValueError, "normalise must be a number >= 0, got -1"),
        ({"normalise": math.nan}, ValueError, "normalise must be a number >= 0, got nan"),
        ({"normalise": True}, TypeError, "normalise must be a number >= 0, got True"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        GaussianDerivativeConv2d(1, 1, 3, **options)
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        gaussian_derivative_kernels(*(t.detach() for t in geometry(1)), [(0, 0)], (3, 3), **options)  # type: ignore[misc]
