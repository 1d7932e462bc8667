"""From the choices and budgets to a trial's settings."""

import dataclasses
import json
import re
from typing import Any

import pytest
import torch
from invented import FULL, SAMPLE

from gdlayer.experiments.table1.trial import Table1Trial
from gdlayer.experiments.table2.trial import Table2Trial
from gdlayer.trials.files import FolderError
from gdlayer.trials.plan import asked_by, plan
from gdlayer.trials.provenance import committed_record
from gdlayer.trials.record import every_record
from gdlayer.trials.registry import experiments, trial_of
from gdlayer.trials.settings import check_fixed, chosen_rate, entry_of, hyperparameters
from gdlayer.trials.task import Workplace
from gdlayer.trials.training import Recipe
from gdlayer.trials.trial import PROFILES, Search

ASKED = pytest.mark.parametrize(
    ("profile", "experiment"),
    [(profile, e) for profile in PROFILES for e in experiments().values() if e.has(profile, e.name)],
)
"""What each profile asks for."""
FITTED = Table2Trial(layer="ours-7x7-fitted", source="scratch", seed=1, dataset="textures-synthetic")


@pytest.mark.parametrize("experiment", experiments())
def test_every_choice_has_a_value_and_a_reason(experiment):
    choices = experiments()[experiment].choices
    for name, choice in choices.items():
        assert set(choice) - {"setting"} == {"value", "reason"}, name
        assert len(choice["reason"]) > 5, name
        assert choice["reason"].endswith("."), name
    assert {"learning_rate", "batch_size", "schedule", "alpha"} <= choices.keys()


@pytest.mark.parametrize("experiment", experiments().values())
def test_every_key_of_a_table_of_settings_names_something(experiment):
    """A layer or what else names a cell; a misspelt layer would lose its learning rate, and with it its trials."""
    budgets = [
        (cls, experiment.budget(profile, name))
        for profile in PROFILES
        for name, cls in experiment.trial_types.items()
        if experiment.has(profile, name)
    ]
    named = {str(value) for cls, own in budgets for name in cls.cell_fields() for value in leaves(own[name])}
    tables = [choice["value"] for choice in experiment.choices.values()]
    tables += [value for _, own in budgets for value in own.values()]
    assert {key for table in tables for key in keys(table)} <= {*experiment.layers, *named, "otherwise"}


def keys(value: Any) -> set[str]:
    """Of a table and of those in it."""
    return value.keys() | {key for entry in value.values() for key in keys(entry)} if isinstance(value, dict) else set()


def leaves(value: Any) -> list[Any]:
    """What the lists in a table hold."""
    return [leaf for entry in value.values() for leaf in leaves(entry)] if isinstance(value, dict) else value


@pytest.mark.parametrize("profile", PROFILES)
def test_hyperparameters_are_the_choices_and_the_budget(profile):
    budget = experiments()["table1"].budget(profile, "table1")
    for trial in plan(profile, "table1", (FULL,)):
        layer, n, network = trial.cell
        choices = {name: choice["value"] for name, choice in experiments()["table1"].choices.items()}
        choices["learning_rate"] = budget.get("learning_rate", choices["learning_rate"])
        for name in ("widths", "bases", "pooled", "norm", "learning_rate"):
            choices[name] = choices[name].get(network) or choices[name]["otherwise"]
        rates = choices["learning_rate"]
        choices["learning_rate"] = rates[layer] if layer in rates else rates["otherwise"]
        steps = budget["steps"] if isinstance(budget["steps"], int) else budget["steps"][str(n)]
        own = {name: budget[name] for name in ("evaluations", "precision", "n_test") if name in budget} | {
            "steps": steps
        }
        settings = hyperparameters(trial)
        assert settings == choices | own
        assert json.loads(json.dumps(settings)) == settings


@ASKED
def test_every_trial_has_its_own_plain_settings(profile, experiment):
    for trial in plan(profile, experiment.name, experiment.trial.datasets):
        settings = hyperparameters(trial)
        assert settings.keys() >= {name for name, c in experiment.choices.items() if c.get("setting", True)}
        assert not any(isinstance(value, dict) for value in settings.values()), trial
        assert Recipe.of(settings, trial.seed).seed == trial.seed
    with pytest.raises(KeyError):
        Recipe.of({}, 0)


def test_settings_by_layer_and_by_source():
    rates = experiments()["table2"].choices["learning_rate"]["value"]
    scratch = {layer: hyperparameters(dataclasses.replace(FITTED, layer=layer)) for layer in Table2Trial.layers}
    for layer, settings in scratch.items():
        assert settings["learning_rate"] == (rates["source"]["scratch"] if layer == "source" else rates[layer])
        assert settings["widths"] == [16, 32, 64, 128, 128]
    assert scratch["source"]["resolution"] == 64
    for source, head in (("vgg16-flatten", (256, 4)), ("vgg16-255-average", (0, 1))):
        settings = hyperparameters(dataclasses.replace(FITTED, source=source))
        assert (settings["widths"], settings["resolution"]) == ([64, 128, 256, 512, 512], 128)
        assert (settings["hidden"], settings["grid"]) == head


