"""Semi-structured filters against their definition, written out as loops, and against a blur by SciPy."""

import math
import re
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from layer_table import convolution_in, perturbed
from scipy import ndimage
from torch import Tensor, nn
from torch.func import functional_call

from gdlayer._plumbing.padding import PADDING_MODES
from gdlayer.related import SemiStructuredConv2d


def semi_structured(*arguments: Any, **options: Any) -> SemiStructuredConv2d:
    return SemiStructuredConv2d(*arguments, **{"dtype": torch.float64, **options})


def shaped(layer: SemiStructuredConv2d, a: float, b: float, c: float) -> SemiStructuredConv2d:
    with torch.no_grad():
        layer.log_scale.copy_(torch.tensor([a, c], dtype=torch.float64))
        layer.shear.fill_(b)
    return layer


def naive_gaussian(a: float, b: float, c: float) -> np.ndarray:
    """exp(-x' Sigma^-1 x / 2) over its sum, pixel by pixel."""
    upper = np.array([[math.exp(a), b], [0, math.exp(c)]])
    covariance = upper.T @ upper
    ex, ey = (max(1, round(2 * math.sqrt(variance))) for variance in np.diag(covariance))
    g = np.empty((2 * ey + 1, 2 * ex + 1))
    for row, column in np.ndindex(g.shape):
        x = np.array([column - ex, row - ey])
        g[row, column] = math.exp(-x @ np.linalg.inv(covariance) @ x / 2)
    return g / g.sum()


def naive_filters(layer: SemiStructuredConv2d) -> np.ndarray:
    """Each tap of F puts down a Gaussian of its weight."""
    a, c = layer.log_scale.tolist()
    g, free = naive_gaussian(a, layer.shear.item(), c), layer.free.detach().numpy()
    (dh, dw), (gh, gw), (kh, kw) = layer.dilation, g.shape, free.shape[2:]
    filters = np.zeros((*free.shape[:2], dh * (kh - 1) + gh, dw * (kw - 1) + gw))
    for j, i, row, column in np.ndindex(free.shape):
        y, x = dh * row, dw * column
        filters[j, i, y : y + gh, x : x + gw] += free[j, i, row, column] * g
    return filters


@st.composite
def layers(draw: st.DrawFn) -> SemiStructuredConv2d:
    pair = st.one_of(st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 3)))
    groups = draw(st.integers(1, 2))
    torch.manual_seed(draw(st.integers(0, 2**32 - 1)))
    layer = semi_structured(
        groups * draw(st.integers(1, 2)),
        groups * draw(st.integers(1, 2)),
        draw(pair),
        groups=groups,
        bias=draw(st.booleans()),
        stride=draw(pair),
        padding=draw(st.one_of(st.sampled_from(["same", "valid"]), st.integers(0, 2))),
        dilation=draw(st.integers(1, 2)),
        padding_mode=draw(st.sampled_from(PADDING_MODES)),
    )
    perturbed(layer)
    scale = st.floats(-1, 0.6)
    return shaped(layer, draw(scale), draw(st.floats(-1.5, 1.5)), draw(scale))


