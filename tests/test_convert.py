"""Conversions: least squares against NumPy's, whole models, and the authors' layer as loops over numbers."""

import copy
import doctest
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from gdlayer import GaussianDerivativeConv2d, convert, deploy, from_authors, replace_conv2d
from gdlayer.convert import fit_filters
from gdlayer.related.dau import DAUConv2d
from gdlayer.related.njet import NJetConv2d
from gdlayer.related.rfnn import RFNNConv2d
from gdlayer.synthesis import PADDING_MODES, Conv2dSame, SynthesizedConv2d

both = pytest.mark.parametrize("separated", [False, True], ids=["full", "separated"])


def layer(*args: Any, dtype: torch.dtype = torch.float64, **kwargs: Any) -> GaussianDerivativeConv2d:
    return GaussianDerivativeConv2d(*args, dtype=dtype, **kwargs)


def same_geometry(source: GaussianDerivativeConv2d) -> GaussianDerivativeConv2d:
    """Another layer with the kernels of the first and weights of its own."""
    other = copy.deepcopy(source)
    other.reset_parameters()
    with torch.no_grad():
        for name in ("raw_sigma", "mu", "theta"):
            getattr(other, name).copy_(getattr(source, name))
    return other


@both
@pytest.mark.parametrize(("f_in", "f_out", "bases"), [(3, 8, 2), (1, 4, 4), (5, 6, 1)])
def test_filters_in_the_span_are_recovered(separated, f_in, f_out, bases):
    source = layer(f_in, f_out, 7, order=2, bases=bases, separated=separated)
    fitted = same_geometry(source)
    assert not torch.allclose(fitted.filters(), source.filters(), rtol=0.1)
    assert fit_filters(fitted, source.filters()) < 1e-6
    torch.testing.assert_close(fitted.filters(), source.filters(), rtol=0, atol=1e-6)
    if not separated:
        torch.testing.assert_close(fitted.weight, source.weight, rtol=0, atol=1e-5)


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
                np.testing.assert_allclose(fitted.weight[b, j, i].detach(), expected, rtol=1e-6, atol=1e-8)
                squares += np.square(target - basis @ expected).sum()
    assert residual == pytest.approx(squares**0.5 / float(filters.norm()), rel=1e-9)
    assert 0.1 < residual < 1


@both
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


@both
def test_weights_before_do_not_matter(separated):
    first = layer(3, 4, 5, separated=separated)
    second = same_geometry(first)
    with torch.no_grad():
        for weights in (second.beta, second.lam) if separated else (second.weight,):
            weights.zero_()
    filters = torch.randn(4, 3, 5, 5)
    assert fit_filters(first, filters) == pytest.approx(fit_filters(second, filters), rel=1e-12)
    torch.testing.assert_close(first.filters(), second.filters())


@both
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


@both
def test_the_best_step_is_kept(separated):
    """Even where the learning rate is absurd and kernels leave the grid."""
    fitted = layer(2, 4, 3, bases=2, order=1, separated=separated)
    filters = torch.randn(4, 2, 3, 3)
    fixed = fit_filters(copy.deepcopy(fitted), filters)
    assert fit_filters(fitted, filters, steps=20, learning_rate=30) <= fixed * (1 + 1e-6)


def test_gradient_at_constant_weights_is_that_of_the_projection():
    """Variable projection, against finite differences of the residual."""
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
        with torch.no_grad():  # nested: the first n kernels of the same geometry
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
        torch.testing.assert_close(alone.weight[0], fitted.weight[b])


@pytest.mark.parametrize(("small", "large"), [((3, 3), (7, 7)), ((1, 3), (5, 5)), ((2, 4), (4, 4))])
def test_smaller_filters_stand_in_the_centre(small, large):
    filters = torch.randn(4, 3, *small)
    framed = torch.zeros(4, 3, *large)
    top, left = (large[0] - small[0]) // 2, (large[1] - small[1]) // 2
    framed[:, :, top : top + small[0], left : left + small[1]] = filters
    first = layer(3, 4, large)
    second = copy.deepcopy(first)
    assert fit_filters(first, filters) == fit_filters(second, framed)
    torch.testing.assert_close(first.weight, second.weight, rtol=0, atol=0)


def test_layer_replaces_a_convolution():
    conv = nn.Conv2d(3, 8, 3, padding=1)
    fitted = layer(3, 8, 3, bases=4, dtype=torch.float32)
    assert conv.bias is not None
    assert fit_filters(fitted, conv.weight, bias=conv.bias) < 1e-5
    x = torch.randn(2, 3, 9, 10)
    torch.testing.assert_close(fitted(x), conv(x), rtol=1e-3, atol=1e-4)
    fit_filters(fitted, conv.weight)  # and the bias stays
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


@both
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
    assert two.weight.abs().max() < 10


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
        ({}, {"steps": -1}, "steps must be 0, or positive and some of the geometry trainable, got -1"),
        ({"trainable": ()}, {"steps": 9}, "steps must be 0, or positive and some of the geometry trainable, got 9"),
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


def test_fixed_geometry_needs_nothing_trainable():
    fitted = layer(2, 4, 3, trainable=())
    assert fit_filters(fitted, torch.randn(4, 2, 3, 3)) < 1e-6


# A model's convolutions replaced


