"""Learning rates sought on held-out training data, precision checked apart, and many trials run at a time."""

import dataclasses
import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gdlayer.datasets import balanced_subset, cats_dogs, fashion_mnist, nuclei, synthetic
from gdlayer.experiments import __main__ as cli
from gdlayer.experiments import parallel, progress, table1, table2, table3, training
from gdlayer.experiments import run as runner
from gdlayer.experiments.record import REQUIRED, ResultsError, read_record
from gdlayer.experiments.run import run
from gdlayer.experiments.search import as_table, best_rates, chosen_rates, validation_means
from gdlayer.experiments.trial import (
    EXPERIMENTS,
    SEARCHES,
    TRIALS,
    Search,
    Table1Precision,
    Table1Search,
    Table1Trial,
    Table2Search,
    Table2Trial,
    Table3Search,
    Table3Trial,
    Trial,
    chosen_rate,
    hyperparameters,
    in_order,
    load_choices,
    load_profile,
    plan,
)

FULL, SAMPLE = fashion_mnist.FULL, fashion_mnist.SAMPLE
RECORD = Path(cli.__file__).parents[2] / "data" / "results"
TEXTURES = {"train": 40, "val": 20, "test": 30}


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    """An empty working directory, no data but the embedded, and little of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GDLAYER_DATA", raising=False)
    monkeypatch.setenv("GDLAYER_OFFLINE", "1")
    monkeypatch.setenv("GDLAYER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(synthetic, "TEXTURES", TEXTURES)
    monkeypatch.setattr(synthetic, "nuclei", functools.partial(synthetic.nuclei, patients=(2, 1, 1, 1), size=128))


@pytest.fixture
def results(tmp_path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def trained(monkeypatch) -> list[dict[str, Any]]:
    """What each call of the training loop got."""
    calls: list[dict[str, Any]] = []
    train = training.train

    def recorded(model, images, labels, evaluate, recipe, **options):
        calls.append({"model": model, "images": images, "labels": labels, "recipe": recipe})
        return train(model, images, labels, evaluate, recipe, **options)

    for module in (table1, table2, table3):
        monkeypatch.setattr(module, "train", recorded)
    return calls


def sought(layer: str = "free-form", rate: float = 0.01, seed: int = 0, network: str = "unpooled") -> Table1Search:
    return Table1Search(
        layer=layer, n_train=1000, network=network, learning_rate=rate, seed=seed, profile="smoke", dataset=SAMPLE
    )


def planned(profile: str, table: str, dataset: str) -> list[Search]:
    return [t for t in plan(profile, SEARCHES[table].experiment, (dataset,)) if isinstance(t, Search)]


def finish(trial: Trial, results: Path, **changes: Any) -> dict[str, Any]:
    """Writes an invented record."""
    record = dict.fromkeys(REQUIRED) | {"trial": trial.describe(), "hyperparameters": hyperparameters(trial)}
    record |= {"metrics": {"validation_accuracy": 0.5}, "seconds": 8.0} | changes
    path = trial.record_path(results)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    return record


def rows_of(images: torch.Tensor | np.ndarray) -> set[bytes]:
    return {np.asarray(image).tobytes() for image in images}


# Trials


@pytest.mark.parametrize(
    ("trial", "path", "option"),
    [
        (sought("ours", 0.005, 1), "smoke/table1-search/fashion-mnist-sample/ours-n1000-lr0.005-s1.json", None),
        (
            sought("ours", 0.005, 1, "pooled"),
            "smoke/table1-search/fashion-mnist-sample/ours-n1000-pooled-lr0.005-s1.json",
            "--network=pooled",
        ),
        (
            Table2Search(layer="ours-3x3", source="scratch", learning_rate=0.1, profile="paper", dataset="cats-dogs"),
            "paper/table2-search/cats-dogs/ours-3x3-scratch-lr0.1-s0.json",
            "--learning-rate=0.1",
        ),
        (
            Table3Search(layer="unet", split="tile", learning_rate=0.0005, profile="paper", dataset="tnbc"),
            "paper/table3-search/tnbc/unet-tile-lr0.0005-s0.json",
            "--learning-rate=0.0005",
        ),
        (
            Table1Precision(layer="ours", n_train=5000, precision="fp32", profile="paper", dataset=FULL),
            "paper/table1-precision/fashion-mnist/ours-n5000-fp32-s0.json",
            "--precision=fp32",
        ),
        (
            Table1Trial(layer="ours", n_train=5000, network="pooled", profile="paper", dataset=FULL),
            "paper/table1/fashion-mnist/ours-n5000-pooled-s0.json",
            "--network=pooled",
        ),
    ],
    ids=str,
)
def test_identity(trial, path, option):
    assert trial.record_path(Path("results")) == Path("results", path)
    assert option is None or option in trial.command("results")
    assert type(trial)(**{k: v for k, v in trial.describe().items() if k != "experiment"}) == trial


@pytest.mark.parametrize("rate", [0.0, -0.01, float("nan"), float("inf")])
def test_a_rate_that_is_none(rate):
    with pytest.raises(ValueError, match=f"^learning_rate is {rate}, allowed are positive numbers$"):
        sought(rate=rate)


def test_other_wrong_trials():
    with pytest.raises(ValueError, match=r"^dataset is 'monuseg-crops', allowed are tnbc, tnbc-derived, nuclei-synth"):
        Table3Search(layer="unet", split="tile", learning_rate=0.1, dataset=nuclei.MONUSEG)
    with pytest.raises(ValueError, match=r"^layer is 'dau', allowed are free-form, ours$"):
        Table1Precision(layer="dau", n_train=1000, precision="fp32", dataset=SAMPLE)
    with pytest.raises(ValueError, match=r"^profile 'quick' has no table1-search$"):
        plan("quick", "table1-search", (FULL,))


@pytest.mark.parametrize("profile", ["smoke", "paper"])
def test_no_two_trials_share_a_record(profile):
    trials = [t for name, cls in TRIALS.items() for t in plan(profile, name, cls.datasets)]
    assert len({t.record_path(Path()) for t in trials}) == len(trials)
    assert {type(t) for t in trials} == set(TRIALS.values())


@pytest.mark.parametrize("profile", ["smoke", "paper"])
@pytest.mark.parametrize("table", SEARCHES)
def test_every_layer_gets_the_same_budget(profile, table):
    cls = SEARCHES[table]
    trials = planned(profile, table, cls.datasets[0])
    rates = load_profile(profile)[cls.experiment]["learning_rate"]
    assert rates == sorted(set(rates))
    subjects = chosen_rates(trials)
    assert {subject[0] for subject in subjects} == set(cls.layers)
    assert len(subjects) == len(cls.layers) * (2 if (table, profile) == ("table1", "paper") else 1)
    for subject in subjects:
        own = sorted((t.learning_rate, t.seed) for t in trials if t.short_cell[:-1] == subject)
        assert own == [(rate, seed) for rate in rates for seed in range(2 if profile == "paper" else 1)]
    budgets = {
        json.dumps(hyperparameters(t) | dict.fromkeys(("learning_rate", "widths", "bases", "pooled")))
        for t in trials
        if t.layer != "source"
    }
    assert len(budgets) == 1


@pytest.mark.parametrize("table", SEARCHES)
def test_a_search_has_the_settings_of_its_table(table):
    cls = SEARCHES[table]
    for trial in planned("paper", table, cls.datasets[0])[::17]:
        settings = hyperparameters(trial)
        names = [f.name for f in dataclasses.fields(EXPERIMENTS[table])]
        of_table = hyperparameters(EXPERIMENTS[table](**{name: getattr(trial, name) for name in names}))
        differing = {name for name in settings if settings[name] != of_table.get(name)}
        assert differing <= {"learning_rate", "steps", "evaluations", "validation"}
        assert settings["learning_rate"] == trial.learning_rate
        assert of_table["learning_rate"] == chosen_rate(trial)
        assert settings.keys() - of_table.keys() == {"validation"}


def test_precision_is_checked_on_cells_of_the_table():
    """The same trials seed for seed, but for the precision."""
    trials = plan("paper", "table1-precision", (FULL,))
    assert {t.cell[:3] for t in trials} == {
        (layer, n, "unpooled") for layer in ("free-form", "ours") for n in (1000, 5000, 10000)
    }
    assert len(trials) == 2 * 3 * 5
    table = set(plan("paper", "table1", (FULL,)))
    for trial in trials:
        same = Table1Trial(layer=trial.layer, n_train=trial.cell[1], seed=trial.seed, profile="paper", dataset=FULL)
        assert same in table
        assert hyperparameters(trial) == hyperparameters(same) | {"precision": "fp32"}
        assert hyperparameters(same)["precision"] == "bf16"


def test_the_two_networks_have_their_own_settings():
    settings = {
        network: hyperparameters(
            Table1Trial(layer="ours", n_train=1000, network=network, profile="paper", dataset=FULL)
        )
        for network in Table1Trial.networks
    }
    assert (settings["unpooled"]["widths"], settings["pooled"]["widths"]) == ([16, 16, 16, 32], [16, 32, 64, 64])
    assert [4 * b for b in settings["pooled"]["bases"]] == settings["pooled"]["widths"]
    assert (settings["unpooled"]["pooled"], settings["pooled"]["pooled"]) == (False, True)


def test_order_of_the_paper_profile():
    datasets = {"table1": (FULL,), "table2": ("cats-dogs",), "table3": Table3Trial.datasets[1:3]}
    names = ("table1", "table1-precision", "table2", "table3")
    trials = [t for name in names for t in plan("paper", name, datasets[TRIALS[name].table])]
    ordered = in_order(trials, "paper")
    assert sorted(map(str, ordered)) == sorted(map(str, trials))

    def stage(trial: Trial) -> str:
        if not isinstance(trial, Table1Trial) or isinstance(trial, Table1Precision):
            return f"{trial.experiment} {'source' if trial.layer == 'source' else ''}".strip()
        if trial.network == "pooled":
            return "pooled"
        if trial.n_train <= 10000:
            return "small" if trial.n_train <= 5000 else "10000"
        return "large, first seed" if trial.seed == 0 else "large"

    stages = [stage(trial) for trial in ordered]
    once = [name for i, name in enumerate(stages) if i == 0 or stages[i - 1] != name]
    assert once == [
        *("table3", "small", "table1-precision", "10000", "large, first seed"),
        *("table2 source", "table2", "pooled", "large"),
    ]
    small = [t for t in ordered if stage(t) == "small"]
    assert [t.cell[1] for t in small] == sorted(t.cell[1] for t in small)
    assert in_order(trials, "smoke") == trials


# Held-out data


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
    assert needed.learning_rate == load_choices("table2")["learning_rate"]["value"]["source"]["scratch"]
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
    assert table2.weights_path(trial, results) == trial.record_path(results).with_suffix(".pt")


@pytest.mark.parametrize("seed", [0, 1])
def test_table3_is_sought_on_patients_among_the_training_tiles(results, trained, monkeypatch, seed):
    monkeypatch.setattr(runner, "hyperparameters", lambda trial: hyperparameters(trial) | {"tile_size": 64})
    trial = Table3Search(
        layer="unet", split="tile", learning_rate=0.001, seed=seed, profile="smoke", dataset=nuclei.SYNTHETIC
    )
    record = run(trial, results)
    data = nuclei.tiles(nuclei.load(nuclei.SYNTHETIC), 64)
    training_tiles, test_tiles = table3.split(data, "tile", seed)
    (call,) = trained
    used = rows_of(call["images"].permute(0, 2, 3, 1).contiguous())
    train = [i for i, image in enumerate(data.images) if image.tobytes() in used]
    held_out = sorted(set(training_tiles) - set(train))
    assert set(train) < set(training_tiles)
    assert not set(data.groups[train]) & set(data.groups[held_out])
    assert not used & rows_of(data.images[test_tiles])
    assert record["data"]["n_train"] == len(train)
    assert record["data"]["n_validation"] == len(held_out) > 0
    assert record["data"]["groups_on_both_sides"] == 0
    with torch.no_grad():
        said = call["model"].eval()(torch.from_numpy(data.images[held_out]).permute(0, 3, 1, 2)).argmax(1).bool()
    assert record["metrics"]["validation_pixel_accuracy"] == pytest.approx(
        (said.numpy() == data.masks[held_out]).mean()
    )
    assert set(record["metrics"]) == {
        f"validation_{name}" for name in ("pixel_accuracy", "dice", "iou", "background_accuracy")
    }
    assert [path.name for path in trial.record_path(results).parent.iterdir()] == [f"{trial.id}.json"]
    assert Table3Search.metric in record["metrics"]


def test_the_pooled_network_is_trained(results, trained, monkeypatch):
    whole = fashion_mnist.load

    def load(name: str) -> fashion_mnist.ImageSet:
        data = whole(name)
        return dataclasses.replace(data, test_images=data.test_images[:50], test_labels=data.test_labels[:50])

    monkeypatch.setattr(fashion_mnist, "load", load)
    trial = Table1Trial(layer="free-form", n_train=1000, network="pooled", profile="smoke", dataset=SAMPLE)
    record = run(trial, results)
    network = trained[0]["model"][1]
    assert sum(isinstance(stage, torch.nn.MaxPool2d) for stage in network.features) == 3
    assert network.classifier.in_features == 64
    widths = [1, 16, 32, 64, 64]
    convolutions = sum(9 * a * b + b for a, b in pairwise(widths))
    assert record["parameters"] == convolutions + 64 * 10 + 10


# The choice


def accuracies(results: Path, values: dict[str, list[list[float]]]) -> Sequence[Search]:
    """Invented records of two seeds for three rates; {layer: a list a rate}. Returns their plan."""
    rates = (0.001, 0.01, 0.1)
    trials = [sought(layer, rate, seed) for rate in rates for seed in (0, 1) for layer in values]
    for trial in trials:
        found = values[trial.layer][rates.index(trial.learning_rate)]
        if trial.seed < len(found):
            finish(trial, results, metrics={"validation_accuracy": found[trial.seed]})
    return trials


def test_the_best_mean_over_seeds_is_chosen(results):
    trials = accuracies(
        results,
        {
            "free-form": [[0.5, 0.5], [0.9, 0.2], [0.4, 0.4]],  # 0.01 by its mean, 0.55
            "ours": [[0.5, 0.5], [0.6, 0.6], [0.6, 0.6]],  # of equal ones the lower
            "dau": [[0.5, 0.5], [0.6, 0.6], [0.9]],  # one seed is missing
        },
    )
    means = validation_means(trials, results)
    assert means["free-form", 1000] == pytest.approx({0.001: 0.5, 0.01: 0.55, 0.1: 0.4})
    assert means["dau", 1000] == pytest.approx({0.001: 0.5, 0.01: 0.6})
    assert best_rates(trials, results) == {("free-form", 1000): 0.01, ("ours", 1000): 0.01}


def test_networks_are_sought_apart(results):
    trials = [sought("ours", rate, network=network) for network in Table1Trial.networks for rate in (0.01, 0.02)]
    for trial, value in zip(trials, (0.5, 0.6, 0.6, 0.5), strict=True):
        finish(trial, results, metrics={"validation_accuracy": value})
    assert best_rates(trials, results) == {("ours", 1000): 0.02, ("ours", 1000, "pooled"): 0.01}
    assert chosen_rates(trials).keys() == best_rates(trials, results).keys()


def test_the_table_says_where_the_best_is(results):
    trials = accuracies(
        results,
        {
            "free-form": [[0.5, 0.5], [0.9, 0.2], [0.4, 0.4]],
            "ours": [[0.5, 0.5], [0.6, 0.6], [0.7, 0.6]],
            "dau": [[0.5, 0.5], [0.6, 0.6], [0.9]],
        },
    )
    own = chosen_rates(trials)
    assert own == {
        (layer, 1000): load_choices("table1")["learning_rate"]["value"]["unpooled"][layer]
        for layer in ("free-form", "ours", "dau")
    }
    notes = [
        "" if own["free-form", 1000] == 0.01 else f" choices.toml has {own['free-form', 1000]:g}",
        f" best at the edge of the rates; choices.toml has {own['ours', 1000]:g}",
    ]
    assert as_table(trials, results).splitlines() == [
        "validation accuracy in percent, mean over 2 seeds, by learning rate",
        "                  0.001      0.01       0.1 ",
        f"free-form 1000    50.00     55.00*    40.00 {notes[0]}".rstrip(),
        f"ours 1000         50.00     60.00     65.00*{notes[1]}",
        "dau 1000          50.00     60.00         -",
    ]


def test_a_record_of_another_budget_is_not_compared(results):
    trials = accuracies(results, {"ours": [[0.5, 0.5], [0.6, 0.6], [0.6, 0.6]]})
    finish(trials[2], results, hyperparameters=hyperparameters(trials[2]) | {"steps": 99})
    path = trials[2].record_path(results)
    with pytest.raises(
        ResultsError, match=f"^{re.escape(str(path))} was made with other settings \\(steps was 99, is 4\\)"
    ):
        best_rates(trials, results)


@pytest.mark.parametrize("table", SEARCHES)
def test_the_choices_are_the_best_of_the_committed_search(table):
    for dataset in SEARCHES[table].datasets:
        trials = planned("paper", table, dataset)
        best, chosen = best_rates(trials, RECORD), chosen_rates(trials)
        assert {subject: chosen[subject] for subject in best} == best, as_table(trials, RECORD)


# How long it takes


def test_costs_are_known_by_network_and_precision(results):
    """The dearer of a layer's networks and precisions is not taken for the cheaper."""
    made = {"layer": "ours", "n_train": 1000, "profile": "smoke", "dataset": SAMPLE}
    finish(Table1Trial(**made), results, seconds=4.0)
    finish(Table1Trial(**made, network="pooled"), results, seconds=12.0)
    finish(Table1Precision(**made, precision="bf16"), results, seconds=20.0)
    for trial, cost in (
        (Table1Trial(**made, seed=1), 4),
        (Table1Trial(**made, seed=1, network="pooled"), 12),
        (sought("ours"), 4),
        (Table1Precision(**made, seed=1, precision="bf16"), 20),
        (Table1Precision(**made, seed=1, network="pooled", precision="bf16"), 20),
        (dataclasses.replace(sought("dau"), network="pooled"), 12),
    ):
        left = progress.seconds_left([trial], results, results, 1)
        assert left == pytest.approx(cost + progress.STARTUP_SECONDS), trial


