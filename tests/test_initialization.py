"""The second moment of activations at the start: the formula, its special case, and what layers make of it."""

import json
import math
import re

import pytest
import torch
from torch import nn

from gdlayer import GaussianDerivativeConv2d
from gdlayer.initialization import RELU_GAIN, mixing_std
from gdlayer.related import NJetConv2d, RFNNConv2d


def test_formula():
    """g / sqrt(f_in N |phi|^2), for each kernel."""
    kernels = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    std = mixing_std(kernels, 7, gain=1.5)
    assert std.shape == (2, 3)
    for b in range(2):
        for n in range(3):
            energy = sum(float(v) ** 2 for v in kernels[b, n].flatten())
            assert float(std[b, n]) == pytest.approx(1.5 / math.sqrt(7 * 3 * energy))


def test_default_gain_suits_a_rectifier():
    assert pytest.approx(nn.init.calculate_gain("relu")) == RELU_GAIN
    kernels = torch.randn(3, 4, 5)
    torch.testing.assert_close(mixing_std(kernels, 7), mixing_std(kernels, 7, gain=math.sqrt(2)))


@pytest.mark.parametrize("size", [1, 3, 5])
def test_one_hot_taps_give_he_initialisation(size):
    taps = torch.eye(size * size, dtype=torch.float64).view(-1, size, size)
    weight = torch.empty(512, 64, size, size, dtype=torch.float64)
    nn.init.kaiming_normal_(weight)
    std = mixing_std(taps, fan_in=64)
    torch.testing.assert_close(std, std[:1].expand_as(std))
    assert float(std[0]) == pytest.approx(math.sqrt(2 / (64 * size * size)))
    assert float(std[0]) == pytest.approx(float(weight.std()), rel=0.02)


@pytest.mark.parametrize(
    ("bases", "separated"), [(1, False), (4, False), (16, False), (1, True), (4, True), (16, True)]
)
@pytest.mark.parametrize("gain", [1.0, RELU_GAIN])
def test_second_moment_is_kept_for_white_input(bases, separated, gain):
    """E[J^2] = g^2 E[I^2]. Over white input alone E[J^2] = |W|^2 E[I^2], which leaves the weights to average over."""
    energies = []
    for seed in range(60):
        torch.manual_seed(seed)
        layer = GaussianDerivativeConv2d(16, 16, 5, bases=bases, separated=separated, gain=gain)
        energies.append(layer.filters().detach().square().sum((1, 2, 3)).mean())
    assert float(torch.stack(energies).mean()) == pytest.approx(gain**2, rel=0.06)


@pytest.mark.parametrize("separated", [False, True])
def test_second_moment_measured_on_white_input(separated):
    ratios = []
    for seed in range(20):
        torch.manual_seed(seed)
        layer = GaussianDerivativeConv2d(8, 16, 5, bases=4, separated=separated, gain=1.0, padding_mode="circular")
        x = 3 * torch.randn(4, 8, 16, 16)
        ratios.append(layer(x).detach().square().mean() / x.square().mean())
    assert float(torch.stack(ratios).mean()) == pytest.approx(1, rel=0.15)


@pytest.mark.parametrize("separated", [False, True])
@pytest.mark.parametrize("bases", [1, 4])
def test_a_window_of_one_pixel(separated, bases):
    """A derivative may be zero there by chance, and its weight must not follow it to infinity."""
    energies, largest = [], 0.0
    for seed in range(100):
        torch.manual_seed(seed)
        layer = GaussianDerivativeConv2d(16, 16, 1, bases=bases, separated=separated, gain=1.0)
        energies.append(layer.filters().detach().square().sum((1, 2, 3)).mean())
        largest = max(largest, *(float(weights.detach().abs().max()) for weights in layer._mixing))
    assert float(torch.stack(energies).mean()) == pytest.approx(1, rel=0.1)
    assert largest < 50
    rfnn = RFNNConv2d(256, 256, 1, sigma=1.0, gain=1.0)
    assert float(rfnn.filters().detach().square().sum((1, 2, 3)).mean()) == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("init", ["variance_preserving", "authors"])
