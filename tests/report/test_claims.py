"""The paper's claims: what counts as a pair, the rules of the verdicts, and each claim by invented records."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from invented import FULL, SAMPLE, Page, net, record, save, trial_of, vgg
from matplotlib.colors import to_hex
from scipy import stats

from gdlayer.experiments.record import ResultsError
from gdlayer.experiments.trial import (
    EXPERIMENTS,
    SEARCHES,
    Table1Precision,
    Table1Trial,
    Table2Trial,
    Table3Trial,
    chosen_rate,
    hyperparameters,
    load_profile,
    plan,
)
from gdlayer.report import claims, judgements, overview, precision, table1, tuning
from gdlayer.report.cells import per_trial, published
from gdlayer.report.chapter import Loaded, load
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

SIZES = (1000, 5000, 10000, 30000, 60000)
OURS = {"layer": "ours", "n_train": 1000, "network": "unpooled", "metric": "test_accuracy"}
DAU = {**OURS, "layer": "dau"}
KIND = (FULL, "paper", "fp32", "cpu")


@pytest.fixture(autouse=True)
def figures() -> Iterator[None]:
    """Draws nothing on a screen and leaves no figure open."""
    with mpl.rc_context({"backend": "agg"}):
        yield
        plt.close("all")


def estimate_of(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> Estimate | None:
    return paired(per_trial([*one, *other], "table1"), OURS, DAU)


def runs_of(layer: str, *percent: float, first: int = 0, **fields: Any) -> list[dict[str, Any]]:
    """A record a seed."""
    return [record(layer, seed=first + i, accuracy=p / 100, **fields) for i, p in enumerate(percent)]


# Pairs


def test_differences_are_paired_over_seeds():
    found = estimate_of(runs_of("ours", 80, 90, 70), runs_of("dau", 79, 88, 69.5))
    assert found is not None
    assert (found.seeds, found.kind, found.left_out) == (3, KIND, 0)
    assert found.mean == pytest.approx((1 + 2 + 0.5) / 3)
    half = 4.302653 * np.std([1, 2, 0.5], ddof=1) / math.sqrt(3)  # t of 2 degrees of freedom, from a printed table
    assert found.low == pytest.approx(found.mean - half, abs=1e-5)
    assert found.high == pytest.approx(found.mean + half, abs=1e-5)


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
    trials = per_trial([*runs_of("ours", 80, 82, precision="bf16"), *runs_of("ours", 81, 82)], "table1")
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


def test_margins_are_the_papers_own_differences():
    """Table 1: 93.1 and 91.4 at 60,000 images; Table 3: 94.7 and 94.4."""
    assert judgements.comparable_margin() == pytest.approx(1.7)
    assert judgements.competing_margin() == pytest.approx(0.3)


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
        "table1",
    )
    cell = {name: {**OURS, "layer": name} for name in ("rfnn", "dau", "free-form")}
    judged, paper, here = compare(trials, "table1", OURS, {"D": cell["dau"], "F": cell["free-form"]})
    assert (judged.verdict, judged.against, paper) == (UNDECIDED, "D", "+0.6 (D)")
    assert here == "+0.9 [−0.1, +1.9] (D)"
    judged, paper, here = compare(trials, "table1", OURS, {"F": cell["free-form"]}, margin=1)
    assert (judged.verdict, paper, here) == (HOLDS, "+1.7", "+3.1 [+2.7, +3.5]")
    judged, paper, here = compare(trials, "table1", OURS, {"R": cell["rfnn"]})
    assert (judged.reason, paper, here) == ("not run yet", "+1.1", "—")
    assert compare(trials, "table1", OURS, {"N": {**OURS, "layer": "n-jet"}})[1] == "—"


# The paper's sentences


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_claim_is_judged_once_and_every_judgement_has_its_sentence(experiment, tmp_path):
    loaded = load(tmp_path, "paper", experiment, EXPERIMENTS[experiment].datasets[0], tmp_path)
    judged = [claim.name for claim in judgements.judged_claims(loaded)]
    assert sorted(judged) == sorted(claims.quotes(experiment))
    for found in claims.quotes(experiment).values():
        for quote in found:
            assert quote.text
            assert quote.where.startswith(("abstract", "section 3", "conclusion", "caption", "Table"))


def test_numbers_that_the_paper_prints_with_its_claims():
    assert claims.printed("table1", "third-less") == pytest.approx(1 / 3, abs=1e-4)
    assert claims.printed("table3", "quarter") == 0.25
    assert claims.printed("table3", "count-unet") == 97202
    assert claims.printed("table3", "count-gaussian-unet") == 25298


# Table 1


COUNTS = {"free-form": 9770, "rfnn": 10810, "dau": 42010, "ours": 12810, "ours-few": 11810, "ours-separated": 8410}


def as_in_the_paper(seeds: int = 5, control: float = -1.0, **fields: Any) -> list[dict[str, Any]]:
    """Records of the six layers that differ as the paper says, seeds in common, and controls lower than all."""
    made_up = []
    for ((layer, n), _), percent in published("table1").items():
        for seed in range(seeds):
            accuracy = (percent + seed) / 100 + 1e-5 * ((seed * 7 + len(layer)) % 5)
            made_up.append(record(layer, int(n), seed, accuracy, parameters=COUNTS[layer], **fields))
    lowest = {n: min(p for ((_, size), _), p in published("table1").items() if int(size) == n) for n in SIZES}
    for layer in table1.CONTROLS:
        for n in SIZES:
            made_up += [
                record(layer, n, s, (lowest[n] + control + s) / 100 + 1e-5 * (s * s % 3), **fields)
                for s in range(seeds)
            ]
    return made_up


def judged_of(tmp_path: Path, *records: dict[str, Any], experiment: str = "table1", datasets: str = FULL) -> Any:
    """{claim: its rows}"""
    save(tmp_path, *records)
    loaded = load(tmp_path, records[0]["trial"]["profile"], experiment, datasets, tmp_path)
    return {claim.name: claim.rows for claim in judgements.judged_claims(loaded)}


def test_results_like_the_papers_get_the_verdicts_that_its_numbers_deserve(tmp_path):
    """Three of its own cells contradict "higher"."""
    rows = judged_of(tmp_path, *as_in_the_paper())
    contradicted = {"Ours-few, 1,000 images", "Ours-separated, 1,000 images", "Ours-separated, 60,000 images"}
    assert len(rows["higher"]) == 15
    for row in rows["higher"]:
        assert row.verdict == (FAILS if row.case in contradicted else HOLDS), row
        assert ("the paper's own numbers say otherwise" in row.why) == (row.case in contradicted)
        assert row.paper.split()[0] == row.here.split()[0]
        assert "same support: Free-form 7×7 +" in row.why
        assert "more than its support" in row.why
        assert row.why.startswith("5 seeds<br>")
        assert row.why.endswith("pooled: not run yet")
    assert rows["higher"][0] == Row(
        "Ours, 1,000 images",
        "+0.6 (DAU)",
        "+0.6 [+0.6, +0.6] (DAU)",
        HOLDS,
        "5 seeds<br>same support: Free-form 7×7 +2.7 [+2.7, +2.7], more than its support<br>pooled: not run yet",
    )
    assert [(row.case.split(",")[0], row.verdict) for row in rows["best"]] == [
        (layer, HOLDS) for layer in ("Ours", "Ours-separated", "Ours", "Ours-few", "Ours")
    ]
    assert [row.verdict for row in rows["fully-trained"]] == [HOLDS] * 5
    assert "more than one trained scale" in rows["fully-trained"][0].why
    assert [row.verdict for row in rows["competitive"]] == [HOLDS] * 5
    # the largest difference lies at the margin itself
    assert [row.verdict for row in rows["comparable"][:4]] == [HOLDS] * 4
    assert rows["comparable"][4].paper == "−1.7 (Ours)"


def test_controls_tell_why(tmp_path):
    """A free-form layer of the same support does better, and with pooling the lead is gone."""
    pooled = [
        record(layer, 1000, s, (80 + s + shift) / 100 + 1e-5 * (s * s % 3), network="pooled")
        for layer, shift in (("ours", 0), ("free-form", 1.5), ("rfnn", -1), ("dau", -1))
        for s in range(3)
    ]
    rows = judged_of(tmp_path, *as_in_the_paper(control=9.0), *pooled)
    first = rows["higher"][0]
    assert first.verdict == HOLDS
    assert "same support: Free-form 7×7 −7.3 [−7.3, −7.3], less than its support gives" in first.why
    assert "pooled: Free-form 3×3 −1.5 [−1.5, −1.5], the other way there" in first.why
    assert "pooled: RFNN +1.0 [+1.0, +1.0], there too" in rows["competitive"][0].why
    assert "pooled: not run yet" in rows["higher"][5].why
    assert "less than one trained scale" in rows["fully-trained"][0].why


def test_a_reduced_budget_decides_nothing_however_many_seeds(tmp_path):
    rows = judged_of(tmp_path, *as_in_the_paper(profile="quick"))
    compared = [row for name in ("higher", "best", "fully-trained", "comparable", "competitive") for row in rows[name]]
    assert {row.verdict for row in compared} == {UNDECIDED}
    assert {row.why for row in compared} == {"reduced budget"}
    assert all("‡" in row.here for row in compared)


def test_two_seeds_decide_nothing(tmp_path):
    rows = judged_of(tmp_path, *as_in_the_paper(seeds=2))
    assert {row.verdict for row in rows["higher"]} == {UNDECIDED}
    assert re.match(
        r"fewer than 3 seeds<br>same support: Free-form 7×7 .*\], fewer than 3 seeds<br>", rows["higher"][0].why
    )


def test_what_is_not_run_yet_says_how_long_it_takes(tmp_path):
    some = [r for r in as_in_the_paper() if r["trial"]["layer"] in ("ours", "rfnn") and r["trial"]["n_train"] <= 5000]
    rows = judged_of(tmp_path, *some)
    ours, later = rows["higher"][0], rows["higher"][2]
    assert (ours.verdict, ours.here) == (UNDECIDED, "—")
    assert ours.why.startswith("not run yet<br>")
    assert ours.why.endswith((" h", " min"))
    assert (later.verdict, later.here) == (UNDECIDED, "—")
    assert rows["fully-trained"][0].verdict == HOLDS
    # decided without the others: one that fails is enough
    worse = [
        r | {"metrics": {"test_accuracy": 0.5 + r["trial"]["seed"] / 500}} for r in some if trial_of(r).layer == "ours"
    ]
    rows = judged_of(tmp_path, *worse)
    assert rows["higher"][0].verdict == FAILS
    assert rows["higher"][0].here.endswith("(RFNN)")


def test_parameters_are_counted(tmp_path):
    pooled = [
        record(layer, 1000, network="pooled", parameters=count)
        for layer, count in (("ours", 100), ("ours-few", 70), ("ours-separated", 80))
    ]
    rows = judged_of(tmp_path, *as_in_the_paper(), *pooled)
    assert rows["fewer"] == [
        Row("Ours-separated and Ours, unpooled", "—", "8,410 and 12,810", HOLDS, "counted"),
        Row("Ours-separated and Ours-few, unpooled", "—", "8,410 and 11,810", HOLDS, "counted"),
        Row("Ours-separated and Ours, pooled", "—", "80 and 100", HOLDS, "counted"),
        Row("Ours-separated and Ours-few, pooled", "—", "80 and 70", FAILS, "counted"),
    ]
    unpooled, with_pooling = rows["third-less"]
    assert (unpooled.paper, unpooled.here, unpooled.verdict) == ("33.3 % fewer", "34.3 % fewer", HOLDS)
    assert "were chosen so" in unpooled.why
    assert (with_pooling.here, with_pooling.verdict) == ("20.0 % fewer", FAILS)
    assert "others would give another share" in with_pooling.why


def test_pairs_left_out_are_told(tmp_path):
    records = as_in_the_paper()
    for made_up in records:
        if made_up["trial"]["seed"] >= 3 and trial_of(made_up).layer in ("ours", "dau"):
            made_up["machine"] = {"device": "cuda"}
    rows = judged_of(tmp_path, *records)
    assert rows["higher"][0].why.startswith("3 seeds (CPU only)<br>")
    assert rows["fully-trained"][0].why.startswith("3 seeds<br>")


# Table 2


def pictures(seeds: int = 3, **shift: float) -> list[dict[str, Any]]:
    return [
        vgg(layer, 0.9 + move / 100 + s / 50 + 1e-5 * (s * s % 3), 0.8 + move / 100 + s / 50, seed=s, parameters=count)
        for layer, move, count in (
            ("source", 0.0, 999),
            ("free-form", 1.0, 448),
            ("free-form-original", 2.0, 448),
            ("ours-7x7", 1.5, 696),
            ("ours-7x7-fitted", 1.0, 696),
            ("ours-3x3", 0.5, 696),
            ("ours-3x3-fitted", 2.5, 696),
        )
        for s in range(seeds)
    ]


def test_table_2_holds_like_against_like(tmp_path):
    rows = judged_of(tmp_path, *pictures(), experiment="table2", datasets="cats-vs-dogs-200")
    verdicts = {row.case: row.verdict for row in rows["better"]}
    assert verdicts == {
        **{f"Ours 7×7, random start, {part}, scratch": HOLDS for part in ("val", "test")},
        **{f"Ours 3×3, random start, {part}, scratch": FAILS for part in ("val", "test")},
        **{f"Ours 7×7, fitted start, {part}, scratch": FAILS for part in ("val", "test")},
        **{f"Ours 3×3, fitted start, {part}, scratch": HOLDS for part in ("val", "test")},
        "ImageNet weights": UNDECIDED,
    }
    first = next(row for row in rows["better"] if row.case == "Ours 7×7, random start, test, scratch")
    assert (first.paper, first.here) == ("+0.8", "+0.5 [+0.5, +0.5]")
    assert "same support: Ours 3×3, random start −0.5 [−0.5, −0.5], less than free filters" in first.why
    assert first.why.endswith("696 parameters for 448")
    assert rows["better"][-1] == Row("ImageNet weights", "—", "—", UNDECIDED, "not run yet: not at hand here")
    included = {row.case: (row.paper, row.verdict) for row in rows["included"]}
    assert included.pop("ImageNet weights") == ("—", UNDECIDED)
    assert set(included.values()) == {("+4.4", HOLDS)}
    assert len(included) == 4
    same_start = {row.case: row.why for row in rows["included"]}
    random, fitted = "Free-form 3×3, random start +1.0 [+1.0, +1.0]", "Free-form 3×3, trained on +2.0 [+2.0, +2.0]"
    assert f"{random}, a free layer gains" in same_start["Ours 7×7, random start, test, scratch"]
    assert f"{fitted}, a free layer gains" in same_start["Ours 3×3, fitted start, test, scratch"]


def test_table_2_keeps_the_sources_apart(tmp_path):
    imagenet = [r | {"trial": r["trial"] | {"source": "imagenet"}} for r in pictures()]
    rows = judged_of(tmp_path, *imagenet, experiment="table2", datasets="cats-vs-dogs-200")
    verdicts = Counter((row.case.split(", ")[-1], row.verdict) for row in rows["better"])
    assert verdicts == {("imagenet", HOLDS): 4, ("imagenet", FAILS): 4, ("scratch", UNDECIDED): 8}
    assert all(row.why.startswith("not run yet") for row in rows["better"] if row.case.endswith("scratch"))


# Table 3


def nets(gaussian: float, bn: float, seeds: int = 5, **fields: Any) -> list[dict[str, Any]]:
    return [
        net(layer, 0.9 + shift / 100 + s / 100 + 1e-5 * (s * s % 3), split, seed=s, parameters=count, **fields)
        for layer, shift, count in (("unet", 0.0, 97202), ("gaussian-unet", gaussian, 25298), ("unet-bn", bn, 97404))
        for split in Table3Trial.splits
        for s in range(seeds)
    ]


@pytest.mark.parametrize(("gaussian", "verdict"), [(-0.2, HOLDS), (-0.4, FAILS), (1.0, HOLDS)])
def test_table_3(tmp_path, gaussian, verdict):
    records = [*nets(gaussian, 0.5), *nets(-1.0, -2.0, dataset="monuseg-crops")]
    rows = judged_of(tmp_path, *records, experiment="table3", datasets="tnbc-derived,monuseg-crops")
    tile, group, *others = rows["compete"]
    assert (tile.paper, tile.verdict, group.paper, group.verdict) == ("−0.3", verdict, "—", verdict)
    assert "tiles of one image on both sides" in tile.why
    assert "both sides" not in group.why
    above = "above" if gaussian > 0.5 else "below"
    assert f"against U-net with BN {signed(gaussian - 0.5)}" in tile.why
    assert f", {above}<br>Dice against U-net {signed(gaussian)}" in tile.why
    assert [(row.paper, row.verdict) for row in others] == [("—", FAILS)] * 2
    assert rows["quarter"] == [Row("Gaussian U-net of U-net", "25 %", "26.0 %", HOLDS, "counted")]
    (counted,) = rows["count-gaussian-unet"]
    assert (counted.paper, counted.here, counted.verdict) == ("25,298", "25,298", HOLDS)
    assert [row.why for row in rows["similar"]] == ["no predictions are kept"] * 2


def test_another_count_than_the_papers_fails(tmp_path):
    records = [r | {"parameters": 90000} for r in nets(0, 0) if r["trial"]["layer"] == "unet"]
    rows = judged_of(tmp_path, *records, experiment="table3", datasets="tnbc-derived")
    (counted,) = rows["count-unet"]
    assert (counted.paper, counted.here, counted.verdict) == ("97,202", "90,000", FAILS)
    assert rows["count-gaussian-unet"][0].verdict == rows["quarter"][0].verdict == UNDECIDED


@pytest.mark.parametrize(("own", "verdict"), [(0, HOLDS), (6, FAILS)])
def test_predictions_are_as_similar_as_those_of_two_classical_nets(tmp_path, own, verdict):
    """Dice of 100 pixels each, of which some lie apart."""
    for made_up in nets(0, 0):
        layer, seed = made_up["trial"]["layer"], made_up["trial"]["seed"]
        predicted = np.zeros((1, 20, 20), bool)
        apart = {"unet": 0, "gaussian-unet": 3 + own + seed // 4, "unet-bn": 3}[layer]
        predicted.reshape(-1)[apart : 100 + apart] = True
        if made_up["trial"]["split"] == "tile":
            (path,) = save(tmp_path, made_up)
            np.savez(path.with_suffix(".npz"), predicted=predicted)
    loaded = load(tmp_path, "paper", "table3", "tnbc-derived", tmp_path)
    (row,) = next(claim.rows for claim in judgements.judged_claims(loaded) if claim.name == "similar")
    assert row.verdict == verdict
    assert row.why.endswith(f"Dice {97 - own - 0.2:.1f}, with BN 97.0")
    assert row.here.startswith(signed(-own - 0.2))


# Rendering


def test_render(tmp_path):
    save(tmp_path, *as_in_the_paper())
    loaded = load(tmp_path, "paper", "table1", FULL, tmp_path)
    shown = Page(judgements.render(loaded, tmp_path))
    assert shown.rows[0] == ["claim", "paper", "here", "verdict", "why"]
    assert shown.rows[1][0].startswith("“the proposed layers obtain higher accuracy values")
    assert "(section 3)|Holds if every interval lies above 0" in shown.rows[1][0]
    assert "Parameters: Free-form 3×3 9,770, RFNN 10,810, DAU 42,010, Ours 12,810" in shown.rows[1][0]
    assert shown.rows[2][:4] == ["Ours, 1,000 images", "+0.6 (DAU)", "+0.6 [+0.6, +0.6] (DAU)", "holds"]
    assert "paired over seeds (Student's t)" in shown.text
    assert "tuned" not in shown.text  # no search is recorded
    assert len(shown.rows) == 1 + 7 + 15 + 5 + 5 + 5 + 5 + 4 + 2


def test_tally():
    rows = [Row("", "", "", verdict, "") for verdict in (HOLDS, UNDECIDED, HOLDS)]
    assert claims.tally(Claim("higher", "", rows)) == "holds 2, undecided 1"


# The search and the check of precision


def search(folder: Path, experiment: str, score: Any, skip: Any = lambda trial: False) -> None:
    """Invented records of a whole search; ``score(trial)`` is the metric."""
    name, cls = SEARCHES[experiment].experiment, SEARCHES[experiment]
    dataset = {"table1": FULL, "table2": "cats-vs-dogs-200", "table3": "tnbc-derived"}[experiment]
    for trial in plan("paper", name, (dataset,)):
        if not skip(trial):
            made_up = record() | {
                "trial": trial.describe(),
                "hyperparameters": hyperparameters(trial),
                "metrics": {cls.metric: score(trial)},
            }
            save(folder, made_up)


def chosen(layer: str) -> float:
    trial = next(t for t in tuning.searched("table3-search", "tnbc-derived") if t.layer == layer)
    return chosen_rate(trial)


def test_the_search_is_shown(tmp_path):
    search(tmp_path, "table3", lambda trial: 0.9 - abs(trial.learning_rate - chosen(trial.layer)) + trial.seed / 50)
    shown = Page(tuning.render("table3", {layer: layer for layer in Table3Trial.layers}, tmp_path))
    rates = sorted({trial.learning_rate for trial in tuning.searched("table3-search", "tnbc-derived")})
    assert shown.rows[0] == ["learning rate", *(f"{rate:g}" for rate in rates), ""]
    for layer, row in zip(Table3Trial.layers, shown.rows[1:], strict=True):
        assert row[0] == layer
        expected = [91 - 100 * abs(rate - chosen(layer)) for rate in rates]
        assert [float(value) for value in row[1:-1]] == pytest.approx(expected, abs=0.051)
        assert row[-1] == ""
    assert shown.text.count("Not run yet") == 0
    assert "Validation pixel accuracy in percent on tnbc-derived, mean over 2 seeds" in shown.text
    html = tuning.render("table3", dict.fromkeys(Table3Trial.layers, ""), tmp_path)
    assert html.count("<b>91.0</b>") == 3
    assert tuning.at_the_edge("table3", tmp_path) == set()


def test_an_unfinished_search_and_a_choice_at_odds_with_it_are_told(tmp_path, monkeypatch):
    def skip(trial: Any) -> bool:
        return trial.layer == "unet-bn" and (trial.seed, trial.learning_rate) == (1, 0.01)

    search(tmp_path, "table3", lambda trial: trial.learning_rate, skip)
    rows = Page(tuning.render("table3", {layer: layer for layer in Table3Trial.layers}, tmp_path)).rows
    highest = rows[0][-2]
    assert rows[1][-1] == f"best is {highest}, chosen is {chosen('unet'):g}"
    assert rows[3][rows[0].index("0.01")] == "—"
    assert rows[3][-1] == "not finished"
    text = Page(tuning.render("table3", dict.fromkeys(Table3Trial.layers, ""), tmp_path)).text
    assert "Not run yet: 1 of " in text
    monkeypatch.setitem(load_profile("paper")["table3"], "learning_rate", dict.fromkeys(Table3Trial.layers, 0.0005))
    rows = Page(tuning.render("table3", {layer: layer for layer in Table3Trial.layers}, tmp_path)).rows
    assert rows[1][-1] == f"at the edge of the rates; best is {highest}, chosen is 0.0005"
    assert tuning.at_the_edge("table3", tmp_path) == set(Table3Trial.layers)
    save(tmp_path, *nets(0, 0), *nets(0, 0, profile="quick"))
    quick = load(tmp_path, "quick", "table3", "tnbc-derived", tmp_path)
    assert "tuned" not in judgements.render(quick, tmp_path)  # its rates are not from this search
    loaded = load(tmp_path, "paper", "table3", "tnbc-derived", tmp_path)
    assert "perhaps not at their best: U-net, Gaussian U-net, U-net with BN (control)." in judgements.render(
        loaded, tmp_path
    )


def test_networks_are_told_apart_in_the_search(tmp_path):
    search(tmp_path, "table1", lambda trial: 0.5, lambda trial: trial.seed or trial.layer != "ours")
    rows = Page(tuning.render("table1", table1.TITLES, tmp_path)).rows
    assert [row[0] for row in rows[1:]] == [
        f"{title}{suffix}" for suffix in ("", ", pooled") for title in table1.TITLES.values()
    ]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_without_a_search(tmp_path, experiment):
    assert "not recorded yet" in tuning.render(experiment, {}, tmp_path)
    assert tuning.at_the_edge(experiment, tmp_path) is None


def test_a_search_with_other_settings_is_refused(tmp_path):
    search(tmp_path, "table3", lambda trial: 0.5)
    path = next(tmp_path.rglob("*.json"))
    path.write_text(path.read_text().replace('"batch_size": 8', '"batch_size": 9'))
    with pytest.raises(ResultsError, match="batch_size was 9, is 8"):
        tuning.render("table3", {layer: layer for layer in Table3Trial.layers}, tmp_path)


@pytest.mark.parametrize(
    ("estimate", "noise", "expected"),
    [
        (made(-0.2, 0.3), 0.5, "agree"),
        (made(0.1, 0.3), 0.5, "differ"),
        (made(-0.3, -0.1), 0.5, "differ"),
        (made(-1, 3), 0.5, "undecided"),
        (made(-0.2, 0.3, seeds=2), 0.5, "undecided"),
        (None, 0.5, "undecided"),
        (made(-0.2, 0.3), math.nan, "undecided"),
    ],
)
def test_whether_two_precisions_agree(estimate, noise, expected):
    assert precision.verdict(estimate, noise) == expected


def test_the_check_of_precision_is_shown(tmp_path):
    checked = set()
    for trial in plan("paper", "table1-precision", (FULL,)):
        assert isinstance(trial, Table1Precision)
        checked.add((trial.layer, trial.n_train))
        if trial.n_train == 1000:
            shift = (trial.seed - 2) / 1000
            for made_up, accuracy in (
                (trial, 0.8 + trial.seed / 100),
                (_without_precision(trial), 0.8 + trial.seed / 100 + shift),
            ):
                save(
                    tmp_path,
                    record(accuracy=accuracy, seconds=3600.0)
                    | {"trial": made_up.describe(), "hyperparameters": hyperparameters(made_up)},
                )
    shown = Page(precision.render(tmp_path))
    assert shown.rows[0] == ["", "bf16 − fp32", "seeds differ by", "seeds", ""]
    half = float(stats.t.ppf(0.975, 4) * np.std([-0.2, -0.1, 0, 0.1, 0.2], ddof=1) / math.sqrt(5))
    interval = f"0.0 [{signed(-half)}, {signed(half)}]"
    assert shown.rows[1] == ["Free-form 3×3, 1,000 images", interval, "1.6", "5", "agree"]
    assert shown.rows[3][:4] == ["Free-form 3×3, 5,000 images", "—", "—", "—"]
    assert shown.rows[3][4].startswith("undecided; 5 to run, ")
    assert len(shown.rows) == 1 + len(checked)
    assert [row[1] for row in Page(precision.render(tmp_path / "nowhere")).rows[1:]] == ["—"] * len(checked)


def _without_precision(trial: Table1Precision) -> Table1Trial:
    names = ("layer", "dataset", "seed", "profile", "n_train", "network")
    return Table1Trial(**{name: getattr(trial, name) for name in names})


# The overview


def everything(folder: Path) -> dict[str, Loaded]:
    return {
        experiment: load(folder, "fullest", experiment, datasets, folder)
        for experiment, datasets in (
            ("table1", FULL),
            ("table2", "cats-vs-dogs-200"),
            ("table3", "tnbc-derived,monuseg-crops"),
        )
    }


def test_the_heat_map_has_every_cell_that_the_paper_has(tmp_path):
    """Ours minus the paper's and the seeds, or hatched and how long it takes."""
    save(tmp_path, *(record("ours", 1000, s, (81.5 + s / 2) / 100) for s in range(3)))
    save(tmp_path, record("ours", 1000, 3, 0.9, device="cuda"), record("n-jet", 1000))
    save(tmp_path, record("rfnn", 1000, accuracy=0.5, network="pooled"))
    save(tmp_path, vgg("ours-7x7", 0.9, 0.972, profile="quick"))
    save(tmp_path, net("unet", 0.957), net("unet", 0.9, "group"), net("unet", 0.2, dataset="monuseg-crops"))
    tables = everything(tmp_path)
    panels = overview.panels(tables)
    assert [panel.title for panel in panels] == [
        "Table 1, unpooled network (profile paper)",
        "Table 1, pooled network (profile paper)",
        "Table 2, trained here, reduced (profile quick)",
        "Table 3, TNBC, resolution-degraded copy (profile paper)",
    ]
    assert [(len(panel.rows), len(panel.columns)) for panel in panels] == [(5, 6), (3, 6), (7, 2), (2, 1)]
    figure = overview.heat_map(tables)
    texts = [sorted(text.get_text() for text in axis.texts) for axis in figure.axes[:4]]
    hatched = [sum(bool(patch.get_hatch()) for patch in axis.patches) for axis in figure.axes[:4]]
    assert hatched == [29, 17, 11, 1]
    assert "+1.5*\nn = 3" in texts[0]
    assert f"{signed(50 - 79.4)}\nn = 1" in texts[1]
    assert {"0.0‡\nn = 1", f"{signed(90 - 98.1)}‡\nn = 1"} <= set(texts[2])
    assert "+1.0\nn = 1" in texts[3]
    assert [len(found) for found in texts] == [30, 18, 13, 2]  # not the validation of the network before
    missing = [text for text in texts[0] if "n =" not in text]
    assert len(missing) == 29
    assert all(text.endswith((" s", " min", " h")) for text in missing)
    colours = {
        axis.texts[i].get_text(): to_hex(axis.texts[i].get_color()) for axis in figure.axes[:4] for i in range(2)
    }
    assert len(colours) > 1
    figure.canvas.draw()


