"""Constraints on the geometry, groups of parameters for the optimiser, and the penalty that keeps kernels inside."""

import copy
import math
import pickle
import re
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layer_table import dau, njet, rfnn, semi_structured, through_a_file
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.func import functional_call
from torch.nn.utils import parametrizations, parametrize, prune

from gdlayer import ConvBlock, GaussianDerivativeConv2d, parameter_groups, replace_conv2d, window_penalty
from gdlayer.algorithms import FULL, SEPARATED
from gdlayer.fit import fit_filters
from gdlayer.geometry import GEOMETRY, NARROWEST
from gdlayer.related import ScaleSpaceConv2d

SUBSETS = [subset for size in range(4) for subset in combinations(GEOMETRY, size)]
CONSTRAINTS: dict[str, dict[str, Any]] = {
    "all shared": {"shared": GEOMETRY},
    "scale and angle shared": {"shared": ("sigma", "theta")},
    "shift shared": {"shared": ("mu",)},
    "isotropic": {"isotropic": True},
    "bounded": {"sigma_max": 2.5},
    "everything": {"shared": GEOMETRY, "isotropic": True, "sigma_min": 0.8, "sigma_max": 1.5},
}
constraints = pytest.mark.parametrize("options", CONSTRAINTS.values(), ids=CONSTRAINTS.keys())


def make(*args: Any, dtype: torch.dtype = torch.float64, **options: Any) -> GaussianDerivativeConv2d:
    layer = GaussianDerivativeConv2d(*args, dtype=dtype, **options)
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    return layer


def unconstrained(layer: GaussianDerivativeConv2d) -> GaussianDerivativeConv2d:
    """A layer with the same kernels and weights, each kernel with its own parameters."""
    free = GaussianDerivativeConv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        order=layer.orders,
        bases=layer.bases,
        separated=layer.separated,
        sigma_min=layer.sigma_min / 2,
        algorithm=layer.algorithm,
        dtype=layer.theta.dtype,
    )
    with torch.no_grad():
        sigma, mu, theta = layer.geometry()
        free.sigma = sigma
        free.mu.copy_(mu)
        free.theta.copy_(theta)
        for name in ("omega", "beta", "lam", "bias"):
            if hasattr(layer, name):
                getattr(free, name).copy_(getattr(layer, name))
    return free


# Parameters


@pytest.mark.parametrize("shared", SUBSETS, ids=str)
@pytest.mark.parametrize("isotropic", [False, True])
@pytest.mark.parametrize("separated", [False, True])
def test_parameter_counts_fall(shared, isotropic, separated):
    b, n = 4, 10
    layer = GaussianDerivativeConv2d(3, 8, 5, bases=b, separated=separated, shared=iter(shared), isotropic=isotropic)
    each = {"sigma": 1 if isotropic else 2, "mu": 2, "theta": 1}
    geometry = sum(size * b * (1 if name in shared else n) for name, size in each.items())
    mixing = n * (b * 3 + 8) if separated else n * 3 * 8
    assert sum(p.numel() for p in layer.parameters()) == geometry + mixing + 8
    assert f"parameters={geometry + mixing + 8} (Conv2d: {3 * 8 * 25 + 8})" in repr(layer)
    assert layer.shared == shared
    assert [tuple(t.shape) for t in layer.geometry()] == [(b, n, 2), (b, n, 2), (b, n)]
    assert layer.sigma.shape == (b, n, 2)


def test_constrained_kernels_have_one_geometry():
    layer = make(1, 4, 7, bases=2, shared=GEOMETRY, isotropic=True)
    sigma, mu, theta = layer.geometry()
    for values in (sigma, mu, theta):
        assert (values == values[:, :1]).all()
        assert not torch.equal(values[0], values[1])
    assert (sigma[..., 0] == sigma[..., 1]).all()
    other = make(1, 4, 7, bases=2, shared=("sigma",))
    assert (other.sigma == other.sigma[:, :1]).all()
    assert not torch.equal(other.sigma[..., 0], other.sigma[..., 1])
    assert other.mu.unique().numel() == other.mu.numel() == 40


@pytest.mark.parametrize("trainable", [(), ("mu",), ("sigma", "theta")], ids=str)
def test_what_is_shared_can_be_frozen(trainable):
    layer = make(1, 2, 3, shared=GEOMETRY, isotropic=True, trainable=trainable)
    trains = {name.removeprefix("raw_") for name, p in layer.named_parameters() if p.requires_grad}
    assert trains == {*trainable, "omega", "bias"}


def test_mixing_weights_are_frozen_as_any_parameter():
    layer = GaussianDerivativeConv2d(3, 8, 5)
    layer.omega.requires_grad_(False)
    assert "parameters=58 (Conv2d: 608)" in repr(layer)
    layer(torch.randn(1, 3, 6, 6)).sum().backward()
    assert layer.omega.grad is None
    assert layer.mu.grad is not None


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


# The same layer with equal parameters


