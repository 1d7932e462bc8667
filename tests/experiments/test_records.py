"""Trials and their records: what is to be run, and that a record is whole or not at all."""

import dataclasses
import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gdlayer.datasets import DataNotFoundError, balanced_subset, cats_dogs, fashion_mnist, nuclei
from gdlayer.experiments import progress, table1, table3, training
from gdlayer.experiments import table2 as table2_module
from gdlayer.experiments.record import (
    REQUIRED,
    RESERVED_BYTES,
    ResultsError,
    check_current,
    provenance,
    read_record,
    reserve,
)
from gdlayer.experiments.run import run
from gdlayer.experiments.trial import (
    EXPERIMENTS,
    PROFILES,
    Table1Trial,
    Table2Trial,
    Table3Trial,
    choose_datasets,
    hyperparameters,
    load_choices,
    load_profile,
    plan,
)

FULL, SAMPLE = fashion_mnist.FULL, fashion_mnist.SAMPLE
LAYERS = Table1Trial.layers
SIZES = (1000, 5000, 10000, 30000, 60000)

FEW_TEST_IMAGES = """
import dataclasses
from gdlayer.datasets import fashion_mnist
whole = fashion_mnist.load
def load(name):
    data = whole(name)
    return dataclasses.replace(data, test_images=data.test_images[:50], test_labels=data.test_labels[:50])
fashion_mnist.load = load
"""


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    """No data but the embedded sample, and 50 test images of it to be quick."""
    monkeypatch.delenv("GDLAYER_DATA", raising=False)
    monkeypatch.setenv("GDLAYER_OFFLINE", "1")
    monkeypatch.setenv("GDLAYER_CACHE", str(tmp_path / "cache"))
    whole = fashion_mnist.load

    def load(name: str) -> fashion_mnist.ImageSet:
        data = whole(name)
        return dataclasses.replace(data, test_images=data.test_images[:50], test_labels=data.test_labels[:50])

    monkeypatch.setattr(fashion_mnist, "load", load)


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


def smoke(layer: str = "free-form", seed: int = 0) -> Table1Trial:
    return Table1Trial(layer=layer, n_train=1000, seed=seed, profile="smoke", dataset=SAMPLE)


def finished(path: Path, **changes: Any) -> dict[str, Any]:
    """Writes an invented record of the smoke profile."""
    record: dict[str, Any] = dict.fromkeys(REQUIRED)
    record |= {"trial": smoke().describe(), "hyperparameters": hyperparameters(smoke()), "seconds": 8.0}
    record |= {"metrics": {"test_accuracy": 0.5}} | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    return record


def names(path: Path) -> list[str]:
    """What lies in a record's folder."""
    return sorted(p.name for p in path.parent.iterdir())


