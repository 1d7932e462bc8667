"""Fits of filters, against NumPy's least squares and finite differences."""

import copy
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gdlayer import GaussianDerivativeConv2d, fit_filters


def layer(*args: Any, dtype: torch.dtype = torch.float64, **kwargs: Any) -> GaussianDerivativeConv2d:
    return GaussianDerivativeConv2d(*args, dtype=dtype, **kwargs)


def same_geometry(source: GaussianDerivativeConv2d) -> GaussianDerivativeConv2d:
    """A layer with the same kernels and other random weights."""
    other = copy.deepcopy(source)
    other.reset_parameters()
    with torch.no_grad():
        for name in ("raw_sigma", "mu", "theta"):
            getattr(other, name).copy_(getattr(source, name))
    return other


@pytest.mark.parametrize(("f_in", "f_out", "bases"), [(3, 8, 2), (1, 4, 4), (5, 6, 1)])
def test_filters_in_the_span_are_recovered(separated, f_in, f_out, bases):
    source = layer(f_in, f_out, 7, order=2, bases=bases, separated=separated)
    fitted = same_geometry(source)
    assert not torch.allclose(fitted.filters(), source.filters(), rtol=0.1)
    assert fit_filters(fitted, source.filters()) < 1e-6
    torch.testing.assert_close(fitted.filters(), source.filters(), rtol=0, atol=1e-6)
    if not separated:
        torch.testing.assert_close(fitted.omega, source.omega, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("order", "kernel_size"), [(1, 3), (2, (4, 5)), (3, 7)])
def test_full_fit_equals_least_squares_of_numpy(order, kernel_size):
    fitted = layer(3, 8, kernel_size, order=order, bases=4)
    filters = torch.randn_like(fitted.filters())
    residual = fit_filters(fitted, filters, rcond=1e-12)
    squares = 0.0
    for b, kernels in enumerate(fitted.kernels().detach().numpy()):
        for j in range(2):
            for i in range(3):
                target = filters[2 * b + j, i].numpy().ravel()
                basis = kernels.reshape(len(kernels), -1).T
                expected, *_ = np.linalg.lstsq(basis, target, rcond=None)
                np.testing.assert_allclose(fitted.omega[b, j, i].detach(), expected, rtol=1e-6, atol=1e-8)
                squares += np.square(target - basis @ expected).sum()
    assert residual == pytest.approx(squares**0.5 / float(filters.norm()), rel=1e-9)
    assert 0.1 < residual < 1


def test_residual_is_that_of_the_layer(separated):
    fitted = layer(3, 4, 5, bases=2, separated=separated, dtype=torch.float32)
    filters = torch.randn(4, 3, 5, 5)
    residual = fit_filters(fitted, filters, steps=5)
    assert residual == pytest.approx(float((fitted.filters().detach() - filters).norm() / filters.norm()), rel=1e-5)


def test_separated_fit_is_stationary_and_above_the_full_one():
    separated = layer(3, 8, 5, bases=2, separated=True)
    full = layer(3, 8, 5, bases=2)
    with torch.no_grad():
        for name in ("raw_sigma", "mu", "theta"):
            getattr(full, name).copy_(getattr(separated, name))
    filters = torch.randn_like(full.filters())
    above, below = fit_filters(separated, filters), fit_filters(full, filters)
    assert below < above < 1
    loss = (separated.filters() - filters).square().sum() / filters.square().sum()
    lam_gradient, beta_gradient = torch.autograd.grad(loss, (separated.lam, separated.beta))
    scale = separated.lam.norm() + separated.beta.norm()
    assert max(lam_gradient.norm(), beta_gradient.norm()) * scale < 0.05


def test_weights_before_do_not_matter(separated):
    first = layer(3, 4, 5, separated=separated)
    second = same_geometry(first)
    with torch.no_grad():
        for weights in (second.beta, second.lam) if separated else (second.omega,):
            weights.zero_()
    filters = torch.randn(4, 3, 5, 5)
    assert fit_filters(first, filters) == pytest.approx(fit_filters(second, filters), rel=1e-12)
    torch.testing.assert_close(first.filters(), second.filters())


def test_geometry_lowers_the_residual(separated):
    fitted = layer(3, 8, 7, bases=4, separated=separated)
    before = copy.deepcopy(fitted.state_dict())
    filters = torch.randn(8, 3, 3, 3)
    fixed = fit_filters(fitted, filters)
    for name in ("raw_sigma", "mu", "theta"):
        assert torch.equal(fitted.state_dict()[name], before[name])
    few, many = (fit_filters(copy.deepcopy(fitted), filters, steps=steps) for steps in (10, 60))
    assert many < few < fixed
    assert many < 0.6 * fixed


@pytest.mark.parametrize("trainable", [("mu",), ("sigma", "theta")])
def test_only_trainable_geometry_moves(trainable):
    fitted = layer(1, 4, 5, trainable=trainable)
    before = copy.deepcopy(fitted.state_dict())
    fit_filters(fitted, torch.randn(4, 1, 5, 5), steps=3)
    for name in ("sigma", "mu", "theta"):
        key = "raw_sigma" if name == "sigma" else name
        assert torch.equal(fitted.state_dict()[key], before[key]) == (name not in trainable)
    assert fitted.trainable == trainable
    assert [p.requires_grad for p in (fitted.raw_sigma, fitted.mu, fitted.theta)] == [
        name in trainable for name in ("sigma", "mu", "theta")
    ]


