"""The network of Table 1 and the factory of its convolutions."""

import math
import re
from typing import Any

import pytest
import torch
from torch import nn

from gdlayer import ConvBlock, GaussianDerivativeConv2d
from gdlayer.experiments.table1.layers import LAYERS
from gdlayer.networks.convolutions import ConvSpec
from gdlayer.networks.four_conv import FourConv
from gdlayer.related import DAUConv2d, NJetConv2d, RFNNConv2d

every_layer = pytest.mark.parametrize("layer", LAYERS)
PAPER = ("free-form", "rfnn", "dau", "ours", "ours-few", "ours-separated")


def make_conv(layer: str, spec: ConvSpec) -> nn.Module:
    return LAYERS[layer].maker()(spec)


def network(layer: str = "ours", **options: Any) -> FourConv:
    return FourConv(LAYERS[layer].maker(), **options)


def spec(depth: int = 0, init: str = "variance_preserving") -> ConvSpec:
    return ConvSpec(3, 8, 5, 4, depth, init)


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


# Parameters


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize(
    ("widths", "bases", "counts"),
    [
        ((8, 16, 16, 32), (4, 8, 8, 16), (8_538, 9_442, 36_562, 11_242, 10_342, 7_442)),
        ((16, 16, 16, 32), (8, 8, 8, 16), (9_770, 10_810, 42_010, 12_810, 11_810, 8_410)),
        ((16, 32, 32, 64), (4, 8, 8, 16), (33_194, 36_794, 144_794, 38_594, 37_694, 13_034)),
    ],
    ids=str,
)
def test_parameter_counts_of_the_paper_columns(widths, bases, counts, pooled):
    """Each again by the formulas, with beta for a bias and the dense layer."""
    pairs = list(zip((1, *widths), widths, strict=False))
    rest = sum(widths) + 10 * widths[-1] + 10
    products = sum(a * b for a, b in pairs)
    formulas = (
        9 * products,
        10 * products,
        40 * products,
        sum(10 * a * b + 50 * n for (a, b), n in zip(pairs, bases, strict=True)),
        sum(10 * a * b + 50 * n // 2 for (a, b), n in zip(pairs, bases, strict=True)),
        sum(10 * (n * a + b) + 50 * n for (a, b), n in zip(pairs, bases, strict=True)),
    )
    for layer, expected, formula in zip(PAPER, counts, formulas, strict=True):
        assert count(network(layer, widths=widths, bases=bases, pooled=pooled)) == expected == formula + rest


def test_parameter_counts_of_the_controls():
    products = 1 * 16 + 16 * 16 + 16 * 16 + 16 * 32
    rest = 80 + 330
    assert count(network("free-form-same-support")) == 49 * products + rest == 51_370
    assert count(network("free-form-same-support", kernel_size=5)) == 25 * products + rest
    assert count(network("n-jet")) == 10 * products + 4 + rest == 10_814


def test_separated_has_a_third_less_parameters():
    """The default widths and bases were chosen for it."""
    assert 0.65 < count(network("ours-separated")) / count(network("ours")) < 0.67


# The factory


def test_rows_name_their_maker():
    assert tuple(LAYERS)[:6] == PAPER
    assert [name for name, row in LAYERS.items() if row.in_paper] == list(PAPER)
    assert all(row.name == name for name, row in LAYERS.items())


@every_layer
@pytest.mark.parametrize("init", ["variance_preserving", "authors"])
def test_every_convolution_keeps_the_size_and_has_no_bias(layer, init):
    conv = make_conv(layer, spec(init=init))
    assert not any("bias" in name for name, _ in conv.named_parameters())
    x = torch.randn(2, 3, 9, 10)
    assert conv(x).shape == (2, 8, 9, 10)
    assert not conv(torch.zeros(2, 3, 9, 10)).any()


@every_layer
def test_unknown_initialisation(layer):
    message = "init must be one of 'variance_preserving', 'authors', got 'he'"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make_conv(layer, spec(init="he"))


@every_layer
def test_initialisation_is_handed_on(layer):
    """variance_preserving: |W|^2 = 2 on average; the authors' own is another."""
    energies = {"variance_preserving": 0.0, "authors": 0.0}
    for init in energies:
        for seed in range(30):
            torch.manual_seed(seed)
            conv = make_conv(layer, ConvSpec(16, 16, 5, 4, 1, init))
            weight = conv.weight if isinstance(conv, nn.Conv2d) else conv.filters()  # type: ignore[operator]
            energies[init] += weight.detach().square().sum((1, 2, 3)).mean().item() / 30
    assert energies["variance_preserving"] == pytest.approx(2, rel=0.12)
    assert not 1.5 < energies["authors"] < 2.5


def test_free_form_initialisations_are_he_and_glorot():
    he = make_conv("free-form", ConvSpec(32, 64, 7, 4, 0)).weight
    assert isinstance(he, torch.Tensor)
    assert he.std().item() == pytest.approx(math.sqrt(2 / (9 * 32)), rel=0.03)
    assert he.abs().max() > 3 * he.std()
    glorot = make_conv("free-form", ConvSpec(32, 64, 7, 4, 0, "authors")).weight
    assert isinstance(glorot, torch.Tensor)
    bound = math.sqrt(6 / (9 * (32 + 64)))
    assert 0.99 * bound < glorot.abs().max() <= bound


def test_free_form_supports():
    assert make_conv("free-form", spec()).kernel_size == (3, 3)
    assert make_conv("free-form-same-support", spec()).kernel_size == (5, 5)


def test_rfnn_is_broader_in_the_first_layer():
    for depth, sigma, size in ((0, 1.5, 11), (1, 1.0, 7), (2, 1.0, 7), (3, 1.0, 7)):
        conv = make_conv("rfnn", spec(depth))
        assert isinstance(conv, RFNNConv2d)
        assert (conv.sigma, conv.kernel_size, len(conv.kernels)) == (sigma, (size, size), 10)
    first, *others = (block.conv for block in network("rfnn").features if isinstance(block, ConvBlock))
    assert [first.sigma, *(conv.sigma for conv in others)] == [1.5, 1, 1, 1]


def test_dau_has_ten_units_and_njet_ten_kernels():
    conv = make_conv("dau", spec())
    assert isinstance(conv, DAUConv2d)
    assert (conv.kernel_size, conv.w.shape[2]) == ((5, 5), 10)
    conv = make_conv("n-jet", spec())
    assert isinstance(conv, NJetConv2d)
    assert len(conv.orders) == 10


@pytest.mark.parametrize(
    ("layer", "bases", "separated"), [("ours", 4, False), ("ours-few", 2, False), ("ours-separated", 4, True)]
)
def test_ours(layer, bases, separated):
    conv = make_conv(layer, ConvSpec(3, 8, 5, 4, 0, sigma_min=0.4))
    assert isinstance(conv, GaussianDerivativeConv2d)
    assert (conv.bases, conv.separated, conv.kernel_size, conv.sigma_min) == (bases, separated, (5, 5), 0.4)
    assert len(conv.orders) == 10
    assert conv.trainable == ("sigma", "mu", "theta")
    assert conv.algorithm == "dense"  # on every machine, as of the trials on record


# The network


@every_layer
@pytest.mark.parametrize("pooled", [False, True])
def test_forward_and_backward(layer, pooled, device):
    net = network(layer, widths=(4, 4, 6, 8), bases=(2, 2, 2, 4), kernel_size=5, pooled=pooled, num_classes=7)
    net = net.to(device)
    x = torch.randn(2, 1, 16, 16, device=device)
    features = net.features(x)
    assert features.shape == (2, 8, *([2, 2] if pooled else [16, 16]))
    torch.testing.assert_close(net(x), net.classifier(features.mean((2, 3))))
    assert net(x).shape == (2, 7)
    net(x).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("pooled", [False, True])
def test_stages(pooled):
    kinds = [type(stage) for stage in network("ours", pooled=pooled).features]
    if pooled:
        assert kinds == [*[ConvBlock, nn.MaxPool2d] * 3, ConvBlock]
    else:
        assert kinds == [ConvBlock] * 4


@every_layer
def test_beta_norm_has_only_beta(layer):
    blocks = [stage for stage in network(layer).features if isinstance(stage, ConvBlock)]
    for block, width in zip(blocks, (16, 16, 16, 32), strict=True):
        assert not list(block.norm.parameters())
        assert block.conv.get_parameter("bias").shape == (width,)
        assert isinstance(block.activation, nn.ReLU)
    for stage in network(layer, norm="batch").features:
        assert isinstance(stage, ConvBlock)
        assert isinstance(stage.norm, nn.BatchNorm2d)


@every_layer
def test_a_seed_makes_one_network(layer):
    nets = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        nets.append(network(layer).state_dict())
    first, same, other = nets
    assert first.keys() == same.keys() == other.keys()
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(("name", "value"), [("widths", (16, 16, 16)), ("bases", (8, 8, 8, 8, 16))])
def test_wrong_lengths(name, value):
    sizes = {"widths": (16, 16, 16, 32), "bases": (8, 8, 8, 16), name: value}
    message = f"widths and bases must be four integers each, got {sizes['widths']!r} and {sizes['bases']!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        network("ours", **sizes)


def test_wrong_norm():
    with pytest.raises(ValueError, match=r"^norm must be one of 'batch', 'beta', got 'layer'$"):
        network("ours", norm="layer")
