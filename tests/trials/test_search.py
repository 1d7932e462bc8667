"""Learning rates: every layer gets the same budget, and the choices are the best of the recorded search."""

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import pytest
from invented import TABLE1, finish, sought

from gdlayer.experiments import __main__ as cli
from gdlayer.experiments.table1.trial import Table1Trial
from gdlayer.trials.plan import asked_by, plan
from gdlayer.trials.provenance import committed_record
from gdlayer.trials.record import ResultsError
from gdlayer.trials.registry import experiments
from gdlayer.trials.search import as_table, best_rates, chosen_rates, rates_tried, validation_means
from gdlayer.trials.settings import entry_of, find_entry, hyperparameters
from gdlayer.trials.trial import Search

FIRST_ROUNDS = [experiment.searches[0] for experiment in experiments().values() if experiment.searches]
LAST_ROUNDS = [e.searches[-1] for e in experiments().values() if e.searches and e.has("paper", e.name)]


def planned(profile: str, search: type[Search], dataset: str) -> list[Search]:
    return [t for t in plan(profile, search.experiment, (dataset,)) if isinstance(t, Search)]


@pytest.mark.parametrize(
    ("profile", "search"),
    [(p, cls) for p in ("smoke", "paper") for cls in FIRST_ROUNDS if cls.experiment in asked_by(p)],
)
def test_every_layer_gets_the_same_budget(profile, search):
    """In each column and from one kind of start: as many rates, seeds and steps; what is asked for is all sought."""
    trials = planned(profile, search, search.datasets[0])
    budget = experiments()[search.belongs_to].budget(profile, search.experiment)
    subjects = rates_tried(trials)
    assert {subject[0] for subject in subjects} == set(search.layers)
    columns = [name for name in search.cell_fields() if name != "learning_rate"]
    cells = {(x, *rest) for x in search.layers for rest in product(*(entry_of(n, budget[n], (x,)) for n in columns))}
    assert len(subjects) == sum(find_entry(budget["learning_rate"], cell) is not None for cell in cells)
    layers, budgets = experiments()[search.belongs_to].layers, defaultdict(set)
    for subject in subjects:
        own = [t for t in trials if t.short_cell[:-1] == subject]
        rates = entry_of("learning_rate", budget["learning_rate"], own[0].cell)
        assert rates == sorted(set(rates))
        tried = sorted((t.learning_rate, t.seed) for t in own)
        seeds = entry_of("seeds", budget["seeds"], own[0].cell)
        assert tried == [(rate, seed) for rate in rates for seed in range(seeds)]
        if subject[0] != "source":
            settings = {json.dumps(hyperparameters(t) | {"learning_rate": None}) for t in own}
            start = getattr(layers[subject[0]], "start", "")
            budgets[start, *own[0].cell[1:-1]] |= {(len(rates), one) for one in settings}
    assert all(len(found) == 1 for found in budgets.values()), budgets


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


def test_of_equally_good_rates_the_lowest_is_chosen(results):
    """With four seeds: within one standard error of the difference to the best, seed by seed."""
    rates, trials = (0.001, 0.01, 0.1), []
    values = {
        "free-form": ([0.58, 0.69, 0.79, 0.90], [0.60, 0.70, 0.80, 0.90], [0.61, 0.69, 0.80, 0.91]),  # -1.25 +- 0.5
        "ours": ([0.58, 0.71, 0.78, 0.92], [0.60, 0.70, 0.80, 0.90], [0.61, 0.69, 0.80, 0.91]),  # -0.5 +- 0.87
    }
    for layer, found in values.items():
        for rate, of_seeds in zip(rates, found, strict=True):
            for seed, value in enumerate(of_seeds):
                trials.append(sought(layer, rate, seed))
                finish(trials[-1], results, metrics={"validation_accuracy": value})
    assert best_rates(trials, results) == {("free-form", 1000): 0.01, ("ours", 1000): 0.001}


def test_networks_are_sought_apart(results):
    trials = [sought("ours", rate, network=network) for network in Table1Trial.networks for rate in (0.01, 0.02)]
    for trial in trials:
        value = 0.6 if (trial.learning_rate == 0.02) == (trial.network == "unpooled") else 0.5
        finish(trial, results, metrics={"validation_accuracy": value})
    assert best_rates(trials, results) == {
        ("ours", 1000): 0.02,
        **{("ours", 1000, network): 0.01 for network in Table1Trial.networks[1:]},
    }
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
        (layer, 1000): experiments()["table1"].choices["learning_rate"]["value"]["unpooled"][layer]
        for layer in ("free-form", "ours", "dau")
    }
    notes = [
        "" if own["free-form", 1000] == 0.01 else f" the settings have {own['free-form', 1000]:g}",
        f" best at the edge of the rates; the settings have {own['ours', 1000]:g}",
    ]
    assert as_table(trials, results).splitlines() == [
        "validation accuracy in percent, mean over 2 seeds, by learning rate",
        "                  0.001      0.01       0.1 ",
        f"free-form 1000    50.00     55.00*    40.00 {notes[0]}".rstrip(),
        f"ours 1000         50.00     60.00     65.00*{notes[1]}",
        "dau 1000          50.00     60.00         -",
    ]


def test_a_layer_needs_no_rate_to_have_one_found(results, monkeypatch, capsys):
    monkeypatch.delitem(TABLE1.choices["learning_rate"]["value"]["unpooled"], "dau")
    monkeypatch.delitem(TABLE1.choices["learning_rate"]["value"]["unpooled"], "otherwise")
    trials = accuracies(results, {"dau": [[0.5, 0.5], [0.6, 0.6], [0.5, 0.5]]})
    assert chosen_rates(trials) == {}
    assert as_table(trials, results).endswith("60.00*    50.00  no rate chosen yet")
    # until then no command is silent about it
    assert cli.main(["plan", "table1", "--profile=smoke"]) == 0
    assert capsys.readouterr().err.startswith("note: profile 'smoke' has no table1 of dau")
    assert cli.main(["cell", "table1", "--profile=smoke", "--layer=dau", "--n-train=1000"]) == 2
    problem = "learning_rate.unpooled has no entry for dau 1000 unpooled, only for free-form, rfnn, ours, "
    assert f"choices.toml: {problem}" in capsys.readouterr().err


def test_a_record_of_another_budget_is_not_compared(results):
    trials = accuracies(results, {"ours": [[0.5, 0.5], [0.6, 0.6], [0.6, 0.6]]})
    finish(trials[2], results, hyperparameters=hyperparameters(trials[2]) | {"steps": 99})
    path = trials[2].record_path(results)
    with pytest.raises(
        ResultsError, match=f"^{re.escape(str(path))} was made with other settings \\(steps was 99, is 4\\)"
    ):
        best_rates(trials, results)


@pytest.mark.parametrize("search", LAST_ROUNDS)
def test_the_choices_are_the_best_of_the_committed_search(search):
    record = committed_record()
    assert record is not None
    for dataset in search.datasets:
        trials = planned("paper", search, dataset)
        best, chosen = best_rates(trials, record), chosen_rates(trials)
        assert {subject: chosen[subject] for subject in best} == best, as_table(trials, record)
