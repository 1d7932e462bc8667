"""Section 2: Hermite polynomials and Gaussian derivatives, against SymPy, SciPy and autograd."""

import math

import numpy as np
import pytest
import scipy.special
import sympy
import torch
from torch import Tensor
from torch.autograd import gradcheck

from gdlayer.hermite import gaussian_derivatives, hermite_polynomials


def series(p: int, x: sympy.Expr) -> sympy.Expr:
    """H_p as printed in section 2."""
    f = sympy.factorial
    return sympy.Add(*((-1) ** i * f(p) / (f(i) * f(p - 2 * i)) * (2 * x) ** (p - 2 * i) for i in range(p // 2 + 1)))


X, SIGMA = sympy.symbols("x sigma", positive=True)
GAUSSIAN = sympy.exp(-(X**2) / (2 * SIGMA**2)) / (SIGMA * sympy.sqrt(2 * sympy.pi))


@pytest.mark.parametrize("p", range(9))
def test_polynomials_are_the_papers_series(p):
    """Exact: two polynomials of degree p that agree at p + 1 integers are one polynomial."""
    points = range(-p - 2, p + 3)
    ours = hermite_polynomials(torch.tensor(points), p)
    assert ours.shape == (p + 1, len(points))
    assert ours.dtype == torch.int64
    assert ours[p].tolist() == [series(p, sympy.Integer(x)) for x in points]
    assert sympy.expand(series(p, X) - sympy.hermite(p, X)) == 0


def test_polynomials_equal_scipy():
    x = torch.linspace(-4, 4, 81, dtype=torch.float64)
    h = hermite_polynomials(x, 20)
    assert h.shape == (21, 81)
    for p in range(21):
        expected = scipy.special.eval_hermite(p, x.numpy())
        np.testing.assert_allclose(h[p], expected, rtol=1e-11, atol=1e-12 * np.abs(expected).max())
    for p in range(9):
        expected = scipy.special.hermite(p)(x.numpy())
        np.testing.assert_allclose(h[p], expected, rtol=1e-11, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("p", range(9))
def test_derivatives_equal_symbolic_ones(p):
    derivative = sympy.lambdify((X, SIGMA), sympy.diff(GAUSSIAN, X, p), "mpmath")
    x = torch.linspace(-6, 6, 25, dtype=torch.float64)
    for sigma in (0.5, 1.0, 1.7):
        ours = gaussian_derivatives(x, sigma, p)
        assert ours.shape == (p + 1, 25)
        expected = np.array([float(derivative(float(v), sigma)) for v in x])
        np.testing.assert_allclose(ours[p], expected, rtol=1e-9, atol=1e-13 * np.abs(expected).max())


def test_derivatives_equal_nested_autograd():
    x = torch.linspace(-5, 5, 41, dtype=torch.float64, requires_grad=True)
    sigma = torch.tensor(1.3, dtype=torch.float64)
    derivative: Tensor = torch.exp(-(x**2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
    ours = gaussian_derivatives(x, sigma, 6)
    for p in range(7):
        torch.testing.assert_close(ours[p], derivative, rtol=1e-10, atol=1e-13)
        (derivative,) = torch.autograd.grad(derivative.sum(), x, create_graph=True)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_hermite_relation(sigma):
    """G_p(x, s) = (-1 / (sqrt2 s))^p H_p(x / (sqrt2 s)) G(x, s)."""
    x = torch.linspace(-5, 5, 41, dtype=torch.float64)
    g = gaussian_derivatives(x, sigma, 8)
    power = torch.arange(9, dtype=torch.float64)[:, None]
    scale = math.sqrt(2) * sigma
    relation = (-1 / scale) ** power * hermite_polynomials(x / scale, 8) * g[0]
    torch.testing.assert_close(g, relation, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_relation_as_printed_holds_at_sigma_one_only(sigma):
    """The printed relation equals the derivative times exp(x^2 (s^2 - 1) / (2 s^4))."""
    x = torch.linspace(-2, 2, 21, dtype=torch.float64)
    scale = math.sqrt(2) * sigma
    power = torch.arange(6, dtype=torch.float64)[:, None]
    printed = (
        (-1 / scale) ** power
        * math.sqrt(2 * math.pi)
        * sigma
        * hermite_polynomials(x / scale, 5)
        * gaussian_derivatives(x / scale, sigma, 0) ** 2
    )
    excess = torch.exp(x**2 * (sigma**2 - 1) / (2 * sigma**4))
    torch.testing.assert_close(printed, gaussian_derivatives(x, sigma, 5) * excess)
    assert torch.allclose(printed, gaussian_derivatives(x, sigma, 5)) == (sigma == 1)


def test_sigma_broadcasts():
    x = torch.randn(4, 1, 3, dtype=torch.float64)
    sigma = torch.rand(5, 1, dtype=torch.float64) + 0.5
    g = gaussian_derivatives(x, sigma, 3)
    assert g.shape == (4, 4, 5, 3)
    for i, s in enumerate(sigma.flatten().tolist()):
        torch.testing.assert_close(g[:, :, i], gaussian_derivatives(x[:, 0], s, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_that_of_x(dtype):
    x = torch.zeros(2, dtype=dtype)
    assert hermite_polynomials(x, 2).dtype == dtype
    assert gaussian_derivatives(x, 1.5, 2).dtype == dtype


@pytest.mark.parametrize("sigma", [0.5, 1.0, 5.0])
def test_far_out_and_high_orders_stay_finite_in_float32(sigma):
    x = torch.linspace(-1e4, 1e4, 4001)
    g = gaussian_derivatives(x, sigma, 20)
    assert g.isfinite().all()
    assert (g[:, :1000] == 0).all()  # where the Gaussian is zero, so are its derivatives
    # The product of the relation overflows there: the recurrence is there for a reason.
    assert not (hermite_polynomials(x / sigma, 20) * g[0]).isfinite().all()


@pytest.mark.parametrize("sigma", [0.5, 1.0, 5.0])
def test_far_out_gradients_stay_finite_in_float32(sigma):
    """Up to |x / sigma^2| ** K near the largest float: 40,000 ** 8 here."""
    x = torch.linspace(-1e4, 1e4, 4001, requires_grad=True)
    s = torch.full_like(x, sigma, requires_grad=True)
    gaussian_derivatives(x, s, 8).sum().backward()
    for gradient in (x.grad, s.grad):
        assert gradient is not None
        assert gradient.isfinite().all()
        assert (gradient[:1000] == 0).all()
        assert gradient[2000 - 4 : 2000 + 5].any()


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_float32_is_accurate_at_high_orders(sigma):
    x = torch.linspace(-4 * sigma, 4 * sigma, 161, dtype=torch.float64)
    exact = gaussian_derivatives(x, sigma, 20)
    single = gaussian_derivatives(x.float(), sigma, 20)
    error = (single - exact).abs().amax(1) / exact.abs().amax(1)
    assert error.max() < 1e-5


@pytest.mark.parametrize("order", [0, 1, 4])
def test_gradcheck(order):
    x = torch.randn(5, 1, dtype=torch.float64, requires_grad=True)
    sigma = (torch.rand(3, dtype=torch.float64) + 0.5).requires_grad_()
    assert gradcheck(lambda x, sigma: gaussian_derivatives(x, sigma, order), (x, sigma))
    assert gradcheck(lambda x: hermite_polynomials(x, order), (x,))


@pytest.mark.parametrize("function", [hermite_polynomials, lambda x, order: gaussian_derivatives(x, 1.0, order)])
@pytest.mark.parametrize(("order", "quoted"), [(-1, "-1"), (1.5, "1.5"), (True, "True"), ("3", "'3'"), (None, "None")])
def test_bad_orders(function, order, quoted):
    with pytest.raises(ValueError, match=f"^order must be an integer >= 0, got {quoted}$"):
        function(torch.zeros(1), order)
