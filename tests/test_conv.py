"""The layer: eqs (2), (3) and (4) as literal loops, gradients, and everything expected of a drop-in for nn.Conv2d."""

import copy
import json
import math
import re
from itertools import combinations
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from layer_table import convolution_in, even_same
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.func import functional_call
from torch.nn import functional as F

from gdlayer import GaussianDerivativeConv2d, conv
from gdlayer._plumbing.padding import PADDING_MODES, same_padding
from gdlayer.basis import gaussian_derivative_kernels
from gdlayer.conv import GEOMETRY
from gdlayer.padding import Conv2dSame
from gdlayer.synthesis import SynthesizedConv2d

SUBSETS = [subset for size in range(4) for subset in combinations(GEOMETRY, size)]
VARIANTS = {
    "full, one basis": {"separated": False, "bases": 1},
    "full, shared bases": {"separated": False, "bases": 2},
    "full, own bases": {"separated": False, "bases": 4},
    "separated, one basis": {"separated": True, "bases": 1},
    "separated, shared bases": {"separated": True, "bases": 2},
    "separated, own bases": {"separated": True, "bases": 4},
}
variants = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())


def random_layer(*args: Any, dtype: torch.dtype = torch.float64, **kwargs: Any) -> GaussianDerivativeConv2d:
    """A layer whose bias is not zero."""
    layer = GaussianDerivativeConv2d(*args, dtype=dtype, **kwargs)
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    return layer


# The paper's equations


@st.composite
def configurations(draw: st.DrawFn) -> tuple[dict[str, Any], tuple[int, ...], int]:
    """Arguments of a layer, the shape of an input that it accepts, and a seed."""
    bases = draw(st.integers(1, 3))
    arguments = {
        "in_channels": draw(st.integers(1, 3)),
        "out_channels": bases * draw(st.integers(1, 3)),
        "bases": bases,
        "separated": draw(st.booleans()),
        "order": draw(
            st.one_of(
                st.integers(0, 3),
                st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=3, unique=True),
            )
        ),
        "kernel_size": draw(st.one_of(st.integers(1, 5), st.tuples(st.integers(1, 5), st.integers(1, 5)))),
        "stride": draw(st.one_of(st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 3)))),
        "dilation": draw(st.one_of(st.integers(1, 2), st.tuples(st.integers(1, 2), st.integers(1, 2)))),
        "padding": draw(
            st.one_of(
                st.sampled_from(["same", "valid"]), st.integers(0, 2), st.tuples(st.integers(0, 2), st.integers(0, 2))
            )
        ),
        "padding_mode": draw(st.sampled_from(PADDING_MODES)),
        "bias": draw(st.booleans()),
        "init": draw(st.sampled_from(["variance_preserving", "authors"])),
    }
    batch = draw(st.sampled_from([(), (1,), (2,)]))
    size = draw(st.tuples(st.integers(4, 8), st.integers(4, 8)))
    return arguments, (*batch, arguments["in_channels"], *size), draw(st.integers(0, 2**32 - 1))


def as_pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def equations(layer: GaussianDerivativeConv2d, arguments: dict[str, Any], image: Tensor) -> np.ndarray:
    """Eqs (1) to (4) of the present parameters, with the arguments as they were given, on one image (f_in, h, w)."""
    values = {name: parameter.detach().numpy() for name, parameter in layer.named_parameters()}
    sigma = layer.sigma.detach().numpy()
    order, padding = arguments["order"], arguments["padding"]
    orders = [(j, i - j) for i in range(order + 1) for j in range(i + 1)] if isinstance(order, int) else order
    kernel_size, stride, dilation = (as_pair(arguments[name]) for name in ("kernel_size", "stride", "dilation"))
    kernels = np.array(
        [
            [
                oracle.kernel(pair, sigma[b, n], values["mu"][b, n], values["theta"][b, n], kernel_size)
                for n, pair in enumerate(orders)
            ]
            for b in range(arguments["bases"])
        ]
    )
    padded = [oracle.pad(i, kernel_size, stride, padding, dilation, arguments["padding_mode"]) for i in image.numpy()]
    if arguments["separated"]:
        j = oracle.separated_layer(padded, values["beta"], values["lam"], kernels, stride, dilation)
    else:
        j = oracle.full_layer(padded, values["omega"], kernels, stride, dilation)
    return j + values["bias"][:, None, None] if arguments["bias"] else j


