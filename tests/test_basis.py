"""Eq. (1): the orders of an N-jet, the sampling grid, and the kernels against a scalar loop."""

import math
import re
from collections.abc import Callable

import numpy as np
import oracle
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.func import jacfwd, jacrev

from gdlayer.basis import gaussian_derivative_kernels, jet_orders, rotation, sampling_grid


def geometry(*batch: int, n: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Random sigma, mu and theta, from the ranges of the authors' initialisation."""
    sigma = torch.empty(*batch, n, 2, dtype=dtype).uniform_(0.5, 2)
    mu = torch.empty(*batch, n, 2, dtype=dtype).uniform_(-1, 1)
    theta = torch.empty(*batch, n, dtype=dtype).uniform_(-math.pi, math.pi)
    return sigma, mu, theta


def one_kernel(order, sigma, mu, theta, kernel_size) -> Tensor:
    s, m, t = (torch.tensor([v], dtype=torch.float64) for v in (sigma, mu, theta))
    return gaussian_derivative_kernels(s, m, t, [order], kernel_size)[0]


@pytest.mark.parametrize("k", range(7))
def test_jet_orders_are_the_authors(k):
    orders = jet_orders(k)
    assert orders == tuple((j, i - j) for i in range(k + 1) for j in range(i + 1))
    assert len(orders) == (k + 1) * (k + 2) // 2


def test_jet_orders_begin_as_documented():
    assert jet_orders(2) == ((0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (2, 0))


@pytest.mark.parametrize(
    "explicit",
    [[(2, 0), (0, 0)], ((2, 0), (0, 0)), [[2, 0], [0, 0]], iter([(2, 0), (0, 0)])],
    ids=["list", "tuple", "lists", "iterator"],
)
def test_explicit_orders_are_taken_as_they_are(explicit):
    assert jet_orders(explicit) == ((2, 0), (0, 0))


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (-1, "order must be an integer >= 0 or a list of pairs (p, q), got -1"),
        (1.5, "order must be an integer >= 0 or a list of pairs (p, q), got 1.5"),
        (True, "order must be an integer >= 0 or a list of pairs (p, q), got True"),
        (None, "order must be an integer >= 0 or a list of pairs (p, q), got None"),
        ([0, 1], "order must be an integer >= 0 or a list of pairs (p, q), got [0, 1]"),
        ("3", "each derivative order must be a pair (p, q) of integers >= 0, got ('3',)"),
        ([(0, 0), (1,)], "each derivative order must be a pair (p, q) of integers >= 0, got (1,)"),
        ([(0, 0, 1)], "each derivative order must be a pair (p, q) of integers >= 0, got (0, 0, 1)"),
        ([(0, -1)], "each derivative order must be a pair (p, q) of integers >= 0, got (0, -1)"),
        ([(0.0, 1)], "each derivative order must be a pair (p, q) of integers >= 0, got (0.0, 1)"),
        ([(True, 1)], "each derivative order must be a pair (p, q) of integers >= 0, got (True, 1)"),
        ([], "order must list at least one pair (p, q), got none"),
        ([(0, 1), (0, 1)], "order must list each pair (p, q) once, got ((0, 1), (0, 1))"),
    ],
)
def test_bad_orders(order, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        jet_orders(order)


def test_sampling_grid():
    x, y = sampling_grid((3, 4))
    assert x.tolist() == [-1.5, -0.5, 0.5, 1.5]
    assert y.tolist() == [-1, 0, 1]
    assert sampling_grid((1, 1))[0].tolist() == [0]
    assert all(t.dtype == torch.float64 for t in sampling_grid((3, 4), dtype=torch.float64))
    assert all(t.device.type == "meta" for t in sampling_grid((3, 4), device=torch.device("meta")))


@given(
    batch=st.sampled_from([(), (1,), (3,), (2, 2)]),
    order=st.one_of(
        st.integers(0, 4),
        st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=4, unique=True),
    ),
    kernel_size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    seed=st.integers(0, 2**32 - 1),
)
def test_kernels_equal_the_scalar_loop(batch, order, kernel_size, seed):
    torch.manual_seed(seed)
    orders = jet_orders(order)
    sigma, mu, theta = geometry(*batch, n=len(orders))
    kernels = gaussian_derivative_kernels(sigma, mu, theta, orders, kernel_size)
    assert kernels.shape == (*batch, len(orders), *kernel_size)
    for b in np.ndindex(*batch):
        for n, pair in enumerate(orders):
            expected = oracle.kernel(pair, sigma[b][n].numpy(), mu[b][n].numpy(), float(theta[b][n]), kernel_size)
            np.testing.assert_allclose(kernels[b][n], expected, rtol=1e-9, atol=1e-12 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("sigma", [(1.2, 1.2), (0.8, 1.9)])
def test_centre_is_mu_rotated_back(sigma):
    """The shift follows the rotation: for theta = .7 and mu = (1.3, -.4) the centre is (1.25, .53)."""
    theta, mu = 0.7, (1.3, -0.4)
    phi = one_kernel((0, 0), sigma, mu, theta, (31, 33))
    x, y = sampling_grid((31, 33), dtype=torch.float64)
    centroid = torch.stack([(phi * x).sum(), (phi * y[:, None]).sum()]) / phi.sum()
    rotation = torch.tensor([[math.cos(theta), math.sin(theta)], [-math.sin(theta), math.cos(theta)]]).double()
    torch.testing.assert_close(centroid, rotation.T @ torch.tensor(mu).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(centroid, torch.tensor([1.25, 0.53]).double(), rtol=0, atol=5e-3)


def test_x_runs_along_columns_and_y_along_rows():
    """The ramp x gives -1 with (1, 0), the ramp y gives -1 with (0, 1): * is cross-correlation, not convolution."""
    x, y = sampling_grid((13, 15), dtype=torch.float64)
    ramps = torch.stack([x.expand(13, 15), y[:, None].expand(13, 15)])
    for order, expected in (((1, 0), [-1.0, 0.0]), ((0, 1), [0.0, -1.0])):
        response = (one_kernel(order, (1.0, 1.0), (0.0, 0.0), 0.0, (13, 15)) * ramps).sum((-2, -1))
        torch.testing.assert_close(response, torch.tensor(expected).double(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kernel_size", [(5, 5), (4, 4), (5, 7), (4, 3)])
@pytest.mark.parametrize("order", [(0, 0), (1, 0), (0, 1), (2, 1)])
def test_a_quarter_turn_transposes_and_flips(order, kernel_size):
    sigma, mu, theta = (0.7, 1.6), (0.8, -0.3), 0.4
    upright = one_kernel(order, sigma, mu, theta, kernel_size)
    turned = one_kernel(order, sigma, mu, theta + math.pi / 2, kernel_size[::-1])
    torch.testing.assert_close(turned, upright.flip(0).T, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("theta", [0.3, 1.1, -2.0])
def test_isotropic_derivatives_are_steerable(theta):
    def phi(order, angle):
        return one_kernel(order, (1.1, 1.1), (0.0, 0.0), angle, (7, 8))

    c, s = math.cos(theta), math.sin(theta)
    torch.testing.assert_close(phi((0, 0), theta), phi((0, 0), 0))
    torch.testing.assert_close(phi((1, 0), theta), c * phi((1, 0), 0) + s * phi((0, 1), 0))
    torch.testing.assert_close(phi((0, 1), theta), -s * phi((1, 0), 0) + c * phi((0, 1), 0))
    second = c * c * phi((2, 0), 0) + 2 * c * s * phi((1, 1), 0) + s * s * phi((0, 2), 0)
    torch.testing.assert_close(phi((2, 0), theta), second)


@pytest.mark.parametrize("order", [0, 2, [(3, 1), (0, 2)]])
@pytest.mark.parametrize("kernel_size", [(3, 3), (2, 3)])
def test_gradcheck(order, kernel_size):
    orders = jet_orders(order)
    parameters = [p.requires_grad_() for p in geometry(2, n=len(orders))]
    assert gradcheck(lambda s, m, t: gaussian_derivative_kernels(s, m, t, orders, kernel_size), parameters)


ANALYTIC_ORDERS = [(0, 0), (1, 0), (0, 2), (2, 1), (1, 3)]


@pytest.fixture(scope="module")
def symbolic_derivatives() -> list[list[Callable[..., float]]]:
    """Of eq. (1) of each order by sigma_1, sigma_2, mu_1, mu_2 and theta, as functions of these, x and y."""
    symbols = sympy.symbols("sigma_1 sigma_2 mu_1 mu_2 theta x y")
    *parameters, x, y = symbols
    s1, s2, m1, m2, theta = parameters
    t = sympy.Symbol("t")

    def g(p: int, at: sympy.Expr, s: sympy.Expr) -> sympy.Expr:
        return sympy.diff(sympy.exp(-(t**2) / (2 * s**2)) / (s * sympy.sqrt(2 * sympy.pi)), t, p).subs(t, at)

    u, v = x * sympy.cos(theta) + y * sympy.sin(theta), -x * sympy.sin(theta) + y * sympy.cos(theta)
    return [
        [sympy.lambdify(symbols, sympy.diff(g(p, u - m1, s1) * g(q, v - m2, s2), by), "math") for by in parameters]
        for p, q in ANALYTIC_ORDERS
    ]


def test_gradients_are_those_of_sympy(symbolic_derivatives):
    """At every point of a grid, for every kernel and each of its five parameters."""
    size, n = (3, 4), len(ANALYTIC_ORDERS)
    sigma, mu, theta = geometry(n=n)
    by_sigma, by_mu, by_theta = torch.autograd.functional.jacobian(
        lambda s, m, t: gaussian_derivative_kernels(s, m, t, ANALYTIC_ORDERS, size), (sigma, mu, theta)
    )
    x, y = sampling_grid(size)
    for k in range(n):
        point = (*sigma[k].tolist(), *mu[k].tolist(), theta[k].item())
        derivatives = symbolic_derivatives[k]
        expected = [[[d(*point, a, b) for d in derivatives] for a in x.tolist()] for b in y.tolist()]
        ours = torch.cat([by_sigma[k, :, :, k], by_mu[k, :, :, k], by_theta[k, :, :, k, None]], -1)
        np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-12)
        others = torch.arange(n) != k  # a kernel depends on its own parameters alone
        assert not any(jacobian[k][:, :, others].any() for jacobian in (by_sigma, by_mu, by_theta))


@given(
    batch=st.sampled_from([(), (2,), (2, 1)]),
    order=st.one_of(
        st.integers(0, 3),
        st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=3, unique=True),
    ),
    kernel_size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=15)
def test_gradients_are_those_of_the_scalar_loop(batch, order, kernel_size, seed):
    """Along a random direction in all parameters at once, by central differences of the loop."""
    torch.manual_seed(seed)
    orders = jet_orders(order)
    values = geometry(*batch, n=len(orders))
    directions = [torch.randn_like(value) for value in values]
    sigma, mu, theta = (value.requires_grad_() for value in values)
    kernels = gaussian_derivative_kernels(sigma, mu, theta, orders, kernel_size)
    cotangent = torch.randn_like(kernels)
    gradients = torch.autograd.grad(kernels, values, cotangent)
    ours = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))

    def loss(step: float) -> float:
        sigma, mu, theta = ((v + step * d).detach().numpy() for v, d in zip(values, directions, strict=True))
        total = 0.0
        for b in np.ndindex(*batch):
            for n, pair in enumerate(orders):
                kernel = oracle.kernel(pair, sigma[b][n], mu[b][n], float(theta[b][n]), kernel_size)
                total += float((kernel * cotangent[b][n].numpy()).sum())
        return total

    step = 1e-5
    scale = max(1, *(float(g.abs().max()) for g in gradients))
    assert ours == pytest.approx((loss(step) - loss(-step)) / (2 * step), rel=1e-5, abs=1e-6 * scale)


@pytest.mark.parametrize("trains", [(True, False, False), (False, True, False), (False, False, True)])
def test_gradients_of_a_part_of_the_geometry(trains):
    orders = jet_orders(2)
    values = geometry(2, n=6)
    everything = [value.clone().requires_grad_() for value in values]
    part = [value.clone().requires_grad_(on) for value, on in zip(values, trains, strict=True)]
    for sigma, mu, theta in (everything, part):
        gaussian_derivative_kernels(sigma, mu, theta, orders, (3, 4)).pow(3).sum().backward()
    for ours, expected, on in zip(part, everything, trains, strict=True):
        if on:
            torch.testing.assert_close(ours.grad, expected.grad)
        else:
            assert ours.grad is None


@pytest.mark.parametrize("order", [1, [(2, 1), (0, 3)]])
@pytest.mark.parametrize("batch", [(), (2, 1)])
def test_second_derivatives(order, batch):
    orders = jet_orders(order)
    parameters = [p.requires_grad_() for p in geometry(*batch, n=len(orders))]
    assert gradgradcheck(lambda s, m, t: gaussian_derivative_kernels(s, m, t, orders, (2, 2)), parameters)


# PyTorch itself uses what it deprecates, when it loads its derivatives for forward mode.
def test_forward_mode_equals_reverse_mode():
    """The one is torch's derivative of the recurrence, the other is in closed form."""
    orders = jet_orders(3)
    parameters = geometry(2, n=10)

    def kernels(sigma: Tensor, mu: Tensor, theta: Tensor) -> Tensor:
        return gaussian_derivative_kernels(sigma, mu, theta, orders, (2, 3))

    for ours, expected in zip(
        jacrev(kernels, (0, 1, 2))(*parameters), jacfwd(kernels, (0, 1, 2))(*parameters), strict=True
    ):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-11)


