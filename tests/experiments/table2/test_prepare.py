"""Experiment 2: the source network and its weights, then a new first layer that trains alone."""

import json
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from invented import published, rows_of
from torch import Tensor, nn
from torch.nn import functional as F

from gdlayer import GaussianDerivativeConv2d
from gdlayer.datasets import DataCorruptError, DataNotFoundError, cats_dogs, synthetic
from gdlayer.experiments import __main__ as cli
from gdlayer.experiments.table2 import prepare
from gdlayer.experiments.table2.layers import LAYERS
from gdlayer.experiments.table2.trial import Table2Search, Table2Trial
from gdlayer.networks import vgg16
from gdlayer.networks.transfer import load_weights
from gdlayer.trials import run as runner
from gdlayer.trials import training
from gdlayer.trials.files import checksum
from gdlayer.trials.record import ResultsError, read_record
from gdlayer.trials.registry import experiments
from gdlayer.trials.run import run
from gdlayer.trials.schema import REQUIRED
from gdlayer.trials.settings import hyperparameters

SIZES = {"train": 40, "val": 20, "test": 30}
TINY: dict[str, Any] = {"resolution": 32, "widths": [4, 4, 4, 4, 4], "hidden": 8, "grid": 1, "bases": 2, "fit_steps": 3}
DEPENDENTS = Table2Trial.layers[1:]
NEW_LAYERS = [layer for layer in DEPENDENTS if LAYERS[layer].make]


@pytest.fixture(autouse=True)
def few_textures(monkeypatch) -> None:
    monkeypatch.setattr(synthetic, "TEXTURES", SIZES)


def use(monkeypatch, **changes: Any) -> None:
    """Other settings for every trial."""
    monkeypatch.setattr(runner, "hyperparameters", lambda trial: hyperparameters(trial) | changes)


