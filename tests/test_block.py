"""From J to O, section 2: normalisation, nonlinearity, down-sampling."""

import re
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from gdlayer import ConvBlock, GaussianDerivativeConv2d


def gaussian(**options: Any) -> GaussianDerivativeConv2d:
    return GaussianDerivativeConv2d(2, 4, 5, order=2, bias=False, dtype=torch.float64, **options)


def test_batch_is_batch_normalisation_then_rectifier():
    conv = gaussian()
    block = ConvBlock(conv).double()
    assert isinstance(block.norm, nn.BatchNorm2d)
    nn.init.normal_(block.norm.weight)
    nn.init.normal_(block.norm.bias)
    x = torch.randn(3, 2, 6, 7, dtype=torch.float64)
    j = conv(x)
    mean, variance = j.mean((0, 2, 3), keepdim=True), j.var((0, 2, 3), unbiased=False, keepdim=True)
    gamma, beta = (p[:, None, None] for p in (block.norm.weight, block.norm.bias))
    expected = torch.relu(gamma * (j - mean) / torch.sqrt(variance + block.norm.eps) + beta)
    torch.testing.assert_close(block(x), expected)
    assert {name for name, p in block.norm.named_parameters() if p.requires_grad} == {"weight", "bias"}


def test_beta_is_batch_normalisation_with_gamma_one_and_statistics_fixed():
    conv = gaussian()
    block = ConvBlock(deepcopy(conv), norm="beta").double()
    beta = block.conv.get_parameter("bias")
    nn.init.normal_(beta)
    reference = nn.BatchNorm2d(4, dtype=torch.float64).eval()
    assert reference.running_var is not None
    reference.running_var.fill_(1 - reference.eps)  # 1 under the root
    reference.load_state_dict({**reference.state_dict(), "bias": beta})
    x = torch.randn(3, 2, 6, 7, dtype=torch.float64)
    expected = torch.relu(reference(conv(x)))
    torch.testing.assert_close(block(x), expected)
    torch.testing.assert_close(block.eval()(x), expected)
    assert expected.any()


def test_only_beta_trains():
    conv = gaussian(trainable=())
    names = {name for name, _ in conv.named_parameters()}
    block = ConvBlock(conv, norm="beta")
    assert {name for name, _ in block.named_parameters()} == {f"conv.{name}" for name in (*names, "bias")}
    assert isinstance(block.norm, nn.Identity)
    beta = conv.get_parameter("bias")
    assert beta.shape == (4,)
    assert beta.dtype == torch.float64
    assert not beta.any()
    x = torch.randn(3, 2, 6, 7, dtype=torch.float64)
    block(x).sum().backward()
    assert beta.grad is not None
    torch.testing.assert_close(beta.grad, (conv(x) > 0).sum((0, 2, 3)).double())


def test_a_bias_that_is_there_is_beta(device):
    conv = nn.Conv2d(2, 4, 3, device=device)
    bias = conv.bias
    assert ConvBlock(conv, norm="beta").conv.bias is bias
    bare = nn.Conv2d(2, 4, 3, bias=False, device=device)
    assert ConvBlock(bare, norm="beta").conv.get_parameter("bias").device.type == device
    assert ConvBlock(nn.Conv2d(2, 4, 3, bias=False), norm="batch").conv.bias is None


@pytest.mark.parametrize("activation", [nn.Sigmoid(), torch.tanh, nn.Identity()], ids=["Sigmoid", "tanh", "Identity"])
def test_activation_comes_after_normalisation(activation):
    conv = gaussian()
    block = ConvBlock(deepcopy(conv), norm="beta", activation=activation)
    beta = block.conv.get_parameter("bias")
    nn.init.normal_(beta)
    x = torch.randn(1, 2, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(block(x), activation(conv(x) + beta[:, None, None]))


@pytest.mark.parametrize("downsample", [1, 2, 3, (2, 1), (1, 3)])
def test_downsampling_keeps_every_sth_row_and_column(downsample):
    conv = gaussian()
    whole, sampled = ConvBlock(conv).double(), ConvBlock(conv, downsample=downsample).double()
    rows, columns = (downsample, downsample) if isinstance(downsample, int) else downsample
    x = torch.randn(2, 2, 7, 8, dtype=torch.float64)
    torch.testing.assert_close(sampled(x), whole(x)[:, :, ::rows, ::columns])


def test_downsampling_after_or_stride_inside():
    """The paper samples F's output, the authors' code strides in the convolution: equal but for batch statistics."""
    after = ConvBlock(gaussian(padding=2), downsample=2).double()
    inside = ConvBlock(gaussian(padding=2, stride=2)).double()
    x = torch.randn(4, 2, 7, 8, dtype=torch.float64)
    for parameter in after.norm.parameters():  # gamma and beta
        nn.init.normal_(parameter)

    inside.load_state_dict(after.state_dict())
    torch.testing.assert_close(after.eval()(x), inside.eval()(x))

    trained_after, trained_inside = after.train()(x), inside.train()(x)
    assert trained_after.shape == trained_inside.shape
    assert not torch.allclose(trained_after, trained_inside, rtol=1e-3)
    assert not torch.allclose(after.norm.get_buffer("running_var"), inside.norm.get_buffer("running_var"), rtol=1e-3)

    beta_after = ConvBlock(gaussian(padding=2), norm="beta", downsample=2)
    beta_inside = ConvBlock(gaussian(padding=2, stride=2), norm="beta")
    beta_inside.load_state_dict(beta_after.state_dict())
    torch.testing.assert_close(beta_after(x), beta_inside(x))  # no statistics, no difference


def test_any_convolution_will_do():
    block = ConvBlock(nn.Conv2d(2, 3, 3, bias=False), norm="beta", downsample=2)
    assert block(torch.randn(1, 2, 6, 6)).shape == (1, 3, 2, 2)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"norm": "layer"}, ValueError, "norm must be one of 'batch', 'beta', got 'layer'"),
        ({"norm": None}, ValueError, "norm must be one of 'batch', 'beta', got None"),
        ({"downsample": 0}, ValueError, "downsample must be an integer >= 1 or a pair of them, got 0"),
        ({"downsample": 1.5}, TypeError, "downsample must be an integer >= 1 or a pair of them, got 1.5"),
        ({"downsample": (2,)}, TypeError, "downsample must be an integer >= 1 or a pair of them, got (2,)"),
    ],
    ids=str,
)
def test_wrong_arguments(options, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        ConvBlock(gaussian(), **options)


def test_convolutions_without_a_channel_count_are_refused():
    conv = gaussian()
    conv.out_channels = "4"  # type: ignore[assignment]
    with pytest.raises(TypeError, match=r"^conv must have an integer out_channels, got '4'$"):
        ConvBlock(conv)
    with pytest.raises(AttributeError, match="out_channels"):
        ConvBlock(nn.ReLU())