def test_gradients_in_float32():
    orders = jet_orders(3)
    values = geometry(4, n=10)
    single = [value.float().requires_grad_() for value in values]
    exact = [value.detach().double().requires_grad_() for value in single]
    cotangent = torch.randn(4, 10, 7, 7, dtype=torch.float64)
    for sigma, mu, theta in (exact, single):
        kernels = gaussian_derivative_kernels(sigma, mu, theta, orders, (7, 7))
        kernels.backward(cotangent.to(kernels.dtype))
    for ours, expected in zip(single, exact, strict=True):
        assert ours.grad is not None
        assert expected.grad is not None
        scale = float(expected.grad.abs().max())
        torch.testing.assert_close(ours.grad.double(), expected.grad, rtol=0, atol=1e-5 * scale)


def test_gradients_of_broadcast_geometries():
    """Leading dimensions that broadcast: what is shared gets the sum of all gradients."""
    orders = jet_orders(1)
    sigma, mu, theta = geometry(n=3)[0], geometry(4, 1, n=3)[1], geometry(5, n=3)[2]
    shared = [p.clone().requires_grad_() for p in (sigma, mu, theta)]
    apart = [
        p.expand(4, 5, *shape).clone().requires_grad_() for p, shape in ((sigma, (3, 2)), (mu, (3, 2)), (theta, (3,)))
    ]
    cotangent = torch.randn(4, 5, 3, 2, 3, dtype=torch.float64)
    for sigma, mu, theta in (shared, apart):
        kernels = gaussian_derivative_kernels(sigma, mu, theta, orders, (2, 3))
        assert kernels.shape == (4, 5, 3, 2, 3)
        kernels.backward(cotangent)
    for ours, expected, axes in zip(shared, apart, [(0, 1), (1,), (0,)], strict=True):
        assert expected.grad is not None
        torch.testing.assert_close(ours.grad, expected.grad.sum(axes).view_as(ours))