@given(layers())
@settings(max_examples=60)
def test_layer_equals_its_definition(layer):
    """The filters by loops; the two steps as one convolution with them, up to the border; deploy() the same."""
    x = torch.randn(1, layer.in_channels, 11, 12, dtype=torch.float64)
    filters = naive_filters(layer)
    np.testing.assert_allclose(layer.filters().detach(), filters, rtol=1e-9, atol=1e-13)

    size = (filters.shape[2], filters.shape[3])
    axes = zip(size, layer.kernel_size, layer.dilation, strict=True)
    ey, ex = ((whole - 1 - d * (k - 1)) // 2 for whole, k, d in axes)
    padding = layer.padding if isinstance(layer.padding, str) else (layer.padding[0] + ey, layer.padding[1] + ex)
    if padding == "same":
        assume(layer.padding_mode in ("zeros", "replicate") or max(size) // 2 < 11)
        assume(size[0] > layer.stride[0] and size[1] > layer.stride[1])
    else:
        assume(all(k + d <= 11 for k, d in zip(layer.kernel_size, layer.dilation, strict=True)))
    planes = [oracle.pad(plane, size, layer.stride, padding, (1, 1), layer.padding_mode) for plane in x[0].numpy()]
    per_group = layer.in_channels // layer.groups
    expected = []
    for j in range(layer.out_channels):
        first = j // (layer.out_channels // layer.groups) * per_group
        inputs = planes[first : first + per_group]
        responses = [oracle.correlate(p, w, layer.stride, (1, 1)) for p, w in zip(inputs, filters[j], strict=True)]
        expected.append(sum(responses) + (0 if layer.bias is None else layer.bias[j].item()))
    np.testing.assert_allclose(layer(x)[0].detach(), expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(layer.deploy()(x), layer(x))


@pytest.mark.parametrize("sigma", [0.6, 1.0, 1.7])
def test_inside_it_is_a_free_form_convolution_of_a_blurred_image(sigma):
    layer = shaped(semi_structured(2, 3, 3), math.log(sigma), 0, math.log(sigma))
    x = torch.randn(1, 2, 20, 21, dtype=torch.float64)
    radius = round(2 * sigma)
    blurred = torch.from_numpy(ndimage.gaussian_filter(x.numpy(), sigma, radius=radius, axes=(2, 3)))
    expected = nn.functional.conv2d(blurred, layer.free, padding=1)
    inside = (..., slice(radius + 1, -radius - 1), slice(radius + 1, -radius - 1))
    torch.testing.assert_close(layer(x)[inside], expected[inside], rtol=1e-12, atol=1e-12)


def test_a_narrow_gaussian_leaves_the_free_form_convolution():
    layer = shaped(semi_structured(2, 4, 3, padding=1, stride=2, groups=2), math.log(0.1), 0, math.log(0.1))
    free = nn.Conv2d(2, 4, 3, padding=1, stride=2, groups=2, bias=False, dtype=torch.float64)
    free.load_state_dict({"weight": layer.free})
    x = torch.randn(2, 2, 9, 10, dtype=torch.float64)
    torch.testing.assert_close(layer(x), free(x), rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("a", "b", "c", "size"),
    [
        (0.0, 0.0, 0.0, (5, 5)),
        (math.log(2.9), 0.0, 0.0, (5, 13)),
        (0.0, 0.0, math.log(0.2), (3, 5)),
        (0.0, -2.0, math.log(1.4), (11, 5)),  # sqrt(4 + 1.96) = 2.44 rows
    ],
)
@pytest.mark.parametrize("options", [{}, {"padding": 1}, {"padding": "valid", "dilation": 2}, {"stride": 2}], ids=str)
def test_size_of_the_gaussian_and_of_outputs(a, b, c, size, options):
    """The Gaussian grows with its covariance; outputs keep the size of the free-form convolution."""
    layer = shaped(semi_structured(1, 2, 3, **options), a, b, c)
    g = layer.gaussian().detach()
    np.testing.assert_allclose(g, naive_gaussian(a, b, c), rtol=1e-12)
    assert g.shape == size
    expected = [[math.exp(2 * a), b * math.exp(a)], [b * math.exp(a), b**2 + math.exp(2 * c)]]
    np.testing.assert_allclose(layer.covariance.detach(), expected, rtol=1e-12)
    np.testing.assert_allclose(layer.sigma.detach() ** 2, np.diag(expected), rtol=1e-12)
    free = nn.Conv2d(1, 2, 3, **{"padding": "same" if "stride" not in options else 1, **options}, dtype=torch.float64)
    x = torch.randn(1, 1, 12, 13, dtype=torch.float64)
    assert layer(x).shape == free(x).shape
    assert layer.deploy()(x).shape == free(x).shape
    assert convolution_in(layer.deploy()).kernel_size == layer.filters().shape[2:]
    assert f"sigma=({layer.sigma[0]:.3f}, {layer.sigma[1]:.3f})" in repr(layer)


def test_gradients_of_the_gaussian():
    """All of them, and their own derivatives, against differences."""
    layer = shaped(semi_structured(1, 1, 2), 0.1, 0.4, -0.2)
    x = torch.randn(1, 1, 5, 6, dtype=torch.float64)

    def output(log_scale: Tensor, shear: Tensor) -> Tensor:
        return functional_call(layer, {"log_scale": log_scale, "shear": shear}, (x,))

    shape = (layer.log_scale.detach().clone().requires_grad_(), layer.shear.detach().clone().requires_grad_())
    assert torch.autograd.gradcheck(output, shape)
    assert torch.autograd.gradgradcheck(output, shape)


def test_gradients_at_the_start():
    """The reach of the Gaussian, which is a whole number, does not jump there."""
    layer = semi_structured(1, 1, 2)
    x = torch.randn(1, 1, 5, 6, dtype=torch.float64)
    names, parameters = zip(*layer.named_parameters(), strict=True)
    assert torch.autograd.gradcheck(
        lambda *values: functional_call(layer, dict(zip(names, values, strict=True)), (x,)), parameters
    )


@pytest.mark.parametrize("far", [99.0, -99.0])
def test_the_gaussian_keeps_its_bounds(far):
    """In evaluation it is clipped; training brings its numbers back, and their gradients are not lost there."""
    layer = shaped(semi_structured(1, 2, 3, sigma_min=0.25, sigma_max=4.0), far, far, far).eval()
    inside = math.log(4.0 if far > 0 else 0.25), math.copysign(4.0, far)
    filters = layer.filters()
    assert layer.log_scale.tolist() == [far, far]
    torch.testing.assert_close(layer.train().filters(), filters)
    assert layer.log_scale.tolist() == pytest.approx([inside[0]] * 2)
    assert layer.shear.item() == pytest.approx(inside[1])
    layer.filters().square().sum().backward()
    for parameter in layer.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0


@pytest.mark.parametrize("name", ["log_scale", "shear"])
def test_nan_is_passed_on(name):
    layer = semi_structured(1, 2, 3)
    nn.init.constant_(layer.get_parameter(name), math.nan)
    assert layer(torch.ones(1, 1, 5, 5, dtype=torch.float64)).isnan().all()


@pytest.mark.parametrize(("f_in", "f_out", "groups"), [(1, 4, 1), (4, 6, 2), (3, 3, 3)])
@pytest.mark.parametrize("bias", [False, True])
def test_three_parameters_more_than_the_convolution(f_in, f_out, groups, bias):
    layer = SemiStructuredConv2d(f_in, f_out, (3, 5), groups=groups, bias=bias)
    free = nn.Conv2d(f_in, f_out, (3, 5), groups=groups, bias=bias)
    count = sum(p.numel() for p in free.parameters()) + 3
    assert sum(p.numel() for p in layer.parameters()) == count
    assert f"parameters={count} (Conv2d: {count - 3})" in repr(layer)


def test_the_authors_initialisation_is_glorots():
    layer = SemiStructuredConv2d(20, 30, 3, init="authors")
    bound = math.sqrt(6 / (9 * (20 + 30)))
    assert 0.99 * bound < layer.free.abs().max() < bound
    assert layer.free.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)
    assert torch.equal(layer.covariance, torch.eye(2))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kernel_size": 0}, ValueError, "kernel_size must be an integer >= 1 or a pair of them, got 0"),
        ({"kernel_size": 3.0}, TypeError, "kernel_size must be an integer >= 1 or a pair of them, got 3.0"),
        ({"groups": 0}, ValueError, "groups must be an integer >= 1, got 0"),
        ({"groups": 4}, ValueError, "in_channels must be a multiple of groups, got 6 and 4"),
        ({"groups": 3}, ValueError, "out_channels must be a multiple of groups, got 4 and 3"),
        ({"sigma_min": 0}, ValueError, "sigma_min must be a positive number, got 0"),
        ({"sigma_max": "4"}, TypeError, "sigma_max must be a positive number, got '4'"),
        ({"sigma_min": 1}, ValueError, "sigma_min must be below 1 pixel and sigma_max above, got 1 and 16.0"),
        ({"sigma_max": 0.5}, ValueError, "sigma_min must be below 1 pixel and sigma_max above, got 0.1 and 0.5"),
    ],
    ids=str,
)
def test_wrong_arguments(arguments, error, message):
    options: dict[str, Any] = {"kernel_size": 3, **arguments}
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        SemiStructuredConv2d(6, 4, **options)