def python(script: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


# Trials


EXAMPLES = (
    Table1Trial(layer="ours-few", n_train=5000, seed=3, profile="paper", dataset=FULL),
    Table2Trial(layer="ours-7x7-fitted", source="scratch", seed=1, profile="quick", dataset="textures-synthetic"),
    Table3Trial(layer="gaussian-unet", split="group", profile="smoke", dataset="nuclei-synthetic"),
)


@pytest.mark.parametrize(
    ("trial", "cell", "path", "options"),
    [
        (
            EXAMPLES[0],
            ("ours-few", 5000, "unpooled"),
            "paper/table1/fashion-mnist/ours-few-n5000-s3.json",
            {"--layer=ours-few", "--n-train=5000", "--network=unpooled", "--seed=3", "--dataset=fashion-mnist"},
        ),
        (
            EXAMPLES[1],
            ("ours-7x7-fitted", "scratch"),
            "quick/table2/textures-synthetic/ours-7x7-fitted-scratch-s1.json",
            {"--layer=ours-7x7-fitted", "--source=scratch", "--seed=1", "--profile=quick"},
        ),
        (
            EXAMPLES[2],
            ("gaussian-unet", "group"),
            "smoke/table3/nuclei-synthetic/gaussian-unet-group-s0.json",
            {"--layer=gaussian-unet", "--split=group", "--seed=0", "--profile=smoke", "--dataset=nuclei-synthetic"},
        ),
    ],
)
def test_identity(trial, cell, path, options):
    assert trial.cell == cell
    assert trial.record_path(Path("results")) == Path("results", path)
    command = trial.command("results")
    assert command[:4] == ["-m", "gdlayer.experiments", "run", trial.experiment]
    assert {*options, "--results=results"} <= set(command[4:])
    described = trial.describe()
    assert described.pop("experiment") == trial.experiment
    assert type(trial)(**described) == trial


@pytest.mark.parametrize("cls", EXPERIMENTS.values())
@pytest.mark.parametrize("profile", PROFILES)
def test_no_two_trials_share_a_record(profile, cls):
    trials = plan(profile, cls.experiment, cls.datasets)
    assert len({trial.record_path(Path()) for trial in trials}) == len(trials) == len(set(trials)) > 0
    assert {trial.layer for trial in trials} == set(cls.layers)
    assert {trial.dataset for trial in trials} == set(cls.datasets)
    assert {trial.profile for trial in trials} == {profile}


@pytest.mark.parametrize(
    ("trial", "changes", "message"),
    [
        (smoke(), {"layer": "conv"}, f"layer is 'conv', allowed are {', '.join(LAYERS)}"),
        (smoke(), {"profile": "full"}, "profile is 'full', allowed are smoke, quick, paper"),
        (smoke(), {"dataset": "mnist"}, "dataset is 'mnist', allowed are fashion-mnist, fashion-mnist-sample"),
        (smoke(), {"n_train": 0}, "n_train is 0, allowed are 1 to 5000 (fashion-mnist-sample)"),
        (smoke(), {"n_train": -5}, "n_train is -5, allowed are 1 to 5000 (fashion-mnist-sample)"),
        (smoke(), {"n_train": 5001}, "n_train is 5001, allowed are 1 to 5000 (fashion-mnist-sample)"),
        (smoke(), {"network": "strided"}, "network is 'strided', allowed are unpooled, pooled"),
        (EXAMPLES[0], {"n_train": 60001}, "n_train is 60001, allowed are 1 to 60000 (fashion-mnist)"),
        (smoke(), {"seed": -1}, "seed is -1, allowed are integers from 0 on"),
        (EXAMPLES[1], {"layer": "unet"}, f"layer is 'unet', allowed are {', '.join(Table2Trial.layers)}"),
        (EXAMPLES[1], {"source": "coco"}, "source is 'coco', allowed are scratch, imagenet"),
        (EXAMPLES[1], {"dataset": FULL}, f"dataset is {FULL!r}, allowed are {', '.join(Table2Trial.datasets)}"),
        (EXAMPLES[2], {"layer": "ours"}, "layer is 'ours', allowed are unet, gaussian-unet, unet-bn"),
        (EXAMPLES[2], {"split": "image"}, "split is 'image', allowed are tile, group"),
    ],
    ids=str,
)
def test_wrong_trials(trial, changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        dataclasses.replace(trial, **changes)


def cells(trials: list[Any]) -> set[tuple[Any, ...]]:
    return {trial.cell for trial in trials}


def test_quick_is_every_cell_once():
    trials = plan("quick", "table1", (FULL,))
    assert len(trials) == 40
    assert cells(trials) == {(layer, n, "unpooled") for layer in LAYERS for n in SIZES}
    assert [t.cell[1] for t in trials] == sorted(t.cell[1] for t in trials)
    assert {(t.experiment, t.seed) for t in trials} == {("table1", 0)}


def test_the_sample_has_the_small_columns_only():
    trials = plan("quick", "table1", (SAMPLE,))
    assert cells(trials) == {(layer, n, "unpooled") for layer in LAYERS for n in (1000, 5000)}
    assert len(trials) == 16


def test_smoke_is_every_cell_once_on_what_is_embedded():
    datasets = {name: choose_datasets("smoke", name) for name in EXPERIMENTS}
    assert datasets == {"table1": (SAMPLE,), "table2": ("textures-synthetic",), "table3": ("nuclei-synthetic",)}
    assert [t.cell for t in plan("smoke", "table1", (SAMPLE,))] == [(layer, 1000, "unpooled") for layer in LAYERS]
    assert len(plan("smoke", "table2", datasets["table2"])) == 7
    assert len(plan("smoke", "table3", datasets["table3"])) == 6


def test_paper_has_five_and_three_seeds():
    trials = plan("paper", "table1", (FULL,))
    for network, counts in (("unpooled", (5, 5, 5, 3, 3)), ("pooled", (3, 3, 3, 0, 0))):
        for n, seeds in zip(SIZES, counts, strict=True):
            for layer in LAYERS:
                assert [t.seed for t in trials if t.cell == (layer, n, network)] == list(range(seeds))
    assert len(trials) == 8 * (3 * 5 + 2 * 3 + 3 * 3)
    assert len(plan("paper", "table2", Table2Trial.datasets[:1])) == 7 * 3
    assert len(plan("paper", "table3", Table3Trial.datasets[:2])) == 2 * 3 * 2 * 5


def test_a_new_first_layer_needs_its_source():
    trial = EXAMPLES[1]
    source = dataclasses.replace(trial, layer="source")
    assert trial.needs == source
    assert source.needs is None
    assert EXAMPLES[0].needs is None
    for profile in PROFILES:
        trials = plan(profile, "table2", Table2Trial.datasets)
        assert {t.needs for t in trials} - {None} <= set(trials)


@pytest.mark.parametrize(("experiment", "embedded"), [("table1", SAMPLE), ("table2", "textures-synthetic")])
def test_paper_demands_the_real_data(experiment, embedded):
    notes: list[str] = []
    reason = rf"{embedded} instead of .*GDLAYER_DATA.* https?://.* was not downloaded: GDLAYER_OFFLINE=1"
    with pytest.raises(DataNotFoundError, match=f"^profile 'paper' demands real data, there is only {reason}"):
        choose_datasets("paper", experiment, notes.append)
    assert notes == []
    assert choose_datasets("quick", experiment, notes.append) == (embedded,)
    (note,) = notes
    assert re.match(reason, note)


def test_unknown_profile():
    for call in (
        lambda: load_profile("full"),
        lambda: choose_datasets("full", "table1"),
        lambda: plan("full", "table1", (SAMPLE,)),
    ):
        with pytest.raises(ValueError, match=r"^profile is 'full', allowed are smoke, quick, paper$"):
            call()


def test_a_size_without_a_budget():
    message = "ours-few 1234 unpooled: the profile and the choices have settings for 1000, 5000, 10000, 30000, 60000"
    with pytest.raises(ValueError, match=f"^{message}$"):
        hyperparameters(dataclasses.replace(EXAMPLES[0], n_train=1234))


# Choices


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_choice_has_a_value_and_a_reason(experiment):
    choices = load_choices(experiment)
    for name, choice in choices.items():
        assert set(choice) == {"value", "reason"}, name
        assert len(choice["reason"]) > 5, name
        assert choice["reason"].endswith("."), name
    assert {"learning_rate", "batch_size", "schedule", "alpha"} <= choices.keys()
    rates = choices["learning_rate"]["value"]
    for by_layer in rates.values() if experiment == "table1" else [rates]:
        assert set(by_layer) == set(EXPERIMENTS[experiment].layers)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("network", Table1Trial.networks)
def test_hyperparameters_are_the_choices_and_the_budget(profile, n, layer, network):
    settings = hyperparameters(Table1Trial(layer=layer, n_train=n, network=network, profile=profile, dataset=FULL))
    choices = {name: choice["value"] for name, choice in load_choices("table1").items()}
    budget = load_profile(profile)["table1"]
    choices["learning_rate"] = budget.get("learning_rate", choices["learning_rate"])
    for name in ("widths", "bases", "pooled", "learning_rate"):
        choices[name] = choices[name][network]
    choices["learning_rate"] = choices["learning_rate"][layer]
    steps = budget["steps"] if isinstance(budget["steps"], int) else budget["steps"][str(n)]
    own = {"steps": steps, "evaluations": budget["evaluations"], "precision": budget["precision"]}
    assert settings == choices | own
    assert json.loads(json.dumps(settings)) == settings


@pytest.mark.parametrize("cls", EXPERIMENTS.values())
@pytest.mark.parametrize("profile", PROFILES)
def test_every_trial_has_its_own_plain_settings(profile, cls):
    for trial in plan(profile, cls.experiment, cls.datasets):
        settings = hyperparameters(trial)
        assert settings.keys() >= load_choices(cls.experiment).keys()
        assert not any(isinstance(value, dict) for value in settings.values()), trial
        assert training.Recipe.of(settings, trial.seed).seed == trial.seed
    with pytest.raises(KeyError):
        training.Recipe.of({}, 0)


def test_settings_by_layer_and_by_source():
    rates = load_choices("table2")["learning_rate"]["value"]
    scratch = {layer: hyperparameters(dataclasses.replace(EXAMPLES[1], layer=layer)) for layer in Table2Trial.layers}
    for layer, settings in scratch.items():
        assert settings["learning_rate"] == (rates["source"]["scratch"] if layer == "source" else rates[layer])
        assert settings["widths"] == [16, 32, 64, 128, 128]
    imagenet = hyperparameters(dataclasses.replace(EXAMPLES[1], source="imagenet"))
    assert imagenet["widths"] == [64, 128, 256, 512, 512]
    assert (imagenet["resolution"], scratch["source"]["resolution"]) == (224, 64)


@pytest.mark.parametrize("name", ["activation", "optimiser", "input", "subset"])
def test_fixed_choices_refuse_other_values(name):
    settings = hyperparameters(smoke())
    assert name in table1.FIXED
    message = f"{name} is 'another', allowed is {settings[name]!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        table1.build_network("ours", settings | {name: "another"})


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
        nets.append(table1.build_network("ours", chosen))
    x = torch.randint(256, (2, 1, 28, 28), dtype=torch.uint8)
    first, same, changed = (net(x) for net in nets)
    assert torch.equal(first, same)
    assert not torch.allclose(first, changed)


def test_no_choice_is_without_effect():
    """Each is fixed, of the training recipe, or of the network."""
    network = {"widths", "bases", "kernel_size", "pooled", "norm", "initialisation", "sigma_min"}
    recipe = set(training.Recipe.__dataclass_fields__) - {"seed"}
    assert set(hyperparameters(smoke())) == network | recipe | set(table1.FIXED)


def test_standardise():
    images = torch.tensor([[[[0, 255]], [[51, 102]]]], dtype=torch.uint8)  # (1, 2, 1, 2)
    expected = torch.tensor([[[[-0.5, 1.5]], [[-0.8, 0.0]]]])
    torch.testing.assert_close(training.Standardise([0.25, 0.4], [0.5, 0.25])(images), expected)
    first = table1.build_network("ours", hyperparameters(smoke()))[0](images[:, :1])
    torch.testing.assert_close(first, torch.tensor([[[[0.0, 1.0]]]]).sub(0.2860).div(0.3530))


# Records


def test_a_record_is_complete(results):
    trial = smoke(seed=3)
    record = run(trial, results)
    path = trial.record_path(results)
    assert names(path) == [path.name]
    text = path.read_text()
    assert json.loads(text) == record == read_record(path)
    assert set(record) == set(REQUIRED)
    assert text.endswith("}\n")
    assert "NaN" not in text
    assert record["trial"] == trial.describe()
    assert record["hyperparameters"] == hyperparameters(trial)
    assert [point["step"] for point in record["curve"]] == [1, 2, 3, 4]
    assert record["metrics"] == {"test_accuracy": record["curve"][-1]["test_accuracy"]}
    assert 0 <= record["metrics"]["test_accuracy"] <= 1
    assert record["parameters"] == 9770
    assert 0 < record["seconds"] < 100
    assert 1e7 < record["peak_memory_bytes"] < 1e11
    data = fashion_mnist.load(SAMPLE)
    assert record["data"] == {
        "name": SAMPLE,
        "source": "sample",
        "sha256": data.sha256,
        "n_train": 1000,
        "n_test": 50,
    }
    assert record["versions"]["torch"] == torch.__version__
    assert record["machine"]["device"] == "cpu"
    assert record["machine"]["threads"] == torch.get_num_threads()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", record["started"])


def test_training_gets_the_trial(results, monkeypatch):
    """The balanced subset of its size and seed, its network, its recipe."""
    seen: dict[str, Any] = {}

    def train(model, images, labels, evaluate, recipe, **options):
        seen.update(model=model, images=images, labels=labels, recipe=recipe, **options)
        return training.Run(4, 1.25, [{"step": 4, **evaluate()}])

    monkeypatch.setattr(table1, "train", train)
    trial = dataclasses.replace(smoke("ours-few", seed=2), n_train=70)
    record = run(trial, results)
    data = fashion_mnist.load(SAMPLE)
    chosen = balanced_subset(data.train_labels, 70, 2)
    assert seen["images"].tolist() == data.train_images[chosen, None].tolist()
    assert seen["labels"].tolist() == data.train_labels[chosen].tolist()
    settings = hyperparameters(trial)
    assert seen["settings"] == settings
    assert vars(seen["recipe"]) == {
        "seed": 2,
        **{name: settings[name] for name in training.Recipe.__dataclass_fields__ if name != "seed"},
    }
    torch.manual_seed(2)
    expected = table1.build_network("ours-few", settings)
    assert all(torch.equal(a, b) for a, b in zip(seen["model"].parameters(), expected.parameters(), strict=True))
    assert record["seconds"] == 1.25
    images, labels = torch.from_numpy(data.test_images[:, None]), torch.from_numpy(data.test_labels)
    right = expected(images).argmax(1) == labels
    assert record["metrics"]["test_accuracy"] == pytest.approx(right.float().mean().item())


def test_a_finished_record_is_never_made_again(results, monkeypatch):
    trial = smoke()
    record = finished(trial.record_path(results))
    before = trial.record_path(results).stat()
    monkeypatch.setattr(table1, "train", lambda *_, **__: pytest.fail("trained again"))
    assert run(trial, results) == record
    assert os.path.samestat(trial.record_path(results).stat(), before)
    assert trial.record_path(results).stat().st_mtime_ns == before.st_mtime_ns


def test_unless_asked_for(results):
    trial = smoke()
    invented = finished(trial.record_path(results))
    record = run(trial, results, force=True)
    assert record != invented
    assert read_record(trial.record_path(results)) == record


def test_a_record_with_other_settings_is_not_taken(results, monkeypatch):
    trial = smoke()
    path = trial.record_path(results)
    then = hyperparameters(trial) | {"steps": 99, "sigma_min": 0.4, "older": True}
    del then["alpha"]
    finished(path, hyperparameters=then)
    monkeypatch.setattr(table1, "train", lambda *_, **__: pytest.fail("trained again"))
    message = (
        f"{path} was made with other settings (alpha was None, is 0.0; older was True, is None; "
        "sigma_min was 0.4, is 0.5; steps was 99, is 4); move it away to run it anew"
    )
    with pytest.raises(ResultsError, match=f"^{re.escape(message)}$"):
        run(trial, results)
    assert check_current({"hyperparameters": hyperparameters(trial)}, hyperparameters(trial), path) is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"\(Expecting value: .*\)"),
        (b'{"metrics": {', r"\(Expecting property name .*\)"),
        (b"\xff\xfe\0\0", r"\(.*codec can't decode.*\)"),
        (b"[]", r"\(a list\)"),
        (b"null", r"\(a NoneType\)"),
        (json.dumps(dict.fromkeys(REQUIRED[2:], 0)).encode(), r"\(no trial, hyperparameters\)"),
    ],
    ids=str,
)
def test_a_corrupt_record_is_one_clear_line(results, content, reason):
    path = smoke().record_path(results)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    for call in (lambda: read_record(path), lambda: run(smoke(), results)):
        with pytest.raises(ResultsError, match=rf"^{re.escape(str(path))} is not a record {reason}; move it away$"):
            call()
    assert path.read_bytes() == content


