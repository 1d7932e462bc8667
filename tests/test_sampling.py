"""The sampling report, against sums and integrals in loops, and the warnings of check_derivatives."""

import copy
import math
import re
import warnings
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gdlayer import GaussianDerivativeConv2d
from gdlayer.basis import jet_orders
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
    """There the moment of its own order is off by an eighth only, as the book notes; that of a ramp is not."""
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