@given(configurations())
@settings(max_examples=150)
def test_layer_equals_the_equations(drawn):
    arguments, shape, seed = drawn
    torch.manual_seed(seed)
    layer = random_layer(**arguments)
    image = torch.randn(shape, dtype=torch.float64)
    amounts, fits = [], []
    for size, kernel, stride, dilation, pad in zip(
        shape[-2:], layer.kernel_size, layer.stride, layer.dilation, as_pair_of_padding(layer.padding), strict=True
    ):
        before, after = oracle.keras_same(size, kernel, stride, dilation) if pad is None else (pad, pad)
        amounts.append(after)
        fits.append(size + before + after >= (kernel - 1) * dilation + 1)
    assume(all(fits))  # else there is no output
    if arguments["padding_mode"] == "reflect":  # PyTorch reflects once
        assume(all(amount < size for amount, size in zip(amounts, shape[-2:], strict=True)))
    if arguments["padding_mode"] == "circular":  # and wraps once
        assume(all(amount <= size for amount, size in zip(amounts, shape[-2:], strict=True)))

    ours = layer(image).detach()

    assert ours.shape[:-2] == (*shape[:-3], arguments["out_channels"])
    if arguments["padding"] == "same":
        assert ours.shape[-2:] == tuple(math.ceil(n / s) for n, s in zip(shape[-2:], layer.stride, strict=True))
    for single, output in zip(image.view(-1, *shape[-3:]), ours.view(-1, *ours.shape[-3:]), strict=True):
        expected = equations(layer, arguments, single)
        np.testing.assert_allclose(output, expected, rtol=1e-9, atol=1e-11 * max(1, np.abs(expected).max()))


def as_pair_of_padding(padding: str | tuple[int, int]) -> tuple[int | None, int | None]:
    return (None, None) if isinstance(padding, str) else padding


def test_separated_is_the_full_layer_of_rank_one_weights():
    separated = random_layer(3, 4, 5, order=2, bases=2, separated=True)
    full = random_layer(3, 4, 5, order=2, bases=2)
    state = separated.state_dict()
    beta, lam = state.pop("beta"), state.pop("lam")
    full.load_state_dict({**state, "omega": torch.einsum("bjn,bni->bjin", lam, beta)})
    x = torch.randn(2, 3, 7, 8, dtype=torch.float64)
    torch.testing.assert_close(separated(x), full(x))


@variants
def test_kernels_are_eq_1_of_the_attributes(variant):
    layer = random_layer(2, 4, (4, 5), **variant)
    expected = gaussian_derivative_kernels(layer.sigma, layer.mu, layer.theta, layer.orders, (4, 5))
    assert layer.kernels().shape == (variant["bases"], 10, 4, 5)
    torch.testing.assert_close(layer.kernels(), expected)


@variants
def test_filters_are_the_einsums_beside_their_lines(variant):
    """Of eqs (2) and (3), and of eq. (4), whose weights are lambda beta."""
    layer = random_layer(2, 4, (4, 5), **variant)
    phi = layer.kernels()
    omega = torch.einsum("bjn,bni->bjin", layer.lam, layer.beta) if layer.separated else layer.omega
    expected = torch.einsum("bjin,bnyx->bjiyx", omega, phi).flatten(0, 1)
    torch.testing.assert_close(layer.filters(), expected, rtol=1e-12, atol=1e-14)


# Padding and strides


@even_same
@pytest.mark.parametrize("kernel_size", [3, 4, (2, 5), (1, 6)])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("padding_mode", PADDING_MODES)
def test_same_is_that_of_conv2d_at_stride_one(kernel_size, dilation, padding_mode):
    options = {"padding": "same", "dilation": dilation, "padding_mode": padding_mode}
    layer = random_layer(2, 3, kernel_size, **options)
    conv = nn.Conv2d(2, 3, kernel_size, dtype=torch.float64, **options)
    conv.load_state_dict({"weight": layer.filters().detach(), "bias": layer.state_dict()["bias"]})
    x = torch.randn(2, 2, 11, 12, dtype=torch.float64)
    torch.testing.assert_close(layer(x), conv(x))


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        (13, 6, 5, (1, 2)),  # the example of TensorFlow's documentation
        (28, 3, 2, (0, 1)),
        (28, 7, 2, (2, 3)),
        (27, 7, 2, (3, 3)),
        (14, 7, 3, (2, 3)),
        (15, 7, 3, (2, 2)),
        (16, 1, 3, (0, 0)),
    ],
)
def test_same_is_that_of_keras_at_larger_strides(size, kernel, stride, expected):
    assert oracle.keras_same(size, kernel, stride, 1) == expected
    assert same_padding(size, kernel, stride, 1) == expected