@st.composite
def constrained_layers(draw: st.DrawFn) -> GaussianDerivativeConv2d:
    bases, separated = draw(st.integers(1, 3)), draw(st.booleans())
    torch.manual_seed(draw(st.integers(0, 2**32 - 1)))
    return make(
        draw(st.integers(1, 3)),
        bases * draw(st.integers(1, 2)),
        draw(st.tuples(st.integers(1, 5), st.integers(1, 5))),
        order=draw(st.integers(0, 3)),
        bases=bases,
        separated=separated,
        shared=draw(st.sampled_from(SUBSETS)),
        isotropic=draw(st.booleans()),
        sigma_max=draw(st.sampled_from([None, 0.7, 1.9, 30.0])),
        algorithm=draw(st.sampled_from(SEPARATED if separated else FULL)),
    )


@given(constrained_layers())
@settings(max_examples=60)
def test_a_constraint_is_equality_of_parameters(layer):
    """Outputs are those of a free layer with equal parameters, and gradients sum what it has for each kernel."""
    free = unconstrained(layer)
    x = torch.randn(2, layer.in_channels, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(layer(x), free(x))
    weights = torch.randn_like(layer(x))
    sigma, mu, theta = (t.detach().requires_grad_() for t in free.geometry())
    state = {"mu": mu, "theta": theta, "raw_sigma": free._raw(sigma)}
    (functional_call(free, state, (x,)) * weights).sum().backward()
    ours = layer.sigma
    for tensor in (sigma, mu, theta):
        assert tensor.grad is not None
    (layer(x) * weights).sum().backward()
    for name, grad in (("mu", mu.grad), ("theta", theta.grad)):
        parameter = getattr(layer, name)
        assert grad is not None
        torch.testing.assert_close(parameter.grad, grad.sum(1, keepdim=True) if name in layer.shared else grad)
    (by_raw,) = torch.autograd.grad(ours, layer.raw_sigma, sigma.grad)
    torch.testing.assert_close(layer.raw_sigma.grad, by_raw)


@constraints
def test_constrained_layers_do_what_layers_do(options):
    layer = make(2, 4, (3, 5), order=2, bases=2, **options)
    x = torch.randn(2, 2, 6, 7, dtype=torch.float64)
    expected = layer(x)
    torch.testing.assert_close(layer.deploy()(x), expected)
    torch.testing.assert_close(torch.compile(layer, backend="eager", fullgraph=True)(x), expected)
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(copied(x), expected)
        assert repr(copied) == repr(layer)
    layers = [layer, make(2, 4, (3, 5), order=2, bases=2, **options)]
    parameters, _ = torch.func.stack_module_state(layers)  # type: ignore[arg-type]
    outputs = torch.vmap(lambda p: functional_call(layer, p, (x,)))(parameters)
    torch.testing.assert_close(outputs, torch.stack([each(x) for each in layers]))
    layer.reset_parameters()
    assert not torch.equal(layer(x), expected)


@constraints
@pytest.mark.parametrize("separated", [False, True])
def test_constraints_keep_the_variance(options, separated):
    torch.manual_seed(1)
    x = torch.randn(1, 16, 40, 40)
    layer = GaussianDerivativeConv2d(16, 256, 9, bases=16, separated=separated, gain=1.0, padding=0, **options)
    assert float(layer(x).detach().square().mean()) == pytest.approx(1, rel=0.25)


# Bounds of sigma


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_sigma_stays_between_its_bounds_whatever_s_is(dtype):
    layer = GaussianDerivativeConv2d(1, 1, 3, sigma_min=0.6, sigma_max=3.7, dtype=dtype)
    ulp = torch.finfo(dtype).eps * 4
    for s in (-math.inf, -1e30, -200.0, -20.0, 0.0, 20.0, 200.0, 1e30, math.inf):
        with torch.no_grad():
            layer.raw_sigma.fill_(s)
        assert (layer.sigma >= 0.6 - ulp).all()
        assert (layer.sigma <= 3.7 + ulp).all()
        assert layer.filters().isfinite().all()
    with torch.no_grad():
        layer.raw_sigma.zero_()
    torch.testing.assert_close(layer.sigma, torch.full_like(layer.sigma, 2.15))


def test_training_with_huge_steps_keeps_the_bounds():
    layer = GaussianDerivativeConv2d(1, 2, 5, order=4, sigma_max=2.0)
    optimiser = torch.optim.Adam(layer.parameters(), lr=10.0)
    smallest, largest = math.inf, 0.0
    for _ in range(300):
        for parameter in layer.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimiser.step()
        sigma = layer.sigma.detach()
        smallest, largest = min(smallest, float(sigma.min())), max(largest, float(sigma.max()))
        assert layer.filters().isfinite().all()
    assert (smallest, largest) == pytest.approx((0.5, 2.0))
    assert smallest >= 0.5
    assert largest <= 2.0 + 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sigma_max", [None, 3.0])
@pytest.mark.parametrize("shared", [(), ("sigma",)], ids=str)
@pytest.mark.parametrize("isotropic", [False, True])
def test_sigma_can_be_assigned(dtype, sigma_max, shared, isotropic):
    layer = GaussianDerivativeConv2d(
        1, 4, 3, order=2, bases=2, sigma_max=sigma_max, shared=shared, isotropic=isotropic, dtype=dtype
    )
    sizes = 2, 1 if shared else 6, 1 if isotropic else 2
    sigma = torch.empty(sizes, dtype=dtype).uniform_(0.501, 2.999)
    sigma[0, 0, 0] = 2.9999
    layer.sigma = sigma
    assert layer.raw_sigma.shape == sizes
    torch.testing.assert_close(layer.sigma, sigma.expand(2, 6, 2), rtol=1e-5, atol=0)
    before = layer.raw_sigma.detach().clone()
    layer.sigma = layer.sigma.detach()
    torch.testing.assert_close(layer.raw_sigma.detach(), before, rtol=1e-2, atol=1e-4)
    layer.sigma = 1.25
    torch.testing.assert_close(layer.sigma, torch.full((2, 6, 2), 1.25, dtype=dtype))


@pytest.mark.parametrize("value", [0.5, 3.0, 4, -1.0, math.inf, math.nan])
def test_sigma_beyond_its_bounds_is_refused(value):
    layer = GaussianDerivativeConv2d(1, 1, 3, sigma_max=3.0)
    before = layer.raw_sigma.detach().clone()
    message = f"sigma must be finite and greater than sigma_min = 0.5 and less than sigma_max = 3.0, got {value!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        layer.sigma = value
    assert torch.equal(layer.raw_sigma, before)


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"isotropic": True}, [1.0, 2.0]),
        ({"shared": ("sigma",)}, [[1.0], [2.0], [1.0]]),
        ({"shared": ("sigma",), "isotropic": True}, [[[1.0, 1.0], [1.0, 1.0], [1.0, 1.5]]]),
    ],
    ids=str,
)
def test_sigma_that_breaks_a_constraint_is_refused(options, value):
    layer = GaussianDerivativeConv2d(1, 1, 3, order=1, **options)
    before = layer.raw_sigma.detach().clone()
    told = f"shared={layer.shared} and isotropic={layer.isotropic} leave one number, got tensor("
    with pytest.raises(ValueError, match=r"^sigma must be constant along the axes that " + re.escape(told)):
        layer.sigma = torch.tensor(value)
    assert torch.equal(layer.raw_sigma, before)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.5, None, (0.5, 2)),
        (0.3, None, (0.5, 2)),
        (1.5, None, (1.5, 3)),
        (0.5, 1.0, (0.5, 1)),
        (0.5, 9.0, (0.5, 2)),
        (0.3, 0.7, (0.5, 0.7)),
        (0.2, 0.4, (0.2, 0.4)),
        (0.01, 0.4, (0.15, 0.4)),
        (0.2, 0.5, (0.2, 0.5)),
        (2.0, 2.5, (2, 2.5)),
        (1.0, 1.0005, (1, 1.0005)),
    ],
)
def test_initial_sigma_is_uniform_between_the_bounds(low, high, expected):
    layer = GaussianDerivativeConv2d(1, 64, 3, bases=64, sigma_min=low, sigma_max=high, dtype=torch.float64)
    sigma, (first, last) = layer.sigma.detach(), expected
    assert first < sigma.min()
    assert sigma.max() < last
    assert abs(sigma.mean() - (first + last) / 2) < 0.05 * (last - first)
    assert sigma.std() == pytest.approx((last - first) / math.sqrt(12), rel=0.1) or last - first < 0.01
    assert layer.raw_sigma.isfinite().all()


