"""What a trial on scale generalisation trains, and what it is tested on."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from invented import SAMPLE
from torch.nn import functional as F

from gdlayer.datasets import balanced_subset, fashion_mnist
from gdlayer.experiments.scale.layers import CHANNELS, LAYERS
from gdlayer.experiments.scale.prepare import FIXED, Canvas, build_network, rescaled
from gdlayer.experiments.scale.trial import ScaleSearch, ScaleTrial
from gdlayer.networks.four_conv import FourConv
from gdlayer.related import ScaleChannelNetwork
from gdlayer.trials import training
from gdlayer.trials.run import run
from gdlayer.trials.settings import hyperparameters


def trial_of(layer: str = "free-form", **fields: Any) -> ScaleTrial:
    return ScaleTrial(layer=layer, n_train=100, profile="smoke", dataset=SAMPLE, **fields)


SETTINGS = hyperparameters(trial_of())


def test_the_canvas_keeps_the_image_in_its_middle():
    images = torch.arange(1, 13, dtype=torch.uint8).view(1, 1, 3, 4)
    out = Canvas(8)(images)
    assert torch.equal(out[..., 2:5, 2:6], images)
    assert out.sum() == images.sum()
    assert out.dtype == torch.uint8


@pytest.mark.parametrize("size", SETTINGS["sizes"])
def test_rescaled_images_show_the_same(size):
    """A smooth picture at another size is itself sampled elsewhere, to a few grey levels; the middle stays there."""

    def picture(n: int) -> torch.Tensor:
        t = (torch.arange(n) + 0.5) / n - 0.5
        return 255 * torch.exp(-((t - 0.1) ** 2 + (t[:, None] + 0.05) ** 2) / 0.05)[None, None]

    made = rescaled(picture(28).round().to(torch.uint8), size)
    assert (made.shape, made.dtype) == ((1, 1, size, size), torch.uint8)
    assert (made.float() - picture(size)).abs().max() < 3
    edge = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    edge[..., 14:] = 255
    assert rescaled(edge, size).float().mean() == pytest.approx(127.5, rel=0.02)  # overshoot does not wrap around


def test_images_of_the_size_of_training_stay_as_they_are():
    images = torch.randint(256, (2, 1, 28, 28), dtype=torch.uint8)
    assert rescaled(images, 28) is images


@pytest.mark.parametrize("layer", LAYERS)
def test_the_network_of_a_layer(layer):
    network = build_network(layer, SETTINGS)
    assert network(torch.zeros(2, 1, 20, 20, dtype=torch.uint8)).shape == (2, 10)
    count = sum(p.numel() for p in network.parameters() if p.requires_grad)
    convolved = 1 * 16 + 16 * 16 + 16 * 16 + 16 * 32
    rest = 2 * (16 + 16 + 16 + 32) + 10 * 32 + 10
    per_filter, geometry = {
        "free-form": (9, 0), "n-jet": (10, 4), "ours": (10, 50 * (8 + 8 + 8 + 16)), CHANNELS: (6, 0)
    }[layer]  # fmt: skip
    assert count == per_filter * convolved + geometry + rest


def test_scale_channels_span_the_sizes():
    network = build_network(CHANNELS, SETTINGS)[-1]
    assert isinstance(network, ScaleChannelNetwork)
    assert (min(network.scales), max(network.scales)) == (min(SETTINGS["sizes"]) / 28, max(SETTINGS["sizes"]) / 28)
    assert [conv.sigma for conv in network.convs] == pytest.approx([1, 2**0.5, 2, 8**0.5], rel=1e-4)


def test_the_background_goes_on_beyond_the_canvas():
    """Zeros, so that a network sees no edge there; and the image in units of the deviation."""
    canvas, standardise, _ = build_network("ours", SETTINGS)
    images = torch.full((1, 1, 14, 14), 51, dtype=torch.uint8)
    out = standardise(canvas(images))
    assert out.shape == (1, 1, 64, 64)
    torch.testing.assert_close(out[..., 25:39, 25:39], torch.full((1, 1, 14, 14), 0.2 / 0.3530))
    assert out.count_nonzero() == 14 * 14


def test_the_maximum_over_positions_goes_into_the_dense_layer():
    network = build_network("free-form", SETTINGS)[-1].eval()
    assert isinstance(network, FourConv)
    x = torch.randn(2, 1, 12, 12)
    expected = F.linear(network.features(x).flatten(2).max(-1).values, *network.classifier.parameters())
    torch.testing.assert_close(network(x), expected)


@pytest.mark.parametrize("name", FIXED)
def test_fixed_choices_refuse_other_values(name):
    message = f"{name} must be {SETTINGS[name]!r}, got 'another'"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build_network("ours", SETTINGS | {name: "another"})


@pytest.mark.parametrize(("name", "value"), [("norm", "beta"), ("global_pooling", "mean")])
def test_scale_channels_have_no_other_options(name, value):
    with pytest.raises(ValueError, match=f"^{name} must be {SETTINGS[name]!r}, got {value!r}$"):
        build_network(CHANNELS, SETTINGS | {name: value})


def test_no_choice_is_without_effect():
    """Each is fixed, of the training recipe, of the networks, or of the test images."""
    networks = {"widths", "bases", "kernel_size", "norm", "global_pooling", "initialisation", "sigma_min"}
    channels = {"scales", "first_sigma", "sigma_ratio"}
    recipe = set(training.Recipe.__dataclass_fields__) - {"seed"}
    assert set(SETTINGS) == networks | channels | recipe | set(FIXED) | {"sizes", "canvas", "n_test"}


def test_a_record_has_the_accuracy_at_every_size(results, trained, monkeypatch):
    """Trained on images as they are; tested on the first ones of the test set, at each size."""
    seen: list[tuple[int, ...]] = []
    forward = Canvas.forward

    def watched(self: Canvas, images: torch.Tensor) -> torch.Tensor:
        seen.append((self.training, *images.shape))
        return forward(self, images)

    monkeypatch.setattr(Canvas, "forward", watched)
    record = run(trial_of(), results)
    assert list(record["metrics"]) == [f"test_accuracy_at_{size}" for size in SETTINGS["sizes"]]
    assert record["data"] == record["data"] | {"n_train": 100, "n_test": 50}  # there are no more here
    assert seen == [*2 * [(True, 32, 1, 28, 28)], *((False, 50, 1, size, size) for size in SETTINGS["sizes"])]
    data = fashion_mnist.load(SAMPLE)
    chosen = balanced_subset(data.train_labels, 100, 0)
    np.testing.assert_array_equal(trained[0]["images"][:, 0], data.train_images[chosen])


def test_rates_are_sought_on_held_out_images_of_the_size_of_training(results):
    values = {name: getattr(trial_of(), name) for name in ("layer", "n_train", "profile", "dataset")}
    record = run(ScaleSearch(**values, learning_rate=0.01), results)
    assert list(record["metrics"]) == ["validation_accuracy"]
    assert record["data"] == record["data"] | {"n_train": 100, "n_validation": 100}
    assert record["hyperparameters"]["learning_rate"] == 0.01