@pytest.mark.parametrize("stride", [2, 3, (3, 2)])
@pytest.mark.parametrize("size", [(9, 10), (12, 11), (5, 7)])
def test_same_at_larger_strides_gives_ceil(size, stride):
    layer = random_layer(1, 1, 5, stride=stride)
    x = torch.randn(1, 1, *size, dtype=torch.float64)
    by_hand = [oracle.keras_same(n, 5, s, 1) for n, s in zip(size, as_pair(stride), strict=True)]
    padded = nn.functional.pad(x, (*by_hand[1], *by_hand[0]))
    expected = nn.functional.conv2d(padded, layer.filters(), layer.bias, stride)
    assert expected.shape[-2:] == tuple(math.ceil(n / s) for n, s in zip(size, as_pair(stride), strict=True))
    torch.testing.assert_close(layer(x), expected)


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 5), st.integers(1, 3))
@settings(max_examples=300)
def test_same_padding_equals_the_documented_cases(size, kernel, stride, dilation):
    before, after = same_padding(size, kernel, stride, dilation)
    assert (before, after) == oracle.keras_same(size, kernel, stride, dilation)
    extent = (kernel - 1) * dilation + 1
    if before + after > 0 or size >= extent:
        assert (size + before + after - extent) // stride + 1 == math.ceil(size / stride)


# Parameters


@pytest.mark.parametrize("f_in", [1, 3])
@pytest.mark.parametrize(("f_out", "bases"), [(4, 1), (4, 2), (6, 3), (4, 4)])
@pytest.mark.parametrize(("order", "n"), [(0, 1), (3, 10), (4, 15), ([(1, 0), (0, 1)], 2)])
@pytest.mark.parametrize("trainable", SUBSETS, ids=str)
def test_parameter_counts(f_in, f_out, bases, order, n, trainable):
    """N f_in f_out + 5NB full, N (B f_in + f_out) + 5NB separated, whatever the kernel size."""
    per_kernel = sum({"sigma": 2, "mu": 2, "theta": 1}[name] for name in trainable)
    for separated, mixing in ((False, n * f_in * f_out), (True, n * (bases * f_in + f_out))):
        for bias in (True, False):
            layer = GaussianDerivativeConv2d(
                f_in, f_out, 7, order=order, bases=bases, separated=separated, bias=bias, trainable=trainable
            )
            count = sum(p.numel() for p in layer.parameters() if p.requires_grad)
            assert count == mixing + per_kernel * n * bases + (f_out if bias else 0)
            assert f"parameters={count} (Conv2d: {f_in * f_out * 49 + (f_out if bias else 0)})" in repr(layer)


def test_parameter_shapes():
    shapes = {name: tuple(p.shape) for name, p in GaussianDerivativeConv2d(3, 8, 5, bases=2).named_parameters()}
    geometry = {"raw_sigma": (2, 10, 2), "mu": (2, 10, 2), "theta": (2, 10), "bias": (8,)}
    assert shapes == {**geometry, "omega": (2, 4, 3, 10)}
    separated = GaussianDerivativeConv2d(3, 8, 5, bases=2, separated=True)
    shapes = {name: tuple(p.shape) for name, p in separated.named_parameters()}
    assert shapes == {**geometry, "beta": (2, 10, 3), "lam": (2, 4, 10)}


# Gradients


def check_gradients(layer: GaussianDerivativeConv2d, x: Tensor) -> None:
    """Numerical against analytical, in float64, of the input and of every parameter that trains."""
    names, parameters = zip(*((name, p) for name, p in layer.named_parameters() if p.requires_grad), strict=True)

    def output(x: Tensor, *parameters: Tensor) -> Tensor:
        return functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    assert gradcheck(output, (x.requires_grad_(), *parameters))


@variants
@pytest.mark.parametrize("trainable", SUBSETS, ids=str)
def test_gradcheck_of_trainable_subsets(variant, trainable):
    layer = random_layer(2, 4, (2, 3), order=1, trainable=trainable, **variant)
    check_gradients(layer, torch.randn(1, 2, 3, 3, dtype=torch.float64))