def test_geometries_broadcast():
    """One sigma for every basis: the leading dimensions broadcast."""
    sigma, mu, theta = geometry(4, n=3)
    orders = jet_orders(1)
    shared = gaussian_derivative_kernels(sigma[0], mu, theta, orders, (3, 3))
    torch.testing.assert_close(
        shared, gaussian_derivative_kernels(sigma[:1].expand(4, 3, 2), mu, theta, orders, (3, 3))
    )


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("sigma", (2, 4, 2), "sigma must have shape (..., 3, 2), got (2, 4, 2)"),
        ("sigma", (3,), "sigma must have shape (..., 3, 2), got (3,)"),
        ("mu", (2, 3), "mu must have shape (..., 3, 2), got (2, 3)"),
        ("mu", (2, 3, 1), "mu must have shape (..., 3, 2), got (2, 3, 1)"),
        ("theta", (2, 3, 1), "theta must have shape (..., 3), got (2, 3, 1)"),
        ("theta", (), "theta must have shape (..., 3), got ()"),
    ],
)
def test_bad_shapes(name, shape, message):
    parameters = dict(zip(("sigma", "mu", "theta"), geometry(2, n=3), strict=True))
    parameters[name] = torch.ones(shape)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        gaussian_derivative_kernels(**parameters, orders=jet_orders(1), kernel_size=(3, 3))