def test_the_best_step_is_kept(separated):
    """Even with a huge learning rate, which moves kernels off the grid."""
    fitted = layer(2, 4, 3, bases=2, order=1, separated=separated)
    filters = torch.randn(4, 2, 3, 3)
    fixed = fit_filters(copy.deepcopy(fitted), filters)
    assert fit_filters(fitted, filters, steps=20, learning_rate=30) <= fixed * (1 + 1e-6)


def test_gradient_at_constant_weights_is_that_of_the_projection():
    """The gradient used in variable projection, against finite differences of the residual."""
    fitted = layer(1, 2, 5, order=1, trainable=("mu",))
    filters = torch.randn(2, 1, 5, 5, dtype=torch.float64)

    def squared_residual(mu: torch.Tensor) -> float:
        moved = copy.deepcopy(fitted)
        moved.load_state_dict({**moved.state_dict(), "mu": mu})
        return fit_filters(moved, filters) ** 2

    mu, h = fitted.mu.detach().clone(), 1e-5
    numerical = torch.zeros_like(mu)
    for index in np.ndindex(*mu.shape):
        shift = torch.zeros_like(mu)
        shift[index] = h
        numerical[index] = (squared_residual(mu + shift) - squared_residual(mu - shift)) / (2 * h)
    fit_filters(fitted, filters)
    loss = (fitted.filters() - filters).square().sum() / filters.square().sum()
    (analytical,) = torch.autograd.grad(loss, fitted.mu)
    torch.testing.assert_close(analytical, numerical, rtol=1e-5, atol=1e-8)


def test_more_orders_and_more_bases_lower_the_residual():
    filters = torch.randn(8, 3, 5, 5)
    kernels = layer(3, 8, 5, order=4, bases=1)
    residuals = []
    for order in range(5):
        fitted = layer(3, 8, 5, order=order)
        n = len(fitted.orders)
        with torch.no_grad():  # the first n of the same kernels
            for name in ("raw_sigma", "mu", "theta"):
                getattr(fitted, name).copy_(getattr(kernels, name)[:, :n])
        residuals.append(fit_filters(fitted, filters))
    assert residuals == sorted(residuals, reverse=True)
    assert residuals[-1] < residuals[0] - 0.1
    by_bases = [fit_filters(layer(3, 8, 5, order=1, bases=bases), filters, steps=60) for bases in (1, 8)]
    assert by_bases[1] < by_bases[0] - 0.02


@pytest.mark.parametrize("bases", [1, 4])
def test_ten_kernels_span_nine_taps(bases):
    fitted = layer(3, 8, 3, order=3, bases=bases)
    filters = torch.randn(8, 3, 3, 3)
    assert fit_filters(fitted, filters) < 1e-6
    assert fit_filters(layer(3, 8, 3, order=2, bases=bases), filters) > 0.1  # six do not


def test_bases_take_consecutive_filters():
    fitted = layer(2, 6, 5, order=1, bases=3)
    filters = torch.randn(6, 2, 5, 5)
    fit_filters(fitted, filters)
    for b in range(3):
        alone = layer(2, 2, 5, order=1)
        with torch.no_grad():
            for name in ("raw_sigma", "mu", "theta"):
                getattr(alone, name).copy_(getattr(fitted, name)[b : b + 1])
        fit_filters(alone, filters[2 * b : 2 * b + 2])
        torch.testing.assert_close(alone.omega[0], fitted.omega[b])


@pytest.mark.parametrize(("small", "large"), [((3, 3), (7, 7)), ((1, 3), (5, 5)), ((2, 4), (4, 4))])
def test_smaller_filters_stand_in_the_centre(small, large):
    filters = torch.randn(4, 3, *small)
    framed = torch.zeros(4, 3, *large)
    top, left = (large[0] - small[0]) // 2, (large[1] - small[1]) // 2
    framed[:, :, top : top + small[0], left : left + small[1]] = filters
    first = layer(3, 4, large)
    second = copy.deepcopy(first)
    assert fit_filters(first, filters) == fit_filters(second, framed)
    torch.testing.assert_close(first.omega, second.omega, rtol=0, atol=0)


def test_layer_replaces_a_convolution():
    conv = nn.Conv2d(3, 8, 3, padding=1)
    fitted = layer(3, 8, 3, bases=4, dtype=torch.float32)
    assert conv.bias is not None
    assert fit_filters(fitted, conv.weight, bias=conv.bias) < 1e-5
    x = torch.randn(2, 3, 9, 10)
    torch.testing.assert_close(fitted(x), conv(x), rtol=1e-3, atol=1e-4)
    fit_filters(fitted, conv.weight)  # does not change the bias
    assert torch.equal(fitted.state_dict()["bias"], conv.bias)