@pytest.mark.parametrize("kernel_size", [1, 2, 3, (1, 4), 7])
@pytest.mark.parametrize("order", [0, 3, 6])
def test_weights_start_finite_at_the_smallest_bounds(kernel_size, order):
    """In float32, also where each kernel is much narrower than a pixel."""
    for seed in range(20):
        torch.manual_seed(seed)
        layer = GaussianDerivativeConv2d(
            1, 8, kernel_size, order=order, bases=8, sigma_min=1e-3, sigma_max=math.nextafter(NARROWEST, 1)
        )
        assert layer.omega.isfinite().all()
        assert layer.filters().isfinite().all()


@pytest.mark.parametrize("end", [0, 1])
@pytest.mark.parametrize("sigma_max", [None, 1.5])
def test_no_layer_starts_at_a_bound(end, sigma_max, monkeypatch):
    """A draw may be the end of its range, where s would be infinite and its gradient zero."""
    monkeypatch.setattr(Tensor, "uniform_", lambda self, *ends: self.fill_(ends[end]))
    layer = GaussianDerivativeConv2d(1, 1, 3, sigma_max=sigma_max)
    assert layer.raw_sigma.isfinite().all()
    layer.sigma.sum().backward()
    assert layer.raw_sigma.grad is not None
    assert (layer.raw_sigma.grad > 1e-4).all()