def tensors(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def smoke(layer: str, source: str = "scratch", seed: int = 0) -> Table2Trial:
    return Table2Trial(layer=layer, source=source, seed=seed, profile="smoke", dataset=cats_dogs.SYNTHETIC)


def files(trial: Table2Trial, results: Path) -> list[str]:
    return sorted(path.name for path in trial.record_path(results).parent.iterdir())


def weights(path: Path) -> dict[str, Tensor]:
    return torch.load(path, weights_only=True)


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# The source


def test_the_source_leaves_its_weights_beside_its_record(results, trained):
    trial = smoke("source", seed=3)
    record = run(trial, results)
    assert files(trial, results) == ["source-scratch-s3.json", "source-scratch-s3.pt"]
    assert set(record) == {*REQUIRED, "correct"}
    path = prepare.weights_path(trial, results)
    assert path == trial.record_path(results).with_suffix(".pt")
    assert path == prepare.weights_path(smoke("ours-7x7", seed=3), results)
    settings = hyperparameters(trial)
    network = vgg16.VGG16(2, widths=settings["widths"], hidden=settings["hidden"], grid=settings["grid"])
    assert record["parameters"] == sum(p.numel() for p in network.parameters())
    assert record["data"] == {
        **{"name": "textures-synthetic", "label": "synthetic textures", "source": "synthetic"},
        "sha256": cats_dogs.load(cats_dogs.SYNTHETIC, 64).sha256,
        **{"n_train": 40, "n_val": 20, "n_test": 30, "skipped": 0, "converted": 0},
    }
    (call,) = trained
    assert equal(call["after"], weights(path))
    assert not any(torch.equal(call["before"][name], value) for name, value in call["after"].items() if value.any())


def test_the_metrics_are_those_of_the_weights_on_either_split(results):
    record = run(smoke("source"), results)
    data = cats_dogs.load(cats_dogs.SYNTHETIC, 64)
    network = vgg16.VGG16(2, widths=(16, 32, 64, 128, 128), hidden=256, grid=2)
    load_weights(network, prepare.weights_path(smoke("source"), results))
    network.eval()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    for split, images, labels in (
        ("val", data.val_images, data.val_labels),
        ("test", data.test_images, data.test_labels),
    ):
        with torch.no_grad():
            said = network(((torch.from_numpy(images) / 255 - mean) / std).permute(0, 3, 1, 2)).argmax(1)
        assert record["metrics"][f"{split}_accuracy"] == (said == torch.from_numpy(labels)).float().mean().item()
    assert list(record["metrics"]) == ["val_accuracy", "test_accuracy"]
    assert record["curve"][-1].items() >= record["metrics"].items()


def test_training_gets_the_images_of_the_training_split(results, trained):
    run(smoke("source"), results)
    data = cats_dogs.load(cats_dogs.SYNTHETIC, 64)
    assert trained[0]["images"].dtype == torch.uint8
    assert trained[0]["images"].shape == (40, 3, 64, 64)
    assert torch.equal(trained[0]["images"].permute(0, 2, 3, 1), torch.from_numpy(data.train_images))
    assert trained[0]["labels"].tolist() == data.train_labels.tolist()


def test_a_seed_makes_one_source(results, tmp_path, monkeypatch):
    use(monkeypatch, **TINY)
    states = []
    for seed, folder in ((0, results), (0, tmp_path / "other"), (1, results)):
        torch.rand(seed + 3)  # whatever came before
        run(smoke("source", seed=seed), folder)
        states.append(weights(prepare.weights_path(smoke("source", seed=seed), folder)))
    assert equal(states[0], states[1])
    assert not equal(states[0], states[2])


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("layer", ["source", "ours-3x3"])
def test_an_interrupted_run_ends_as_if_it_never_stopped(results, tmp_path, monkeypatch, trained, layer):
    """Also the source with its dropout, whose random numbers go on where they were."""
    use(monkeypatch, **TINY, steps=8, evaluations=2)
    monkeypatch.setitem(training.train.__kwdefaults__, "checkpoint_seconds", 0)
    trial = smoke(layer)
    for folder in (results, tmp_path / "whole"):
        run(smoke("source"), folder) if layer != "source" else None
    whole = run(trial, tmp_path / "whole")
    correct = prepare.correct

    def interrupt(*_: object) -> float:
        raise Interrupted

    monkeypatch.setattr(prepare, "correct", interrupt)
    with pytest.raises(Interrupted):
        run(trial, results)
    assert f".{trial.id}.checkpoint" in files(trial, results)
    assert f"{trial.id}.json" not in files(trial, results)
    monkeypatch.setattr(prepare, "correct", correct)
    torch.rand(5)
    steps = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: (steps.append(1), step(self))[1])
    resumed = run(trial, results)
    assert len(steps) == 8 - 3  # a checkpoint at step 3, an evaluation at step 4
    assert resumed["curve"] == whole["curve"]
    assert resumed["metrics"] == whole["metrics"]
    *_, uninterrupted, _, last = trained
    assert equal(last["after"], uninterrupted["after"])
    assert f".{trial.id}.checkpoint" not in files(trial, results)


# A new first layer


@pytest.mark.parametrize("layer", NEW_LAYERS)
def test_only_the_first_layer_trains(results, trained, layer):
    run(smoke("source"), results)
    record = run(smoke(layer), results)
    source = weights(prepare.weights_path(smoke("source"), results))
    call = trained[-1]
    for name, value in source.items():
        if not name.startswith("features.0."):
            assert torch.equal(call["after"][name], value), name
    first = {name for name in call["after"] if name.startswith("features.0.")}
    assert call["after"].keys() - first == source.keys() - {"features.0.weight", "features.0.bias"}
    model = call["model"]
    trains = {name for name, parameter in model[1].named_parameters() if parameter.requires_grad}
    kept = {
        "gain-bias": {"features.0.1.weight", "features.0.1.bias"},
        "ours-7x7-fixed": {f"features.0.{name}" for name in ("raw_sigma", "mu", "theta")},
    }.get(layer, set())
    assert trains == {name for name, _ in model[1].named_parameters() if name in first} - kept
    assert all(torch.equal(call["before"][name], call["after"][name]) for name in kept)
    assert all(not torch.equal(call["before"][name], call["after"][name]) for name in trains)
    assert record["parameters"] == sum(call["after"][name].numel() for name in trains)
    assert model[1].train().classifier.training is False
    assert record["metrics"].keys() == {"val_accuracy", "test_accuracy"}
    assert files(smoke(layer), results) == sorted([f"{layer}-scratch-s0.json", *files(smoke("source"), results)[-2:]])


