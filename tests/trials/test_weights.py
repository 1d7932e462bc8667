"""The trained network of a trial, kept beside its record on request."""

import re
from typing import Any

import pytest
import torch
from invented import finish, smoke

from gdlayer.conv import GaussianDerivativeConv2d
from gdlayer.datasets import DataCorruptError
from gdlayer.experiments import __main__ as cli
from gdlayer.experiments.table1.layers import LAYERS
from gdlayer.experiments.table1.prepare import build_network
from gdlayer.networks.transfer import load_weights
from gdlayer.trials.record import ResultsError, read_record
from gdlayer.trials.run import run
from gdlayer.trials.settings import hyperparameters
from gdlayer.trials.weights import load_kept, save_weights, weights_path


def network(layer: str, seed: int = 0) -> torch.nn.Sequential:
    torch.manual_seed(seed)
    return build_network(LAYERS[layer].maker(), hyperparameters(smoke(layer)))


def test_a_kept_network_is_the_trained_one(results, trained):
    trial = smoke("ours-few", seed=3)
    record = run(trial, results, keep_weights=True)
    path = trial.record_path(results)
    assert read_record(path) == record
    model = network("ours-few", seed=3)
    before = {name: value.clone() for name, value in model[1].state_dict().items()}
    assert all(torch.equal(trained[0]["before"][name], value) for name, value in before.items())
    assert load_kept(model, path)["metrics"] == record["metrics"]
    after = model[1].state_dict()
    assert all(torch.equal(trained[0]["after"][name], value) for name, value in after.items())
    assert not torch.equal(after["classifier.weight"], before["classifier.weight"])


def test_nothing_is_kept_unless_asked_for(results):
    trial = smoke()
    assert "weights_sha256" not in run(trial, results)
    path = trial.record_path(results)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    message = f"{path} was made without keeping the weights; --force makes both anew"
    with pytest.raises(ResultsError, match=f"^{re.escape(message)}$"):
        run(trial, results, keep_weights=True)
    assert "weights_sha256" in run(trial, results, keep_weights=True, force=True)
    assert weights_path(path).exists()


def test_the_command_line_keeps_them(results):
    trial = smoke()
    assert cli.main([*trial.command(results)[2:], "--keep-weights"]) == 0
    assert load_kept(network(trial.layer), trial.record_path(results))["trial"] == trial.describe()


def test_what_cannot_be_loaded_is_told(results, tmp_path):
    trial = smoke()
    path = trial.record_path(results)
    with pytest.raises(ResultsError, match=rf"^{re.escape(str(path))} or the weights beside it cannot be read \("):
        load_kept(network(trial.layer), path)
    finish(trial, results)
    digest = save_weights(network(trial.layer), weights_path(path))
    message = f"{weights_path(path)} is not what {path.name} tells of: it has the SHA256 {digest}"
    with pytest.raises(ResultsError, match=f"^{re.escape(message)}$"):
        load_kept(network(trial.layer), path)
    run(trial, results, keep_weights=True, force=True)
    with pytest.raises(DataCorruptError, match="holds other weights"):
        load_kept(network("dau"), path)


def test_weights_of_another_layer_with_the_same_shapes_are_told(tmp_path):
    def model(**options: Any) -> torch.nn.Module:
        return torch.nn.Sequential(GaussianDerivativeConv2d(1, 2, 3, **options))

    path, other = tmp_path / "weights.pt", model(sampling="integrated")
    before = {name: value.clone() for name, value in other.named_parameters()}
    save_weights(model(), path)
    message = (
        f"{path} holds other weights: 0._extra_state: sampling must be 'integrated', that of the layer, got 'point'"
    )
    with pytest.raises(DataCorruptError, match=f"^{re.escape(message)}$"):
        load_weights(other, path)
    assert all(torch.equal(value, before[name]) for name, value in other.named_parameters())
