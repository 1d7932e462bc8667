"""SqueezeNet 1.1: torchvision's state dict and arithmetic, its input, and its first layer trained alone."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gdlayer import GaussianDerivativeConv2d
from gdlayer.datasets import DataNotFoundError
from gdlayer.datasets.weights import SQUEEZENET_MEAN, squeezenet_weights
from gdlayer.networks.squeezenet import BlueGreenRed, SqueezeNet, imagenet_squeezenet, load_published
from gdlayer.networks.transfer import replace_first_layer

FIRES = {
    3: (64, 16, 64),
    4: (128, 16, 64),
    6: (128, 32, 128),
    7: (256, 32, 128),
    9: (256, 48, 192),
    10: (384, 48, 192),
    11: (384, 64, 256),
    12: (512, 64, 256),
}
"""Input, squeezed and expanded maps by the index in ``features`` that torchvision's squeezenet1_1 has."""


def test_published_network_has_the_state_dict_of_torchvision():
    expected: dict[str, tuple[int, ...]] = {"features.0.weight": (64, 3, 3, 3), "features.0.bias": (64,)}
    for index, (f_in, squeezed, expanded) in FIRES.items():
        for name, shape in (
            ("squeeze", (squeezed, f_in, 1, 1)),
            ("expand1x1", (expanded, squeezed, 1, 1)),
            ("expand3x3", (expanded, squeezed, 3, 3)),
        ):
            expected |= {f"features.{index}.{name}.weight": shape, f"features.{index}.{name}.bias": shape[:1]}
    expected |= {"classifier.1.weight": (1000, 512, 1, 1), "classifier.1.bias": (1000,)}
    state = SqueezeNet(1000).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == expected
    assert sum(value.numel() for value in state.values()) == 1_235_496


@pytest.mark.parametrize("size", [17, 32, 45])
def test_forward_is_that_of_the_paper_without_the_last_rectifier(size):
    model = SqueezeNet(3).eval()
    state = {name: value.normal_(std=0.1) for name, value in model.state_dict().items()}
    x = torch.randn(2, 3, size, size)

    def conv(x, name, **options):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **options)

    expected = conv(x, "features.0", stride=2).clamp_min(0)
    for index in FIRES:
        if index in (3, 6, 9):
            expected = F.max_pool2d(expected, 3, 2, ceil_mode=True)
        squeezed = conv(expected, f"features.{index}.squeeze").clamp_min(0)
        both = [
            conv(squeezed, f"features.{index}.expand1x1"),
            conv(squeezed, f"features.{index}.expand3x3", padding=1),
        ]
        expected = torch.cat(both, 1).clamp_min(0)
    expected = conv(expected, "classifier.1").mean((2, 3))
    torch.testing.assert_close(model(x), expected)


def test_classes_must_be_positive():
    with pytest.raises(ValueError, match=r"^num_classes must be an integer >= 1, got 0$"):
        SqueezeNet(0)


def test_input_is_blue_green_red_minus_its_mean():
    images = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    out = BlueGreenRed()(images)
    for channel, mean in enumerate(SQUEEZENET_MEAN):
        torch.testing.assert_close(out[:, channel], images[:, 2 - channel].float() - mean, rtol=0, atol=0)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 64, 3, stride=2),
        GaussianDerivativeConv2d(3, 64, 7, bases=16, stride=2, padding=2),
        GaussianDerivativeConv2d(3, 64, 3, bases=16, stride=2, padding=0),
    ],
)
def test_first_layer_trains_alone(layer):
    model = SqueezeNet()
    before = {name: value.clone() for name, value in model.state_dict().items() if not name.startswith("features.0.")}
    trained = replace_first_layer(model, layer)
    assert {id(p) for p in trained} == {id(p) for p in layer.parameters()}
    assert [p for p in model.parameters() if p.requires_grad] == trained
    model.train()
    assert model.training
    assert [name for name, module in model.named_modules() if name and module.training] == [
        f"features.0{'.' * bool(name)}{name}" for name, _ in layer.named_modules()
    ]
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    with torch.no_grad():
        for p in trained:
            assert p.grad is not None
            p -= p.grad
    after = model.state_dict()
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=0)
    assert not any(module.training for module in model.eval().modules())


def test_a_layer_of_another_size_is_refused():
    model = SqueezeNet()
    old = model.features[0]
    expected = "new_layer must map shape (1, 3, 32, 33) to (1, 64, 15, 16), got (1, 64, 16, 17)"
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        replace_first_layer(model, nn.Conv2d(3, 64, 3, stride=2, padding=1))
    with pytest.raises(ValueError, match=r"^new_layer must map shape \(1, 3, 32, 33\) to \(1, 64, 15, 16\): "):
        replace_first_layer(model, nn.Conv2d(4, 64, 3, stride=2))
    assert model.features[0] is old
    assert all(p.requires_grad for p in model.parameters())


def test_imagenet_weights_are_in_their_places():
    torch.manual_seed(0)
    state = imagenet_squeezenet(2).state_dict()
    weights = squeezenet_weights()
    stored = {f"features.0.{kind}": weights[f"conv1.{kind}"] for kind in ("weight", "bias")} | {
        f"features.{index}.{ours}.{kind}": weights[f"fire{number}.{theirs}.{kind}"]
        for number, index in enumerate(FIRES, 2)
        for ours, theirs in (("squeeze", "squeeze1x1"), ("expand1x1", "expand1x1"), ("expand3x3", "expand3x3"))
        for kind in ("weight", "bias")
    }
    assert {name for name in state if not name.startswith("classifier")} == set(stored)
    for name, array in stored.items():
        torch.testing.assert_close(state[name], torch.from_numpy(array), rtol=0, atol=0)


@torch.no_grad()
def test_half_precision_weights_change_nothing_that_counts():
    """Features differ by a thousandth, which changes the class of no image here."""
    try:
        complete = squeezenet_weights(complete=True)
    except DataNotFoundError:
        pytest.skip("GDLAYER_DATA has no complete SqueezeNet")
    exact, rounded = SqueezeNet(1000).eval(), SqueezeNet(1000).eval()
    load_published(exact, complete)
    load_published(rounded, complete | squeezenet_weights())
    x = BlueGreenRed()(F.interpolate(torch.rand(20, 3, 12, 12) * 255, 160, mode="bicubic").clamp(0, 255))
    features = exact.features(x)
    assert 0 < (features - rounded.features(x)).norm() / features.norm() < 2e-3
    assert torch.equal(exact(x).argmax(1), rounded(x).argmax(1))