class Net(nn.Module):
    """Convolutions of several kinds, nested; one layer is used twice and stands in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding="same", padding_mode="reflect"), nn.ReLU())
        self.again = self.body[0]
        self.twice = nn.ModuleList([self.body, self.body])
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.point = nn.Conv2d(4, 8, 1)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(self.body(self.stem(x)))
        return self.head(self.point(self.depthwise(x)).mean((-2, -1)))


def kinds(model: nn.Module) -> list[tuple[str, str]]:
    return [(name, type(module).__name__) for name, module in model.named_modules(remove_duplicate=False)]


def ours(model: nn.Module) -> list[str]:
    return [name for name, kind in kinds(model) if kind == "GaussianDerivativeConv2d"]


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Conv2d, tuple[int, int]]:
    """A convolution with random weights, in float64, and the size of an input for all its paddings, also grown by 2."""
    torch.manual_seed(draw(st.integers(0, 2**32 - 1)))
    padding = draw(
        st.one_of(
            st.sampled_from(["same", "valid"]), st.integers(0, 2), st.tuples(st.integers(0, 2), st.integers(0, 2))
        )
    )
    stride = st.one_of(st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 3)))
    conv = nn.Conv2d(
        draw(st.integers(1, 3)),
        draw(st.sampled_from([2, 4])),
        draw(st.one_of(st.integers(1, 4), st.tuples(st.integers(1, 4), st.integers(1, 4)))),
        stride=1 if padding == "same" else draw(stride),
        padding=padding,
        dilation=draw(st.one_of(st.integers(1, 2), st.tuples(st.integers(1, 2), st.integers(1, 2)))),
        padding_mode=draw(st.sampled_from(PADDING_MODES)),  # type: ignore[arg-type]
        bias=draw(st.booleans()),
        dtype=torch.float64,
    )
    return conv.train(draw(st.booleans())), draw(st.tuples(st.integers(9, 12), st.integers(9, 12)))


even_same = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


@even_same
@given(convolutions(), st.booleans())
def test_a_replaced_convolution_keeps_its_configuration(drawn, fit):
    conv, size = drawn
    model = nn.Sequential(conv)
    x = torch.randn(2, conv.in_channels, *size, dtype=torch.float64)
    expected = conv(x).detach()
    taps = conv.kernel_size[0] * conv.kernel_size[1]
    report = replace_conv2d(model, "0", fit=fit, order=6, rcond=1e-13, init="authors")  # 28 kernels, 16 taps at most
    new = model[0]
    assert isinstance(new, GaussianDerivativeConv2d)
    for name in ("in_channels", "out_channels", "kernel_size", "stride", "dilation", "padding_mode", "training"):
        assert getattr(new, name) == getattr(conv, name)
    assert (new.bias is None) == (conv.bias is None)
    if new.bias is not None and conv.bias is not None:
        assert torch.equal(new.bias, conv.bias)
    assert {parameter.dtype for parameter in new.parameters()} == {torch.float64}
    assert new(x).shape == expected.shape
    (layer,) = report.replaced
    assert layer.names == ("0",)
    bias = conv.out_channels if conv.bias is not None else 0
    assert layer.parameters_before == taps * conv.in_channels * conv.out_channels + bias
    assert layer.parameters_after == 28 * conv.in_channels * conv.out_channels + 5 * 28 + bias
    assert report.skipped == {}
    if fit:
        assert layer.residual is not None
        assert layer.residual < 1e-4
        torch.testing.assert_close(new(x), expected, rtol=1e-2, atol=1e-2 * float(expected.abs().max()))
    else:
        assert layer.residual is None


@even_same
@given(convolutions(), st.integers(0, 1), st.integers(0, 1))
def test_a_larger_kernel_keeps_sizes_and_place(drawn, down, right):
    conv, size = drawn
    model = nn.Sequential(conv)
    x = torch.randn(2, conv.in_channels, *size, dtype=torch.float64)
    larger = (conv.kernel_size[0] + 2 * down, conv.kernel_size[1] + 2 * right)
    replace_conv2d(model, "0", kernel_size=larger, order=1)
    new = model[0]
    assert isinstance(new, GaussianDerivativeConv2d)
    assert new.kernel_size == larger
    assert new(x).shape == conv(x).shape
    framed = torch.zeros(conv.out_channels, conv.in_channels, *larger, dtype=torch.float64)
    framed[:, :, down : down + conv.kernel_size[0], right : right + conv.kernel_size[1]] = conv.weight.detach()
    plain = new.deploy()
    with torch.no_grad():
        plain.weight.copy_(framed)
    torch.testing.assert_close(plain(x), conv(x))  # what the filters do, if they are the old ones in a frame


@even_same
@given(stride=st.integers(1, 3), kernel=st.integers(1, 4), grown=st.integers(0, 1), size=st.integers(9, 12))
def test_the_same_padding_of_deployed_layers(stride, kernel, grown, size):
    source = layer(2, 4, kernel, stride=stride)
    model = nn.Sequential(source.deploy())
    x = torch.randn(1, 2, size, size, dtype=torch.float64)
    if grown and kernel < stride:
        message = (
            f"0: kernel_size must be {(kernel, kernel)}, that of the convolution, got {(kernel + 2, kernel + 2)}: "
        )
        message += (
            f"padding='same' would move the filters, as the old ones are smaller than the stride, {stride, stride}"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            replace_conv2d(model, "0", kernel_size=kernel + 2)
        return
    replace_conv2d(model, "0", kernel_size=kernel + 2 * grown, order=1)
    plain = model[0].deploy()  # type: ignore[operator]
    with torch.no_grad():
        plain.weight.zero_()
        plain.weight[:, :, grown : grown + kernel, grown : grown + kernel] = source.filters()
    plain.bias.data.copy_(source.bias)
    torch.testing.assert_close(plain(x), source(x))


def test_by_default_what_can_be_replaced():
    model = Net().eval()
    report = replace_conv2d(model, kernel_size=5, order=2, bases=2)
    assert ours(model) == ["stem", "body.0", "again", "twice.0.0", "twice.1.0"]
    assert model.body[0] is model.again
    assert [layer.names for layer in report.replaced] == [("stem",), ("body.0", "again", "twice.0.0", "twice.1.0")]
    assert report.skipped == {"depthwise": "it has 4 groups, not 1", "point": "its kernel is 1 x 1"}
    assert isinstance(model.stem, GaussianDerivativeConv2d)
    assert (model.stem.bases, len(model.stem.orders), model.stem.kernel_size) == (2, 6, (5, 5))
    assert not any(module.training for module in model.modules())
    assert str(report).splitlines() == [
        "stem                                    112 -> 136 parameters, random",
        "body.0 = again = twice.0.0 = twice.1.0  148 -> 160 parameters, random",
        "depthwise                               skipped: it has 4 groups, not 1",
        "point                                   skipped: its kernel is 1 x 1",
    ]
    model(torch.randn(2, 3, 9, 9)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


class Special(nn.Conv2d):
    """A type of its own."""


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("stem", ["stem"]),
        (["stem", "point"], ["stem", "point"]),
        ((name for name in ("point",)), ["point"]),
        ("again", ["body.0", "again", "twice.0.0", "twice.1.0"]),
        (Special, ["special"]),
        (lambda name, conv: conv.in_channels == 3, ["stem", "special"]),
        (lambda name, conv: name == "twice.1.0", ["body.0", "again", "twice.0.0", "twice.1.0"]),
    ],
    ids=["name", "names", "generator", "one of several names", "type", "predicate", "predicate on one of the names"],
)
def test_choices(layers, expected):
    model = Net()
    model.special = Special(3, 4, 3)
    replace_conv2d(model, layers, order=1)
    assert ours(model) == expected


def test_type_takes_subclasses():
    model = nn.ModuleList([nn.Conv2d(1, 2, 3), Special(1, 2, 3), Conv2dSame(1, 2, 3, stride=2), nn.Conv1d(1, 2, 3)])
    report = replace_conv2d(copy.deepcopy(model))
    assert [layer.names for layer in report.replaced] == [("0",), ("2",)]
    assert report.skipped == {"1": "it is a Special, which may compute something else"}
    replace_conv2d(model, nn.Conv2d)
    assert ours(model) == ["0", "1", "2"]


def test_fitted_as_fit_filters_does():
    model = Net()
    weight = model.stem.weight
    bias = model.stem.bias
    assert bias is not None
    torch.manual_seed(1)
    expected = GaussianDerivativeConv2d(3, 4, 5, padding=2, order=1, bases=2, separated=True)
    residual = fit_filters(expected, weight, bias=bias, steps=4, learning_rate=0.2, rcond=0.1)
    torch.manual_seed(1)
    report = replace_conv2d(
        model, "stem", kernel_size=5, fit=True, steps=4, learning_rate=0.2, rcond=0.1, order=1, bases=2, separated=True
    )
    assert report.replaced[0].residual == residual
    assert 0 < residual < 1
    assert repr(model.stem) == repr(expected)
    for name, value in expected.state_dict().items():
        assert torch.equal(model.stem.state_dict()[name], value)
    assert f"112 -> {sum(p.numel() for p in expected.parameters())} parameters, residual {residual:.3g}" in str(report)


def test_random_layers_are_as_drawn():
    model, torch_state = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False)), torch.get_rng_state()
    replace_conv2d(model, init="authors")
    torch.set_rng_state(torch_state)
    expected = GaussianDerivativeConv2d(3, 4, 3, bias=False, padding="valid", init="authors")
    for name, value in expected.state_dict().items():
        assert torch.equal(model[0].state_dict()[name], value)


@pytest.mark.parametrize("fit", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_device_and_dtype_of_the_convolution(device, dtype, fit):
    conv = nn.Conv2d(3, 4, 3, device=device, dtype=dtype).requires_grad_(False)
    model = nn.Sequential(conv, nn.Conv2d(4, 2, 3))
    replace_conv2d(model, "0", fit=fit)
    assert {(p.device.type, p.dtype, p.requires_grad) for p in model[0].parameters()} == {(device, dtype, True)}
    assert model[0].state_dict()["bias"].data_ptr() != conv.bias.data_ptr()  # type: ignore[union-attr]


def test_there_and_back():
    """Deployed and replaced again: with the geometry in the span, the same filters."""
    model = nn.Sequential(layer(2, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Sequential(layer(4, 4, 3, padding=1)))
    x = torch.randn(2, 2, 9, 8, dtype=torch.float64)
    expected = model.double().eval()(x)
    again = deploy(model)
    report = replace_conv2d(again, fit=True, order=5)
    assert all(layer.residual is not None and layer.residual < 1e-6 for layer in report.replaced)
    assert kinds(again) == kinds(model)
    torch.testing.assert_close(again(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: nn.utils.parametrizations.weight_norm(m.last), "its weight is computed from other parameters"),
        (lambda m: nn.utils.parametrizations.spectral_norm(m.last), "its weight is computed from other parameters"),
        (lambda m: setattr(m, "last", nn.LazyConv2d(4, 3)), "it is lazy: run the model once before"),
        (lambda m: setattr(m, "last", nn.Conv2d(4, 4, 3, groups=2)), "it has 2 groups, not 1"),
        (
            lambda m: setattr(m, "last", nn.Conv2d(4, 4, 3, dtype=torch.complex64)),
            "its dtype is torch.complex64, not a real one",
        ),
        (
            lambda m: m.last.register_forward_hook(lambda *_: None),
            "it has hooks, which would be lost: remove them before",
        ),
        (
            lambda m: m.last.register_full_backward_hook(lambda *_: None),
            "it has hooks, which would be lost: remove them before",
        ),
        (lambda m: setattr(m.first, "weight", m.last.weight), "it shares a parameter with another module"),
    ],
    ids=["weight norm", "spectral norm", "lazy", "groups", "complex", "forward hook", "backward hook", "tied"],
)
def test_what_cannot_be_replaced(change, message):
    model = nn.Sequential()
    model.first, model.last, model.other = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
    change(model)
    before = kinds(model)
    for layers in (["other", "last"], lambda name, conv: name != "first"):
        with pytest.raises(ValueError, match=f"^last cannot be replaced: {re.escape(message)}$"):
            replace_conv2d(model, layers)
        assert kinds(model) == before
    assert replace_conv2d(model).skipped["last"] == message
    assert "other" in ours(model)
    assert "last" not in ours(model)


def test_hooks_of_older_normalisations_are_seen():
    model = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3))
    nn.utils.spectral_norm(model[1])
    assert replace_conv2d(model).skipped == {"1": "its weight is computed from other parameters"}


@pytest.mark.parametrize(
    ("layers", "arguments", "error", "message"),
    [
        ("steam", {}, ValueError, "layers must name modules of the model, got 'steam'; its convolutions are 'stem', "),
        ([3], {}, ValueError, "layers must name modules of the model, got 3; its convolutions are 'stem', 'body.0', "),
        ("head", {}, ValueError, "head must be an nn.Conv2d, got Linear; its convolutions are 'stem', 'body.0', "),
        (nn.Linear, {}, TypeError, "layers must be a subclass of nn.Conv2d if it is a type, got Linear"),
        (Special, {}, ValueError, "layers must choose at least one nn.Conv2d of the model, got <class"),
        ([], {}, ValueError, "layers must choose at least one nn.Conv2d of the model, got []"),
        (3, {}, TypeError, "layers must be names, a type or a function, got 3"),
        (["stem", "depthwise"], {}, ValueError, "depthwise cannot be replaced: it has 4 groups, not 1"),
        (nn.Conv2d, {}, ValueError, "depthwise cannot be replaced: it has 4 groups, not 1"),
        (None, {"bases": 3}, ValueError, "stem: out_channels must be a multiple of bases, got 4 and 3"),
        (["stem", "point"], {"bases": 4, "order": -1}, ValueError, "stem: order must be an integer >= 0"),
        (["stem"], {"jet": True}, TypeError, "stem: "),
        (
            ["point", "stem"],
            {"kernel_size": 4},
            ValueError,
            "stem: kernel_size must be (3, 3), that of the convolution, or larger by even numbers, got (4, 4)",
        ),
        (
            ["stem"],
            {"kernel_size": (5, 1)},
            ValueError,
            "stem: kernel_size must be (3, 3), that of the convolution, or larger by even numbers, got (5, 1)",
        ),
        (["stem"], {"kernel_size": 5.0}, TypeError, "stem: kernel_size must be an integer >= 1 or a pair of them"),
        (["stem"], {"fit": True, "rcond": 0}, ValueError, "stem: rcond must be a positive number, got 0"),
        (["stem"], {"fit": True, "steps": -1}, ValueError, "stem: steps must be 0, or positive and some"),
        (["stem"], {"steps": 2}, ValueError, "steps must be 0 unless fit=True, got 2"),
        (
            ["stem"],
            {"stride": 2},
            TypeError,
            "stride is taken over from each convolution and cannot be given, got 2",
        ),
        (
            ["stem"],
            {"device": "cpu"},
            TypeError,
            "device is taken over from each convolution and cannot be given, got 'cpu'",
        ),
    ],
    ids=[
        "unknown name",
        "no name",
        "another module",
        "another type",
        "type of none",
        "nothing",
        "neither",
        "groups by name",
        "groups by type",
        "bases",
        "order",
        "unknown option",
        "kernel size even",
        "kernel size smaller",
        "kernel size no integer",
        "rcond",
        "steps negative",
        "steps without fit",
        "stride",
        "device",
    ],
)
def test_wrong_replacements(layers, arguments, error, message):
    model = Net()
    before = kinds(model), [id(parameter) for parameter in model.parameters()]
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        replace_conv2d(model, layers, **arguments)
    assert (kinds(model), [id(parameter) for parameter in model.parameters()]) == before


def test_nothing_is_replaced_where_one_layer_fails():
    model = Net()
    nn.init.constant_(model.get_parameter("again.weight"), torch.nan)
    with pytest.raises(ValueError, match=r"^body\.0: filters must be finite$"):
        replace_conv2d(model, fit=True)
    assert ours(model) == []


def test_a_convolution_alone():
    message = "model is itself an nn.Conv2d and cannot be replaced in place: put it into an nn.Sequential"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        replace_conv2d(nn.Conv2d(1, 1, 3))
    with pytest.raises(ValueError, match=r"got None; 0: its kernel is 1 x 1$"):
        replace_conv2d(nn.Sequential(nn.Conv2d(1, 1, 1)))
    with pytest.raises(ValueError, match=r"got 'conv'; it has no convolution$"):
        replace_conv2d(nn.Sequential(nn.ReLU()), "conv")


# Deployed


def synthesized(kind: str, *args: Any, **options: Any) -> SynthesizedConv2d:
    """One of the layers, with all its parameters random."""
    options = {"dtype": torch.float64, **options}
    module: SynthesizedConv2d
    if kind == "rfnn":
        module = RFNNConv2d(*args, sigma=1.0, **options)
    elif kind == "dau":
        module = DAUConv2d(*args, **options)
    elif kind == "njet":
        module = NJetConv2d(*args[:2], **options)
    else:
        module = GaussianDerivativeConv2d(*args, separated=kind == "separated", **options)
    if module.bias is not None:
        nn.init.normal_(module.bias)
    return module


KINDS = ["full", "separated", "rfnn", "dau", "njet"]


@given(st.data())
def test_deployed_models_compute_the_same(data):
    torch.manual_seed(data.draw(st.integers(0, 2**32 - 1)))
    channels, layers = [data.draw(st.integers(1, 3))], []
    for _ in range(data.draw(st.integers(1, 3))):
        channels.append(data.draw(st.integers(1, 4)))
        options = {
            "stride": data.draw(st.sampled_from([1, 2, (1, 2)])),
            "padding": data.draw(st.sampled_from(["same", 6, (6, 7)])),
            "dilation": data.draw(st.sampled_from([1, 1, 2])),
            "padding_mode": data.draw(st.sampled_from(["zeros", "replicate"])),
            "bias": data.draw(st.booleans()),
        }
        kind = data.draw(st.sampled_from(KINDS))
        kernel_size = data.draw(st.sampled_from([3, 5]))
        layers.append(nn.Sequential(synthesized(kind, *channels[-2:], kernel_size, **options), nn.ReLU()))
    layers.append(nn.BatchNorm2d(channels[-1], dtype=torch.float64))
    model = nn.Sequential(*layers).train(data.draw(st.booleans()))
    x = torch.randn(2, channels[0], 14, 13, dtype=torch.float64)
    state = copy.deepcopy(model.state_dict())

    plain = deploy(model)

    assert [name for name, _ in kinds(plain)] == [name for name, _ in kinds(model)]
    for name, kind in kinds(plain):
        before = type(model.get_submodule(name))
        assert kind in ("Conv2d", "Conv2dSame") if issubclass(before, SynthesizedConv2d) else kind == before.__name__
        assert plain.get_submodule(name).training == model.get_submodule(name).training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert {p.data_ptr() for p in plain.parameters()}.isdisjoint(p.data_ptr() for p in model.parameters())
    torch.testing.assert_close(plain(x), model(x), rtol=1e-9, atol=1e-9)


def test_a_shared_layer_is_deployed_once():
    model = Net()
    replace_conv2d(model)
    plain = deploy(model)
    assert isinstance(plain, Net)
    assert type(plain.again) is nn.Conv2d
    assert plain.again is plain.body[0] is plain.twice[1].get_submodule("0")
    x = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(plain(x), model(x))
    assert len(ours(model)) == 5


def test_one_layer_and_none():
    single = layer(2, 4, 3)
    plain = deploy(single)
    assert type(plain) is nn.Conv2d
    torch.testing.assert_close(plain.weight, single.filters())
    again = deploy(plain)
    assert again is not plain
    assert isinstance(again, nn.Conv2d)
    assert torch.equal(again.weight, plain.weight)


def test_device_and_dtype_of_deployed_models(device):
    model = nn.Sequential(GaussianDerivativeConv2d(2, 4, 3, device=device, dtype=torch.bfloat16), nn.ReLU())
    assert {(p.device.type, p.dtype) for p in deploy(model).parameters()} == {(device, torch.bfloat16)}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_parameters_that_are_not_finite_are_named(kind, value):
    options = {} if kind == "njet" else {"order": 1} if kind in ("full", "separated") else {}
    for name, _ in synthesized(kind, 2, 4, 3, bias=True, **options).named_parameters():
        broken = synthesized(kind, 2, 4, 3, bias=True, **options)
        parameter = broken.get_parameter(name)
        parameter.data.view(-1)[-1] = value
        model = nn.ModuleDict({"stem": synthesized(kind, 3, 2, 3), "body": nn.Sequential(nn.ReLU(), broken)})
        message = f"must be finite, got 1 of {parameter.numel()} values NaN or infinite"
        with pytest.raises(ValueError, match=f"^body.1.{name} {message}$"):
            deploy(model)
        with pytest.raises(ValueError, match=f"^{name} {message}$"):
            deploy(broken)


def test_other_modules_may_hold_infinities():
    model = nn.Sequential(layer(1, 1, 3), nn.Linear(2, 2))
    nn.init.constant_(model.get_parameter("1.bias"), -math.inf)
    assert torch.equal(deploy(model).get_parameter("1.bias"), torch.full((2,), -math.inf))


# The authors' layer: NHWC, and its quirks, as loops over numbers

Array = NDArray[np.float64]


def authors_hermite(p: int, x: float) -> float:
    return {0: 1.0, 1: 2 * x, 2: 4 * x**2 - 2, 3: 8 * x**3 - 12 * x, 4: 16 * x**4 - 48 * x**2 + 12}[p]


def authors_derivative(p: int, x: float, s: float) -> float:
    """G_p(x, s), as it is written, of either sign of s."""
    scaled = x / (math.sqrt(2) * s)
    gaussian = math.exp(-(x**2) / (2 * s**2)) / (s * math.sqrt(2 * math.pi))
    return (-1 / (math.sqrt(2) * s)) ** p * authors_hermite(p, scaled) * gaussian


def authors_kernels(variables: Mapping[str, Any], kernel_size: tuple[int, int]) -> list[list[Array]]:
    """The kernels of each basis: the first range along columns, the second along rows, of odd length always."""
    xs, ys = (range(-int(k / 2), int(k / 2) + 1) for k in kernel_size)
    bases, n = np.shape(variables["thetas"])
    out: list[list[Array]] = []
    for b in range(bases):
        out.append([])
        i = j = 0
        for index in range(n):
            t = float(variables["thetas"][b][index])
            mu1, mu2 = map(float, variables["centroids"][b][index])
            s1, s2 = map(float, variables["sigmas"][b][index])
            kernel = np.empty((len(ys), len(xs)))
            for row, y in enumerate(ys):
                for column, x in enumerate(xs):
                    u = math.cos(t) * x + math.sin(t) * y
                    v = -math.sin(t) * x + math.cos(t) * y
                    kernel[row, column] = authors_derivative(j, u - mu1, s1) * authors_derivative(i - j, v - mu2, s2)
            out[-1].append(kernel)
            i, j = (i, j + 1) if j < i else (i + 1, 0)
    return out


def keras_conv(images: Array, filters: Array, stride: tuple[int, int], padding: str) -> Array:
    """images (batch, h, w, f_in), filters (kh, kw, f_in, f_out) -> (batch, h_out, w_out, f_out)."""
    (kh, kw), (h, w) = filters.shape[:2], images.shape[1:3]
    if padding == "same":
        amounts = []
        for size, k, s in ((h, kh, stride[0]), (w, kw, stride[1])):
            total = max(k - s if size % s == 0 else k - size % s, 0)
            amounts.append((total // 2, total - total // 2))
        images = np.pad(images, [(0, 0), *amounts, (0, 0)])
    h_out, w_out = ((images.shape[1 + a] - (kh, kw)[a]) // stride[a] + 1 for a in (0, 1))
    out = np.zeros((len(images), h_out, w_out, filters.shape[3]))
    for row in range(h_out):
        for column in range(w_out):
            top, left = row * stride[0], column * stride[1]
            patch = images[:, top : top + kh, left : left + kw]
            for f in range(filters.shape[3]):
                out[:, row, column, f] = (patch * filters[:, :, :, f]).sum((1, 2, 3))
    return out


def authors_layer(
    variables: Mapping[str, Any],
    images: Array,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int],
    padding: str,
) -> Array:
    """What their layer makes of images (batch, h, w, f_in), the separated one in its two steps."""
    kernel_size, stride = ((v, v) if isinstance(v, int) else v for v in (kernel_size, stride))
    outputs = []
    for b, kernels in enumerate(authors_kernels(variables, kernel_size)):
        phi = np.stack(kernels, -1)  # (kh, kw, N)
        if "clWeights" in variables:
            weights = np.asarray(variables["clWeights"], np.float64)[b]  # (f_in, f_out/B, N)
            filters = (phi[:, :, None, None, :] * weights).sum(-1)
            outputs.append(keras_conv(images, filters, stride, padding))
        else:
            first = np.asarray(variables["clWeights1"], np.float64)[b]  # (f_in, N)
            second = np.asarray(variables["clWeights2"], np.float64)[b]  # (1, 1, N, f_out/B)
            between = keras_conv(images, phi[:, :, None, :] * first, stride, padding)
            outputs.append(keras_conv(between, second, (1, 1), padding))
    j = np.concatenate(outputs, -1)
    return j if variables.get("bias") is None else j + np.asarray(variables["bias"], np.float64)


def authors_variables(
    seed: int,
    *,
    f_in: int = 3,
    per_basis: int = 2,
    bases: int = 2,
    order: int = 2,
    separated: bool = False,
    bias: bool = True,
    smallest: float = 0.5,
    negative: bool = False,
) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    n = (order + 1) * (order + 2) // 2
    variables = {
        "sigmas": rng.uniform(smallest, 2, (bases, n, 2)) * (rng.choice([-1, 1], (bases, n, 2)) if negative else 1),
        "centroids": rng.uniform(-1, 1, (bases, n, 2)),
        "thetas": rng.uniform(-np.pi, np.pi, (bases, n)),
    }
    if separated:
        variables["clWeights1"] = rng.normal(size=(bases, f_in, n))
        variables["clWeights2"] = rng.normal(size=(bases, 1, 1, n, per_basis))
    else:
        variables["clWeights"] = rng.normal(size=(bases, f_in, per_basis, n))
    if bias:
        variables["bias"] = rng.normal(size=bases * per_basis)
    return variables


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def compare(variables: dict[str, Any], kernel_size: Any, stride: Any, padding: str, size: tuple[int, int]) -> float:
    """The largest difference of outputs on random images, as part of the largest output."""
    f_in = variables["clWeights" if "clWeights" in variables else "clWeights1"].shape[1]
    images = np.random.default_rng(0).normal(size=(2, *size, f_in))
    converted = from_authors(variables, kernel_size=kernel_size, stride=stride, padding=padding)
    outputs = converted(torch.tensor(images, dtype=torch.get_default_dtype()).permute(0, 3, 1, 2))
    expected = authors_layer(variables, images, kernel_size, stride, padding)
    assert outputs.shape == (2, expected.shape[3], *expected.shape[1:3])
    assert outputs.dtype == torch.get_default_dtype()
    difference = outputs.detach().permute(0, 2, 3, 1).double().numpy() - expected
    return float(np.abs(difference).max() / np.abs(expected).max())


@given(st.data())
def test_authors_layer_in_any_configuration(data):
    side = st.integers(1, 6)
    kernel_size = data.draw(st.one_of(side, st.tuples(side, side)))
    step = st.integers(1, 3)
    variables = authors_variables(
        data.draw(st.integers(0, 2**32 - 1)),
        f_in=data.draw(st.integers(1, 3)),
        per_basis=data.draw(st.integers(1, 3)),
        bases=data.draw(st.integers(1, 3)),
        order=data.draw(st.integers(0, 4)),
        separated=data.draw(st.booleans()),
        bias=data.draw(st.booleans()),
        smallest=data.draw(st.sampled_from([0.01, 0.2, 0.5, 1.5])),
        negative=data.draw(st.booleans()),
    )
    stride = data.draw(st.one_of(step, st.tuples(step, step)))
    padding = data.draw(st.sampled_from(["same", "valid"]))
    size = data.draw(st.tuples(st.integers(7, 9), st.integers(7, 9)))
    with default_dtype(torch.float64):
        assert compare(variables, kernel_size, stride, padding, size) < 1e-9


@both
@pytest.mark.parametrize("negative", [False, True], ids=["positive", "any sign"])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("smallest", [0.2, 0.5])
def test_authors_layer_in_float32(separated, negative, padding, stride, smallest):
    drawn = authors_variables(
        7, bases=3, order=3, per_basis=2, separated=separated, negative=negative, smallest=smallest
    )
    variables = {name: value.astype(np.float32) for name, value in drawn.items()}
    for size in ((9, 9), (8, 10)):
        assert compare(variables, 7, stride, padding, size) < 1e-5


@pytest.mark.parametrize("order", range(5))
@pytest.mark.parametrize("s", [-0.3, -1.0, -2.0])
def test_the_sign_of_sigma(order, s):
    """G_p is odd in sigma whatever p, so that two negative ones of a kernel cancel."""
    for x in (-1.3, 0.0, 0.4, 2.0):
        assert authors_derivative(order, x, s) == pytest.approx(-authors_derivative(order, x, -s), rel=1e-12)


@both
def test_a_negative_sigma_changes_the_sign_of_its_kernels_weights(separated):
    variables = authors_variables(3, order=1, bases=1, separated=separated)
    variables["sigmas"] *= [[[1, 1], [-1, 1], [-1, -1]]]
    converted = from_authors(variables, kernel_size=5)
    positive = from_authors({**variables, "sigmas": np.abs(variables["sigmas"])}, kernel_size=5)
    name, shape = ("beta", (3, 1)) if separated else ("weight", (3,))
    sign = torch.tensor([1.0, -1.0, 1.0]).view(shape)
    assert torch.equal(getattr(converted, name), getattr(positive, name) * sign)
    assert torch.equal(converted.kernels(), positive.kernels())


@both
def test_what_the_shapes_tell(separated):
    variables = authors_variables(0, f_in=5, per_basis=3, bases=4, order=3, separated=separated, bias=False)
    converted = from_authors(variables, kernel_size=(3, 6), stride=(1, 2), padding="valid")
    assert (converted.in_channels, converted.out_channels, converted.bases) == (5, 12, 4)
    assert converted.orders == tuple((j, i - j) for i in range(4) for j in range(i + 1))
    assert (converted.separated, converted.bias) == (separated, None)
    assert (converted.kernel_size, converted.stride, converted.padding) == ((7, 3), (1, 2), (0, 0))
    assert converted.trainable == ("sigma", "mu", "theta")
    torch.testing.assert_close(converted.sigma, torch.tensor(variables["sigmas"], dtype=torch.float32))
    none: dict[str, Any] = {"bias": None}
    assert from_authors(variables | none, kernel_size=3).bias is None


@pytest.mark.parametrize(("smallest", "expected"), [(0.02, 0.01), (0.6, 0.3), (1.0, 0.5), (1.7, 0.5)])
def test_sigma_has_room_below(smallest, expected):
    variables = authors_variables(0, smallest=2)
    variables["sigmas"][0, 0, 1] = -smallest
    assert from_authors(variables, kernel_size=3).sigma_min == pytest.approx(expected)


def test_a_converted_layer_trains():
    converted = from_authors(authors_variables(0, separated=True, smallest=0.01, negative=True), kernel_size=5)
    converted(torch.randn(1, 3, 8, 8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in converted.parameters())


def test_arrays_of_any_kind():
    """Lists, integers, tensors, and arrays that cannot be written."""
    variables = authors_variables(0, order=0, bases=1)
    expected = from_authors({**variables, "sigmas": np.ones((1, 1, 2))}, kernel_size=3)
    mixed = {name: value.tolist() for name, value in variables.items()}
    mixed["sigmas"] = np.ones((1, 1, 2), np.uint8)
    mixed["thetas"] = torch.tensor(variables["thetas"])
    mixed["clWeights"] = variables["clWeights"].copy()
    mixed["clWeights"].flags.writeable = False
    converted = from_authors(mixed, kernel_size=3)
    assert all(torch.equal(a, b) for a, b in zip(converted.parameters(), expected.parameters(), strict=True))


SETS = (
    "variables must be sigmas, centroids, thetas, either clWeights or both clWeights1 and clWeights2, and optionally "
    "bias, got "
)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"thetas": ...}, ValueError, SETS + "sigmas, centroids, clWeights, bias"),
        ({"clWeights": ...}, ValueError, SETS + "sigmas, centroids, thetas, bias"),
        (
            {"clWeights": ..., "clWeights1": np.ones((2, 3, 6))},
            ValueError,
            SETS + "sigmas, centroids, thetas, bias, cl",
        ),
        ({"clWeights1": np.ones((2, 3, 6))}, ValueError, SETS + "sigmas, centroids, thetas, clWeights, bias, clWeig"),
        ({"gammas": np.ones(3)}, ValueError, SETS + "sigmas, centroids, thetas, clWeights, bias, gammas"),
        (
            {"sigmas": np.ones((2, 6))},
            ValueError,
            "sigmas must have shape (B, N, 2), got (2, 6)",
        ),
        ({"sigmas": np.ones((2, 6, 3))}, ValueError, "sigmas must have shape (B, N, 2), got (2, 6, 3)"),
        ({"sigmas": np.ones((2, 0, 2))}, ValueError, "sigmas must have shape (B, N, 2), got (2, 0, 2)"),
        (
            {"centroids": np.ones((2, 3, 2))},
            ValueError,
            "centroids must have shape (B, N, 2) with B = 2, N = 6, got (2, 3, 2)",
        ),
        ({"thetas": np.ones((1, 6))}, ValueError, "thetas must have shape (B, N) with B = 2, N = 6, got (1, 6)"),
        (
            {"clWeights": np.ones((3, 2, 6))},
            ValueError,
            "clWeights must have shape (B, f_in, f_out/B, N) with B = 2, N = 6, got (3, 2, 6)",
        ),
        (
            {"clWeights": ..., "clWeights1": np.ones((2, 3, 6)), "clWeights2": np.ones((2, 6, 2))},
            ValueError,
            "clWeights2 must have shape (B, 1, 1, N, f_out/B) with B = 2, N = 6, got (2, 6, 2)",
        ),
        (
            {"clWeights": ..., "clWeights1": np.ones((2, 3, 6)), "clWeights2": np.ones((2, 1, 3, 6, 2))},
            ValueError,
            "clWeights2 must have shape (B, 1, 1, N, f_out/B) with B = 2, N = 6, got (2, 1, 3, 6, 2)",
        ),
        ({"bias": np.ones(5)}, ValueError, "bias must have shape (f_out) with f_out = 4, got (5,)"),
        (
            {"sigmas": np.full((2, 6, 2), np.nan)},
            ValueError,
            "sigmas must be finite, got NaN or infinity, or values beyond torch.float32",
        ),
        (
            {"bias": np.full(4, 1e39)},
            ValueError,
            "bias must be finite, got NaN or infinity, or values beyond torch.float32",
        ),
        ({"sigmas": np.zeros((2, 6, 2))}, ValueError, "sigmas must not be 0, where kernels are not defined"),
        ({"sigmas": np.full((2, 6, 2), 1e-50)}, ValueError, "sigmas must not be 0, where kernels are not defined"),
        (
            {"sigmas": np.full((2, 6, 2), 1e-25)},
            ValueError,
            "variables must make finite filters; with |sigma| down to 1e-25, they overflow torch.float32",
        ),
        ({"thetas": "zero"}, TypeError, "thetas must be an array of real numbers, got dtype <U4"),
        ({"thetas": np.ones((2, 6), complex)}, TypeError, "thetas must be an array of real numbers, got dtype complex"),
        ({"thetas": None}, TypeError, "thetas must be an array of real numbers, got dtype object"),
        ({"thetas": [[1, 2], [3]]}, TypeError, "thetas must be an array of real numbers: "),
        (
            {"thetas": torch.ones(2, 6, requires_grad=True)},
            TypeError,
            "thetas must be an array of real numbers: ",
        ),
    ],
    ids=[
        "no thetas",
        "no weights",
        "one of two weights",
        "both kinds of weights",
        "another variable",
        "sigmas of 2 axes",
        "sigmas of 3",
        "no kernels",
        "N differs",
        "B differs",
        "weights of 3 axes",
        "separated weights of 3 axes",
        "separated weights of size 3",
        "bias",
        "nan",
        "beyond float32",
        "zero",
        "zero in float32",
        "overflow",
        "text",
        "complex",
        "none",
        "ragged",
        "gradients",
    ],
)
def test_wrong_variables(change, error, message):
    variables = {**authors_variables(0), **change}
    variables = {name: value for name, value in variables.items() if value is not ...}
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        from_authors(variables, kernel_size=3)


@pytest.mark.parametrize("n", [2, 4, 5, 7, 9, 11])
def test_kernels_that_make_no_jet(n):
    variables = {name: np.ones(shape) for name, shape in (("sigmas", (1, n, 2)), ("centroids", (1, n, 2)))}
    variables |= {"thetas": np.ones((1, n)), "clWeights": np.ones((1, 1, 1, n))}
    message = f"N must be (K + 1)(K + 2)/2 for an order K, that is 1, 3, 6, 10, ..., got sigmas of N = {n}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        from_authors(variables, kernel_size=3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kernel_size": 0}, ValueError, "kernel_size must be an integer >= 1 or a pair of them, got 0"),
        ({"kernel_size": "3"}, TypeError, "kernel_size must be an integer >= 1 or a pair of them, got '3'"),
        ({"kernel_size": 3, "stride": 0}, ValueError, "stride must be an integer >= 1 or a pair of them, got 0"),
        ({"kernel_size": 3, "padding": 1}, ValueError, "padding must be one of 'same', 'valid', got 1"),
        ({"kernel_size": 3, "padding": "SAME"}, ValueError, "padding must be one of 'same', 'valid', got 'SAME'"),
    ],
    ids=["size 0", "size of text", "stride 0", "padding 1", "padding SAME"],
)
def test_wrong_arguments_for_the_authors_layer(arguments, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        from_authors(authors_variables(0), **arguments)


def test_variables_must_be_a_mapping():
    with pytest.raises(TypeError, match=r"^variables must be a mapping from names to arrays, got list$"):
        from_authors([np.ones(3)], kernel_size=3)  # type: ignore[arg-type]


def test_examples_in_the_documentation():
    results = doctest.testmod(convert)
    assert results.attempted >= 15
    assert results.failed == 0
