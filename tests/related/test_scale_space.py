"""Gaussian derivative layers against their formula, and their covariance under rescaling."""

import math
import re

import numpy as np
import pytest
import torch
from scipy.special import ive
from torch import Tensor, nn

from gdlayer.conv import GaussianDerivativeConv2d
from gdlayer.related import ScaleChannelNetwork, ScaleSpaceConv2d
from gdlayer.related.scale_space import smoothing

ORDERS = [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)]


def layer_of(f_in: int = 2, f_out: int = 3, sigma: float = 1.3) -> ScaleSpaceConv2d:
    torch.manual_seed(0)
    return ScaleSpaceConv2d(f_in, f_out, sigma=sigma, dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.2, 0.5, 1.0, 4.0, 11.0])
@pytest.mark.parametrize("size", [1, 6, 28])
def test_smoothing_is_by_bessel_functions(sigma, size):
    distance = np.abs(np.arange(-1, size + 1)[:, None] - np.arange(size))
    np.testing.assert_allclose(smoothing(size, sigma), ive(distance, sigma**2), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_the_layer_is_ours_with_one_fixed_round_geometry(scale):
    """On zeros around the image too. Ours correlates with derivatives of Gaussians, which turns the odd ones round."""
    layer = layer_of()
    ours = GaussianDerivativeConv2d(
        2, 3, 31, order=ORDERS, bias=False, sampling="discrete", normalise=1, dtype=torch.float64
    )
    ours.sigma = 1.3 * scale
    with torch.no_grad():
        ours.mu.zero_()
        ours.theta.zero_()
        ours.omega.copy_(layer.coefficients * torch.tensor([1, -1, -1, 0.5, 0.5, 0.5]))
    x = torch.randn(2, 2, 9, 12, dtype=torch.float64)
    torch.testing.assert_close(layer(x, scale), ours(x), rtol=1e-6, atol=1e-6)


def test_polynomials_have_their_derivatives():
    """L of x^2 + 3 x y - y is itself plus the variance; derivatives are exact in the middle of the image."""
    y, x = torch.meshgrid(*2 * [torch.arange(-20.0, 21, dtype=torch.float64)], indexing="ij")
    layer = ScaleSpaceConv2d(1, 6, sigma=1.5, dtype=torch.float64)
    layer.coefficients.data = torch.eye(6, dtype=torch.float64)[:, None]
    out = layer((x**2 + 3 * x * y - y)[None, None])[0, :, 18:23, 18:23]
    x, y = x[18:23, 18:23], y[18:23, 18:23]
    ones = torch.ones_like(x)
    expected = [x**2 + 3 * x * y - y + 1.5**2, 1.5 * (2 * x + 3 * y), 1.5 * (3 * x - 1)]
    expected += [1.5**2 / 2 * second * ones for second in (2, 3, 0)]
    torch.testing.assert_close(out, torch.stack(expected), rtol=1e-6, atol=1e-6)


def scene(factor: float, width: float = 30) -> Tensor:
    """A smooth image, ``factor`` times as large, on a grid with 0 in its middle; zero at its edge."""
    half = int(5 * width * factor)
    y, x = torch.meshgrid(*2 * [torch.arange(-half, half + 1, dtype=torch.float64) / (width * factor)], indexing="ij")
    blobs = ((0, 0, 1.0), (0.5, -0.3, -0.8), (-0.4, 0.5, 0.7))
    return torch.stack([a * torch.exp(-((x - u) ** 2 + (y - v) ** 2) / 2) for u, v, a in blobs]).sum(0)[None, None]


def around_the_middle(j: Tensor, step: int, count: int = 20) -> Tensor:
    """Every ``step``-th response, ``count`` to each side of the middle."""
    rows, columns = (slice(n // 2 - count * step, n // 2 + count * step + 1, step) for n in j.shape[-2:])
    return j[..., rows, columns]


@pytest.mark.parametrize(("factor", "steps"), [(2, (1, 2)), (1.5, (2, 3)), (1.25, (4, 5))])
def test_covariance(factor, steps):
    """An image, and the same image ``factor`` times as large at ``factor`` times the scale: errors below 1e-3.

    Of each term of the layer by itself. Without the scale they are far larger.
    """
    layer = ScaleSpaceConv2d(1, 6, sigma=4.0, dtype=torch.float64)
    layer.coefficients.data = torch.eye(6, dtype=torch.float64)[:, None]
    here = around_the_middle(layer(scene(1)), steps[0])

    def error(scale: float) -> Tensor:
        there = around_the_middle(layer(scene(factor), scale), steps[1])
        return (there - here).abs().amax((0, 2, 3)) / here.abs().amax((0, 2, 3))

    assert error(factor).max() < 1e-3
    assert error(1)[1:].min() > 0.15


def test_a_scale_channel_sees_in_a_larger_image_what_another_saw():
    """Logits of the channels at scales s on an image are those at 2 s on the image twice as large."""
    torch.manual_seed(1)
    network = ScaleChannelNetwork(widths=(3, 4), scales=(1.0, 2.0, 4.0), sigma=2.0).double().eval()
    one, two = (network.channels(scene(factor, 24)) for factor in (1, 2))
    largest = one.abs().max().item()
    torch.testing.assert_close(one[:2], two[1:], rtol=0, atol=1e-3 * largest)
    assert (one[0] - two[0]).abs().max() > 0.05 * largest
    assert torch.equal(network(scene(1, 24)), one.amax(0))


def test_scale_channels_share_their_weights_and_their_statistics():
    network = ScaleChannelNetwork(widths=(3,), scales=(1.0, 2.0))
    assert sum(p.numel() for p in network.parameters()) == 6 * 3 + 2 * 3 + 10 * 3 + 10
    x = torch.randn(4, 1, 12, 12)
    conv, norm = network.convs[0], network.norms[0]
    j = torch.cat([conv(x, 1.0), conv(x, 2.0)])
    network.train()(x)
    torch.testing.assert_close(norm.running_mean, 0.1 * j.mean((0, 2, 3)))
    assert [layer.sigma for layer in ScaleChannelNetwork(sigma=0.9, ratio=2).convs] == [0.9, 1.8, 3.6, 7.2]


def test_shapes():
    assert layer_of()(torch.zeros(5, 2, 7, 9, dtype=torch.float64)).shape == (5, 3, 7, 9)
    assert layer_of()(torch.zeros(2, 1, 1, dtype=torch.float64)).shape == (3, 1, 1)
    network = ScaleChannelNetwork(in_channels=3, num_classes=4)
    assert network.channels(torch.zeros(2, 3, 16, 20)).shape == (5, 2, 4)
    assert network(torch.zeros(2, 3, 16, 20)).shape == (2, 4)
    assert repr(layer_of()) == "ScaleSpaceConv2d(2, 3, sigma=1.3)"


def test_gradients():
    layer = layer_of(1, 2)
    x = torch.randn(1, 1, 5, 4, dtype=torch.float64, requires_grad=True)

    def respond(x: Tensor, coefficients: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"coefficients": coefficients}, (x, 1.4))

    assert torch.autograd.gradcheck(respond, (x, layer.coefficients))


def test_second_moment_is_kept_at_scale_1():
    """For white input, with He's gain."""
    layer = ScaleSpaceConv2d(40, 40, sigma=1.5)
    out = layer(torch.randn(1, 40, 80, 80))[..., 12:-12, 12:-12]
    assert out.square().mean().item() == pytest.approx(2, rel=0.1)


def test_state_and_dtype():
    layer = layer_of().float()
    assert list(layer.state_dict()) == ["coefficients", "_extra_state"]
    other = ScaleSpaceConv2d(2, 3, sigma=1.3)
    other.load_state_dict(layer.state_dict())
    x = torch.randn(1, 2, 8, 8)
    assert torch.equal(other(x), layer(x))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer(x).float(), other(x).float())
        assert (layer(x).float() - nn.functional.conv2d(x, torch.zeros(3, 2, 1, 1))).abs().max() > 0.1


POSITIVE = "must be a positive number, got"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"in_channels": 0}, ValueError, "in_channels must be an integer >= 1, got 0"),
        ({"out_channels": 2.5}, TypeError, "out_channels must be an integer >= 1, got 2.5"),
        ({"sigma": 0}, ValueError, f"sigma {POSITIVE} 0"),
        ({"sigma": math.nan}, ValueError, f"sigma {POSITIVE} nan"),
        ({"gain": "relu"}, TypeError, f"gain {POSITIVE} 'relu'"),
    ],
)
def test_wrong_arguments_of_the_layer(arguments, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        ScaleSpaceConv2d(**{"in_channels": 1, "out_channels": 2, "sigma": 1.0, **arguments})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"widths": ()}, ValueError, "widths and scales must not be empty, got () and (1,)"),
        ({"scales": []}, ValueError, "widths and scales must not be empty, got (4,) and []"),
        ({"scales": (1, 0)}, ValueError, f"each of scales {POSITIVE} 0"),
        ({"sigma": -1}, ValueError, f"sigma {POSITIVE} -1"),
        ({"ratio": None}, TypeError, f"ratio {POSITIVE} None"),
    ],
)
def test_wrong_arguments_of_the_network(arguments, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        ScaleChannelNetwork(**{"widths": (4,), "scales": (1,), **arguments})


def test_a_scale_must_be_positive():
    with pytest.raises(ValueError, match=f"^scale {POSITIVE} 0$"):
        layer_of()(torch.zeros(1, 2, 4, 4, dtype=torch.float64), 0)


@pytest.mark.parametrize("make", [lambda: ScaleSpaceConv2d(1, 2, sigma=1.0), lambda: ScaleChannelNetwork(widths=[2])])
def test_a_state_is_all_there_is_to_a_layer(make):
    """Built on "meta", as loaders of large models do: after its state is loaded, nothing else is left to set."""
    whole = make().eval()
    with torch.device("meta"):
        empty = make().eval()
    for tensor in empty.to_empty(device="cpu").parameters():
        tensor.data.fill_(math.nan)
    empty.load_state_dict(whole.state_dict())
    x = torch.randn(2, 1, 9, 9)
    assert torch.equal(empty(x), whole(x))