def test_gradients_reach_an_unbatched_input():
    layer = random_layer(2, 2, 3, order=2)
    check_gradients(layer, torch.randn(2, 4, 3, dtype=torch.float64))


# What trains


@variants
@pytest.mark.parametrize("trainable", SUBSETS, ids=str)
def test_only_what_is_trainable_trains(variant, trainable):
    layer = GaussianDerivativeConv2d(2, 4, 3, order=1, trainable=iter(trainable), **variant)
    assert layer.trainable == trainable
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    optimiser = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.1)
    layer(torch.randn(2, 2, 5, 5)).square().sum().backward()
    optimiser.step()
    for name, parameter in layer.named_parameters():
        frozen = name.removeprefix("raw_") in set(GEOMETRY) - set(trainable)
        assert torch.equal(parameter, before[name]) == frozen, name


@pytest.mark.parametrize(
    ("optimiser", "learning_rate", "sigma_min"),
    [(torch.optim.Adam, 10.0, 0.5), (torch.optim.SGD, 1e3, 0.3)],
    ids=["Adam", "SGD"],
)
def test_sigma_keeps_its_bound_and_nothing_is_nan(optimiser, learning_rate, sigma_min):
    layer = GaussianDerivativeConv2d(1, 2, 5, order=4, sigma_min=sigma_min)
    steps = optimiser(layer.parameters(), lr=learning_rate)
    x = torch.randn(1, 1, 6, 6)
    smallest, largest = math.inf, 0.0
    for step in range(1000):
        steps.zero_grad()
        layer(x).sum().backward()
        for name, parameter in layer.named_parameters():
            assert parameter.grad is not None
            assert parameter.grad.isfinite().all(), (step, name)
            parameter.grad = torch.randn_like(parameter)
        steps.step()
        sigma = layer.sigma.detach()
        smallest, largest = min(smallest, float(sigma.min())), max(largest, float(sigma.max()))
        assert layer.filters().isfinite().all(), step
    assert smallest == pytest.approx(sigma_min)  # the bound was reached
    assert smallest >= torch.tensor(sigma_min)
    assert largest > 100  # and the steps were huge


# sigma in pixels


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sigma_can_be_assigned(dtype):
    layer = GaussianDerivativeConv2d(1, 4, 3, order=2, bases=2, dtype=dtype)
    sigma = torch.empty(2, 6, 2, dtype=dtype).uniform_(0.51, 100)
    sigma[0, 0, 0] = 0.5001
    layer.sigma = sigma
    torch.testing.assert_close(layer.sigma, sigma, rtol=1e-6, atol=0)
    layer.sigma = 1.25
    torch.testing.assert_close(layer.sigma, torch.full((2, 6, 2), 1.25, dtype=dtype))
    layer.sigma = torch.tensor([0.75, 3.0])  # along u, along v
    torch.testing.assert_close(layer.sigma[..., 0], torch.full((2, 6), 0.75, dtype=dtype))
    torch.testing.assert_close(layer.sigma[..., 1], torch.full((2, 6), 3.0, dtype=dtype))
    assert layer.raw_sigma.requires_grad
    assert layer.raw_sigma.is_leaf


@pytest.mark.parametrize("value", [0.5, 0.2, 0, -1.0, math.inf, math.nan])
def test_bad_sigma(value):
    layer = GaussianDerivativeConv2d(1, 1, 3)
    before = layer.raw_sigma.detach().clone()
    message = f"sigma must be finite and greater than sigma_min = 0.5, got {value!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        layer.sigma = value
    with pytest.raises(ValueError, match=r"got tensor\("):
        layer.sigma = torch.tensor([1.0, value])
    assert torch.equal(layer.raw_sigma, before)


def test_sigma_of_another_shape_is_refused():
    layer = GaussianDerivativeConv2d(1, 1, 3)
    message = "sigma must broadcast to (B, N, 2) = (1, 10, 2), got shape (3, 2)"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        layer.sigma = torch.ones(3, 2)


# Initialisation


@variants
@pytest.mark.parametrize("init", ["variance_preserving", "authors"])
def test_initial_geometry_is_the_authors(variant, init):
    layer = GaussianDerivativeConv2d(2, 64, 3, init=init, **{**variant, "bases": variant["bases"] * 16})
    for value, low, high in ((layer.sigma, 0.5, 2), (layer.mu, -1, 1), (layer.theta, -math.pi, math.pi)):
        width = high - low
        assert low < value.min() < low + 0.15 * width
        assert high - 0.15 * width < value.max() < high
        assert abs(value.mean() - (low + high) / 2) < 0.15 * width
    assert layer.bias is not None
    assert not layer.bias.any()


