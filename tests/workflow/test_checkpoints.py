"""The committed networks that the book looks into: what they are, and that they are as their records say."""

import hashlib
import json
import re
from dataclasses import replace

import fit_learned
import make_checkpoints
import pandas as pd
import pytest
import torch
from make_checkpoints import FOLDER, depthwise_network, trials

from gdlayer.datasets import fashion_mnist
from gdlayer.experiments.parsing import checksum
from gdlayer.experiments.record import check_current, read_record
from gdlayer.experiments.settings import hyperparameters
from gdlayer.experiments.table1.layers import LAYERS
from gdlayer.experiments.table1.prepare import build_network
from gdlayer.experiments.training import accuracy
from gdlayer.experiments.weights import load_kept, weights_path


def network(trial) -> torch.nn.Module:
    torch.manual_seed(trial.seed)
    return build_network(LAYERS[trial.layer].maker(), hyperparameters(trial))


def on_sample(model: torch.nn.Module, precision: str) -> float:
    """Accuracy on the 1,000 test images that come with the package."""
    data = fashion_mnist.load(fashion_mnist.SAMPLE)
    return accuracy(model, torch.from_numpy(data.test_images[:, None]), torch.from_numpy(data.test_labels), precision)


def test_they_are_small():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 3e6


@pytest.mark.parametrize("trial", trials(), ids=lambda trial: trial.layer)
def test_a_network_of_table_1_is_that_of_its_record(trial):
    path = trial.record_path(FOLDER)
    record = read_record(path)
    assert record is not None
    check_current(record, hyperparameters(trial), path)
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
    expected = vars(make_checkpoints.RECIPE) | {"widths": list(make_checkpoints.WIDTHS)}
    assert record["hyperparameters"] == expected
    assert record["git"]["dirty"] is False
    assert on_sample(model, "fp32") == pytest.approx(record["metrics"]["test_accuracy"], abs=0.03)


def test_the_depthwise_network_is_made_as_recorded(tmp_path, monkeypatch):
    """In a few steps, on the sample."""
    monkeypatch.setattr(fashion_mnist, "FULL", fashion_mnist.SAMPLE)
    recipe = replace(make_checkpoints.RECIPE, steps=2)
    make_checkpoints.make_depthwise(tmp_path / "depthwise.json", recipe)
    model = depthwise_network()
    record = load_kept(model, tmp_path / "depthwise.json")
    assert record.keys() == json.loads((FOLDER / "depthwise.json").read_text()).keys()
    assert on_sample(model, "fp32") == record["metrics"]["test_accuracy"]
    assert weights_path(tmp_path / "depthwise.json").exists()


def test_the_table_of_fits_is_the_one_that_was_measured():
    made, content = json.loads((FOLDER / "fits.json").read_text()), (FOLDER / "fits.csv").read_bytes()
    assert made["fits_sha256"] == hashlib.sha256(content).hexdigest()
    assert made["git"]["dirty"] is False


def test_a_fit_in_the_table_can_be_measured_again():
    fits = pd.read_csv(FOLDER / "fits.csv", dtype={"bases": str})
    model = depthwise_network()
    load_kept(model, FOLDER / "depthwise.json")
    name, conv = next(iter(model[1].depthwise().items()))  # pyright: ignore[reportCallIssue]
    W = conv.weight.detach().double()
    rows = fits.query("layer == @name and filters == 'trained' and bases == '1' and order == 2")
    trained = rows.drop_duplicates("basis").set_index("basis")["residual"]
    for basis, approximate in (
        ("jet", fit_learned.plain_jet(2)),
        ("cosines", fit_learned.cosines(2)),
        ("principal", fit_learned.principal(2)),
        ("random", fit_learned.random_basis(2, 0)),
    ):
        assert fit_learned.residual(W, approximate(W)) == pytest.approx(trained[basis], abs=2e-6)