def test_a_gain_and_a_bias_before_the_old_filters(results, trained):
    record = run(smoke("gain-bias"), results)
    assert record["parameters"] == 6
    source = weights(prepare.weights_path(smoke("source"), results))
    scaled, old = trained[-1]["model"][1].features[0]
    assert torch.equal(old.weight, source["features.0.weight"])
    x = torch.rand(2, 3, 5, 4)
    with torch.no_grad():
        scaled.gain[:], scaled.bias[:] = torch.ones(3, 1, 1), torch.zeros(3, 1, 1)
        assert torch.equal(scaled(x), x)
        scaled.gain[1], scaled.bias[1] = 255.0, -110.0
        assert torch.equal(scaled(x)[:, 1], 255 * x[:, 1] - 110)
        assert torch.equal(scaled(x)[:, ::2], x[:, ::2])


def test_the_head_trains_on_without_dropout(results, trained):
    run(smoke("source"), results)
    run(smoke("head-on"), results)
    source = weights(prepare.weights_path(smoke("source"), results))
    call, network = trained[-1], trained[-1]["model"][1].train()
    assert equal(call["before"], source)
    moved = {name for name, value in call["after"].items() if not torch.equal(value, source[name])}
    assert moved == {name for name in source if name.startswith("classifier.")}
    assert not any(layer.training for layer in network.classifier)


@pytest.mark.parametrize("layer", [layer for layer in NEW_LAYERS if layer != "gain-bias"])
def test_what_each_layer_starts_from(results, trained, layer):
    record = run(smoke(layer), results)
    source = weights(prepare.weights_path(smoke("source"), results))
    weight, bias = source["features.0.weight"], source["features.0.bias"]
    first = trained[-1]["model"][1].features[0]
    before = {name.removeprefix("features.0."): value for name, value in trained[-1]["before"].items()}
    assert first.kernel_size == ((7, 7) if "7x7" in layer else (3, 3))
    fitted = layer.startswith("ours") and LAYERS[layer].start == "original"
    assert ("fit_residual" in record) == fitted
    if layer == "free-form-7x7":
        assert torch.equal(before["weight"], F.pad(weight, (2,) * 4))
        assert torch.equal(before["bias"], bias)
        return
    if not layer.startswith("ours"):
        assert type(first) is nn.Conv2d
        same = layer == "free-form-original"
        assert torch.equal(before["weight"], weight) == torch.equal(before["bias"], bias) == same
        if not same:
            assert not before["bias"].any()
            assert before["weight"].std() == pytest.approx((2 / 27) ** 0.5, rel=0.15)
        return
    assert isinstance(first, GaussianDerivativeConv2d)
    assert (len(first.orders), first.bases, first.separated) == (10, 4, False)
    assert first.algorithm == "dense"  # on every machine, as of the trials on record
    first.load_state_dict({name: before[name] for name in first.state_dict()})
    frame = (first.kernel_size[0] - 3) // 2
    target = F.pad(weight, (frame,) * 4)
    residual = ((first.filters() - target).norm() / target.norm()).item()
    if fitted:
        assert record["fit_residual"] == pytest.approx(residual, rel=1e-4)
        assert torch.equal(before["bias"], bias)
        assert residual < 0.9
    else:
        assert residual > 0.9  # at random: nothing of the filters that were there
        assert not before["bias"].any()


def test_a_random_start_is_the_one_of_the_records(results, trained):
    """The seed is set before the network is built, whose own random numbers come first."""
    run(smoke("free-form", seed=1), results)
    settings = hyperparameters(smoke("free-form", seed=1))
    torch.manual_seed(1)
    network = vgg16.VGG16(2, widths=settings["widths"], hidden=settings["hidden"], grid=settings["grid"])
    expected = nn.init.kaiming_normal_(nn.Conv2d(3, 16, 3).weight, nonlinearity="relu")
    assert not torch.equal(trained[-1]["before"]["features.0.weight"], network.state_dict()["features.0.weight"])
    assert torch.equal(trained[-1]["before"]["features.0.weight"], expected)


def test_seeds_of_a_layer_differ(results, trained, monkeypatch):
    use(monkeypatch, **TINY)
    for seed in (0, 1):
        run(smoke("ours-7x7", seed=seed), results)
    one, other = (call["before"]["features.0.omega"] for call in trained if "features.0.mu" in call["before"])
    assert not torch.equal(one, other)
    assert {"source-scratch-s0.pt", "source-scratch-s1.pt"} <= set(files(smoke("source"), results))