@variants
def test_initial_weights(variant):
    layer = GaussianDerivativeConv2d(50, 32, 3, init="authors", **variant)
    for weights in (layer.beta, layer.lam) if variant["separated"] else (layer.omega,):
        assert -1 <= weights.min() < -0.9
        assert 0.9 < weights.max() < 1
        assert abs(weights.mean()) < 0.15
    layer = GaussianDerivativeConv2d(50, 32, 3, **variant)
    for weights in (layer.beta, layer.lam) if variant["separated"] else (layer.omega,):
        assert abs(weights.mean()) < 0.2 * weights.std()


def test_a_bound_above_the_initial_range_shifts_it():
    """U(0.5, 2) becomes U(sigma_min, sigma_min + 1.5): no sigma starts frozen at its bound."""
    sigma = GaussianDerivativeConv2d(1, 64, 3, bases=64, sigma_min=1.5).sigma
    assert 1.5 < sigma.min() < 1.6
    assert 2.9 < sigma.max() < 3
    assert abs(sigma.mean() - 2.25) < 0.06


# Arguments


@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 1},
        {"kernel_size": 6},
        {"kernel_size": (2, 7)},
        {"kernel_size": [2, 7]},
        {"order": 0},
        {"order": [(5, 0)]},
        {"bases": 2},
        {"bases": 8},
        {"stride": (1, 4)},
        {"padding": "valid"},
        {"padding": 0},
        {"padding": (0, 3)},
        {"dilation": 3},
        {"trainable": ()},
        {"trainable": ["mu"]},
        {"trainable": {"theta"}},
        {"sigma_min": 0.01},
        {"sigma_min": 1},
        {"init": "authors"},
        {"gain": 1},
        *({"padding_mode": mode} for mode in PADDING_MODES),
    ],
    ids=str,
)
def test_right_arguments(arguments):
    layer = GaussianDerivativeConv2d(3, 8, **{"kernel_size": 3, **arguments})
    assert layer(torch.randn(1, 3, 9, 9)).shape[:2] == (1, 8)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"in_channels": 0}, ValueError, "in_channels must be an integer >= 1, got 0"),
        ({"in_channels": 3.0}, TypeError, "in_channels must be an integer >= 1, got 3.0"),
        ({"out_channels": -8}, ValueError, "out_channels must be an integer >= 1, got -8"),
        ({"out_channels": None}, TypeError, "out_channels must be an integer >= 1, got None"),
        ({"kernel_size": 0}, ValueError, "kernel_size must be an integer >= 1 or a pair of them, got 0"),
        ({"kernel_size": -1}, ValueError, "kernel_size must be an integer >= 1 or a pair of them, got -1"),
        ({"kernel_size": 2.5}, TypeError, "kernel_size must be an integer >= 1 or a pair of them, got 2.5"),
        ({"kernel_size": "3"}, TypeError, "kernel_size must be an integer >= 1 or a pair of them, got '3'"),
        ({"kernel_size": (3,)}, TypeError, "kernel_size must be an integer >= 1 or a pair of them, got (3,)"),
        ({"kernel_size": (3, 0)}, ValueError, "kernel_size must be an integer >= 1 or a pair of them, got (3, 0)"),
        ({"kernel_size": (3, 3, 3)}, TypeError, "kernel_size must be an integer >= 1 or a pair of them, got (3, 3, 3)"),
        ({"kernel_size": True}, TypeError, "kernel_size must be an integer >= 1 or a pair of them, got True"),
        ({"order": -1}, ValueError, "order must be an integer >= 0 or a list of pairs (p, q), got -1"),
        ({"order": 1.5}, ValueError, "order must be an integer >= 0 or a list of pairs (p, q), got 1.5"),
        ({"order": []}, ValueError, "order must list at least one pair (p, q), got none"),
        ({"bases": 0}, ValueError, "bases must be an integer >= 1, got 0"),
        ({"bases": True}, TypeError, "bases must be an integer >= 1, got True"),
        ({"bases": 3}, ValueError, "out_channels must be a multiple of bases, got 8 and 3"),
        ({"bases": 16}, ValueError, "out_channels must be a multiple of bases, got 8 and 16"),
        ({"stride": 0}, ValueError, "stride must be an integer >= 1 or a pair of them, got 0"),
        ({"stride": (1, 1.0)}, TypeError, "stride must be an integer >= 1 or a pair of them, got (1, 1.0)"),
        ({"padding": "full"}, ValueError, "padding must be one of 'same', 'valid', got 'full'"),
        ({"padding": -1}, ValueError, "padding must be an integer >= 0 or a pair of them, got -1"),
        ({"padding": (1, -2)}, ValueError, "padding must be an integer >= 0 or a pair of them, got (1, -2)"),
        ({"padding": None}, TypeError, "padding must be an integer >= 0 or a pair of them, got None"),
        ({"dilation": 0}, ValueError, "dilation must be an integer >= 1 or a pair of them, got 0"),
        (
            {"padding_mode": "symmetric"},
            ValueError,
            "padding_mode must be one of 'zeros', 'reflect', 'replicate', 'circular', got 'symmetric'",
        ),
        ({"trainable": "sigma"}, ValueError, "trainable must list some of 'sigma', 'mu', 'theta', got 'sigma'"),
        (
            {"trainable": ("sigmas",)},
            ValueError,
            "trainable must list some of 'sigma', 'mu', 'theta', got ('sigmas',)",
        ),
        ({"trainable": None}, ValueError, "trainable must list some of 'sigma', 'mu', 'theta', got None"),
        ({"sigma_min": 0}, ValueError, "sigma_min must be a positive number, got 0"),
        ({"sigma_min": math.nan}, ValueError, "sigma_min must be a positive number, got nan"),
        ({"sigma_min": math.inf}, ValueError, "sigma_min must be a positive number, got inf"),
        ({"sigma_min": "0.5"}, TypeError, "sigma_min must be a positive number, got '0.5'"),
        ({"init": "glorot"}, ValueError, "init must be one of 'variance_preserving', 'authors', got 'glorot'"),
        ({"gain": -1.0}, ValueError, "gain must be a positive number, got -1.0"),
        ({"gain": math.nan}, ValueError, "gain must be a positive number, got nan"),
        ({"gain": "relu"}, TypeError, "gain must be a positive number, got 'relu'"),
    ],
    ids=str,
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        GaussianDerivativeConv2d(**{"in_channels": 3, "out_channels": 8, "kernel_size": 3, **arguments})