def test_no_record_is_none(results):
    assert read_record(smoke().record_path(results)) is None
    results.write_text("a file")
    assert read_record(smoke().record_path(results)) is None


def test_provenance_without_git(monkeypatch):
    git = provenance("cpu", 1)["git"]
    assert git["commit"] is None or re.fullmatch("[0-9a-f]{40}", git["commit"])
    monkeypatch.setenv("PATH", "")
    assert provenance("cpu", 1)["git"] == {"commit": None, "dirty": None}


# The other experiments


@pytest.fixture(scope="module")
def photos() -> cats_dogs.PhotoSet:
    return cats_dogs.load("textures-synthetic", 64, n_train=32, n_val=10, n_test=10)


@pytest.fixture(scope="module")
def tissue() -> nuclei.NucleusSet:
    data = nuclei.load("nuclei-synthetic")
    few = slice(0, None, 3)
    return dataclasses.replace(
        data, **{name: getattr(data, name)[few] for name in ("images", "masks", "groups", "names")}
    )


@pytest.fixture
def few_photos(monkeypatch, photos):
    def load(name: str, resolution: int) -> cats_dogs.PhotoSet:
        assert (name, resolution) == (photos.name, photos.test_images.shape[1])
        return photos

    monkeypatch.setattr(cats_dogs, "load", load)


