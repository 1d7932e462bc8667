"""The committed networks that the book looks into: what they are, and that they are as their records say."""

import json
import re
from pathlib import Path
from typing import Any

import make_checkpoints
import pytest
import torch
from make_checkpoints import FOLDER, depthwise_network, trials
from torch import nn

from gdlayer.datasets import fashion_mnist
from gdlayer.experiments.table1.layers import LAYERS
from gdlayer.experiments.table1.prepare import build_network
from gdlayer.experiments.table1.trial import Table1Trial
from gdlayer.trials.files import checksum
from gdlayer.trials.record import check_current, read_record
from gdlayer.trials.settings import hyperparameters
from gdlayer.trials.training import accuracy
from gdlayer.trials.weights import load_kept

ROOT = Path(make_checkpoints.__file__).parents[1]


def network(trial: Table1Trial) -> nn.Module:
    torch.manual_seed(trial.seed)
    return build_network(LAYERS[trial.layer].maker(), hyperparameters(trial))


def on_sample(model: nn.Module, precision: str) -> float:
    """Accuracy on the 1,000 test images that come with the package."""
    data = fashion_mnist.load(fashion_mnist.SAMPLE)
    return accuracy(model, torch.from_numpy(data.test_images[:, None]), torch.from_numpy(data.test_labels), precision)


def settled(record: dict[str, Any]) -> tuple[Any, ...]:
    """What two records of one trial have in common wherever they were made."""
    return record["trial"], record["hyperparameters"], record["parameters"], record["data"]["sha256"]


def test_they_are_small():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 3e6


@pytest.mark.parametrize("trial", trials(), ids=lambda trial: trial.layer)
def test_a_network_of_table_1_is_that_of_its_record(trial):
    path = trial.record_path(FOLDER)
    record, other = read_record(path), read_record(trial.record_path(ROOT / "data" / "results"))
    assert record is not None
    assert other is not None
    check_current(record, hyperparameters(trial), path)
    assert settled(record) == settled(other)
    assert re.fullmatch("[0-9a-f]{40}", record["git"]["commit"])
    assert record["git"]["dirty"] is False
    model = network(trial)
    before = {name: value.clone() for name, value in model.named_parameters()}
    assert load_kept(model, path) == json.loads(path.read_text())
    assert all(value.isfinite().all() for value in model.parameters())
    moved = [name for name, value in model.named_parameters() if not torch.equal(value, before[name])]
    assert moved == [name for name, value in model.named_parameters() if value.requires_grad]


def test_a_loaded_network_classifies_as_well_as_its_record_says():
    trial = trials()[0]
    model = network(trial)
    record = load_kept(model, trial.record_path(FOLDER))
    assert on_sample(model, "bf16") == pytest.approx(record["metrics"]["test_accuracy"], abs=0.04)


def test_the_depthwise_network_is_that_of_its_record():
    path = FOLDER / "depthwise.json"
    model = depthwise_network()
    record = load_kept(model, path)
    assert record.pop("sha256") == checksum(record)
    assert record["hyperparameters"] == vars(make_checkpoints.RECIPE) | {"widths": list(make_checkpoints.WIDTHS)}
    assert record["git"]["dirty"] is False
    assert on_sample(model, "fp32") == pytest.approx(record["metrics"]["test_accuracy"], abs=0.03)