# Many at a time


WRITES = """
import json, os, sys, time
from pathlib import Path
path, record, log, status = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
with log.open("a") as stream:
    stream.write(f"start {path.stem}\\n")
time.sleep(0.2)
if status:
    sys.exit(f"error: {path.stem} is impossible")
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(record)
with log.open("a") as stream:
    stream.write(f"end {path.stem}\\n")
"""


@pytest.fixture
def quick_commands(monkeypatch, tmp_path) -> Path:
    """Trials whose commands write an invented record; those of DAU fail. Returns the log of what ran."""
    log = tmp_path / "log"
    log.touch()

    def command(trial: Trial, results: Path) -> list[str]:
        record = dict.fromkeys(REQUIRED) | {"trial": trial.describe(), "hyperparameters": hyperparameters(trial)}
        record |= {"metrics": {getattr(trial, "metric", "test_accuracy"): 0.5}, "seconds": 8.0}
        status = 2 if trial.layer == "dau" else 0
        return ["-c", WRITES, str(trial.record_path(results)), json.dumps(record), str(log), str(status)]

    monkeypatch.setattr(Trial, "command", command)
    return log


def test_trials_run_in_order_and_no_more_at_a_time_than_asked(results, quick_commands):
    trials = [t for t in plan("smoke", "table1", (SAMPLE,)) if t.layer != "dau"]
    done = list(parallel.run_all(trials, results, jobs=2))
    assert {d.trial for d in done} == set(trials)
    assert all(d.record == read_record(d.trial.record_path(results)) and d.record for d in done)
    lines = quick_commands.read_text().splitlines()
    running = np.cumsum([1 if line.startswith("start") else -1 for line in lines])
    assert running.max() == 2
    started = [line.split()[1] for line in lines if line.startswith("start")]
    ids = [t.id for t in trials]
    assert all(abs(started.index(name) - ids.index(name)) <= 1 for name in ids)