def table2(layer: str) -> Table2Trial:
    return Table2Trial(layer=layer, source="scratch", profile="smoke", dataset="textures-synthetic")


def test_table2_trains_a_new_first_layer_on_its_source(results, few_photos, monkeypatch):
    """The source first, once; then the new layer alone, everything else as the source left it."""
    trained = []
    train = table2_module.train
    monkeypatch.setattr(
        table2_module, "train", lambda model, *a, **k: (trained.append(model), train(model, *a, **k))[1]
    )
    record = run(table2("ours-3x3"), results)
    source, model = trained
    assert set(record) == set(REQUIRED)
    assert set(record["metrics"]) == {"val_accuracy", "test_accuracy"}
    assert record["metrics"] == {name: record["curve"][-1][name] for name in record["metrics"]}
    assert record["parameters"] == 10 * 3 * 16 + 5 * 10 * 4 + 16  # eq. (3), B = 4, and a bias
    assert record["data"]["label"] == "synthetic textures"
    assert (record["data"]["n_train"], record["data"]["n_val"], record["data"]["n_test"]) == (32, 10, 10)
    folder = table2("source").record_path(results).parent
    names = ["ours-3x3-scratch-s0.json", "source-scratch-s0.json", "source-scratch-s0.pt"]
    assert sorted(path.name for path in folder.iterdir()) == names
    before, after = source[1].state_dict(), model[1].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if not name.startswith("features.0."))
    made = read_record(table2("source").record_path(results))
    assert made is not None
    assert made["parameters"] == sum(p.numel() for p in source.parameters())
    # a second layer takes the same source; lost weights are made again, settings of before are refused
    run(table2("free-form"), results)
    assert len(trained) == 3
    (folder / "source-scratch-s0.pt").unlink()
    assert run(table2("free-form-original"), results)["parameters"] == 3 * 16 * 9 + 16
    assert len(trained) == 5
    made["hyperparameters"]["hidden"] = 7
    (folder / "source-scratch-s0.json").write_text(json.dumps(made))
    with pytest.raises(
        ResultsError, match=r"source-scratch-s0\.json was made with other settings \(hidden was 7, is 256\)"
    ):
        run(table2("ours-7x7"), results)


