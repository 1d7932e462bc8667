"""What a trial of the ablations trains."""

from typing import Any

import pytest
import torch
from invented import SAMPLE

from gdlayer.conv import GaussianDerivativeConv2d
from gdlayer.experiments.ablations import prepare as prepared
from gdlayer.experiments.ablations.layers import LAYERS
from gdlayer.experiments.ablations.prepare import prepare
from gdlayer.experiments.ablations.trial import AblationTrial
from gdlayer.networks.convolutions import ours
from gdlayer.networks.four_conv import FourConv
from gdlayer.trials.run import run
from gdlayer.trials.settings import hyperparameters
from gdlayer.trials.task import Workplace

WIDTHS = {"narrow": (1, 12, 12, 14, 24)}
BASES = {
    "bases-1": (1, 1, 1, 1),
    "bases-eighth": (2, 2, 2, 4),
    "bases-quarter": (4, 4, 4, 8),
    "bases-all": (16, 16, 16, 32),
    "narrow": (6, 6, 7, 12),
}
KERNELS = {"order-1": 3, "order-2": 6, "order-4": 15}
TRAINED = {"trains-none": (), "trains-sigma": ("sigma",), "trains-mu": ("mu",), "trains-theta": ("theta",)}
NUMBERS = {"sigma": 2, "mu": 2, "theta": 1}
"""Of a kernel."""


def trial_of(layer: str) -> AblationTrial:
    return AblationTrial(layer=layer, n_train=100, profile="smoke", dataset=SAMPLE)


def network_of(layer: str, tmp_path: Any) -> FourConv:
    trial = trial_of(layer)
    workplace = Workplace(torch.device("cpu"), tmp_path, trial.record_path(tmp_path))
    network = prepare(trial, hyperparameters(trial), workplace).model.get_submodule("1")
    assert isinstance(network, FourConv)
    return network


def convolutions_of(network: FourConv) -> list[GaussianDerivativeConv2d]:
    return [module for module in network.modules() if isinstance(module, GaussianDerivativeConv2d)]


def expected_count(layer: str) -> int:
    """Trainable parameters: geometry and mixing weights of four convolutions, their shifts, and the dense layer."""
    widths, bases = WIDTHS.get(layer, (1, 16, 16, 16, 32)), BASES.get(layer, (8, 8, 8, 16))
    kernels, trained = KERNELS.get(layer, 10), TRAINED.get(layer, tuple(NUMBERS))
    geometry = sum(NUMBERS[name] for name in trained) * (1 if layer == "shared" else kernels)
    count = 10 * widths[-1] + 10
    for f_in, f_out, b in zip(widths, widths[1:], bases, strict=False):
        mixing = kernels * (b * f_in + f_out) if layer == "separated" else kernels * f_in * f_out
        count += b * geometry + mixing + f_out
    return count


@pytest.mark.parametrize("layer", LAYERS)
def test_the_network_of_a_variant(layer, tmp_path):
    network = network_of(layer, tmp_path)
    trainable = [p for p in network.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trainable) == expected_count(layer)
    convolutions = convolutions_of(network)
    assert len(convolutions) == 4
    size = int(layer.removeprefix("size-")) if layer.startswith("size-") else 7
    for conv in convolutions:
        assert conv.kernel_size == (size, size)
        assert conv.sigma_min == 0.5
        trains = {"sigma": conv.raw_sigma, "mu": conv.mu, "theta": conv.theta}
        assert {name for name, p in trains.items() if p.requires_grad} == set(TRAINED.get(layer, trains))
        if layer != "separated":
            assert conv.omega.requires_grad
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_the_counts_that_the_choices_tell():
    """Printed there: the narrow network beside the separated one."""
    assert (expected_count("narrow"), expected_count("separated")) == (8462, 8410)
    assert expected_count("ours") == 12810


def test_the_authors_start(tmp_path):
    """Uniform on (-1, 1); the geometry of the first layer, drawn before, is that of Ours."""
    own, theirs = (convolutions_of(network_of(layer, tmp_path))[0] for layer in ("ours", "authors"))
    assert 0.9 < theirs.omega.abs().max() < 1
    assert own.omega.abs().max() > 2
    assert torch.equal(own.mu, theirs.mu)


def test_variants_of_a_seed_train_on_the_same_images_from_a_start_of_their_own(results, trained, monkeypatch):
    made = []
    monkeypatch.setattr(prepared, "ours", lambda *args, **options: made.append(options) or ours(*args, **options))
    first, second = (run(trial_of(layer), results) for layer in ("trains-none", "order-1"))
    assert made == [
        *4 * [{"order": 3, "trainable": [], "shared": [], "separated": False}],
        *4 * [{"order": 1, "trainable": ["sigma", "mu", "theta"], "shared": [], "separated": False}],
    ]
    assert torch.equal(trained[0]["images"], trained[1]["images"])
    assert torch.equal(trained[0]["labels"], trained[1]["labels"])
    assert [record["parameters"] for record in (first, second)] == [10810, 4130]
    assert first["metrics"].keys() == {"test_accuracy"}
    before, after = trained[0]["before"], trained[0]["after"]
    geometry = [name for name in before if name.rpartition(".")[2] in ("raw_sigma", "mu", "theta")]
    assert len(geometry) == 12
    assert all(torch.equal(before[name], after[name]) for name in geometry)
    assert not torch.equal(before["features.0.conv.omega"], after["features.0.conv.omega"])
    moved = trained[1]["before"], trained[1]["after"]
    assert all(not torch.equal(moved[0][name], moved[1][name]) for name in geometry)