def test_unknown_keywords_are_not_swallowed():
    with pytest.raises(TypeError, match="jet"):
        GaussianDerivativeConv2d(3, 8, 3, jet=1)  # type: ignore[call-arg]


def test_constants_are_made_once_on_the_device_of_parameters(monkeypatch):
    """Which a loader assigned to a layer from the meta device; a training step may follow inference."""
    source = GaussianDerivativeConv2d(1, 2, 3, sampling="integrated")
    layer = GaussianDerivativeConv2d(1, 2, 3, sampling="integrated", device="meta")
    for name, parameter in source.named_parameters():
        setattr(layer, name, nn.Parameter(parameter.detach().clone()))
    made = []
    original = conv.kernel_constants
    monkeypatch.setattr(conv, "kernel_constants", lambda *args, **options: made.append(1) or original(*args, **options))
    x = torch.randn(1, 1, 4, 4)
    with torch.inference_mode():
        assert torch.equal(layer(x), source(x))
    layer(x).sum().backward()
    assert layer.mu.grad is not None
    assert len(made) == 1


def test_arguments_by_position_are_those_of_conv2d():
    arguments = (4, 8, 5, 2, 1, 3, 2, False, "reflect")
    layer, plain = GaussianDerivativeConv2d(*arguments), nn.Conv2d(*arguments)
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias")
    for name in (*names, "padding_mode"):
        assert getattr(layer, name) == getattr(plain, name)