def test_a_trial_that_fails_does_not_stop_the_others(results, quick_commands):
    trials = plan("smoke", "table1", (SAMPLE,))
    done = list(parallel.run_all(trials, results, jobs=2))
    assert len(done) == len(trials) == 8
    (failed,) = [d for d in done if d.record is None]
    assert failed.trial.layer == "dau"
    assert failed.error == "error: dau-n1000-s0 is impossible"


def test_nobody_waits_for_results_that_are_not_wanted(results, quick_commands):
    """Whoever stops asking, as by ctrl-C, gets no further trial started."""
    trials = plan("smoke", "table1", (SAMPLE,))
    several = parallel.run_all(trials, results, jobs=1)
    next(several)
    several.close()
    assert quick_commands.read_text().count("start") <= 2


def test_all_runs_the_tables_and_checks_that_have_no_record(capsys, quick_commands):
    assert cli.IN_ALL == ("table1", "table2", "table3", "table1-precision")
    for trial in plan("smoke", "table1", (SAMPLE,))[:5]:
        finish(trial, Path("results"), metrics={"test_accuracy": 0.25})
    arguments = ["all", "table1", "table1-precision", "--profile=smoke", "--jobs=2"]
    assert cli.main(arguments) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(r"10 trials, 5 finished; about \d+ s left with 2 at a time\n", err)
    lines = out.splitlines()
    assert len(lines) == 5
    assert re.fullmatch(
        r"\[10/10\] table1\S* \S+ 1000.* on fashion-mnist-sample seed 0: test accuracy 50\.00 % in 8 s; about 0 s left",
        lines[-1],
    )
    assert cli.main(arguments) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("", "10 trials, 10 finished; about 0 s left with 2 at a time\n")