def test_table2_says_how_well_a_fitted_layer_fits(results, few_photos):
    record = run(table2("ours-7x7-fitted"), results)
    assert 0 < record["fit_residual"] < 1
    assert set(record) == {*REQUIRED, "fit_residual"}


@pytest.mark.parametrize("split", ["tile", "group"])
def test_table3(results, monkeypatch, tissue, split):
    """All pixels of the test tiles; pictures for Figure 2 beside the record."""
    monkeypatch.setattr(nuclei, "load", lambda name: tissue)
    trial = Table3Trial(layer="unet", split=split, profile="smoke", dataset="nuclei-synthetic")
    record = run(trial, results)
    assert set(record) == set(REQUIRED)
    assert record["parameters"] == 97202
    metrics = record["metrics"]
    assert set(metrics) == {"pixel_accuracy", "dice", "iou", "background_accuracy"}
    assert metrics["dice"] == pytest.approx(2 * metrics["iou"] / (1 + metrics["iou"]))
    data = nuclei.tiles(tissue, 128)
    train_tiles, test_tiles = table3.split(data, split, 0)
    assert sorted([*train_tiles, *test_tiles]) == list(range(len(data.images)))
    assert metrics["background_accuracy"] == pytest.approx(1 - data.masks[test_tiles].mean())
    both_sides = set(data.groups[train_tiles]) & set(data.groups[test_tiles])
    assert record["data"]["groups_on_both_sides"] == len(both_sides)
    assert bool(both_sides) == (split == "tile")
    with np.load(trial.record_path(results).with_suffix(".npz")) as pictures:
        assert pictures["images"].shape == (4, 128, 128, 3)
        assert pictures["predicted"].shape == pictures["masks"].shape == (4, 128, 128)
        shown = [data.names.index(name) for name in pictures["names"]]
        assert set(shown) <= set(test_tiles)
        assert (pictures["masks"] == data.masks[shown]).all()