def test_numpy_arguments():
    """As a grid search over an array gives them; the layer holds Python's own."""
    for n in np.array([1, 2, 4]):
        numbers: dict[str, Any] = {
            "out_channels": np.int32(8),
            "sigma_min": np.float32(0.25),
            "sigma_max": np.float64(3),
        }
        numbers |= {"in_channels": n, "kernel_size": (n, n), "stride": n, "padding": np.uint8(1)}
        numbers |= {"order": n, "bases": n, "separated": np.bool_(n == 2), "gain": n}
        layer = GaussianDerivativeConv2d(**numbers)
        plain = GaussianDerivativeConv2d(
            int(n),
            8,
            int(n),
            int(n),
            1,
            order=int(n),
            bases=int(n),
            separated=bool(n == 2),
            sigma_min=0.25,
            sigma_max=3,
        )
        assert json.loads(json.dumps(layer.config())) == json.loads(json.dumps({**plain.config(), "gain": float(n)}))
        assert layer(torch.randn(1, n, 9, 9)).shape == plain(torch.randn(1, int(n), 9, 9)).shape


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"order": [(1, 0), (0, 2)], "bias": False, "padding": "valid", "stride": (1, 2), "dilation": 2},
        {"shared": ("mu",), "isotropic": True, "sigma_min": 0.3, "sigma_max": 2.0, "trainable": ["theta"]},
        {"groups": 4, "bases": 2, "padding": 2},
        {"separated": True, "algorithm": "factorised", "init": "authors", "padding_mode": "reflect", "gain": 1},
    ],
    ids=str,
)
def test_config_makes_the_layer_again(options):
    layer = GaussianDerivativeConv2d(4, 8, (3, 4), **{"bases": 2, **options})
    written = json.dumps(layer.config())
    again = GaussianDerivativeConv2d.from_config(json.loads(written), dtype=torch.float64)
    assert json.dumps(again.config()) == written
    assert repr(again) == repr(layer)
    assert again.mu.dtype == torch.float64
    again.float().load_state_dict(layer.state_dict())
    x = torch.randn(1, 4, 9, 9)
    assert torch.equal(again(x), layer(x))
    for name, value in options.items():
        assert layer.config()[name] == getattr(layer, name) if name != "bias" else layer.config()["bias"] == value


def test_config_follows_what_trains():
    layer = GaussianDerivativeConv2d(3, 8, 3)
    layer.trainable = ("mu",)
    assert layer.config()["trainable"] == ("mu",)


class WeightNorm(nn.Module):
    """Norms of the filters as parameters of their own."""

    def __init__(self, filters: Tensor) -> None:
        super().__init__()
        self.norm = nn.Parameter(torch.ones_like(filters[:, 0, 0, 0]))

    def forward(self, filters: Tensor) -> Tensor:
        return filters * (self.norm / filters.flatten(1).norm(dim=1))[:, None, None, None]


@variants
def test_filters_pass_through_their_map(variant):
    """In every algorithm, deployed, copied and by state."""
    layer = random_layer(2, 4, 3, algorithm="factorised" if variant["separated"] else "auto", **variant)
    free, x = layer.filters(), torch.randn(1, 2, 8, 8, dtype=torch.float64)
    layer.filter_map = norm = WeightNorm(layer.filters())
    expected = free / free.flatten(1).norm(dim=1)[:, None, None, None]
    torch.testing.assert_close(layer.filters(), expected)
    torch.testing.assert_close(layer(x), F.conv2d(x, expected, layer.bias, padding=1))
    torch.testing.assert_close(layer.deploy()(x), layer(x))
    torch.testing.assert_close(copy.deepcopy(layer)(x), layer(x))
    layer(x).sum().backward()
    assert norm.norm.grad is not None
    assert "filter_map.norm" in layer.state_dict()
    with pytest.raises(ValueError, match=r"^algorithm must be one of 'auto', 'dense', got 'factorised'$"):
        layer.deploy("factorised")
    layer.filter_map = None
    assert torch.equal(layer.filters(), free)


def test_spectral_norm_of_the_filters():
    layer = random_layer(3, 8, 3, bases=2)
    carrier = nn.Module()
    carrier.weight = nn.Parameter(layer.filters())
    normalised = nn.utils.parametrizations.spectral_norm(carrier, n_power_iterations=100)
    layer.filter_map = normalised.get_submodule("parametrizations.weight.0")
    assert torch.linalg.matrix_norm(layer.filters().flatten(1), 2).item() == pytest.approx(1, rel=1e-6)


def test_repr_says_what_it_is():
    assert repr(GaussianDerivativeConv2d(3, 8, (5, 3), order=2, bases=2, stride=2, trainable=["mu"])) == (
        "GaussianDerivativeConv2d(3, 8, kernel_size=(5, 3), stride=(2, 2), padding='same', dilation=(1, 1), "
        "padding_mode='zeros', bias=True, parameters=176 (Conv2d: 368), order=2, bases=2, separated=False, "
        "trainable=('mu',), algorithm='auto')"
    )
    assert "order=[(0, 1), (1, 0)]" in repr(GaussianDerivativeConv2d(1, 1, 3, order=[(0, 1), (1, 0)]))


