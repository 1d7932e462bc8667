"""What counts as a block, and which blocks are averaged."""

import math
from itertools import chain, combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from invented import FULL, SAMPLE, record, runs_of
from scipy import stats

from gdlayer.report.blocks import Estimate, blocks_of, estimate, typical_variance
from gdlayer.report.cells import per_trial
from gdlayer.report.differences import typical
from gdlayer.trials.registry import experiments

TABLE1, TABLE2, TABLE3, *_ = experiments().values()
ROW = {"n_train": 1000, "network": "unpooled", "metric": "test_accuracy"}
KIND = (FULL, "paper", "fp32", "cpu")


def estimate_of(*records: list[dict[str, Any]]) -> Estimate:
    found = estimate(blocks_of(per_trial(chain(*records), TABLE1), ROW), "ours", "dau")
    assert found is not None
    return found


def test_differences_are_made_seed_by_seed():
    found = estimate_of(runs_of("ours", 80, 90, 70), runs_of("dau", 79, 88, 69.5))
    assert (found.difference.blocks, found.kind, found.left_out) == (3, KIND, 0)
    assert found.difference.mean == pytest.approx((1 + 2 + 0.5) / 3)
    half = 4.302653 * np.std([1, 2, 0.5], ddof=1) / math.sqrt(3)  # t of 2 degrees of freedom, from a printed table
    mean = found.difference.mean
    assert found.difference.interval == pytest.approx((mean - half, mean + half), abs=1e-5)


def test_a_block_is_of_one_machine():
    """The seed alone is not enough: models of CPU round differently."""
    ours = [record("ours", seed=seed, accuracy=0.9) for seed in range(4)]
    dau = [record("dau", seed=seed, accuracy=0.8) for seed in range(4)]
    for made in (*ours, *dau):
        made["machine"]["name"] = "one CPU"
    dau[3]["machine"]["name"] = "another CPU"
    found = estimate_of(ours, dau)
    assert (found.difference.blocks, found.left_out) == (3, 0)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=6))
def test_two_layers_give_the_paired_t_test(pairs):
    one, other = zip(*pairs, strict=True)
    found = estimate_of(runs_of("ours", *(100 * v for v in one)), runs_of("dau", *(100 * v for v in other)))
    differences = 100 * (np.array(one) - np.array(other))
    if differences.std() > 1e-9:
        interval = stats.ttest_rel(one, other).confidence_interval(0.95)
        assert found.difference.interval == pytest.approx((100 * interval.low, 100 * interval.high), abs=1e-6)
    assert found.difference.mean == pytest.approx(differences.mean(), abs=1e-9)


def test_the_typical_variance_is_of_all_pairs_of_all_rows():
    rows = {
        1000: {"ours": (80, 81, 82.1), "dau": (79, 80.1, 81), "rfnn": (77.1, 78, 79)},
        5000: {"ours": (1, 2), "dau": (1, 3)},
    }
    made = [r for n, layers in rows.items() for layer, percent in layers.items() for r in runs_of(layer, *percent, n=n)]
    other = runs_of("n-jet", 50, 60, network="pooled")
    found = typical_variance(per_trial([*made, *other], TABLE1), "test_accuracy", ("n_train", "network"))
    pairs = [(rows[n][a], rows[n][b]) for n in rows for a, b in combinations(rows[n], 2)]
    assert found == typical((float(np.var(np.subtract(a, b), ddof=1)), len(a) - 1.0) for a, b in pairs)


def test_only_seeds_that_both_have_count():
    found = estimate_of(runs_of("ours", 80, 90, 70), runs_of("dau", 88, 69, 50, first=1))
    assert (found.difference.blocks, found.left_out) == (2, 0)
    assert found.difference.mean == pytest.approx(1.5)
    for dau in (runs_of("dau", 80, first=1), []):
        assert estimate(blocks_of(per_trial([*runs_of("ours", 80), *dau], TABLE1), ROW), "ours", "dau") is None
    assert estimate(blocks_of(per_trial([], TABLE1), ROW), "ours", "dau") is None


@pytest.mark.parametrize(
    ("name", "other"), [("device", "cuda"), ("precision", "bf16"), ("profile", "quick"), ("dataset", SAMPLE)]
)
def test_blocks_of_different_kinds_are_not_averaged(name, other):
    """Nor is a block made of two kinds: the kind that has the most counts, the others are told."""
    ours = [*runs_of("ours", 80, 82), *runs_of("ours", 60, 60, 60, first=2, **{name: other})]
    found = estimate_of(ours, [*runs_of("dau", 79, 79), *runs_of("dau", 50, 50, 50, first=2, **{name: other})])
    assert (found.difference.mean, found.difference.blocks, found.left_out) == (pytest.approx(10), 3, 2)
    assert other in found.kind
    mixed = [*runs_of("ours", 80), *runs_of("dau", 79, **{name: other})]
    assert estimate(blocks_of(per_trial(mixed, TABLE1), ROW), "ours", "dau") is None


def test_another_column_can_be_compared():
    trials = per_trial([*runs_of("ours", 80, 82, precision="bf16"), *runs_of("ours", 81, 82)], TABLE1)
    blocks = blocks_of(trials, {**ROW, "layer": "ours"}, "precision", ("dataset", "profile", "device"))
    found = estimate(blocks, "bf16", "fp32")
    assert found is not None
    assert (found.difference.mean, found.difference.blocks) == (pytest.approx(-0.5), 2)
