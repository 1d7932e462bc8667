"""Experiment 1: what a trial trains and measures, and that every choice has its effect."""

import dataclasses
import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from invented import SAMPLE, rows_of, smoke, sought

from gdlayer.datasets import balanced_subset, fashion_mnist
from gdlayer.experiments.table1.prepare import FIXED, build_network
from gdlayer.experiments.table1.trial import Table1Trial
from gdlayer.networks.convolutions import ours
from gdlayer.trials import training
from gdlayer.trials.run import run
from gdlayer.trials.schema import REQUIRED
from gdlayer.trials.settings import hyperparameters


@pytest.mark.parametrize("name", ["activation", "optimiser", "input", "subset"])
def test_fixed_choices_refuse_other_values(name):
    settings = hyperparameters(smoke())
    assert name in FIXED
    message = f"{name} must be {settings[name]!r}, got 'another'"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build_network(ours, settings | {name: "another"})


@pytest.mark.parametrize(
    "changes",
    [
        {"widths": [8, 16, 16, 32], "bases": [4, 8, 8, 16]},
        {"bases": [4, 4, 4, 8]},
        {"kernel_size": 5},
        {"pooled": True},
        {"norm": "batch"},
        {"initialisation": "authors"},
        {"sigma_min": 0.9},
    ],
    ids=str,
)
def test_every_other_choice_changes_the_network(changes):
    settings = hyperparameters(smoke())
    nets = []
    for chosen in (settings, settings, settings | changes):
        torch.manual_seed(0)
        nets.append(build_network(ours, chosen))
    x = torch.randint(256, (2, 1, 28, 28), dtype=torch.uint8)
    first, same, changed = (net(x) for net in nets)
    assert torch.equal(first, same)
    assert not torch.allclose(first, changed)


def test_no_choice_is_without_effect():
    """Each is fixed, of the training recipe, or of the network."""
    network = {"widths", "bases", "kernel_size", "pooled", "norm", "initialisation", "sigma_min"}
    recipe = set(training.Recipe.__dataclass_fields__) - {"seed"}
    assert set(hyperparameters(smoke())) == network | recipe | set(FIXED)


def test_standardise():
    images = torch.tensor([[[[0, 255]], [[51, 102]]]], dtype=torch.uint8)  # (1, 2, 1, 2)
    expected = torch.tensor([[[[-0.5, 1.5]], [[-0.8, 0.0]]]])
    torch.testing.assert_close(training.Standardise([0.25, 0.4], [0.5, 0.25])(images), expected)
    first = build_network(ours, hyperparameters(smoke()))[0](images[:, :1])
    torch.testing.assert_close(first, torch.tensor([[[[0.0, 1.0]]]]).sub(0.2860).div(0.3530))


def test_table1_is_sought_on_other_training_images(results, trained, monkeypatch):
    """The table's own subset to train on, the next images of the draw to measure on; no test image is read."""
    whole = fashion_mnist.load

    def load(name: str) -> fashion_mnist.ImageSet:
        return dataclasses.replace(whole(name), test_images=None, test_labels=None)

    monkeypatch.setattr(fashion_mnist, "load", load)
    trial = sought(rate=0.003, seed=1)
    record = run(trial, results)
    data = whole(SAMPLE)
    (call,) = trained
    chosen = balanced_subset(data.train_labels, 1000, 1)
    assert np.array_equal(call["images"], data.train_images[chosen, None])
    assert call["recipe"].learning_rate == 0.003
    others = balanced_subset(data.train_labels, 1100, 1)[1000:]
    assert not rows_of(data.train_images[others]) & rows_of(data.train_images[chosen])
    assert np.bincount(data.train_labels[others]).tolist() == [10] * 10
    said = call["model"](torch.from_numpy(data.train_images[others, None])).argmax(1).numpy()
    assert record["metrics"] == {"validation_accuracy": (said == data.train_labels[others]).mean()}
    assert (record["data"]["n_train"], record["data"]["n_validation"]) == (1000, 100)
    assert "n_test" not in record["data"]
    assert set(record) == set(REQUIRED)
    assert record["hyperparameters"]["learning_rate"] == record["trial"]["learning_rate"] == 0.003
    assert record["hyperparameters"]["validation"] == 100


def test_the_pooled_network_is_trained(results, trained):
    trial = Table1Trial(layer="free-form", n_train=1000, network="pooled", profile="smoke", dataset=SAMPLE)
    record = run(trial, results)
    network = trained[0]["model"][1]
    assert sum(isinstance(stage, torch.nn.MaxPool2d) for stage in network.features) == 3
    assert network.classifier.in_features == 64
    widths = [1, 16, 32, 64, 64]
    convolutions = sum(9 * a * b + b for a, b in pairwise(widths))
    assert record["parameters"] == convolutions + 64 * 10 + 10
