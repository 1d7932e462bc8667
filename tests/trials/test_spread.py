"""How far two runs may lie apart, by the seeds of a record."""

import dataclasses
from math import sqrt

import pytest
from invented import made_of, smoke

from gdlayer.trials.spread import Spread, agreement


def runs(layer: str, *values: float) -> list[dict]:
    return [made_of(smoke(layer, seed), metrics={"test_accuracy": value}) for seed, value in enumerate(values)]


def test_the_spread_is_of_the_cell_or_else_of_all_that_have_seeds():
    records = [*runs("ours", 0.4, 0.5, 0.6), *runs("dau", 0.5, 0.7), *runs("rfnn", 0.5)]
    spread = Spread(records)
    own, pooled = (
        0.1,
        sqrt((2 * 0.1**2 + 2 * 0.1**2) / 3),
    )  # dau has a deviation of 0.1 sqrt(2), by one degree of freedom
    for layer, deviation in (("ours", own), ("dau", pooled), ("rfnn", pooled)):
        assert spread.of(smoke(layer, seed=7), "test_accuracy") == pytest.approx(2 * sqrt(2) * deviation)
    assert spread.of(smoke("ours"), "test_accuracy", 4) == pytest.approx(2 * own * sqrt(1 + 1 / 4))
    assert spread.of(smoke("ours"), "dice") is None
    assert spread.of(dataclasses.replace(smoke("ours"), dataset="fashion-mnist"), "test_accuracy") is None
    assert Spread(runs("ours", 0.5)).of(smoke("ours"), "test_accuracy") is None


def test_agreement_counts_trials_of_the_same_seed():
    record = [*runs("ours", 0.4, 0.5, 0.6), *runs("rfnn", 0.5)]  # within 0.28
    own = [*runs("ours", 0.65, 0.5), *runs("rfnn", 0.9), *runs("dau", 0.5)]
    assert agreement(own, record) == (2, 3)
    assert agreement(own, runs("ours", 0.4)) == (0, 0)