# Arguments


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"separated": "yes"}, TypeError, "separated must be True or False, got 'yes'"),
        ({"separated": 1}, TypeError, "separated must be True or False, got 1"),
        ({"separated": None}, TypeError, "separated must be True or False, got None"),
        ({"isotropic": "sigma"}, TypeError, "isotropic must be True or False, got 'sigma'"),
        ({"isotropic": 0}, TypeError, "isotropic must be True or False, got 0"),
        ({"shared": "sigma"}, ValueError, "shared must list some of 'sigma', 'mu', 'theta', got 'sigma'"),
        ({"shared": ["weight"]}, ValueError, "shared must list some of 'sigma', 'mu', 'theta', got ('weight',)"),
        ({"shared": True}, ValueError, "shared must list some of 'sigma', 'mu', 'theta', got True"),
        ({"sigma_max": 0.5}, ValueError, "sigma_max must be greater than sigma_min = 0.5, got 0.5"),
        ({"sigma_min": 3, "sigma_max": 2}, ValueError, "sigma_max must be greater than sigma_min = 3, got 2"),
        (
            {"sigma_min": 0.1, "sigma_max": 0.15},
            ValueError,
            "sigma_max must be greater than 0.15, as narrower kernels can miss all pixels, got 0.15",
        ),
        ({"sigma_max": 0}, ValueError, "sigma_max must be a positive number, got 0"),
        ({"sigma_max": math.inf}, ValueError, "sigma_max must be a positive number, got inf"),
        ({"sigma_max": math.nan}, ValueError, "sigma_max must be a positive number, got nan"),
        ({"sigma_max": "3"}, TypeError, "sigma_max must be a positive number, got '3'"),
    ],
    ids=str,
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        GaussianDerivativeConv2d(3, 8, 3, **arguments)


# State dicts


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"shared": ("sigma",)}, ["raw_sigma"]),
        ({"shared": ("mu", "theta")}, ["mu", "theta"]),
        ({"isotropic": True}, ["raw_sigma"]),
    ],
    ids=str,
)
def test_state_dicts_of_other_constraints_are_refused_by_shape(options, names):
    layer, other = GaussianDerivativeConv2d(2, 4, 3), GaussianDerivativeConv2d(2, 4, 3, **options)
    for source, target in ((layer, other), (other, layer)):
        with pytest.raises(RuntimeError) as caught:
            target.load_state_dict(source.state_dict())
        assert re.findall(r"size mismatch for (\w+)", str(caught.value)) == names


SAID = {
    "sigma_min": "0.5",
    "sigma_max": "None",
    "kernel_size": "[3, 3]",
    "order": "3",
    "sampling": "'point'",
    "normalise": "0.0",
}
OTHERS: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({}, {}),
    ({"sigma_min": 0.8}, {"sigma_min": "0.8"}),
    ({"sigma_max": 3.0}, {"sigma_max": "3.0"}),
    ({"sigma_max": 4.0, "kernel_size": (5, 4)}, {"sigma_max": "4.0", "kernel_size": "[5, 4]"}),
    ({"order": [(0, 1)]}, {"order": "[[0, 1]]"}),
    ({"order": [(1, 0)], "sampling": "discrete"}, {"order": "[[1, 0]]", "sampling": "'discrete'"}),
    ({"normalise": 0.25}, {"normalise": "0.25"}),
]


@pytest.mark.parametrize(("source", "target"), list(combinations(OTHERS, 2)), ids=str)
@pytest.mark.parametrize("strict", [False, True])
def test_state_dicts_of_other_layers_are_refused(source, target, strict):
    def model(options: dict[str, Any]) -> nn.Module:
        return nn.ModuleDict({"stem": ConvBlock(GaussianDerivativeConv2d(2, 4, **{"kernel_size": 3, **options}))})

    for (old, had), (new, has) in ((source, target), (target, source)):
        had, has = SAID | had, SAID | has
        message = "stem.conv._extra_state: " + "; ".join(
            f"{name} must be {has[name]}, that of the layer, got {had[name]}" for name in SAID if had[name] != has[name]
        )
        for state in (model(old).state_dict(), through_a_file(model(old).state_dict()), dict(model(old).state_dict())):
            with pytest.raises(RuntimeError, match=re.escape(message)):
                model(new).load_state_dict(state, strict=strict)
        model(old).load_state_dict(through_a_file(model(old).state_dict()), strict=strict)


def bounds(*values: float, dtype: torch.dtype = torch.float64) -> Tensor:
    """What state dicts held before of all that they say now."""
    return torch.tensor(values, dtype=dtype)


