"""The paper's claims: what counts as a pair, and the rules of the verdicts."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from invented import FULL, SAMPLE, record, runs_of
from scipy import stats

from gdlayer.experiments import experiments
from gdlayer.report import claims, judgements
from gdlayer.report.cells import per_trial
from gdlayer.report.claims import (
    FAILS,
    HOLDS,
    UNDECIDED,
    Claim,
    Estimate,
    Judged,
    Row,
    compare,
    judge,
    judge_all,
    judge_count,
    paired,
    signed,
)
from gdlayer.report.loaded import load

TABLE1, TABLE2, TABLE3, *_ = experiments().values()
OURS = {"layer": "ours", "n_train": 1000, "network": "unpooled", "metric": "test_accuracy"}
DAU = {**OURS, "layer": "dau"}
KIND = (FULL, "paper", "fp32", "cpu")


def estimate_of(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> Estimate | None:
    return paired(per_trial([*one, *other], TABLE1), OURS, DAU)


# Pairs


def test_differences_are_paired_over_seeds():
    found = estimate_of(runs_of("ours", 80, 90, 70), runs_of("dau", 79, 88, 69.5))
    assert found is not None
    assert (found.seeds, found.kind, found.left_out) == (3, KIND, 0)
    assert found.mean == pytest.approx((1 + 2 + 0.5) / 3)
    half = 4.302653 * np.std([1, 2, 0.5], ddof=1) / math.sqrt(3)  # t of 2 degrees of freedom, from a printed table
    assert found.low == pytest.approx(found.mean - half, abs=1e-5)
    assert found.high == pytest.approx(found.mean + half, abs=1e-5)


def test_a_pair_is_of_one_machine():
    """The seed alone is not enough: models of CPU round differently."""
    ours = [record("ours", seed=seed, accuracy=0.9) for seed in range(4)]
    dau = [record("dau", seed=seed, accuracy=0.8) for seed in range(4)]
    for made in (*ours, *dau):
        made["machine"]["name"] = "one CPU"
    dau[3]["machine"]["name"] = "another CPU"
    found = estimate_of(ours, dau)
    assert found is not None
    assert (found.seeds, found.left_out) == (3, 0)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=6))
def test_the_interval_is_that_of_the_paired_t_test(pairs):
    one, other = zip(*pairs, strict=True)
    found = estimate_of(runs_of("ours", *(100 * v for v in one)), runs_of("dau", *(100 * v for v in other)))
    assert found is not None
    differences = 100 * (np.array(one) - np.array(other))
    if differences.std() > 1e-9:
        interval = stats.ttest_rel(one, other).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((100 * interval.low, 100 * interval.high), abs=1e-6)
    assert found.mean == pytest.approx(differences.mean(), abs=1e-9)


def test_only_shared_seeds_are_pairs():
    found = estimate_of(runs_of("ours", 80, 90, 70), runs_of("dau", 88, 69, 50, first=1))
    assert found is not None
    assert (found.seeds, found.left_out) == (2, 0)
    assert found.mean == pytest.approx(1.5)
    assert estimate_of(runs_of("ours", 80), runs_of("dau", 80, first=1)) is None
    assert estimate_of(runs_of("ours", 80), []) is None
    single = estimate_of(runs_of("ours", 80), runs_of("dau", 79))
    assert single is not None
    assert (single.mean, single.seeds) == (pytest.approx(1), 1)
    assert math.isnan(single.low)
    assert math.isnan(single.high)


@pytest.mark.parametrize(
    ("name", "other"), [("device", "cuda"), ("precision", "bf16"), ("profile", "quick"), ("dataset", SAMPLE)]
)
def test_pairs_of_different_kinds_are_not_averaged(name, other):
    """Nor is a pair made of two kinds: the pairs of the kind that has the most count, the others are told."""
    ours = [*runs_of("ours", 80, 82), *runs_of("ours", 60, 60, 60, first=2, **{name: other})]
    found = estimate_of(ours, [*runs_of("dau", 79, 79), *runs_of("dau", 50, 50, 50, first=2, **{name: other})])
    assert found is not None
    assert (found.mean, found.seeds, found.left_out) == (pytest.approx(10), 3, 2)
    assert other in found.kind
    assert estimate_of(runs_of("ours", 80), runs_of("dau", 79, **{name: other})) is None


def test_what_is_alike_can_be_told():
    trials = per_trial([*runs_of("ours", 80, 82, precision="bf16"), *runs_of("ours", 81, 82)], TABLE1)
    selectors = {**OURS, "precision": "bf16"}, {**OURS, "precision": "fp32"}
    assert paired(trials, *selectors) is None
    found = paired(trials, *selectors, alike=("dataset", "profile", "device"))
    assert found is not None
    assert (found.mean, found.seeds) == (pytest.approx(-0.5), 2)


# Verdicts


def made(low: float, high: float, seeds: int = 5, kind: tuple[str, ...] = KIND) -> Estimate:
    return Estimate((low + high) / 2, low, high, seeds, kind, 0)


@pytest.mark.parametrize(
    ("low", "high", "margin", "verdict"),
    [
        (0.1, 0.5, 0.0, HOLDS),
        (-0.5, -0.1, 0.0, FAILS),
        (-0.1, 0.5, 0.0, UNDECIDED),
        (0.0, 0.5, 0.0, UNDECIDED),
        (-0.5, 0.0, 0.0, UNDECIDED),
        (-0.5, -0.1, 1.0, HOLDS),
        (-0.9, 3.0, 1.0, HOLDS),
        (-1.5, 0.5, 1.0, UNDECIDED),
        (-1.5, -1.1, 1.0, FAILS),
        (-1.0, 0.0, 1.0, UNDECIDED),
        (0.2, 0.2, 0.0, HOLDS),
    ],
)
def test_a_verdict_needs_the_whole_interval_on_one_side(low, high, margin, verdict):
    judged = judge(made(low, high), margin)
    assert judged.verdict == verdict
    assert judged.reason == ("the interval reaches both sides" if verdict == UNDECIDED else "")


@pytest.mark.parametrize(
    ("estimate", "reason"),
    [
        (None, "not run yet"),
        (made(1, 2, seeds=2), "fewer than 3 seeds"),
        (Estimate(1, math.nan, math.nan, 1, KIND, 0), "fewer than 3 seeds"),
        (made(1, 2, kind=(FULL, "quick", "fp32", "cpu")), "reduced budget"),
        (made(1, 2, kind=(SAMPLE, "paper", "fp32", "cpu")), "embedded stand-in"),
        (made(1, 2, kind=(SAMPLE, "smoke", "fp32", "cpu")), "embedded stand-in"),
    ],
)
def test_what_decides_nothing(estimate, reason):
    assert judge(estimate) == Judged(UNDECIDED, reason, estimate, "")


def test_three_seeds_are_enough():
    assert judge(made(1, 2, seeds=3)).verdict == HOLDS


def test_a_claim_on_several_fails_if_one_fails_and_holds_if_all_hold():
    well, better = judge(made(0.1, 0.5), against="a"), judge(made(0.2, 0.9), against="b")
    badly, worse = judge(made(-0.5, -0.1), against="c"), judge(made(-2.5, -2), against="d")
    open_, none = judge(made(-9, 9), against="e"), judge(None, against="f")
    assert judge_all([better, well]) == well
    assert judge_all([well, badly, open_, worse, none]) == worse
    assert judge_all([well, open_, better]) == open_
    assert judge_all([well, none]) == none
    assert judge_all([none, open_]) == open_
    assert judge_all([none]) == none


@pytest.mark.parametrize(
    ("share", "verdict", "reason"),
    [
        (0.25, HOLDS, "counted"),
        (0.2603, HOLDS, "counted"),
        (0.28, FAILS, "counted"),
        (0.2, FAILS, "counted"),
        (None, UNDECIDED, "not run yet"),
    ],
)
def test_counted_shares_may_differ_by_a_tenth(share, verdict, reason):
    assert judge_count(share, 0.25) == (verdict, reason)


@pytest.mark.parametrize(
    ("points", "text"), [(0.44, "+0.4"), (-1.25, "−1.2"), (0.04, "0.0"), (-0.04, "0.0"), (0.06, "+0.1"), (10, "+10.0")]
)
def test_signed(points, text):
    assert signed(points) == text


def test_compare():
    trials = per_trial(
        [
            *runs_of("ours", 80, 80, 80.3),
            *runs_of("dau", 79, 79.5, 79),
            *runs_of("rfnn", 70, 70, 70, device="cuda"),
            *runs_of("free-form", 77, 77, 77),
        ],
        TABLE1,
    )
    cell = {name: {**OURS, "layer": name} for name in ("rfnn", "dau", "free-form")}
    judged, paper, here = compare(trials, TABLE1, OURS, {"D": cell["dau"], "F": cell["free-form"]})
    assert (judged.verdict, judged.against, paper) == (UNDECIDED, "D", "+0.6 (D)")
    assert here == "+0.9 [−0.1, +1.9] (D)"
    judged, paper, here = compare(trials, TABLE1, OURS, {"F": cell["free-form"]}, margin=1)
    assert (judged.verdict, paper, here) == (HOLDS, "+1.7", "+3.1 [+2.7, +3.5]")
    judged, paper, here = compare(trials, TABLE1, OURS, {"R": cell["rfnn"]})
    assert (judged.reason, paper, here) == ("not run yet", "+1.1", "—")
    assert compare(trials, TABLE1, OURS, {"N": {**OURS, "layer": "n-jet"}})[1] == "—"


def test_tally():
    rows = [Row("", "", "", verdict, "") for verdict in (HOLDS, UNDECIDED, HOLDS)]
    assert claims.tally(Claim("higher", "", rows)) == "holds 2, undecided 1"


# The paper's sentences


@pytest.mark.parametrize("experiment", experiments())
def test_every_claim_is_judged_once_and_every_judgement_has_its_sentence(experiment, tmp_path):
    loaded = load(tmp_path, "paper", experiment, experiments()[experiment].trial.datasets[0], tmp_path)
    judged = [claim.name for claim in judgements.judged_claims(loaded)]
    assert sorted(judged) == sorted(experiments()[experiment].quotes)
    for found in experiments()[experiment].quotes.values():
        for quote in found:
            assert quote.text
            assert quote.where.startswith(("abstract", "section 3", "conclusion", "caption", "Table"))


def test_numbers_that_the_paper_prints_with_its_claims():
    assert TABLE1.printed("third-less") == pytest.approx(1 / 3, abs=1e-4)
    assert TABLE3.printed("quarter") == 0.25
    assert TABLE3.printed("count-unet") == 97202
    assert TABLE3.printed("count-gaussian-unet") == 25298