def test_without_gradients_and_without_randomness():
    fitted = layer(3, 4, 5)
    twin = copy.deepcopy(fitted)
    filters = torch.randn(4, 3, 5, 5, requires_grad=True)
    state = torch.get_rng_state()
    with torch.no_grad():
        residual = fit_filters(fitted, filters, steps=5)
    assert torch.equal(torch.get_rng_state(), state)
    assert fit_filters(twin, filters, steps=5) == residual
    assert all(torch.equal(a, b) for a, b in zip(fitted.parameters(), twin.parameters(), strict=True))
    assert filters.grad is None
    assert all(parameter.grad is None for parameter in fitted.parameters())


def test_dtype_and_device_stay(device):
    fitted = GaussianDerivativeConv2d(3, 4, 3, device=device, dtype=torch.bfloat16)
    assert fit_filters(fitted, torch.randn(4, 3, 3, 3, device=device)) < 0.2
    assert {(p.dtype, p.device.type) for p in fitted.parameters()} == {(torch.bfloat16, device)}


def test_filters_of_zero(separated):
    fitted = layer(2, 4, 3, separated=separated)
    assert fit_filters(fitted, torch.zeros(4, 2, 3, 3), steps=2) == 0
    assert not fitted.filters().any()


def test_scale_of_the_filters_does_not_matter():
    filters = torch.randn(4, 2, 3, 3, dtype=torch.float64)
    fitted = layer(2, 4, 5, order=2)
    residuals = [fit_filters(copy.deepcopy(fitted), factor * filters, steps=20) for factor in (1e-9, 1, 1e6)]
    assert residuals == pytest.approx([residuals[0]] * 3, rel=1e-3)


def test_kernels_off_the_grid_get_no_huge_weights():
    two = layer(1, 1, 3, order=[(0, 0), (1, 0)])
    with torch.no_grad():
        two.mu[:, 0], two.mu[:, 1] = 0, -8
    two.sigma = 0.6
    fit_filters(two, torch.randn(1, 1, 3, 3))
    assert two.omega.abs().max() < 10


# Arguments


@pytest.mark.parametrize(
    "shape",
    [
        (4, 2, 5),
        (4, 3, 5, 5),
        (8, 2, 5, 5),
        (4, 2, 7, 7),
        (4, 2, 4, 4),
        (4, 2, 5, 2),
        (4, 2, 5, 7),
        (5, 5),
        (1, 4, 2, 5, 5),
    ],
)
def test_wrong_shapes(shape):
    fitted = layer(2, 4, 5)
    message = f"filters must have shape (4, 2, 5, 5), or less by even numbers in the last two, got {shape}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fit_filters(fitted, torch.zeros(shape))


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        ({}, {"bias": torch.zeros(3)}, "bias must be of shape (4,), got shape (3,)"),
        ({"bias": False}, {"bias": torch.zeros(4)}, "bias must be None, as the layer has none, got shape (4,)"),
        ({}, {"steps": -1}, "steps must be an integer >= 0, got -1"),
        ({"trainable": ()}, {"steps": 9}, "steps must be 0, as no geometry of the layer trains, got 9"),
        ({}, {"rcond": 0}, "rcond must be a positive number, got 0"),
        ({}, {"learning_rate": -1}, "learning_rate must be a positive number, got -1"),
        ({}, {"filters": torch.full((4, 2, 3, 3), torch.nan)}, "filters must be finite"),
    ],
    ids=str,
)
def test_wrong_arguments(options, arguments, message):
    fitted = layer(2, 4, 5, **options)
    before = copy.deepcopy(fitted.state_dict())
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        fit_filters(fitted, **{"filters": torch.ones(4, 2, 3, 3), **arguments})
    assert all(torch.equal(value, before[name]) for name, value in fitted.state_dict().items())


def test_complex_filters_are_refused():
    with pytest.raises(TypeError, match=r"^filters must be real, got torch\.complex64$"):
        fit_filters(layer(2, 4, 3), torch.ones(4, 2, 3, 3, dtype=torch.complex64))


@pytest.mark.parametrize(
    ("spoilt", "arguments", "broken"),
    [("mu", {}, 1), ("raw_sigma", {}, 1), (None, {"steps": 3, "learning_rate": 1e308}, 10)],
)
def test_kernels_that_are_not_finite_are_refused(spoilt, arguments, broken, separated):
    """Before the fit, and where its own steps have spoilt them."""
    fitted = layer(2, 4, 3, separated=separated)
    if spoilt is not None:
        with torch.no_grad():
            getattr(fitted, spoilt)[0, 3] = torch.nan
    before = copy.deepcopy(fitted.state_dict())
    message = f"sigma, mu and theta must make finite kernels, got {broken} of 10 with NaN or infinity"
    with pytest.raises(ValueError, match=f"^{message}$"):
        fit_filters(fitted, torch.randn(4, 2, 3, 3), **arguments)
    assert all(torch.equal(value, before[name]) or name == spoilt for name, value in fitted.state_dict().items())


def test_fixed_geometry_needs_nothing_trainable():
    fitted = layer(2, 4, 3, trainable=())
    assert fit_filters(fitted, torch.randn(4, 2, 3, 3)) < 1e-6