@pytest.mark.parametrize(
    ("options", "state"),
    [
        ({}, bounds(0.5, math.inf)),
        ({}, bounds(0.5, math.nan)),  # an average by differences: inf - inf
        ({"sigma_min": 0.3, "sigma_max": 2.7, "sampling": "discrete"}, bounds(0.3, 2.7)),
        ({"sigma_min": 0.3, "sigma_max": 2.7}, bounds(0.3, 2.7, dtype=torch.bfloat16)),
    ],
    ids=str,
)
def test_state_dicts_that_hold_the_bounds_alone(options, state):
    layer, other = make(2, 4, 3, **options), make(2, 4, 3, **options)
    other.load_state_dict({**layer.state_dict(), "_extra_state": state})
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    assert torch.equal(other(x), layer(x))
    message = "_extra_state: sigma_min must be 0.4, that of the layer, got "
    with pytest.raises(RuntimeError, match=re.escape(message)):
        make(2, 4, 3, sigma_min=0.4).load_state_dict({**layer.state_dict(), "_extra_state": state})


@pytest.mark.parametrize(
    ("junk", "quoted"),
    [
        (torch.tensor([0.5]), "tensor([0.5000])"),
        (torch.tensor([0, 1]), "tensor([0, 1])"),
        ((0.5, math.inf), "(0.5, inf)"),
        (torch.empty(2, device="meta"), "tensor(..., device='meta', size=(2,))"),
        (torch.tensor([0.5, math.inf]).to_sparse(), "tensor(indices=tensor("),
        (torch.tensor([0.5, math.inf], dtype=torch.complex64), "tensor([0.5000+0.j,    inf+0.j])"),
        (torch.full((80,), math.nan), "tensor([nan, nan"),
        (torch.tensor([49.0]), "tensor([49.])"),  # JSON, but of a number
        ("0.5", "'0.5'"),
        (None, "None"),
    ],
    ids=str,
)
def test_junk_in_the_place_of_what_a_state_dict_says_is_refused(junk, quoted):
    layer = make(2, 4, 3)
    message = f"_extra_state: it must be that of a GaussianDerivativeConv2d, got {quoted}"
    with pytest.raises(RuntimeError, match=re.escape(message)):
        layer.load_state_dict({**layer.state_dict(), "_extra_state": junk})


def test_what_a_state_dict_says_is_finite_float32_and_may_be_rounded():
    """As when a whole state dict is converted to half precision."""
    layer, other = make(2, 4, 3, sigma_min=0.3), make(2, 4, 3, sigma_min=0.3)
    said = layer.state_dict()["_extra_state"]
    assert (said.dtype, said.device.type, bool(said.isfinite().all())) == (torch.float32, "cpu", True)
    other.load_state_dict({name: value.bfloat16() for name, value in layer.state_dict().items()})
    assert torch.equal(other.mu, layer.mu.bfloat16().double())


@pytest.mark.parametrize(
    ("options", "average"),
    [
        ({}, lambda a, b: a.lerp(b, 0.1)),
        ({"sigma_min": 0.3, "sigma_max": 2.7}, lambda a, b: 0.9 * a + 0.1 * b),  # rounds
    ],
    ids=["by differences", "by sums"],
)
def test_state_dicts_may_be_averaged(options, average):
    layer, other = make(2, 4, 3, **options), make(2, 4, 3, **options)
    state = layer.state_dict()
    for _ in range(100):
        state = {name: average(value, layer.state_dict()[name]) for name, value in state.items()}
    other.load_state_dict(state)
    torch.testing.assert_close(other.sigma, layer.sigma)


def test_a_state_dict_without_bounds():
    """Strictly it lacks a key; otherwise its numbers are taken as they are, aloud."""
    model, other = nn.Sequential(make(2, 4, 3)), nn.Sequential(make(2, 4, 3))
    state = dict(model.named_parameters())
    message = (
        "0.raw_sigma comes without 0._extra_state: sigma and the kernels change unless they are of a layer with "
        "{'sigma_min': 0.5, 'sigma_max': None, 'kernel_size': (3, 3), 'order': 3, 'sampling': 'point', "
        "'normalise': 0.0}"
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        other.load_state_dict(state, strict=False)
    with (
        pytest.warns(UserWarning, match="comes without"),
        pytest.raises(RuntimeError, match=r'Missing key.*"0\._extra_state"'),
    ):
        other.load_state_dict(state)
    other.load_state_dict({"0.mu": state["0.mu"]}, strict=False)  # says nothing of sigma
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    assert torch.equal(other(x), model(x))


# What looks like an assignment


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.sigma.clamp_(max=1.0),
        lambda layer: layer.sigma.data.clamp_(max=1.0),
        lambda layer: layer.sigma.detach()[0].mul_(2),
        lambda layer: layer.sigma.view(-1).zero_(),
        lambda layer: layer.sigma.__setitem__((0, 0, 0), 1.0),
        lambda layer: setattr(layer.sigma, "data", torch.ones(2, 6, 2)),
        lambda layer: torch.clamp(layer.sigma, max=1.0, out=layer.sigma),
        lambda layer: nn.init.ones_(layer.sigma),
    ],
    ids=["clamp_", "data", "a view", "a flat view", "an element", "data assigned", "out", "init"],
)
@pytest.mark.parametrize("gradients", [False, True])
def test_sigma_cannot_be_changed_in_place(change, gradients):
    """It would change a tensor that nobody reads again."""
    layer = make(2, 4, 3, bases=2, order=2)
    message = (
        "this tensor is computed at every access and cannot be changed in place: assign a new one, as in layer.sig"
    )
    with torch.set_grad_enabled(gradients), pytest.raises(RuntimeError, match=f"^{re.escape(message)}"):
        change(layer)