def test_a_decision_about_the_plan_is_no_setting():
    """It may be taken, or changed, without any record being of other settings."""
    assert experiments()["table2"].choices["paper_like"]["setting"] is False
    assert "paper_like" not in hyperparameters(FITTED)


def test_what_is_named_counts_before_what_is_otherwise():
    value = {"ours": {"1000": 1, "otherwise": 2}, "otherwise": {"pooled": 3, "otherwise": 4}}
    cells = [("ours", 1000, "pooled"), ("ours", 5000, "pooled"), ("dau", 1000, "pooled"), ("dau", 1000, "unpooled")]
    assert [entry_of("it", value, cell) for cell in cells] == [1, 2, 3, 4]


def test_a_size_without_a_budget():
    message = "steps has no entry for ours-few 1234 unpooled, only for 1000, 5000, 10000, 30000, 60000"
    path = re.escape(str(experiments()["table1"].file("profiles.toml")))
    with pytest.raises(FolderError, match=f"^{path}: {message}; mend the file$"):
        hyperparameters(Table1Trial(layer="ours-few", n_train=1234, profile="paper", dataset=FULL))


@pytest.mark.parametrize("search", [cls for name, cls in asked_by("paper").items() if issubclass(cls, Search)])
def test_a_search_has_the_settings_of_its_table(search):
    table = experiments()[search.belongs_to].trial
    for trial in plan("paper", search.experiment, search.datasets[:1])[::17]:
        assert isinstance(trial, Search)
        if chosen_rate(trial) is None:
            continue  # not part of the table yet
        settings = hyperparameters(trial)
        names = [f.name for f in dataclasses.fields(table)]
        of_table = hyperparameters(table(**{name: getattr(trial, name) for name in names}))
        differing = {name for name in settings if settings[name] != of_table.get(name)}
        assert differing <= {"learning_rate", "steps", "evaluations", "validation"}
        assert settings["learning_rate"] == trial.learning_rate
        assert of_table["learning_rate"] == chosen_rate(trial)
        assert settings.keys() - of_table.keys() <= {"validation"}


def test_the_networks_have_their_own_settings():
    settings = {
        network: hyperparameters(
            Table1Trial(layer="ours", n_train=1000, network=network, profile="paper", dataset=FULL)
        )
        for network in Table1Trial.networks
    }
    assert (settings["unpooled"]["widths"], settings["pooled"]["widths"]) == ([16, 16, 16, 32], [16, 32, 64, 64])
    assert [4 * b for b in settings["pooled"]["bases"]] == settings["pooled"]["widths"]
    assert {name: (s["pooled"], s["norm"]) for name, s in settings.items()} == {
        "unpooled": (False, "beta"),
        "pooled": (True, "beta"),
        "batch-norm": (False, "batch"),
    }


def test_a_fixed_choice_refuses_another_value():
    check_fixed({"input": "standardised", "more": 1}, {"input": "standardised"})
    with pytest.raises(ValueError, match=r"^input must be 'standardised', got 'raw'$"):
        check_fixed({"input": "raw"}, {"input": "standardised"})


def test_the_committed_record_was_made_with_the_present_settings():
    """Of every trial, field for field and in this order; and each record lies where its trial says."""
    folder = committed_record()
    assert folder is not None
    count = 0
    for path, record in every_record(folder):
        trial = trial_of(record["trial"])
        assert trial.record_path(folder) == path
        assert list(trial.describe().items()) == list(record["trial"].items())
        assert list(hyperparameters(trial).items()) == list(record["hyperparameters"].items()), path
        count += 1
    assert count > 0


@pytest.mark.parametrize(
    ("experiment", "dataset", "layer", "cell"),
    [
        ("table1", SAMPLE, "ours", {"n_train": 1000}),
        ("ablations", SAMPLE, "ours", {"n_train": 1000}),
        ("scale", SAMPLE, "ours", {"n_train": 5000}),
        ("table3", "nuclei-synthetic", "unet", {"split": "tile"}),
    ],
)
def test_a_small_budget_tests_on_few(tmp_path, experiment, dataset, layer, cell):
    trial = experiments()[experiment].trial(layer=layer, dataset=dataset, profile="quick", **cell)
    settings = hyperparameters(trial)
    assert settings["n_test"] <= 1000
    workplace = Workplace(torch.device("cpu"), tmp_path, trial.record_path(tmp_path))
    task = experiments()[experiment].prepare(trial, settings | {"n_test": 7}, workplace)
    assert task.data["n_test"] == 7