def test_pixel_metrics_by_hand():
    truth = torch.tensor([[[1, 1, 1, 0], [0, 0, 0, 0]]])
    predicted = torch.tensor([[[1, 1, 0, 1], [0, 0, 0, 0]]])
    assert table3.pixel_metrics(predicted, truth) == {
        "pixel_accuracy": 6 / 8,
        "dice": 4 / 6,
        "iou": 2 / 4,
        "background_accuracy": 5 / 8,
    }
    nothing = torch.zeros(1, 2, 2)
    assert table3.pixel_metrics(nothing, nothing) == dict.fromkeys(
        ("pixel_accuracy", "dice", "iou", "background_accuracy"), 1.0
    )


# Whole or not at all


def test_reserve_and_write(tmp_path):
    path = tmp_path / "new" / "folder" / "r.json"
    with reserve(path) as place:
        assert names(path) == [".r.json.part"]
        assert (path.parent / ".r.json.part").stat().st_size == RESERVED_BYTES
        place.write({"short": 1})
        assert names(path) == ["r.json"]
    assert path.read_text() == '{\n "short": 1\n}\n'


def test_a_record_longer_than_its_reservation(tmp_path):
    path = tmp_path / "r.json"
    with reserve(path) as place:
        place.write({"long": "x" * 2 * RESERVED_BYTES})
    assert json.loads(path.read_text()) == {"long": "x" * 2 * RESERVED_BYTES}


@pytest.mark.parametrize("error", [RuntimeError("training"), KeyboardInterrupt(), OSError(errno.EIO, "data")])
@pytest.mark.parametrize("old", [None, "an older record"])
def test_an_exception_leaves_nothing(tmp_path, error, old):
    """And it comes through as it is, also if it is an OSError that has nothing to do with the results."""
    path = tmp_path / "r.json"
    if old:
        path.write_text(old)
    with pytest.raises(type(error)) as caught, reserve(path):
        raise error
    assert caught.value is error
    assert names(path) == (["r.json"] if old else [])
    assert not old or path.read_text() == old


def test_what_is_no_json_leaves_nothing(tmp_path):
    path = tmp_path / "r.json"
    for value in (float("nan"), object()):
        with pytest.raises((ValueError, TypeError)), reserve(path) as place:
            place.write({"a": 1, "b": value})
        assert names(path) == []