def test_the_source_runs_first_if_it_is_missing(results, tmp_path, monkeypatch):
    """And the outcome is the same as if it had run before."""
    use(monkeypatch, **TINY)
    alone = run(smoke("ours-3x3"), results)
    assert files(smoke("source"), results) == [
        "ours-3x3-scratch-s0.json",
        "source-scratch-s0.json",
        "source-scratch-s0.pt",
    ]
    source = run(smoke("source"), tmp_path / "other")
    made = read_record(smoke("source").record_path(results))
    assert made is not None
    assert (made["metrics"], made["curve"]) == (source["metrics"], source["curve"])
    after = run(smoke("ours-3x3"), tmp_path / "other")
    assert (after["metrics"], after["curve"]) == (alone["metrics"], alone["curve"])


def test_weights_that_were_removed_are_made_again(results, monkeypatch, trained):
    use(monkeypatch, **TINY)
    run(smoke("source"), results)
    path = prepare.weights_path(smoke("source"), results)
    before = weights(path)
    path.unlink()
    run(smoke("free-form"), results)
    assert equal(weights(path), before)
    assert len(trained) == 3
    run(smoke("ours-3x3"), results)
    assert len(trained) == 4  # not the source once more


def test_a_source_of_other_settings_is_not_taken(results, monkeypatch, trained):
    use(monkeypatch, **TINY)
    run(smoke("source"), results)
    use(monkeypatch, **TINY, steps=3)
    path = smoke("source").record_path(results)
    message = f"{path} was made with other settings (steps was 2, is 3); move it away to run it anew"
    with pytest.raises(ResultsError, match=f"^{re.escape(message)}$"):
        run(smoke("free-form"), results)
    assert len(trained) == 1
    assert not smoke("free-form").record_path(results).exists()


