"""What each profile asks for: which trials, on which data, in which order."""

import re
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from invented import FULL, SAMPLE, TABLE1

from gdlayer.datasets import DataNotFoundError
from gdlayer.experiments.ablations.trial import AblationTrial
from gdlayer.experiments.table1.trial import Table1Precision, Table1Trial
from gdlayer.experiments.table2.layers import LAYERS as FIRST_LAYERS
from gdlayer.experiments.table2.sources import SOURCES
from gdlayer.experiments.table2.trial import Table2Trial
from gdlayer.experiments.table3.trial import Table3Trial
from gdlayer.trials.files import FolderError
from gdlayer.trials.plan import choose_datasets, in_order, plan, rules
from gdlayer.trials.provenance import committed_record
from gdlayer.trials.record import every_record
from gdlayer.trials.registry import experiments, trial_of, trial_types
from gdlayer.trials.search import chosen_rates
from gdlayer.trials.settings import hyperparameters
from gdlayer.trials.trial import PROFILES, Search, Trial

LAYERS = Table1Trial.layers
SIZES = (1000, 5000, 10000, 30000, 60000)


@pytest.mark.parametrize(
    ("profile", "experiment"),
    [(profile, e) for profile in PROFILES for e in experiments().values() if e.has(profile, e.name)],
)
def test_every_profile_has_every_layer_on_every_data_set(profile, experiment):
    """Of the full protocol: what the paper has, and what has a learning rate there."""
    trials = plan(profile, experiment.name, experiment.trial.datasets)
    wanted = {name for name, layer in experiment.layers.items() if layer.in_paper or profile != "paper"}
    assert wanted <= {trial.layer for trial in trials}
    assert {trial.dataset for trial in trials} == set(experiment.trial.datasets)


def test_every_trial_on_record_is_planned():
    """Of the small profiles also with further seeds, which tell how much seeds differ."""
    folder = committed_record()
    assert folder is not None
    recorded = [trial_of(record["trial"]) for _, record in every_record(folder)]
    kinds = {(trial.profile, trial.experiment, trial.dataset) for trial in recorded}
    planned = {trial for profile, name, dataset in kinds for trial in plan(profile, name, [dataset])}
    cells = {replace(trial, seed=0) for trial in planned if trial.profile != "paper"}
    assert {trial for trial in recorded if trial not in planned and replace(trial, seed=0) not in cells} == set()


def test_a_layer_is_part_of_a_profile_as_soon_as_it_has_a_learning_rate_there(monkeypatch):
    """Its row is enough for smoke and quick, and for the search that finds its rate."""
    monkeypatch.setattr(Table1Trial, "layers", (*LAYERS, "further"))
    for profile in ("smoke", "quick"):
        assert {t.cell for t in plan(profile, "table1", (SAMPLE,)) if t.layer == "further"} >= {
            ("further", 1000, "unpooled")
        }
    assert "further" not in {t.layer for t in plan("paper", "table1", (FULL,))}
    sought = [t for t in plan("paper", "table1-search", (FULL,)) if t.layer == "further"]
    assert len(sought) == 2 * 8 * 2
    assert hyperparameters(sought[0])["learning_rate"] == 0.001
    assert chosen_rates([t for t in sought if isinstance(t, Search)]) == {}
    with pytest.raises(FolderError, match=r"learning_rate.unpooled has no entry for further 1000 unpooled, only "):
        hyperparameters(Table1Trial(layer="further", n_train=1000, profile="paper", dataset=FULL))
    monkeypatch.setitem(TABLE1.budget("paper", "table1")["learning_rate"]["unpooled"], "further", 0.05)
    found = {t.cell for t in plan("paper", "table1", (FULL,)) if t.layer == "further"}
    assert found == {("further", n, "unpooled") for n in SIZES}


def cells(trials: list[Any]) -> set[tuple[Any, ...]]:
    return {trial.cell for trial in trials}


def test_quick_is_every_cell_once():
    trials = plan("quick", "table1", (FULL,))
    assert len(trials) == len(LAYERS) * len(SIZES)
    assert cells(trials) == {(layer, n, "unpooled") for layer in LAYERS for n in SIZES}
    assert [t.cell[1] for t in trials] == sorted(t.cell[1] for t in trials)
    assert {(t.experiment, t.seed) for t in trials} == {("table1", 0)}