DIES = """
import os, signal, sys
from pathlib import Path
from gdlayer.experiments import record
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
with record.reserve(Path(sys.argv[1])) as place:
    if sys.argv[2] == "in between":
        die()
    setattr(os, sys.argv[2], die)
    place.write({"metrics": "x" * 100})
"""


@pytest.mark.parametrize("moment", ["in between", "fsync", "replace"])
def test_a_killed_process_leaves_no_half_record_and_no_obstacle(tmp_path, moment):
    path = tmp_path / "r.json"
    path.write_text("an older record")
    status, _, err = finish(python(DIES, path, moment))
    assert (status, err) == (-signal.SIGKILL, "")
    assert path.read_text() == "an older record"
    assert names(path) == [".r.json.part", "r.json"]
    with reserve(path) as place:
        place.write({"n": 1})
    assert names(path) == ["r.json"]
    assert json.loads(path.read_text()) == {"n": 1}


KILLED_TRIAL = f"""{FEW_TEST_IMAGES}
import os, signal, sys
from pathlib import Path
from gdlayer.experiments import table1, training
from gdlayer.experiments.run import run
from gdlayer.experiments.trial import Table1Trial
training.train.__kwdefaults__["checkpoint_seconds"] = 0
accuracy, calls = table1.accuracy, []
def evaluate(*arguments):
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return accuracy(*arguments)
table1.accuracy = evaluate
run(Table1Trial(layer="ours", n_train=1000, profile="smoke", dataset={SAMPLE!r}), Path(sys.argv[1]))
"""


def test_a_killed_trial_goes_on_where_it_was_and_ends_the_same(results, tmp_path, monkeypatch):
    trial = smoke("ours")
    path = trial.record_path(results)
    status, _, err = finish(python(KILLED_TRIAL, results))
    assert (status, err) == (-signal.SIGKILL, "")
    assert names(path) == [".ours-n1000-s0.checkpoint", ".ours-n1000-s0.json.part"]
    uninterrupted = run(trial, tmp_path / "other")
    steps = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: (steps.append(1), step(self))[1])
    resumed = run(trial, results)
    assert len(steps) == 1  # of 4
    assert resumed["curve"] == uninterrupted["curve"]
    assert resumed["metrics"] == uninterrupted["metrics"]
    assert names(path) == [path.name]


WAITS = f"""{FEW_TEST_IMAGES}
import fcntl, sys
from pathlib import Path
from gdlayer.experiments import table1
from gdlayer.experiments.run import run
from gdlayer.experiments.trial import Table1Trial
flock = fcntl.flock
def announced(*arguments):
    print("waits", flush=True)
    flock(*arguments)
fcntl.flock = announced
def train(*_, **__):
    print("trains", flush=True)
    raise SystemExit(3)
table1.train = train
record = run(Table1Trial(layer="free-form", n_train=1000, profile="smoke", dataset={SAMPLE!r}), Path(sys.argv[1]))
print(record["metrics"]["test_accuracy"])
"""


@pytest.mark.parametrize("ending", ["written", "failed"])
def test_a_second_process_waits_and_takes_the_record_over(results, tmp_path, ending):
    """Or trains itself, if the first came to nothing."""
    path = smoke().record_path(results)
    record = finished(tmp_path / "invented.json", metrics={"test_accuracy": 0.625})
    with reserve(path) as place:
        second = python(WAITS, results)
        assert second.stdout is not None
        assert second.stdout.readline() == "waits\n"
        time.sleep(0.2)
        assert second.poll() is None
        if ending == "written":
            place.write(record)
    status, out, err = finish(second)
    assert err == ""
    if ending == "written":
        assert (status, out.splitlines()[-1]) == (0, "0.625")
        assert "trains" not in out
        assert names(path) == [path.name]
        assert read_record(path) == record
    else:
        assert (status, out.splitlines()[-1]) == (3, "trains")
        assert names(path) == []


def test_one_at_a_time_also_after_a_failure(tmp_path):
    """Who waited for a file that is gone does not hold its place against the next."""
    path = tmp_path / "r.json"
    entered, leave = threading.Semaphore(0), threading.Semaphore(0)

    def hold() -> None:
        with reserve(path):
            entered.release()
            assert leave.acquire(timeout=60)

    waited, came_later = threading.Thread(target=hold), threading.Thread(target=hold)
    with reserve(path):
        waited.start()
        time.sleep(0.1)
    assert entered.acquire(timeout=60)
    came_later.start()
    assert not entered.acquire(timeout=0.2)
    leave.release()
    assert entered.acquire(timeout=60)
    leave.release()
    waited.join()
    came_later.join()
    assert names(path) == []


# Places that cannot be written