@pytest.mark.parametrize("damage", ["empty", "half", "another network"])
def test_damaged_weights_are_refused(results, monkeypatch, trained, damage):
    use(monkeypatch, **TINY)
    run(smoke("source"), results)
    path = prepare.weights_path(smoke("source"), results)
    content = path.read_bytes()
    if damage == "another network":
        torch.save(vgg16.VGG16(2, widths=(4, 4, 4, 4, 5), hidden=8, grid=1).state_dict(), path)
    else:
        path.write_bytes(content[: len(content) // 2 if damage == "half" else 0])
    reason = "holds other weights: " if damage == "another network" else "is damaged or no file of weights "
    with pytest.raises(DataCorruptError, match=f"^{re.escape(f'{path} {reason}')}"):
        run(smoke("free-form"), results)
    assert len(trained) == 1
    assert not smoke("free-form").record_path(results).exists()


# ImageNet's weights


@pytest.fixture
def pretrained(monkeypatch) -> dict[str, np.ndarray]:
    """Tiny convolutions in the place of the published ones."""
    use(monkeypatch, **TINY)
    found = published((4, 4, 4, 4, 4))
    monkeypatch.setattr(prepare, "vgg16_weights", lambda: found)
    return found


def convolutions(published: dict[str, np.ndarray]) -> list[Tensor]:
    return [torch.from_numpy(array) for array in published.values()]


def test_heads_train_on_features_that_are_computed_once(results, trained, pretrained, monkeypatch):
    """Those of the training images and of their mirror images, in this order."""
    computed = []
    monkeypatch.setattr(
        prepare, "forward", lambda *given: (computed.append(len(given[1])), training.forward(*given))[1]
    )
    record = run(smoke("source", "vgg16-flatten"), results)
    assert sum(computed) == 2 * SIZES["train"] + SIZES["val"] + SIZES["test"]
    assert record["parameters"] == 4 * 8 + 8 + 8 * 2 + 2
    assert record["data"]["n_train"] == 2 * SIZES["train"]
    run(smoke("source", "vgg16-average", seed=1), results)  # the same input
    run(smoke("head-on", "vgg16-flatten"), results)
    assert sum(computed) == 130
    run(smoke("source", "vgg16-255-flatten"), results)
    assert sum(computed) == 260
    data = cats_dogs.load(cats_dogs.SYNTHETIC, 32)
    pictures = np.concatenate([data.train_images, data.train_images[:, :, ::-1]])
    for call, prepared in (
        (trained[0], pictures[..., ::-1] - np.array([103.939, 116.779, 123.68])),
        (trained[-1], pictures / 255),
    ):
        x = torch.from_numpy(prepared.astype(np.float32)).permute(0, 3, 1, 2)
        network = vgg16.AdaptedVGG16(2, widths=TINY["widths"], hidden=8, grid=1)
        vgg16.load_published(network, pretrained)
        with torch.no_grad():
            torch.testing.assert_close(call["images"], network.features(x), rtol=1e-4, atol=1e-3)
        assert call["labels"].tolist() == [*data.train_labels, *data.train_labels]


def test_of_imagenets_network_only_the_head_trains(results, trained, pretrained):
    run(smoke("source", "vgg16-flatten"), results)
    (call,) = trained
    assert {name for name, value in call["after"].items() if not torch.equal(value, call["before"][name])} == {
        *("classifier.0.weight", "classifier.0.bias", "classifier.3.weight", "classifier.3.bias")
    }
    assert call["model"][1].train().classifier[2].training  # its dropout
    kept = weights(prepare.weights_path(smoke("source", "vgg16-flatten"), results))
    assert equal({f"classifier.{name}": value for name, value in kept.items()}, call["after"])
    assert files(smoke("source"), results) == ["source-vgg16-flatten-s0.json", "source-vgg16-flatten-s0.pt"]


@pytest.mark.parametrize("layer", ["free-form-original", "ours-7x7-fitted", "gain-bias", "free-form-7x7"])
def test_a_new_first_layer_of_imagenets_network(results, trained, pretrained, layer):
    """It trains on the same pictures as the head did, in the same order."""
    run(smoke(layer, "vgg16-255-flatten"), results)
    source, own = trained
    head = {name for name in source["after"] if name.startswith("classifier.")}
    assert all(torch.equal(own["after"][name], source["after"][name]) for name in head)
    rest = [value for name, value in own["after"].items() if name.startswith("features.") and ".0." not in name]
    assert all(torch.equal(a, b) for a, b in zip(rest, convolutions(pretrained)[2:], strict=True))
    assert any(not torch.equal(value, own["after"][name]) for name, value in own["before"].items())
    data = cats_dogs.load(cats_dogs.SYNTHETIC, 32)
    images = own["images"].permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(images, np.concatenate([data.train_images, data.train_images[:, :, ::-1]]))
    assert own["labels"].tolist() == source["labels"].tolist()
    assert own["recipe"].seed == source["recipe"].seed
    assert isinstance(own["model"][0], training.Standardise)


@pytest.mark.parametrize("other", ["layers", "weights", "order", "splits", "shape", "precision"])
def test_features_are_of_one_model_and_its_pictures(other):
    """Each case alone would find the features of the case before, were it not part of what they are kept by."""
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 1)
    model = nn.Sequential(layer, nn.ReLU())
    pictures = np.random.default_rng(0).integers(0, 255, (4, 2, 8, 3), dtype=np.uint8).astype(np.float32)
    views, precision = {"train": pictures[:2], "val": pictures[2:]}, "fp32"
    prepare.features(model, views, precision)
    if other == "layers":
        model = nn.Sequential(layer, nn.Sigmoid())
    elif other == "weights":
        nn.init.ones_(layer.weight)
    elif other == "order":
        views = {"val": pictures[:2], "train": pictures[2:]}
    elif other == "splits":
        views = {"train": pictures[:1], "val": pictures[1:]}
    elif other == "shape":
        views = {name: part.reshape(-1, 4, 4, 3) for name, part in views.items()}
    else:
        precision = "bf16"
    found = prepare.features(model, views, precision)
    assert found.keys() == views.keys()
    for name, part in views.items():
        x = torch.from_numpy(part).permute(0, 3, 1, 2)
        with torch.no_grad():
            expected = training.forward(model, x, precision).permute(0, 2, 3, 1)
        assert found[name].shape == expected.shape
        torch.testing.assert_close(torch.from_numpy(found[name]).float(), expected, rtol=1e-2, atol=1e-2)


def test_the_network_before_gets_as_much_right_by_features_as_by_pictures(results, trained, pretrained):
    """A first layer that computes the same as the old one, before its first step."""
    record = run(smoke("source", "vgg16-255-flatten"), results)
    run(smoke("free-form-7x7", "vgg16-255-flatten"), results)
    model = trained[-1]["model"]
    model[1].load_state_dict(trained[-1]["before"])
    data = cats_dogs.load(cats_dogs.SYNTHETIC, 32)
    images, labels = torch.from_numpy(data.test_images).permute(0, 3, 1, 2), torch.from_numpy(data.test_labels)
    assert training.accuracy(model, images, labels, "fp32") == record["metrics"]["test_accuracy"]


def test_a_search_holds_out_pictures_and_their_mirror_images(results, trained, pretrained):
    trial = Table2Search(
        layer="free-form-original",
        source="vgg16-flatten",
        learning_rate=0.01,
        profile="smoke",
        dataset=smoke("source").dataset,
    )
    run(trial, results)
    source, own = trained
    data = cats_dogs.load(cats_dogs.SYNTHETIC, 32)
    shown = rows_of(own["images"].permute(0, 2, 3, 1).contiguous())
    held_out = [image for image in data.train_images if image.tobytes() not in shown]
    assert (len(shown), len(held_out), len(source["images"])) == (48, 16, 48)
    assert not shown & rows_of(np.stack(held_out)[:, :, ::-1].copy())
    assert own["labels"].tolist() == source["labels"].tolist()


def test_the_two_sources_are_never_mixed(results, trained, pretrained):
    run(smoke("free-form-original", "vgg16-flatten"), results)
    run(smoke("free-form-original"), results)
    scratch = weights(prepare.weights_path(smoke("source"), results))
    assert torch.equal(trained[1]["before"]["features.2.weight"], torch.from_numpy(pretrained["conv1_2.weight"]))
    assert torch.equal(trained[3]["before"]["features.2.weight"], scratch["features.2.weight"])


def test_imagenets_weights_that_cannot_be_had(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", SimpleNamespace())
    message = r"^vgg16/vgg16_weights_tf_\w+\.h5 is neither in GDLAYER_DATA='' nor in the cache .*github\.com/.*"
    for layer in ("source", "ours-7x7"):
        with pytest.raises(DataNotFoundError, match=message):
            run(smoke(layer, "vgg16-flatten"), results)
    assert not [path for path in results.rglob("*") if path.is_file()]


# The search


def test_table2_is_sought_on_pictures_that_the_source_has_not_seen(results, trained):
    trial = Table2Search(
        layer="free-form", source="scratch", learning_rate=0.01, profile="smoke", dataset=cats_dogs.SYNTHETIC
    )
    record = run(trial, results)
    source, own = trained
    assert torch.equal(source["images"], own["images"])
    data = cats_dogs.load(cats_dogs.SYNTHETIC, 64)
    kept = rows_of(own["images"].permute(0, 2, 3, 1).contiguous())
    held_out = rows_of(data.train_images) - kept
    assert kept < rows_of(data.train_images)
    assert (len(kept), len(held_out)) == (24, 16)
    assert record["metrics"].keys() == {"validation_accuracy"}
    chosen = [i for i, image in enumerate(data.train_images) if image.tobytes() in held_out]
    assert np.bincount(data.train_labels[chosen]).tolist() == [8, 8]
    images = torch.from_numpy(data.train_images[chosen]).permute(0, 3, 1, 2)
    with torch.no_grad():
        said = own["model"].eval()(images).argmax(1).numpy()
    assert record["metrics"]["validation_accuracy"] == (said == data.train_labels[chosen]).mean()
    assert {name for name in record["data"] if name.startswith("n_")} == {"n_train", "n_validation"}
    needed = trial.needs
    assert needed is not None
    assert (type(needed), needed.layer, needed.needs) == (Table2Search, "source", None)
    assert needed.learning_rate == experiments()["table2"].choices["learning_rate"]["value"]["source"]["scratch"]
    folder = trial.record_path(results).parent
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"{trial.id}.json", f"{needed.id}.json", f"{needed.id}.pt"),
    ]
    assert (
        not Table2Trial(layer="source", source="scratch", profile="smoke", dataset=trial.dataset)
        .record_path(results)
        .exists()
    )


