"""The approximation of translation-insensitive layers: its basis, and what its scale does to shifts."""

import math
import re

import numpy as np
import pytest
import torch
from numpy.polynomial import hermite
from torch import Tensor

from gdlayer.basis import normalised_kernels
from gdlayer.related import RFNNConv2d, TranslationInsensitiveConv2d


@pytest.mark.parametrize(
    ("options", "sigma", "size"),
    [
        ({}, 1.0, 7),
        ({"stride": 2}, 2.0, 13),
        ({"stride": (1, 3)}, 3.0, 19),
        ({"stride": 2, "sigma_per_stride": 0.75}, 1.5, 11),
        ({"sigma_per_stride": 2}, 2.0, 13),
    ],
    ids=str,
)
def test_filters_are_those_of_rfnn_at_the_scale_of_the_stride(options, sigma, size):
    layer = TranslationInsensitiveConv2d(2, 3, **options, num_kernels=6, dtype=torch.float64)
    assert layer.sigma == sigma
    assert layer.kernel_size == (size, size)
    peer = RFNNConv2d(2, 3, size, sigma=sigma, stride=layer.stride, num_kernels=6, dtype=torch.float64)
    peer.load_state_dict(layer.state_dict())
    x = torch.randn(1, 2, 20, 21, dtype=torch.float64)
    torch.testing.assert_close(layer(x), peer(x), rtol=0, atol=0)
    assert sum(p.numel() for p in layer.parameters()) == 6 * 2 * 3


@pytest.mark.parametrize(("count", "order"), [(1, 0), (3, 1), (6, 2), (10, 3)])
def test_kernels_span_the_gauss_hermite_functions(count, order):
    """By NumPy's Hermite polynomials of x / sigma, which are not those of the derivatives."""
    layer = TranslationInsensitiveConv2d(1, 1, stride=2, num_kernels=count, dtype=torch.float64)
    half = layer.kernel_size[0] // 2
    x = np.arange(-half, half + 1) / layer.sigma
    profiles = [hermite.hermval(x, np.eye(order + 1)[p]) * np.exp(-(x**2) / 2) for p in range(order + 1)]
    pairs = [(p, q) for p in range(order + 1) for q in range(order + 1 - p)]
    functions = np.array([np.outer(profiles[q], profiles[p]).ravel() for p, q in pairs])
    kernels = layer.kernels.flatten(1).numpy()
    assert len(functions) == len(kernels) == np.linalg.matrix_rank(kernels)
    assert np.linalg.matrix_rank(np.concatenate((functions, kernels))) == count


def change(sigma: float, shift: int, weights: Tensor, orders: list[tuple[int, int]]) -> float:
    """||W(x - shift) - W(x)|| / ||W|| on a window that holds both."""
    kernels = normalised_kernels(torch.tensor(sigma, dtype=torch.float64), orders, math.ceil(6 * sigma) + shift)
    filters = torch.tensordot(weights, kernels, 1)
    return float((filters.roll(shift, -1) - filters).norm() / filters.norm())


def test_a_shift_by_half_a_stride_changes_as_much_at_every_stride():
    torch.manual_seed(0)
    weights = torch.randn(4, 10, dtype=torch.float64)
    orders = [(p, q) for p in range(4) for q in range(4 - p)]
    tied, fixed = [], []
    for stride in (2, 4, 8):
        sigma = TranslationInsensitiveConv2d(1, 1, stride=stride).sigma
        tied.append(change(sigma, stride // 2, weights, orders))
        fixed.append(change(1.0, stride // 2, weights, orders))
    assert tied == pytest.approx([tied[0]] * 3, rel=1e-3)
    assert tied[0] < 0.9 * fixed[0]
    assert fixed[2] == pytest.approx(math.sqrt(2), rel=0.03)  # hardly anything overlaps any more


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sigma_per_stride": 0}, ValueError, "sigma_per_stride must be a positive number, got 0"),
        ({"sigma_per_stride": math.inf}, ValueError, "sigma_per_stride must be a positive number, got inf"),
        ({"sigma_per_stride": None}, TypeError, "sigma_per_stride must be a positive number, got None"),
        ({"stride": 0}, ValueError, "stride must be an integer >= 1 or a pair of them, got 0"),
        ({"stride": 1.5}, TypeError, "stride must be an integer >= 1 or a pair of them, got 1.5"),
        ({"num_kernels": 11}, ValueError, "num_kernels must be 1 to 10, got 11"),
    ],
    ids=str,
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        TranslationInsensitiveConv2d(2, 3, **arguments)


@pytest.mark.parametrize("fixed", [{"sigma": 1.0}, {"kernel_size": 7}], ids=str)
def test_scale_and_size_follow_the_stride_alone(fixed):
    with pytest.raises(TypeError, match=f"multiple values for (keyword )?argument '{next(iter(fixed))}'"):
        TranslationInsensitiveConv2d(2, 3, **fixed)