@pytest.mark.parametrize("place", ["a file", "a file above", "/proc"])
def test_a_results_folder_that_cannot_be_written(tmp_path, monkeypatch, place):
    monkeypatch.setattr(table1, "train", lambda *_, **__: pytest.fail("trained for nothing"))
    if place == "/proc":
        if not Path("/proc/self").exists():
            pytest.skip("no /proc")
        results = Path("/proc/results")
    else:
        (tmp_path / "file").write_text("in the way")
        results = tmp_path / "file" / ("below" if place == "a file above" else "")
    folder = smoke().record_path(results).parent
    with pytest.raises(ResultsError, match=rf"^results cannot be written to {re.escape(str(folder))}: [A-Z][a-z ]+$"):
        run(smoke(), results)


FULL_DISK = """
import resource, sys
from pathlib import Path
from gdlayer.experiments.record import ResultsError, reserve
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    with reserve(Path(sys.argv[1])) as place:
        print("reserved")
        place.write({"metrics": "x" * 100_000})
except ResultsError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [0, 1000, RESERVED_BYTES - 1, RESERVED_BYTES])
def test_a_disk_without_room(tmp_path, limit):
    """Known before training, but for a record larger than its reservation."""
    path = tmp_path / "r.json"
    path.write_text("an older record")
    status, out, err = finish(python(FULL_DISK, path, limit))
    assert (status, err) == (0, "")
    reserved = ["reserved"] if limit == RESERVED_BYTES else []
    assert out.splitlines() == [*reserved, f"results cannot be written to {tmp_path}: File too large"]
    assert names(path) == ["r.json"]
    assert path.read_text() == "an older record"


@pytest.mark.parametrize("failing_call", [1, 2])
def test_a_disk_that_is_full(results, monkeypatch, failing_call):
    """Before training, or at its end: one line, no half record, and what was there is still there."""
    trial = smoke()
    path = trial.record_path(results)
    old = finished(path)
    calls = []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == failing_call:
            raise OSError(errno.ENOSPC, "No space left on device")

    trained = []
    train = table1.train
    monkeypatch.setattr(table1, "train", lambda *a, **k: (trained.append(1), train(*a, **k))[1])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        message = f"results cannot be written to {path.parent}: No space left on device"
        with pytest.raises(ResultsError, match=f"^{re.escape(message)}$"):
            run(trial, results, force=True)
    assert len(trained) == failing_call - 1
    assert names(path) == [path.name]
    assert read_record(path) == old


# How long it will take


def test_seconds_left_by_the_cost_of_the_same_layer(results, tmp_path):
    trials = plan("smoke", "table1", (SAMPLE,))
    reference = tmp_path / "reference"
    assert progress.seconds_left(trials, results, reference, 1) is None
    # 4 steps in 8 and in 40 seconds: 2 and 10 a step
    finished(trials[0].record_path(reference), trial=trials[0].describe(), seconds=8.0)
    finished(trials[1].record_path(reference), trial=trials[1].describe(), seconds=40.0)
    startup = 8 * progress.STARTUP_SECONDS
    for jobs in (1, 2):
        left = progress.seconds_left(trials, results, reference, jobs)
        assert left == pytest.approx((8 + 40 + 6 * 24 + startup) / jobs)
    assert progress.count_finished(trials, results) == 0
    # own records count before the reference, but for layers that only that one has
    finished(trials[2].record_path(results), trial=trials[2].describe(), seconds=4.0)
    left = progress.seconds_left(trials, results, reference, 1)
    assert left == pytest.approx(8 + 40 + 5 * 4 + 7 * progress.STARTUP_SECONDS)
    # nothing is known of another experiment: as much a step as the rest
    assert left is not None
    other = EXAMPLES[2]
    with_other = progress.seconds_left([*trials, other], results, reference, 1)
    assert with_other == pytest.approx(left + 2 * (2 + 10 + 5) / 7 + progress.STARTUP_SECONDS)
    assert progress.count_finished(trials, results) == 1
    for trial in trials:
        finished(trial.record_path(results))
    assert progress.seconds_left(trials, results, reference, 1) == 0


def test_seconds_left_knows_layers_apart(results):
    """Not the mean of all layers, where the layer's own cost is known."""
    dear, cheap = smoke("dau"), smoke("free-form")
    finished(dear.record_path(results), trial=dear.describe(), seconds=40.0)
    finished(cheap.record_path(results), trial=cheap.describe(), seconds=8.0)
    trials = [dear, cheap, smoke("free-form", seed=1)]
    assert progress.seconds_left(trials, results, results, 1) == pytest.approx(8 + progress.STARTUP_SECONDS)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "an unknown time"), (0, "0 s"), (89.4, "89 s"), (90, "2 min"), (5399, "90 min"), (9000, "2.5 h")],
)
def test_in_words(seconds, words):
    assert progress.in_words(seconds) == words