def test_sigma_reads_as_any_tensor(tmp_path):
    layer = make(2, 4, 3)
    before = layer.sigma.clone()
    assert type(before) is type(before + layer.sigma) is type(layer.sigma.sum()) is Tensor
    layer.sigma *= 1.5
    torch.testing.assert_close(layer.sigma, 1.5 * before)
    layer.sigma = layer.sigma.clamp(max=1.0)
    assert layer.sigma.max() <= 1
    before.mul_(2)
    torch.zeros_like(before).add_(layer.sigma)
    assert repr(layer.sigma).startswith("tensor(")
    torch.save(layer.sigma.detach(), tmp_path / "sigma.pt")
    for copied in (torch.load(tmp_path / "sigma.pt", weights_only=True), copy.deepcopy(layer.sigma.detach())):
        assert type(copied) is Tensor
        assert torch.equal(copied, layer.sigma)
    leaf = layer.sigma.detach().requires_grad_()
    leaf.sum().backward()
    assert leaf.grad is not None
    layer.sigma.square().sum().backward()
    assert layer.raw_sigma.grad is not None


def test_what_trains_can_be_assigned():
    layer = make(2, 4, 3)
    layer.trainable = ["theta", "mu"]
    assert layer.trainable == ("mu", "theta")
    assert [p.requires_grad for p in (layer.raw_sigma, layer.mu, layer.theta)] == [False, True, True]
    assert "trainable=('mu', 'theta')" in repr(layer)
    layer.requires_grad_(False)
    assert layer.trainable == ()
    assert "trainable=()" in repr(layer)
    with pytest.raises(ValueError, match=r"^trainable must list some of 'sigma', 'mu', 'theta', got 'mu'$"):
        layer.trainable = "mu"
    assert layer.trainable == ()


# Conversion


@constraints
@pytest.mark.parametrize("separated", [False, True])
def test_filters_are_fitted_within_the_constraints(options, separated):
    source = make(2, 4, 5, order=2, bases=2, separated=separated, **options)
    layer = copy.deepcopy(source)
    nn.init.normal_(layer.lam if separated else layer.omega)
    assert fit_filters(layer, source.filters()) < 1e-3
    free = torch.randn(4, 2, 5, 5, dtype=torch.float64)
    still = fit_filters(layer, free)
    assert fit_filters(layer, free, steps=15) < still
    for name in layer.shared:
        assert layer.geometry()[GEOMETRY.index(name)].unique(dim=1).shape[1] == 1
    assert not layer.isotropic or torch.equal(layer.sigma[..., 0], layer.sigma[..., 1])
    assert layer.sigma_max is None or layer.sigma.max() <= layer.sigma_max


@constraints
def test_convolutions_are_replaced_by_constrained_layers(options):
    model = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 4, 3))
    report = replace_conv2d(model, fit=True, bases=2, growth="allow", **options)
    for index, entry in zip((0, 2), report.replaced, strict=True):
        layer = model[index]
        assert isinstance(layer, GaussianDerivativeConv2d)
        assert all(getattr(layer, name) == value for name, value in options.items())
        assert entry.parameters_after == sum(p.numel() for p in layer.parameters())
        assert entry.residual is not None
        assert entry.residual < 1
    assert model(torch.randn(1, 3, 9, 9)).shape == (1, 4, 7, 7)


# parameter_groups


def network() -> nn.ModuleDict:
    layer = GaussianDerivativeConv2d(3, 4, 5, trainable=("mu",))
    return nn.ModuleDict(
        {
            "stem": ConvBlock(layer),
            "again": layer,
            "separated": nn.Sequential(GaussianDerivativeConv2d(4, 4, 3, separated=True, shared=GEOMETRY)),
            "head": nn.Conv2d(4, 2, 1),
        }
    )


def test_every_parameter_is_in_one_group():
    model = network()
    groups = parameter_groups(model)
    names = {id(p): name for name, p in model.named_parameters()}
    found = {group["name"]: sorted(names[id(p)] for p in group["params"]) for group in groups}
    assert found == {
        "geometry": [
            *("separated.0.mu", "separated.0.raw_sigma", "separated.0.theta"),
            *("stem.conv.mu", "stem.conv.raw_sigma", "stem.conv.theta"),
        ],
        "mixing": ["separated.0.beta", "separated.0.lam", "stem.conv.omega"],
        "other": [
            *("head.bias", "head.weight", "separated.0.bias"),
            *("stem.conv.bias", "stem.norm.bias", "stem.norm.weight"),
        ],
    }
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_the_layer_itself_is_a_model():
    groups = parameter_groups(GaussianDerivativeConv2d(1, 1, 3, bias=False))
    assert [(group["name"], len(group["params"])) for group in groups] == [("geometry", 3), ("mixing", 1)]
    assert [group["name"] for group in parameter_groups(nn.Linear(2, 2))] == ["other"]


