"""What every chapter shows besides its table: choices, where the records come from, what they cost."""

import re
from typing import Any

import pytest
from invented import Page, loaded_of, net, of_plan, record, save

from gdlayer.experiments.table2.sources import SOURCES
from gdlayer.report.cells import summarise
from gdlayer.report.chapter import choices_table, costs, outdated, runs
from gdlayer.report.loaded import Loaded, load
from gdlayer.trials.experiment import Experiment
from gdlayer.trials.registry import experiments

TABLE1, TABLE2, TABLE3, *_ = experiments().values()


def of_profile(experiment: Experiment, profile: str) -> Loaded:
    return loaded_of(summarise([], experiment), experiment=experiment)._replace(profile=profile)


@pytest.mark.parametrize("experiment", experiments())
def test_choices_table(experiment):
    head, rule, *rows = choices_table(of_profile(experiments()[experiment], "smoke")).splitlines()
    assert (head, rule) == ("| choice | value | reason |", "|---|---|---|")
    choices = experiments()[experiment].choices
    for (name, choice), row in zip(choices.items(), rows, strict=True):
        first, value, reason = row.removeprefix("| ").removesuffix(" |").split(" | ")
        assert first == name.replace("_", " ")
        assert reason == choice["reason"]
        assert not set("{}[]'") & set(value)
        numbers = re.findall(r"(?<![\w.])\d+\.?\d*(?![\w.])", str(choice["value"]))
        assert all(number in value for number in numbers), row


def test_choices_of_layers_and_sources_in_words():
    text = choices_table(of_profile(TABLE2, "smoke"))
    assert (
        "| widths | squeezenet as published; scratch 16, 32, 64, 128, 128; otherwise 64, 128, 256, 512, 512 |" in text
    )
    assert "; trains-none none; trains-sigma sigma; " in choices_table(of_profile(experiments()["ablations"], "smoke"))
    rate = TABLE2.choices["learning_rate"]["value"]
    by_source = "; ".join(f"{source} {value}" for source, value in rate["source"].items())
    assert list(rate["source"]) == list(SOURCES)
    assert f"| learning rate | source ({by_source}); free-form " in text


def test_a_choice_of_the_profile_comes_first(monkeypatch):
    monkeypatch.setitem(TABLE3._profiles["quick"], "batch_size", 77)
    assert "| batch size | 77 | Not printed. |" in choices_table(of_profile(TABLE3, "quick"))
    assert "| batch size | 8 | Not printed. |" in choices_table(of_profile(TABLE3, "smoke"))


def test_runs_have_a_row_a_kind(tmp_path):
    def made(seed: int, **changes: Any) -> dict[str, Any]:
        told = {
            "data": {"name": "tnbc", "label": "TNBC & co"},
            "git": {"commit": "0123456789abcdef", "dirty": False},
            "versions": {"torch": "2.9"},
        }
        return net("unet", 0.5, seconds=1800.0, seed=seed, **(told | changes))

    other = made(2, git={"commit": None, "dirty": True}, data={"name": "tnbc"})
    save(tmp_path, made(0), made(1, git={"commit": "f" * 40, "dirty": False}), other)
    shown = Page(runs(load(tmp_path, "paper", "table3", "tnbc-derived", tmp_path)))
    assert shown.rows == [
        ["data", "profile", "machine", "precision", "torch", "commits", "trials", "hours"],
        ["TNBC & co", "paper", "a CPU, 1 thread", "fp32", "2.9", "0123456, fffffff", "2", "1.00"],
        ["tnbc", "paper", "a CPU, 1 thread", "fp32", "2.9", "None with changes", "1", "0.50"],
    ]
    steps = TABLE3.budget("paper", "table3")["steps"]
    assert "Profile paper: 3 of 40 trials have been run; the rest takes about " in shown.text
    assert f"of one core. Steps of training: {steps:,}." in shown.text
    empty = Page(runs(load(tmp_path, "quick", "table3", "tnbc-derived", tmp_path)))
    assert empty.rows == []
    assert "Profile quick: 0 of 8 trials have been run; the rest takes about " in empty.text


def test_steps_are_told_with_what_they_stand_under(tmp_path):
    """However deep the table of a profile is."""
    shown = Page(runs(load(tmp_path, "paper", "table2", "cats-vs-dogs-200", tmp_path)))
    steps = TABLE2.budget("paper", "table2")["steps"]
    for source in ("squeezenet", "otherwise"):
        for layer, count in steps[source].items():
            assert f"{count:,} ({source} {layer})" in shown.text


def test_settings_that_have_changed_since_are_told():
    current = of_plan("ours", 1000, 0)
    assert outdated([current]) == ""
    old = of_plan("ours", 1000, 1)
    old["hyperparameters"] = old["hyperparameters"] | {"learning_rate": 7.0}
    rate = current["hyperparameters"]["learning_rate"]
    told = Page(outdated([current, old, old | {}])).text.strip()
    expected = f"learning rate of ours was 7.0, is {rate} (2 trials)."
    assert told == f"Made with other settings than the present ones: {expected}"


def test_costs():
    records = [
        *(record("ours", 1000, s, seconds=10.0 + 2 * s) for s in range(2)),
        record("ours", 5000, seconds=1234.0),
        record("ours", 5000, 1, seconds=3.0, device="cuda"),
        record("dau", 1000, seconds=5.0, parameters=42010),
    ]
    rows = {name: {"layer": name} for name in ("ours", "dau", "rfnn")}
    shown = Page(costs(summarise(records, TABLE1), rows, {f"{n}": {"n_train": n} for n in (1000, 5000)}))
    assert shown.rows == [
        ["", "parameters", "1000", "5000"],
        ["ours", "12,810", "11", "1,234|3^a"],
        ["dau", "42,010", "5", "—"],
        ["rfnn", "—", "—", "—"],
    ]
    assert "made in fp32 on a CPU, fashion-mnist, profile paper. Otherwise: ^a fp32 on a GPU" in shown.text
    # once for all metrics
    cells = summarise([net("unet", 0.5, seconds=7.0)], TABLE3)
    given = loaded_of(cells, experiment=TABLE3)
    shown = Page(TABLE3.page.durations(given, dataset="tnbc-derived"))
    assert shown.rows[1] == ["U-net", "12,810", "7", "—"]
    assert "No trial has been run yet." in Page(TABLE3.page.durations(given, dataset="tnbc")).text
