"""What each profile asks for: which trials, on which data, in which order."""

import re
from collections import Counter
from typing import Any

import pytest
from invented import FULL, SAMPLE

from gdlayer.datasets import DataNotFoundError
from gdlayer.experiments import experiments, trial_types
from gdlayer.experiments.ablations.trial import AblationTrial
from gdlayer.experiments.profiles import choose_datasets, in_order, plan, rules
from gdlayer.experiments.settings import hyperparameters
from gdlayer.experiments.table1.trial import Table1Precision, Table1Trial
from gdlayer.experiments.table2.trial import Table2Trial
from gdlayer.experiments.table3.trial import Table3Trial
from gdlayer.experiments.trial import PROFILES, Trial

LAYERS = Table1Trial.layers
SIZES = (1000, 5000, 10000, 30000, 60000)


@pytest.mark.parametrize("experiment", experiments())
@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_has_every_layer_on_every_data_set(profile, experiment):
    cls = experiments()[experiment].trial
    trials = plan(profile, experiment, cls.datasets)
    assert {trial.layer for trial in trials} == set(cls.layers)
    assert {trial.dataset for trial in trials} == set(cls.datasets)


def cells(trials: list[Any]) -> set[tuple[Any, ...]]:
    return {trial.cell for trial in trials}


def test_quick_is_every_cell_once():
    trials = plan("quick", "table1", (FULL,))
    assert len(trials) == 45
    assert cells(trials) == {(layer, n, "unpooled") for layer in LAYERS for n in SIZES}
    assert [t.cell[1] for t in trials] == sorted(t.cell[1] for t in trials)
    assert {(t.experiment, t.seed) for t in trials} == {("table1", 0)}


def test_the_sample_has_the_small_columns_only():
    trials = plan("quick", "table1", (SAMPLE,))
    assert cells(trials) == {(layer, n, "unpooled") for layer in LAYERS for n in (1000, 5000)}
    assert len(trials) == 18


def test_smoke_is_every_cell_once_on_what_is_embedded():
    datasets = {name: choose_datasets("smoke", name) for name in experiments()}
    assert datasets == {
        "table1": (SAMPLE,),
        "table2": ("textures-synthetic",),
        "table3": ("nuclei-synthetic",),
        "ablations": (SAMPLE,),
        "scale": (SAMPLE,),
    }
    assert [t.cell for t in plan("smoke", "table1", (SAMPLE,))] == [(layer, 1000, "unpooled") for layer in LAYERS]
    assert len(plan("smoke", "table2", datasets["table2"])) == 7
    assert len(plan("smoke", "table3", datasets["table3"])) == 8
    assert len(plan("smoke", "ablations", datasets["ablations"])) == 20
    assert len(plan("smoke", "scale", datasets["scale"])) == 4


def test_the_seeds_of_the_full_protocol():
    trials = plan("paper", "table1", (FULL,))
    for network, counts in (("unpooled", (10, 10, 5, 3, 3)), ("pooled", (3, 3, 3, 0, 0))):
        for n, seeds in zip(SIZES, counts, strict=True):
            for layer in LAYERS:
                planned = 0 if (layer, network) == ("free-form-dilated", "pooled") else seeds
                assert [t.seed for t in trials if t.cell == (layer, n, network)] == list(range(planned))
    normalised = [t for t in trials if isinstance(t, Table1Trial) and t.network == "batch-norm"]
    assert {t.layer for t in normalised} == {"free-form", "rfnn", "ours", "free-form-same-support"}
    assert len(normalised) == 4 * 2 * 10
    assert len(trials) - len(normalised) == 9 * (2 * 10 + 5 + 2 * 3) + 8 * 3 * 3
    assert len(plan("paper", "table2", Table2Trial.datasets[:1])) == 7 * (5 + 3)
    assert len(plan("paper", "table3", Table3Trial.datasets[:2])) == 2 * 4 * 2 * 5
    seeds = Counter(trial.layer for trial in plan("paper", "ablations", (FULL,)))
    core = {"ours", "trains-none", "trains-sigma", "trains-mu", "trains-theta"}  # what the paper claims
    assert seeds == {layer: 2 * (10 if layer in core else 5) for layer in AblationTrial.layers}
    assert len(plan("paper", "scale", (FULL,))) == 4 * 3


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


def test_order_of_the_paper_profile():
    datasets = {"table1": (FULL,), "table2": ("cats-dogs",), "table3": Table3Trial.datasets[1:3]}
    datasets["ablations"] = datasets["scale"] = (FULL,)
    names = ("table1", "table1-precision", "table2", "table3", "ablations", "scale")
    trials = [t for name in names for t in plan("paper", name, datasets[trial_types()[name].belongs_to])]
    ordered = in_order(trials, "paper")
    assert sorted(map(str, ordered)) == sorted(map(str, trials))

    def stage(trial: Trial) -> str:
        if isinstance(trial, Table2Trial) and trial.source == "squeezenet":
            return f"squeezenet {'source' if trial.layer == 'source' else ''}".strip()
        if not isinstance(trial, Table1Trial) or isinstance(trial, Table1Precision):
            return f"{trial.experiment} {'source' if trial.layer == 'source' else ''}".strip()
        if trial.network != "unpooled":
            return trial.network
        if trial.n_train <= 10000:
            return "small" if trial.n_train <= 5000 else "10000"
        return "large, first seed" if trial.seed == 0 else "large"

    stages = [stage(trial) for trial in ordered]
    once = [name for i, name in enumerate(stages) if i == 0 or stages[i - 1] != name]
    assert once == [
        *(
            "squeezenet source",
            "squeezenet",
            "batch-norm",
            "ablations",
            "table3",
            "scale",
            "small",
            "table1-precision",
            "10000",
            "large, first seed",
        ),
        *("table2 source", "table2", "pooled", "large"),
    ]
    small = [t for t in ordered if stage(t) == "small"]
    assert [t.cell[1] for t in small] == sorted(t.cell[1] for t in small)
    assert in_order(trials, "smoke") == trials


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
        lambda: rules("full"),
        lambda: choose_datasets("full", "table1"),
        lambda: plan("full", "table1", (SAMPLE,)),
    ):
        with pytest.raises(ValueError, match=r"^profile must be one of 'smoke', 'quick', 'paper', got 'full'$"):
            call()