def test_weights_used_twice_are_in_the_group_of_their_layer():
    layer, tied = GaussianDerivativeConv2d(1, 2, 3), nn.Module()
    tied.mu = layer.mu
    tied.table = layer.omega
    groups = parameter_groups(nn.ModuleList([tied, layer]))
    assert [len(group["params"]) for group in groups] == [3, 1, 1]


RELATIVES: dict[str, tuple[nn.Module, set[str]]] = {
    "rfnn": (rfnn(2, 4), set()),
    "dau": (dau(2, 4), {"raw_sigma", "mu"}),
    "njet": (njet(2, 4), {"log2_sigma"}),
    "semi-structured": (semi_structured(2, 4), {"log_scale", "shear"}),
    "scale-space": (ScaleSpaceConv2d(2, 4, sigma=1.0), set()),
}


@pytest.mark.parametrize(("layer", "geometry"), RELATIVES.values(), ids=RELATIVES.keys())
def test_what_shapes_the_kernels_of_relatives_is_geometry(layer, geometry):
    names = {id(p): name for name, p in layer.named_parameters()}
    found = {group["name"]: {names[id(p)] for p in group["params"]} for group in parameter_groups(layer)}
    assert found.get("geometry", set()) == geometry
    assert found["mixing"] == set(names.values()) - geometry - {"bias"}


