"""The U-net of Table 3: the published counts, layer by layer, and the wiring, written out once more."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gdlayer import ConvBlock, GaussianDerivativeConv2d
from gdlayer.experiments.table3.layers import LAYERS
from gdlayer.networks.unet import UNet
from gdlayer.synthesis import SynthesizedConv2d

# name, stride, channels in and out, parameters of the classical and of the Gaussian layer
TABLE = [
    ("enc0.conv1", 1, 3, 8, 608, 220),
    ("enc0.conv2", 1, 8, 8, 1608, 460),
    ("enc0.down", 2, 8, 8, 1608, 460),
    ("enc1.conv1", 1, 8, 16, 3216, 920),
    ("enc1.conv2", 1, 16, 16, 6416, 1688),
    ("enc1.down", 2, 16, 16, 6416, 1688),
    ("bottom.conv1", 1, 16, 32, 12832, 3376),
    ("bottom.conv2", 1, 32, 32, 25632, 6448),
    ("dec1.up", 1, 32, 16, 12816, 3224),
    ("dec1.conv1", 1, 32, 16, 12816, 3224),
    ("dec1.conv2", 1, 16, 16, 6416, 1688),
    ("dec0.up", 1, 16, 8, 3208, 844),
    ("dec0.conv1", 1, 16, 8, 3208, 844),
    ("dec0.conv2", 1, 8, 2, 402, 214),
]
variants = pytest.mark.parametrize("variant", LAYERS)


def net(variant: str = "gaussian-unet", **options: Any) -> UNet:
    return LAYERS[variant].maker()(**options)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


@pytest.mark.parametrize(
    ("variant", "total"), [("unet", 97202), ("gaussian-unet", 25298), ("unet-bn", 97404), ("unet-small", 24704)]
)
def test_published_counts(variant, total):
    assert count(net(variant)) == total


@variants
def test_layers_are_those_of_the_table(variant):
    blocks = {name: module for name, module in net(variant).named_modules() if isinstance(module, ConvBlock)}
    assert list(blocks) == [row[0] for row in TABLE]
    for name, stride, f_in, f_out, classical, gaussian in TABLE:
        conv = blocks[name].conv
        if variant == "unet-small":  # every channel but those of the image and of the classes is halved
            f_in, f_out = (n if n < 8 else n // 2 for n in (f_in, f_out))
        assert isinstance(conv, GaussianDerivativeConv2d if "gaussian" in variant else nn.Conv2d)
        assert (conv.in_channels, conv.out_channels) == (f_in, f_out)
        assert (conv.kernel_size, conv.stride) == ((5, 5), (stride, stride))
        assert (conv.bias is None) == (variant != "unet")
        expected = {"unet": classical, "unet-bn": classical + f_out, "gaussian-unet": gaussian}
        expected["unet-small"] = 25 * f_in * f_out + 2 * f_out
        assert count(blocks[name]) == expected[variant], name
        if isinstance(conv, GaussianDerivativeConv2d):
            last = name == "dec0.conv2"
            assert (len(conv.orders), conv.bases, conv.separated) == (
                (10, 1, False) if last else (6, f_out // 4, False)
            )
            assert conv.algorithm == "dense"  # on every machine, as of the trials on record


def by_hand(model: UNet, x: Tensor) -> Tensor:
    """Reading A with nothing but functions, in evaluation mode."""
    blocks = {name: module for name, module in model.named_modules() if isinstance(module, ConvBlock)}

    def layer(name: str, x: Tensor) -> Tensor:
        block = blocks[name]
        conv = block.conv
        filters = conv.filters() if isinstance(conv, SynthesizedConv2d) else conv.get_parameter("weight")
        if name.endswith("down"):  # 5 taps at stride 2: 3 short of an even size, 4 of an odd
            top, left = ((1 if n % 2 == 0 else 2) for n in x.shape[-2:])
            x = F.conv2d(F.pad(x, (left, 2, top, 2)), filters, stride=2)
        else:
            x = F.conv2d(x, filters, padding=2)
        if isinstance(block.norm, nn.BatchNorm2d):
            mean, var, gamma, beta = (
                p[:, None, None]
                for p in (block.norm.running_mean, block.norm.running_var, block.norm.weight, block.norm.bias)
                if p is not None
            )
            x = (x - mean) / torch.sqrt(var + 1e-5) * gamma + beta
        else:
            x = x + conv.get_parameter("bias")[:, None, None]
        return x if name == "dec0.conv2" else x.clamp_min(0)

    def double(x: Tensor, like: Tensor) -> Tensor:
        return x.repeat_interleave(2, -1).repeat_interleave(2, -2)[..., : like.shape[-2], : like.shape[-1]]

    skip0 = layer("enc0.conv2", layer("enc0.conv1", x))
    skip1 = layer("enc1.conv2", layer("enc1.conv1", layer("enc0.down", skip0)))
    bottom = layer("bottom.conv2", layer("bottom.conv1", layer("enc1.down", skip1)))
    up1 = layer("dec1.up", double(bottom, skip1))
    one = layer("dec1.conv2", layer("dec1.conv1", torch.cat([skip1, up1], 1)))
    up0 = layer("dec0.up", double(one, skip0))
    return layer("dec0.conv2", layer("dec0.conv1", torch.cat([skip0, up0], 1)))


@variants
@pytest.mark.parametrize("size", [(16, 12), (15, 9)])
def test_wiring(variant, size):
    model = net(variant).double()
    for module in model.modules():  # no two norms alike
        for name, value in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            if name == "bias" or (isinstance(module, nn.BatchNorm2d) and name != "num_batches_tracked"):
                nn.init.uniform_(value, 0.5, 1.5)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    logits = model.eval()(x)
    assert logits.shape == (2, 2, *size)
    torch.testing.assert_close(logits, by_hand(model, x))


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 16), (30, 31)])
def test_every_size_has_logits_of_that_size(size):
    with torch.no_grad():
        assert net("gaussian-unet").eval()(torch.randn(1, 3, *size)).shape == (1, 2, *size)


def test_channels_classes_and_support():
    model = net("gaussian-unet", kernel_size=7, in_channels=1, num_classes=5)
    assert model(torch.randn(2, 1, 16, 16)).shape == (2, 5, 16, 16)
    assert count(model) == 25298 - 2 * 8 * 6 + 3 * 8 * 10 + 3 * 2  # the support costs a Gaussian layer nothing
    assert count(net("unet", kernel_size=7)) == 49 * 3880 + 202
    assert net("gaussian-unet", widths=(4, 12, 20))(torch.randn(2, 3, 16, 16)).shape == (2, 2, 16, 16)


@variants
def test_every_parameter_trains(variant):
    model = net(variant)
    x = torch.randn(2, 3, 16, 16)
    F.cross_entropy(model(x), (x[:, 0] > 0).long()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


@variants
def test_filters_start_with_the_gain_of_what_follows(variant):
    """The expected squared norm of a filter is g^2: 2 before a rectifier, 1 before the logits."""
    means = torch.zeros(len(TABLE))
    for _ in range(20):
        blocks = [module for module in net(variant).modules() if isinstance(module, ConvBlock)]
        for index, conv in enumerate(block.conv for block in blocks):
            filters = conv.filters() if isinstance(conv, SynthesizedConv2d) else conv.get_parameter("weight")
            means[index] += filters.detach().square().sum((1, 2, 3)).mean() / 20
    torch.testing.assert_close(means, torch.tensor([2.0] * 13 + [1.0]), rtol=0.25, atol=0)


def test_initial_logits_are_of_order_one():
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        without = torch.stack([net("unet")(x).square().mean() for _ in range(20)])
        assert 0.5 < without.mean() < 2
        for variant in ("unet-bn", "gaussian-unet", "unet-small"):
            torch.testing.assert_close(net(variant)(x).square().mean(), torch.tensor(1.0), rtol=1e-2, atol=0)


def test_the_default_is_the_papers():
    assert count(UNet()) == 25298


def test_unknown_options():
    with pytest.raises(ValueError, match=r"^convolution must be one of 'free-form', 'gaussian', got 'unet'$"):
        UNet("unet")
    with pytest.raises(ValueError, match=r"^norm must be one of 'batch', 'beta', got 'layer'$"):
        UNet(norm="layer")
    with pytest.raises(ValueError, match=r"^widths must be three integers >= 1, got \(8, 16\)$"):
        UNet(widths=(8, 16))
    with pytest.raises(ValueError, match=r"^each of widths must be an integer >= 1, got 0$"):
        UNet(widths=(8, 16, 0))
