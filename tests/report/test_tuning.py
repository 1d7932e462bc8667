"""The search for the learning rates, as it is shown."""

from pathlib import Path
from typing import Any

import pytest
from invented import FULL, Page, nets, record, save

from gdlayer.experiments.table1.trial import Table1Search, Table1Trial
from gdlayer.experiments.table3.trial import Table3Trial
from gdlayer.report import judgements, tuning
from gdlayer.report.loaded import load
from gdlayer.trials.plan import plan
from gdlayer.trials.record import ResultsError
from gdlayer.trials.registry import experiments
from gdlayer.trials.settings import chosen_rate, hyperparameters

TABLE1, TABLE2, TABLE3, *_ = experiments().values()


def search(folder: Path, experiment: str, score: Any, skip: Any = lambda trial: False) -> None:
    """Invented records of a whole search; ``score(trial)`` is the metric."""
    cls = experiments()[experiment].searches[0]
    dataset = {"table1": FULL, "table2": "cats-vs-dogs-200", "table3": "monuseg-crops"}[experiment]
    for trial in plan("paper", cls.experiment, (dataset,)):
        if not skip(trial):
            made_up = record() | {
                "trial": trial.describe(),
                "hyperparameters": hyperparameters(trial),
                "metrics": {cls.metric: score(trial)},
            }
            save(folder, made_up)


def chosen(layer: str) -> float:
    trial = next(t for t in tuning.searched("table3-search", "monuseg-crops") if t.layer == layer)
    rate = chosen_rate(trial)
    assert rate is not None
    return rate


def test_the_search_is_shown(tmp_path):
    search(tmp_path, "table3", lambda trial: 0.9 - abs(trial.learning_rate - chosen(trial.layer)) + trial.seed / 50)
    shown = Page(tuning.render(TABLE3, tmp_path))
    rates = sorted({trial.learning_rate for trial in tuning.searched("table3-search", "monuseg-crops")})
    assert shown.rows[0] == ["learning rate", *(f"{rate:g}" for rate in rates), ""]
    for layer, row in zip(Table3Trial.layers, shown.rows[1:], strict=True):
        assert row[0] == TABLE3.layers[layer].title
        expected = [94 - 100 * abs(rate - chosen(layer)) for rate in rates]
        assert [float(value) for value in row[1:-1]] == pytest.approx(expected, abs=0.051)
        assert row[-1] == ""
    assert shown.text.count("Not run yet") == 0
    assert "Validation pixel accuracy in percent on monuseg-crops, mean over 5 seeds" in shown.text
    html = tuning.render(TABLE3, tmp_path)
    assert html.count("<b>94.0</b>") == 4
    assert tuning.at_the_edge(TABLE3, tmp_path) == set()


def test_an_unfinished_search_and_a_choice_at_odds_with_it_are_told(tmp_path, monkeypatch):
    def skip(trial: Any) -> bool:
        return trial.layer == "unet-bn" and (trial.seed, trial.learning_rate) == (1, 0.01)

    monkeypatch.setattr(tuning, "decides", lambda trials: True)  # as if there were no second round
    search(tmp_path, "table3", lambda trial: trial.learning_rate, skip)
    rows = Page(tuning.render(TABLE3, tmp_path)).rows
    highest = rows[0][-2]
    assert rows[1][-1] == f"best is {highest}, chosen is {chosen('unet'):g}"
    assert rows[3][rows[0].index("0.01")] == "—"
    assert rows[3][-1] == "not finished"
    text = Page(tuning.render(TABLE3, tmp_path)).text
    assert "Not run yet: 1 of " in text
    monkeypatch.setitem(TABLE3._profiles["paper"], "learning_rate", dict.fromkeys(Table3Trial.layers, 0.0005))
    rows = Page(tuning.render(TABLE3, tmp_path)).rows
    assert rows[1][-1] == f"at the edge of the rates; best is {highest}, chosen is 0.0005"
    assert tuning.at_the_edge(TABLE3, tmp_path) == set(Table3Trial.layers)
    save(tmp_path, *nets(0, 0), *nets(0, 0, profile="quick"))
    quick = load(tmp_path, "quick", "table3", "tnbc-derived", tmp_path)
    assert "tuned" not in judgements.render(quick)  # its rates are not from this search
    loaded = load(tmp_path, "paper", "table3", "tnbc-derived", tmp_path)
    named = ", ".join(layer.title for layer in TABLE3.layers.values())
    assert f"perhaps not at their best: {named}." in judgements.render(loaded)


def test_networks_are_told_apart_in_the_search(tmp_path):
    search(tmp_path, "table1", lambda trial: 0.5, lambda trial: trial.seed or trial.layer != "ours")
    rows = Page(tuning.render(TABLE1, tmp_path)).rows
    asked = {
        (trial.network, trial.layer)
        for trial in tuning.searched("table1-search", FULL)
        if isinstance(trial, Table1Search)
    }
    assert {network for network, _ in asked} == set(Table1Trial.networks)
    assert [row[0] for row in rows[1:]] == [
        row.title + ("" if network == "unpooled" else f", {network}")
        for network in Table1Trial.networks
        for name, row in TABLE1.layers.items()
        if (network, name) in asked
    ]


@pytest.mark.parametrize("experiment", experiments())
def test_without_a_search(tmp_path, experiment):
    assert "not recorded yet" in tuning.render(experiments()[experiment], tmp_path)
    assert tuning.at_the_edge(experiments()[experiment], tmp_path) is None


def test_a_search_with_other_settings_is_refused(tmp_path):
    search(tmp_path, "table3", lambda trial: 0.5)
    path = next(tmp_path.rglob("*.json"))
    path.write_text(path.read_text().replace('"batch_size": 8', '"batch_size": 9'))
    with pytest.raises(ResultsError, match="batch_size was 9, is 8"):
        tuning.render(TABLE3, tmp_path)