class Doubled(nn.Module):
    """A parametrisation with a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


COMPUTED: dict[str, Callable[[nn.Module, str], object]] = {
    "parametrised": lambda layer, name: parametrize.register_parametrization(layer, name, Doubled()),
    "weight norm": parametrizations.weight_norm,
    "pruned": lambda layer, name: prune.random_unstructured(layer, name, 0.5),
}
computed = pytest.mark.parametrize("compute", COMPUTED.values(), ids=COMPUTED.keys())


@computed
@pytest.mark.parametrize("layer", [make(2, 4, 3), make(2, 4, 3, separated=True), dau(2, 4)], ids=["full", "eq4", "dau"])
def test_what_trains_in_the_place_of_a_parameter_is_in_its_group(compute, layer):
    layer = copy.deepcopy(layer)
    for name in (*layer.shaping, *layer.mixing):
        compute(layer, name)
    names = {id(p): name for name, p in layer.named_parameters()}
    groups = {group["name"]: [names[id(p)] for p in group["params"]] for group in parameter_groups(layer)}
    assert groups["other"] == ["bias"]
    for group, expected in (("geometry", layer.shaping), ("mixing", layer.mixing)):
        found = {
            name.removeprefix("parametrizations.").partition(".")[0].removesuffix("_orig") for name in groups[group]
        }
        assert found == set(expected)


@computed
def test_what_is_computed_is_not_set_in_silence(compute):
    layer = make(2, 4, 3)
    compute(layer, "raw_sigma")
    before = copy.deepcopy(layer.state_dict())
    message = r"^raw_sigma must be a parameter of its own to be set, got one that is computed from .*raw_sigma"
    with pytest.raises(RuntimeError, match=message):
        layer.sigma = 1.5
    with pytest.raises(RuntimeError, match=message):
        layer.reset_parameters()
    with pytest.raises(RuntimeError, match=message):
        fit_filters(layer, torch.randn(4, 2, 3, 3))
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    for made, name in (
        (make(2, 4, 3), "omega"),
        (dau(2, 4), "mu"),
        (semi_structured(2, 4), "free"),
        (rfnn(2, 4), "bias"),
    ):
        compute(made, name)
        with pytest.raises(RuntimeError, match=f"^{name} must be a parameter of its own to be set, got"):
            made.reset_parameters()


@pytest.mark.parametrize(("layer", "name"), [(make(2, 4, 3), "theta"), (rfnn(2, 4), "alpha")], ids=["ours", "rfnn"])
def test_a_pruned_layer_can_be_converted(layer, name):
    layer = prune.random_unstructured(copy.deepcopy(layer).float(), name, 0.5).double()
    assert layer(torch.ones(1, 2, 7, 7, dtype=torch.float64)).dtype == torch.float64


@computed
def test_what_trains_can_be_assigned_where_it_is_computed(compute):
    layer = make(2, 4, 3)
    compute(layer, "mu")
    layer.trainable = ("theta",)
    assert layer.trainable == ("theta",)
    assert not any(p.requires_grad for name, p in layer.named_parameters() if "mu" in name)
    layer.trainable = ("mu",)
    assert layer.trainable == ("mu",)


def test_options_go_to_their_group_and_geometry_does_not_decay():
    given = {"geometry": {"lr": 1e-2}, "mixing": {"lr": 1e-3, "weight_decay": 0.3}, "other": {"betas": (0.8, 0.9)}}
    before = copy.deepcopy(given)
    groups = parameter_groups(network(), **given)
    assert given == before
    optimiser = torch.optim.AdamW(groups, lr=0.5, weight_decay=0.1)
    told = [(group["lr"], group["weight_decay"], group["betas"]) for group in optimiser.param_groups]
    assert told == [(1e-2, 0.0, (0.9, 0.999)), (1e-3, 0.3, (0.9, 0.999)), (0.5, 0.1, (0.8, 0.9))]
    decaying = parameter_groups(network(), geometry={"weight_decay": 0.2})
    assert decaying[0]["weight_decay"] == 0.2


@pytest.mark.parametrize("optimiser", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam"])
def test_optimisers_take_the_groups(optimiser):
    model = network()
    steps = getattr(torch.optim, optimiser)(parameter_groups(model, geometry={"lr": 0.0}), lr=0.1, weight_decay=0.5)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model["separated"](model["stem"](torch.randn(2, 3, 8, 8))).square().sum().backward()
    steps.step()
    for name, parameter in model.named_parameters():
        geometry = name.endswith(("raw_sigma", "mu", "theta"))
        assert torch.equal(parameter, before[name]) == (geometry or name.startswith("head")), name


@pytest.mark.parametrize("key", ["params", "name"])
@pytest.mark.parametrize("group", ["geometry", "mixing", "other"])
def test_keys_of_the_groups_themselves_are_refused(group, key):
    message = f"^{group} must hold options of the optimiser, got '{key}', which is set here$"
    with pytest.raises(ValueError, match=message):
        parameter_groups(network(), **{group: {"lr": 1.0, key: []}})


# window_penalty


def literal_penalty(layer: GaussianDerivativeConv2d) -> list[float]:
    """The penalty of each kernel, as the formula says it."""
    sigma, mu, theta = (t.detach() for t in layer.geometry())
    values = []
    for b in range(layer.bases):
        for n in range(len(layer.orders)):
            cos, sin = math.cos(theta[b, n]), math.sin(theta[b, n])
            (s, t), (m, k) = sigma[b, n].tolist(), mu[b, n].tolist()
            centre = m * cos - k * sin, m * sin + k * cos
            spread = math.hypot(s * cos, t * sin), math.hypot(s * sin, t * cos)
            height, width = layer.kernel_size
            over = [abs(c) + 2 * d - half / 2 for c, d, half in zip(centre, spread, (width, height), strict=True)]
            values.append(sum(max(0.0, o) ** 2 for o in over))
    return values


@given(constrained_layers(), st.floats(0, 3))
def test_penalty_is_the_formula(layer, scale):
    with torch.no_grad():
        layer.mu.mul_(scale)
    values = literal_penalty(layer)
    assert float(window_penalty(layer).detach()) == pytest.approx(sum(values) / len(values), rel=1e-9, abs=1e-12)


def test_penalty_of_a_model_is_the_mean_over_its_kernels():
    first, second = make(1, 2, 3, bases=2), make(2, 1, 5, order=1)
    model = nn.Sequential(first, nn.Sequential(second, first))
    values = literal_penalty(first) + literal_penalty(second)
    assert len(values) == 23
    assert float(window_penalty(model).detach()) == pytest.approx(sum(values) / 23)


def test_penalty_is_zero_in_a_wide_window():
    layer = make(1, 2, 15)  # sigma up to 2, centres up to 1.41 away
    assert window_penalty(layer) == 0
    layer.sigma = 3.75
    with torch.no_grad():
        layer.mu.zero_()
    assert window_penalty(layer) < 1e-12  # a quarter of the filter
    layer.sigma = 3.9
    assert window_penalty(layer) > 0


def test_penalty_is_differentiable():
    layer = make(1, 2, 3, order=1)
    names, parameters = zip(*layer.named_parameters(), strict=True)

    class Penalty(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self) -> Tensor:
            return window_penalty(self.layer)

    module = Penalty()

    def penalty(*parameters: Tensor) -> Tensor:
        state = {f"layer.{name}": p for name, p in zip(names, parameters, strict=True)}
        return functional_call(module, state, ())

    assert window_penalty(layer) > 0
    assert gradcheck(penalty, parameters)


def test_descent_brings_kernels_back(device):
    layer = GaussianDerivativeConv2d(1, 1, (5, 9), sigma_min=0.5, device=device)
    layer.sigma = 4.0
    with torch.no_grad():
        layer.mu.mul_(6)
    optimiser = torch.optim.Adam(parameter_groups(layer), lr=0.1)
    for _ in range(200):
        optimiser.zero_grad()
        window_penalty(layer).backward()
        optimiser.step()
    assert window_penalty(layer) < 1e-3
    assert layer.check_derivatives(tolerance=0.5).truncation.max() < 0.35


def test_a_model_without_kernels_has_no_penalty():
    with pytest.raises(ValueError, match=r"^model must have a GaussianDerivativeConv2d, got Sequential without one$"):
        window_penalty(nn.Sequential(nn.Conv2d(1, 1, 3)))