def test_all_says_what_failed(capsys, quick_commands):
    assert cli.main(["all", "table1", "--profile=smoke", "--jobs=2"]) == 2
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 7
    assert err.splitlines()[1:] == [
        "table1 dau 1000 on fashion-mnist-sample seed 0: error: dau-n1000-s0 is impossible",
        "error: 1 of 8 trials failed; call again to go on",
    ]


def test_all_refuses_records_of_other_settings_at_the_start(capsys, quick_commands):
    trial = plan("smoke", "table1", (SAMPLE,))[3]
    finish(trial, Path("results"), hyperparameters=hyperparameters(trial) | {"steps": 99})
    assert cli.main(["all", "--profile=smoke"]) == 2
    assert "was made with other settings (steps was 99, is 4)" in capsys.readouterr().err
    assert quick_commands.read_text() == ""


def test_wrong_words(capsys):
    assert cli.main(["all", "table9", "--profile=smoke"]) == 2
    assert capsys.readouterr().err == f"error: table is 'table9', allowed are {', '.join(TRIALS)}\n"
    assert cli.main(["search", "table1", "--layer=conv", "--profile=smoke"]) == 2
    assert capsys.readouterr().err == "error: profile 'smoke' has no table1-search of conv\n"
    assert cli.main(["search", "table1", "--profile=quick", "--jobs=0"]) == 2
    assert capsys.readouterr().err == "error: jobs is 0, allowed are integers from 1 on\n"
    assert cli.main(["search", "table1", "--profile=quick"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "error: profile 'quick' has no table1-search"
    assert list(Path().iterdir()) == []


def test_search_runs_what_is_missing_and_prints_the_table(capsys, quick_commands):
    assert cli.main(["search", "table2", "--profile=smoke", "--jobs=1", "--source=scratch"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("14 trials, 0 finished; ")
    assert out.splitlines()[-9] == "validation accuracy in percent, mean over 1 seed, by learning rate"
    assert out.splitlines()[-7].startswith("source scratch ")
    started = [line.split()[1] for line in quick_commands.read_text().splitlines() if line.startswith("start")]
    assert [name.startswith("source") for name in started] == [True] * 2 + [False] * 12
    assert cli.main(["search", "table2", "--profile=smoke", "--layer=ours-7x7"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert err.startswith("2 trials, 2 finished; ")


def test_a_killed_run_of_all_goes_on(tmp_path):
    """SIGKILL for the whole and its children in the midst of their trials; the same command then finishes."""
    command = [sys.executable, "-m", "gdlayer.experiments", "all", "table1-precision", "--profile=smoke", "--jobs=2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    folder = Path("results/smoke/table1-precision") / SAMPLE
    try:
        until = time.monotonic() + 100
        while not list(folder.glob(".*.part")):
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert list(folder.glob(".*.part"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["free-form-n1000-bf16-s0.json", "ours-n1000-bf16-s0.json"]
    record = read_record(folder / "ours-n1000-bf16-s0.json")
    assert record is not None
    assert record["hyperparameters"]["precision"] == "bf16"
    assert record["machine"]["threads"] == 1