def test_the_heat_map_without_a_record(tmp_path):
    figure = overview.heat_map(everything(tmp_path))
    assert all(text.get_text() == "an unknown time" for axis in figure.axes for text in axis.texts)
    figure.canvas.draw()


def test_verdicts_at_a_glance(tmp_path):
    save(tmp_path, *as_in_the_paper(), *nets(-0.2, 0.5))
    rows = Page(overview.verdicts(everything(tmp_path))).rows
    assert rows[1][1:] == ["Table 1", "holds 12, fails 3"]
    assert [row[1] for row in rows[1:]] == ["Table 1"] * 7 + ["Table 2"] * 2 + ["Table 3"] * 5
    compete = next(row for row in rows if "can compete with" in row[0])
    assert compete[2] == "holds 2, undecided 2"
    assert {row[2] for row in rows if row[1] == "Table 2"} == {"undecided 9", "undecided 5"}


def test_provenance(tmp_path):
    whole = {
        "git": {"commit": "abcdef0123456789", "dirty": True},
        "versions": {"gdlayer": "0.1.0", "python": "3.11", "torch": "2.13", "numpy": "2"},
        "machine": {"device": "cpu", "name": "a CPU & co", "cores": 2, "threads": 1, "system": "Linux"},
        "data": {"name": FULL, "source": "cache", "sha256": "0" * 64},
        "started": "2026-11-22T00:00:00+00:00",
        "peak_memory_bytes": 1,
    }
    save(tmp_path, *(record("ours", 1000, s, seconds=1800.0) | whole for s in range(3)))
    incomplete = record("ours", 5000, seconds=1800.0) | whole | {"data": {"name": FULL, "source": "cache"}}
    save(tmp_path, incomplete, record(profile="quick") | whole)
    datasets = {"table1": [FULL], "table2": ["cats-vs-dogs-200"], "table3": ["tnbc"]}
    rows = Page(overview.provenance(tmp_path, "fullest", datasets, tmp_path)).rows
    by_name = {row[0]: row[1:] for row in rows[1:]}
    total = len(plan("paper", "table1", (FULL,)))
    trials, precision_, machine, versions, commits, hours, left, lacking = by_name["Table 1, paper"]
    assert (trials, precision_, machine) == (f"4 of {total}", "fp32", "CPU: a CPU & co")
    assert (versions, commits, hours, lacking) == ("torch 2.13, gdlayer 0.1.0", "abcdef0+", "2.0", "1")
    assert left.endswith(" h")
    assert by_name["Table 2, paper"][:2] == [f"0 of {len(plan('paper', 'table2', ('cats-vs-dogs-200',)))}", "—"]
    assert by_name["Table 1, quick"][0] == "1 of 40"
    assert {"rates of Table 1, paper", "rates of Table 3, paper", "precision, Table 1, paper"} < set(by_name)
    assert "Table 2, quick" not in by_name
    own = Page(overview.provenance(tmp_path, "quick", datasets, tmp_path)).rows
    assert [row[0] for row in own[1:]] == ["Table 1, quick", "Table 2, quick", "Table 3, quick"]


def test_every_trial_has_its_title():
    assert set(overview.EXPERIMENT_TITLES) >= {*EXPERIMENTS, *(cls.experiment for cls in SEARCHES.values())}
    assert set(Table2Trial.sources) == {"scratch", "imagenet"}