@pytest.mark.parametrize(
    ("options", "norm"),
    [
        ({"order": [(60, 0)]}, "nan"),
        ({"order": 40}, "inf"),
        ({"normalise": 1000}, "(nan|inf|0)"),
        ({"sigma_min": 1e10}, "0"),
    ],
    ids=str,
)
def test_kernels_beyond_the_dtype_are_refused(options, norm, init):
    message = f"kernels must have norms that torch.float32 can hold squared, got {norm}: take lower orders, a smaller"
    with pytest.raises(ValueError, match=f"^{message}"):
        GaussianDerivativeConv2d(2, 4, 5, init=init, **options)
    with pytest.raises(ValueError, match=r"^kernels must have norms that torch\.float32 can hold squared, got 0"):
        RFNNConv2d(2, 4, 5, sigma=1e-3, init=init)
    with pytest.raises(ValueError, match=r"^kernels must have norms that torch\.float32 can hold squared, got nan"):
        NJetConv2d(2, 4, order=60, init=init)
    assert GaussianDerivativeConv2d(2, 4, 5, init=init, order=[(60, 0)], dtype=torch.float64).filters().isfinite().all()


@pytest.mark.parametrize("separated", [False, True])
def test_each_kernel_has_the_same_share(separated):
    """Var(omega_n) |phi_n|^2 is the same for the smooth kernels and for the derivatives."""
    shares = []
    for seed in range(40):
        torch.manual_seed(seed)
        layer = GaussianDerivativeConv2d(16, 16, 7, order=3, separated=separated, gain=1.0)
        with torch.no_grad():
            weight = torch.einsum("bjn,bni->bjin", layer.lam, layer.beta) if separated else layer.omega
            shares.append(weight.square().mean((0, 1, 2)) * layer.kernels().square().sum((-2, -1))[0] * 16)
    torch.testing.assert_close(torch.stack(shares).mean(0), torch.full((10,), 0.1), rtol=0.2, atol=0)


@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_the_separated_layer_keeps_it_in_between_too(gain):
    """The N maps between beta and lambda have the input's second moment; the gain comes with lambda."""
    layer = GaussianDerivativeConv2d(256, 256, 5, order=2, separated=True, gain=gain)
    with torch.no_grad():
        between = layer.beta.square().sum(-1) * layer.kernels().square().sum((-2, -1))
        torch.testing.assert_close(between.mean(), torch.tensor(1.0), rtol=0.1, atol=0)
        torch.testing.assert_close(layer.lam.square().sum(-1).mean(), torch.tensor(gain**2), rtol=0.1, atol=0)


def test_the_authors_initialisation_does_not_keep_it():
    layer = GaussianDerivativeConv2d(64, 16, 5, init="authors")
    assert layer.filters().detach().square().sum((1, 2, 3)).mean() > 10


def test_ranges_of_the_start():
    layer = GaussianDerivativeConv2d(2, 64, 31, order=2, bases=64, start_sigma=(3, 4.5), start_mu=5)
    assert 3 <= layer.sigma.min() < 3.1 < 4.4 < layer.sigma.max() <= 4.5
    assert 4.8 < layer.mu.abs().max() <= 5
    again = GaussianDerivativeConv2d.from_config(json.loads(json.dumps(layer.config())))
    assert again.config() == layer.config()
    usual = GaussianDerivativeConv2d(2, 64, 31, order=2, bases=64)
    assert usual.sigma.max() < 2
    assert usual.mu.abs().max() <= 1


@pytest.mark.parametrize("wrong", [(2, 1), (0.1, 1), (1, 5), 1.0, "ab", (1,)])
def test_bad_ranges_of_the_start(wrong):
    message = f"start_sigma must be a pair of numbers, low <= high, from 0.5 to 4, got {wrong!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        GaussianDerivativeConv2d(1, 1, 7, sigma_max=4, start_sigma=wrong)
    with pytest.raises(ValueError, match=r"^start_mu must be a number >= 0, got -1$"):
        GaussianDerivativeConv2d(1, 1, 7, start_mu=-1)