def test_the_sample_has_the_small_columns_only():
    trials = plan("quick", "table1", (SAMPLE,))
    assert cells(trials) == {(layer, n, "unpooled") for layer in LAYERS for n in (1000, 5000)}
    assert len(trials) == 2 * len(LAYERS)


def test_smoke_is_every_cell_once_on_what_is_embedded():
    assert choose_datasets("smoke", "table1") == (SAMPLE,)
    assert [t.cell for t in plan("smoke", "table1", (SAMPLE,))] == [(layer, 1000, "unpooled") for layer in LAYERS]
    for name, experiment in experiments().items():
        assert choose_datasets("smoke", name) == (experiment.embedded,)
        trials = plan("smoke", name, (experiment.embedded,))
        assert len(cells(trials)) == len(trials) == len(experiment.layers) * (2 if name == "table3" else 1)


def test_the_seeds_of_the_full_protocol():
    found = Counter(trial.cell for trial in plan("paper", "table1", (FULL,)))
    seeds = {"unpooled": (10, 10, 5, 3, 3), "pooled": (3, 3, 3, 0, 0), "batch-norm": (10, 10, 0, 0, 0)}
    assert found == {
        (layer, n, network): count
        for network, rates in TABLE1.budget("paper", "table1")["learning_rate"].items()
        for layer in rates
        for n, count in zip(SIZES, seeds[network], strict=True)
        if count
    }
    assert {layer for layer, _, network in found if network == "unpooled"} >= set(LAYERS[:9])
    assert {layer for layer, _, network in found if network == "batch-norm"} >= {"free-form", "rfnn", "ours"}
    found = Counter(trial.cell for trial in plan("paper", "table2", Table2Trial.datasets[:1]))
    pretrained = {name for name, source in SOURCES.items() if source.pretrained}
    assert {source for layer, source in found if layer == "source"} == pretrained
    assert {(source, count) for (_, source), count in found.items()} == {
        (source, 5 if source == "squeezenet" else 3) for source in pretrained
    }
    assert {*Counter(trial.cell for trial in plan("paper", "table3", Table3Trial.datasets[:1])).values()} == {5}
    seeds = Counter(trial.layer for trial in plan("paper", "ablations", (FULL,)))
    core = {"ours", "trains-none", "trains-sigma", "trains-mu", "trains-theta"}  # what the paper claims
    assert seeds == {layer: 2 * (10 if layer in core else 5) for layer in AblationTrial.layers}
    assert {*Counter(trial.cell for trial in plan("paper", "scale", (FULL,))).values()} == {3}


def test_new_first_layers_go_on_from_the_paper_like_network():
    """All but one, and where the old filters count also from its twin with the other input."""
    chosen = experiments()["table2"].choices["paper_like"]["value"]
    head = chosen.removeprefix("vgg16-255-").removeprefix("vgg16-")
    (twin,) = {f"vgg16-{head}", f"vgg16-255-{head}"} - {chosen}
    for name in ("table2", "table2-search"):
        found = {(t.layer, t.cell[1]) for t in plan("paper", name, Table2Trial.datasets[:1])}
        own = {layer for layer, source in found if source == chosen}
        assert own == {*FIRST_LAYERS} - {"ours-3x3"}
        fitted = {"source", "free-form-original", "ours-7x7-fitted", "ours-3x3-fitted"}
        assert {layer for layer, source in found if source == twin} == fitted
        assert {s for layer, s in found if layer != "source"} == {"squeezenet", chosen, twin}
    steps = {
        t.layer: hyperparameters(t)["steps"]
        for t in plan("paper", "table2", Table2Trial.datasets[:1])
        if t.cell[1] == chosen
    }
    random = {layer: n for layer, n in steps.items() if FIRST_LAYERS[layer].start == "random"}
    trained_on = {layer: n for layer, n in steps.items() if layer not in (*random, "source")}
    assert len({*trained_on.values()}) == 1
    assert min(random.values()) >= 4 * max(trained_on.values())


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