def test_a_source_of_any_rate_is_sought(results, trained, monkeypatch):
    monkeypatch.setattr(
        runner, "hyperparameters", lambda trial: hyperparameters(trial) | {"widths": [4] * 5, "hidden": 8}
    )
    trial = Table2Search(
        layer="source", source="scratch", learning_rate=0.01, profile="smoke", dataset=cats_dogs.SYNTHETIC
    )
    run(trial, results)
    assert trained[0]["recipe"].learning_rate == 0.01
    assert prepare.weights_path(trial, results) == trial.record_path(results).with_suffix(".pt")


# The command line


def test_commands_of_the_smoke_profile(capsys):
    assert cli.main(["run", "table2", "--layer=ours-3x3-fitted", "--source=scratch", "--profile=smoke"]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(
        r"table2 ours-3x3-fitted scratch on textures-synthetic seed 0: val accuracy \d+\.\d\d %, "
        r"test accuracy \d+\.\d\d % in \d+ s\n",
        out,
    )
    assert err == ""
    assert cli.main(["plan", "table2", "--profile=smoke"]) == 0
    out, err = capsys.readouterr()
    assert [re.findall(r"--layer=(\S+)", line) for line in out.splitlines()] == [[name] for name in Table2Trial.layers]
    assert out.count(" --source=scratch") == 11
    assert err.startswith("11 trials, 2 finished; about ")
    assert cli.main(["cell", "table2", "--layer=free-form", "--source=scratch", "--profile=smoke"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "table2 free-form scratch on textures-synthetic, profile smoke",
        "  paper            val accuracy 97.0 %",
        "  paper            test accuracy 96.4 %",
    ]
    assert re.fullmatch(r"  run now, seed 0  val accuracy \d+\.\d\d %, test accuracy \d+\.\d\d % in \d+ s", lines[3])
    assert len(lines) == 4
    assert not smoke("free-form").record_path(Path("results")).exists()
    assert smoke("free-form").record_path(Path("results", "cells")).exists()


@pytest.mark.parametrize(
    ("layer", "source", "message"),
    [
        ("conv", "scratch", f"layer must be one of {', '.join(map(repr, Table2Trial.layers))}, got 'conv'"),
        ("ours", "scratch", f"layer must be one of {', '.join(map(repr, Table2Trial.layers))}, got 'ours'"),
        ("source", "coco", f"source must be one of {', '.join(map(repr, Table2Trial.sources))}, got 'coco'"),
    ],
)
@pytest.mark.parametrize("command", ["run", "cell"])
def test_wrong_trials_are_one_line(capsys, command, layer, source, message):
    assert cli.main([command, "table2", f"--layer={layer}", f"--source={source}", "--profile=smoke"]) == 2
    assert capsys.readouterr() == ("", f"error: {message}\n")
    assert list(Path().iterdir()) == []


def test_missing_weights_of_imagenet_are_one_line(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", SimpleNamespace())
    assert cli.main(["run", "table2", "--layer=ours-7x7", "--source=vgg16-flatten", "--profile=smoke"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"error: vgg16/vgg16_weights_tf_\w+\.h5 is neither .*\n", err)


FULL_DISK = f"""
import resource, sys
from gdlayer.datasets import synthetic
from gdlayer.experiments import __main__ as cli
synthetic.TEXTURES = {SIZES!r}
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
sys.exit(cli.main(["run", "table2", "--layer=source", "--source=scratch", "--profile=smoke"]))
"""


def test_a_disk_without_room_for_the_weights(tmp_path):
    """One line, and neither half of the weights nor a record without them."""
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    done = subprocess.run([sys.executable, "-c", FULL_DISK], capture_output=True, text=True, timeout=600)
    folder = smoke("source").record_path(Path("results")).parent
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: results cannot be written to {folder}: File too large\n"
    assert list(folder.iterdir()) == []


def test_a_record_is_plain_json(results, monkeypatch):
    use(monkeypatch, **TINY)
    record = run(smoke("ours-3x3-fitted"), results)
    assert json.loads(smoke("ours-3x3-fitted").record_path(results).read_text()) == record | {
        "sha256": checksum(record)
    }
    assert set(record) == {*REQUIRED, "correct", "fit_residual"}