def test_integers_stand_for_a_jet_and_a_square_window():
    parameters = geometry(2, n=6)
    kernels = gaussian_derivative_kernels(*parameters, 2, 5)
    assert torch.equal(kernels, gaussian_derivative_kernels(*parameters, jet_orders(2), (5, 5)))
    twice = gaussian_derivative_kernels(*(t[:, [0, 0]] for t in parameters), [(1, 0), (1, 0)], 5)  # type: ignore[misc]
    assert torch.equal(twice[:, 0], twice[:, 1])


FLOATING = "must be a tensor of a floating-point dtype, got"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"orders": -1}, ValueError, "order must be an integer >= 0 or a list of pairs (p, q), got -1"),
        (
            {"orders": [(0, -1)]},
            ValueError,
            "each derivative order must be a pair (p, q) of integers >= 0, got (0, -1)",
        ),
        ({"orders": []}, ValueError, "order must list at least one pair (p, q), got none"),
        ({"kernel_size": 0}, ValueError, "kernel_size must be an integer >= 1 or a pair of them, got 0"),
        ({"kernel_size": (3, 2.5)}, TypeError, "kernel_size must be an integer >= 1 or a pair of them, got (3, 2.5)"),
        ({"sigma": torch.tensor([[1.0, 0.0]])}, ValueError, "sigma must be positive and finite, got 0.0"),
        ({"sigma": torch.tensor([[-0.5, 1.0]])}, ValueError, "sigma must be positive and finite, got -0.5"),
        ({"sigma": torch.tensor([[1.0, math.nan]])}, ValueError, "sigma must be positive and finite, got nan"),
        ({"mu": torch.tensor([[math.inf, 0.0]])}, ValueError, "mu must be finite, got inf"),
        ({"theta": torch.tensor([math.nan])}, ValueError, "theta must be finite, got nan"),
        ({"sigma": torch.ones(1, 2, dtype=torch.int64)}, TypeError, f"sigma {FLOATING} torch.int64"),
        ({"mu": torch.ones(1, 2, dtype=torch.complex64)}, TypeError, f"mu {FLOATING} torch.complex64"),
        ({"theta": [0.0]}, TypeError, f"theta {FLOATING} [0.0]"),
        (
            {"theta": torch.zeros(1, dtype=torch.float64)},
            TypeError,
            "sigma, mu and theta must have the same dtype, got torch.float32, torch.float32, torch.float64",
        ),
        *(
            (
                overflow,
                ValueError,
                "kernels must be finite in torch.float32, by lower orders, a smaller normalise or a "
                f"larger sigma, got {value}",
            )
            for overflow, value in (
                ({"orders": [(60, 0)]}, "-inf"),
                ({"sigma": torch.full((1, 2), 1e-30)}, "nan"),
                ({"orders": [(0, 1)], "sigma": torch.full((1, 2), 2.0), "normalise": 1000}, "inf"),
            )
        ),
    ],
    ids=str,
)
def test_wrong_arguments(arguments, error, message):
    given = {"sigma": torch.ones(1, 2), "mu": torch.zeros(1, 2), "theta": torch.zeros(1), "orders": 0, "kernel_size": 3}
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        gaussian_derivative_kernels(**{**given, **arguments})


def test_shapes_without_numbers():
    parameters = (t.to("meta") for t in geometry(2, n=3))
    assert gaussian_derivative_kernels(*parameters, 1, 5).shape == (2, 3, 5, 5)  # type: ignore[misc]


@given(st.floats(-7, 7))
def test_rotation(theta):
    """Rows are the directions of u and v, turned counter-clockwise by theta."""
    ours = rotation(torch.tensor([theta], dtype=torch.float64))
    u = math.cos(theta), math.sin(theta)
    v = math.cos(theta + math.pi / 2), math.sin(theta + math.pi / 2)
    np.testing.assert_allclose(ours, [[u, v]], rtol=0, atol=1e-15)