# deploy


def test_deployed_module_is_a_plain_convolution():
    layer = random_layer(3, 4, 5, order=2)
    state, generator = copy.deepcopy(layer.state_dict()), torch.get_rng_state()
    plain = layer.deploy()
    assert type(plain) is nn.Conv2d
    assert (plain.in_channels, plain.out_channels, plain.kernel_size) == (3, 4, (5, 5))
    assert (plain.stride, plain.padding) == ((1, 1), (2, 2))
    assert {name: tuple(p.shape) for name, p in plain.named_parameters()} == {"weight": (4, 3, 5, 5), "bias": (4,)}
    assert plain.weight.dtype == torch.float64
    assert plain.training
    assert not layer.eval().deploy().training
    # The layer is left as it is: nothing shared, nothing drawn, gradients as before.
    nn.init.zeros_(plain.weight)
    assert plain.bias is not None
    nn.init.zeros_(plain.bias)
    assert all(torch.equal(state[name], value) for name, value in layer.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert layer.filters().requires_grad


def test_conv2d_same_takes_no_other_padding():
    with pytest.raises(ValueError, match=r"^padding must be one of 'same', got 1$"):
        Conv2dSame(1, 1, 3, padding=1)


# dtypes, devices, formats


@variants
def test_bfloat16_module(variant, device):
    """Kernels in float32 also where the parameters are bfloat16; the output is that of the rounded parameters."""
    layer = random_layer(3, 4, 5, dtype=torch.bfloat16, device=device, **variant)
    x = torch.randn(2, 3, 8, 8, dtype=torch.bfloat16, device=device)
    assert layer.kernels().dtype == torch.float32
    assert layer.filters().dtype == torch.bfloat16
    output = layer(x)
    assert output.dtype == torch.bfloat16
    output.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
    single = copy.deepcopy(layer).float()
    expected = single(x.float())
    assert (output - expected).abs().max() < 0.03 * expected.abs().max()


def test_bfloat16_layers_start():
    """Half a pixel and a little rounds to half a pixel, the bound."""
    for seed in range(100):
        torch.manual_seed(seed)
        layer = GaussianDerivativeConv2d(1, 1, 3, dtype=torch.bfloat16)
        assert layer.filters().isfinite().all()


@variants
def test_autocast_computes_kernels_in_float32(variant, device):
    layer = random_layer(3, 4, 5, dtype=torch.float32, device=device, **variant)
    x = torch.randn(2, 3, 8, 8, device=device)
    expected, filters = layer(x), layer.filters()
    with torch.autocast(device, torch.bfloat16):
        output = layer(x)
        assert layer.kernels().dtype == torch.float32
        torch.testing.assert_close(layer.filters(), filters)
        torch.testing.assert_close(convolution_in(layer.deploy("dense")).weight, filters)
    assert output.dtype == torch.bfloat16
    # As near as nn.Conv2d comes with these filters.
    assert (output - expected).abs().max() < 0.02 * expected.abs().max()
    output.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in layer.parameters())


class Rounding(SynthesizedConv2d):
    """Filters by a matrix product, which autocast would round."""

    def __init__(self) -> None:
        super().__init__(1, 2, 3, bias=False)
        self.factors = nn.Parameter(torch.randn(2, 5))

    def filters(self) -> Tensor:
        product = self.factors @ torch.linspace(0, 1, 45).view(5, 9)
        assert product.dtype == torch.float32
        return product.view(2, 1, 3, 3)


def test_any_subclass_computes_its_filters_outside_autocast():
    layer = Rounding()
    x = torch.randn(1, 1, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    torch.testing.assert_close(layer.deploy()(x), layer(x))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@variants
def test_cuda_equals_cpu(variant):
    layer = random_layer(3, 4, (4, 5), stride=2, padding_mode="reflect", **variant)
    x = torch.randn(2, 3, 9, 8, dtype=torch.float64)
    on_gpu = copy.deepcopy(layer).cuda()
    torch.testing.assert_close(on_gpu(x.cuda()).cpu(), layer(x))
    layer(x).square().sum().backward()
    on_gpu(x.cuda()).square().sum().backward()
    for ours, theirs in zip(layer.parameters(), on_gpu.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(theirs.grad.cpu(), ours.grad)
