"""What is true of every trial: its identity, its record's place, its command, and wrong fields."""

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from invented import FULL, SAMPLE, smoke, sought

from gdlayer.experiments.table1.trial import Table1Precision, Table1Trial
from gdlayer.experiments.table2.trial import Table2Search, Table2Trial
from gdlayer.experiments.table3.trial import Table3Search, Table3Trial
from gdlayer.trials.plan import asked_by, plan
from gdlayer.trials.registry import trial_of, trial_types
from gdlayer.trials.trial import PROFILES


def quoted(options: Iterable[str]) -> str:
    return ", ".join(map(repr, options))


EXAMPLES = (
    Table1Trial(layer="ours-few", n_train=5000, seed=3, profile="paper", dataset=FULL),
    Table2Trial(layer="ours-7x7-fitted", source="scratch", seed=1, profile="quick", dataset="textures-synthetic"),
    Table3Trial(layer="gaussian-unet", split="group", profile="smoke", dataset="nuclei-synthetic"),
)


@pytest.mark.parametrize(
    ("trial", "cell", "path", "option"),
    [
        (
            EXAMPLES[0],
            ("ours-few", 5000, "unpooled"),
            "paper/table1/fashion-mnist/ours-few-n5000-s3.json",
            "--n-train=5000",
        ),
        (
            dataclasses.replace(EXAMPLES[0], network="pooled"),
            ("ours-few", 5000, "pooled"),
            "paper/table1/fashion-mnist/ours-few-n5000-pooled-s3.json",
            "--network=pooled",
        ),
        (
            EXAMPLES[1],
            ("ours-7x7-fitted", "scratch"),
            "quick/table2/textures-synthetic/ours-7x7-fitted-scratch-s1.json",
            "--source=scratch",
        ),
        (
            EXAMPLES[2],
            ("gaussian-unet", "group"),
            "smoke/table3/nuclei-synthetic/gaussian-unet-group-s0.json",
            "--split=group",
        ),
        (
            sought("ours", 0.005, 1),
            ("ours", 1000, "unpooled", 0.005),
            "smoke/table1-search/fashion-mnist-sample/ours-n1000-lr0.005-s1.json",
            "--learning-rate=0.005",
        ),
        (
            sought("ours", 0.005, 1, "pooled"),
            ("ours", 1000, "pooled", 0.005),
            "smoke/table1-search/fashion-mnist-sample/ours-n1000-pooled-lr0.005-s1.json",
            "--network=pooled",
        ),
        (
            Table2Search(layer="ours-3x3", source="scratch", learning_rate=0.1, profile="paper", dataset="cats-dogs"),
            ("ours-3x3", "scratch", 0.1),
            "paper/table2-search/cats-dogs/ours-3x3-scratch-lr0.1-s0.json",
            "--learning-rate=0.1",
        ),
        (
            Table3Search(layer="unet", split="group", learning_rate=0.0005, profile="paper", dataset="monuseg-crops"),
            ("unet", "group", 0.0005),
            "paper/table3-search/monuseg-crops/unet-group-lr0.0005-s0.json",
            "--learning-rate=0.0005",
        ),
        (
            Table1Precision(layer="ours", n_train=5000, precision="fp32", profile="paper", dataset=FULL),
            ("ours", 5000, "unpooled", "fp32"),
            "paper/table1-precision/fashion-mnist/ours-n5000-fp32-s0.json",
            "--precision=fp32",
        ),
    ],
    ids=str,
)
def test_identity(trial, cell, path, option):
    assert trial.cell == cell
    assert trial.record_path(Path("results")) == Path("results", path)
    command = trial.command("results")
    assert command[:4] == ["-m", "gdlayer.experiments", "run", trial.experiment]
    own = {f"--layer={trial.layer}", f"--seed={trial.seed}", f"--profile={trial.profile}", f"--dataset={trial.dataset}"}
    assert {*own, option, "--results=results"} <= set(command[4:])
    assert trial_of(trial.describe()) == trial


@pytest.mark.parametrize("profile", PROFILES)
def test_no_two_trials_share_a_record(profile):
    trials = [t for name, cls in asked_by(profile).items() for t in plan(profile, name, cls.datasets)]
    assert len({trial.record_path(Path()) for trial in trials}) == len(trials) == len(set(trials))
    assert {type(trial) for trial in trials} == set(asked_by(profile).values())
    assert {trial.profile for trial in trials} == {profile}
    if profile == "paper":
        assert asked_by(profile) == trial_types()


@pytest.mark.parametrize(
    ("trial", "changes", "message"),
    [
        (smoke(), {"layer": "conv"}, f"layer must be one of {quoted(Table1Trial.layers)}, got 'conv'"),
        (smoke(), {"profile": "full"}, "profile must be one of 'smoke', 'quick', 'paper', got 'full'"),
        (smoke(), {"dataset": "mnist"}, "dataset must be one of 'fashion-mnist', 'fashion-mnist-sample', got 'mnist'"),
        (smoke(), {"n_train": 0}, "n_train must be from 1 to 5000 (fashion-mnist-sample), got 0"),
        (smoke(), {"n_train": -5}, "n_train must be from 1 to 5000 (fashion-mnist-sample), got -5"),
        (smoke(), {"n_train": 5001}, "n_train must be from 1 to 5000 (fashion-mnist-sample), got 5001"),
        (smoke(), {"network": "strided"}, "network must be one of 'unpooled', 'pooled', 'batch-norm', got 'strided'"),
        (EXAMPLES[0], {"n_train": 60001}, "n_train must be from 1 to 60000 (fashion-mnist), got 60001"),
        (smoke(), {"seed": -1}, "seed must be an integer >= 0, got -1"),
        (EXAMPLES[1], {"layer": "unet"}, f"layer must be one of {quoted(Table2Trial.layers)}, got 'unet'"),
        (EXAMPLES[1], {"source": "coco"}, f"source must be one of {quoted(Table2Trial.sources)}, got 'coco'"),
        (EXAMPLES[1], {"dataset": FULL}, f"dataset must be one of {quoted(Table2Trial.datasets)}, got {FULL!r}"),
        (EXAMPLES[2], {"layer": "ours"}, f"layer must be one of {quoted(Table3Trial.layers)}, got 'ours'"),
        (EXAMPLES[2], {"split": "image"}, "split must be one of 'tile', 'group', got 'image'"),
    ],
    ids=str,
)
def test_wrong_trials(trial, changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        dataclasses.replace(trial, **changes)


@pytest.mark.parametrize("rate", [0.0, -0.01, float("nan"), float("inf")])
def test_a_rate_that_is_none(rate):
    with pytest.raises(ValueError, match=f"^learning_rate must be a positive number, got {rate}$"):
        sought(rate=rate)


def test_other_wrong_trials():
    with pytest.raises(ValueError, match=r"^layer must be one of 'free-form', 'ours', got 'dau'$"):
        Table1Precision(layer="dau", n_train=1000, precision="fp32", dataset=SAMPLE)
    with pytest.raises(ValueError, match=r"^profile 'quick' has no table1-search$"):
        plan("quick", "table1-search", (FULL,))


def test_a_new_first_layer_needs_its_source():
    trial = EXAMPLES[1]
    source = dataclasses.replace(trial, layer="source")
    assert trial.needs == source
    assert source.needs is None
    assert EXAMPLES[0].needs is None
    for profile in PROFILES:
        trials = plan(profile, "table2", Table2Trial.datasets)
        assert {t.needs for t in trials} - {None} <= set(trials)
