"""The paper's claims: the five verdicts, their correction, and where the paper's differences lie."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from invented import FULL

from gdlayer.experiments import experiments
from gdlayer.report import judgements
from gdlayer.report.blocks import Estimate
from gdlayer.report.claims import (
    BY_CONSTRUCTION,
    FAILS,
    HOLDS,
    TOO_FEW,
    UNCLEAR,
    UNTESTABLE,
    VERDICTS,
    Case,
    Claim,
    Comparison,
    Printed,
    Row,
    chance_in_words,
    judge,
    judge_claim,
    judge_count,
    reading,
    signed,
    verdict_as_html,
)
from gdlayer.report.differences import ALPHA, Difference, holm
from gdlayer.report.loaded import load

TABLE1, TABLE2, TABLE3, *_ = experiments().values()
KIND = (FULL, "paper", "fp32", "cpu")


def against(
    mean: float, half: float = 1.0, seeds: int = 5, title: str = "DAU", paper: float | None = None, marks: str = ""
) -> Comparison:
    """A difference with half of its 95 % interval, four degrees of freedom; NaN for one seed."""
    error = half / 2.776445 if seeds > 1 else math.nan
    return Comparison(title, Estimate(Difference(mean, error, 4, seeds, False), KIND, 0), paper, marks)


def of(comparison: Comparison) -> Difference:
    assert comparison.estimate is not None
    return comparison.estimate.difference


NONE = Comparison("RFNN", None, 1.1)


def verdict(*comparisons: Comparison, margin: float = 0.0, unfit: str = "") -> str:
    return judge([Case("", comparisons, margin, unfit=unfit)])[0].verdict


def row(*comparisons: Comparison, **fields: object) -> Row:
    (found,) = judge_claim(Claim("higher", "", [Case("Ours", comparisons, **fields)])).rows  # type: ignore[arg-type]
    return found


# Verdicts


@pytest.mark.parametrize(
    ("mean", "margin", "expected"),
    [
        (1.01, 0.0, HOLDS),
        (-1.01, 0.0, FAILS),
        (0.99, 0.0, UNCLEAR),
        (-0.99, 0.0, UNCLEAR),
        (-0.3, 1.7, HOLDS),
        (-0.8, 1.7, UNCLEAR),
        (-2.6, 1.7, UNCLEAR),
        (-2.8, 1.7, FAILS),
    ],
)
def test_a_single_comparison_needs_the_whole_interval_on_one_side(mean, margin, expected):
    assert verdict(against(mean), margin=margin) == expected


@pytest.mark.parametrize(
    ("comparison", "expected", "reason"),
    [
        (NONE, TOO_FEW, ""),
        (against(5, seeds=2), TOO_FEW, ""),
        (against(5, seeds=1), TOO_FEW, ""),
        (against(5, marks="‡"), UNTESTABLE, "reduced budget"),
        (against(5, marks="†‡"), UNTESTABLE, "embedded stand-in"),
        (against(5, marks="§¶"), HOLDS, ""),
        (against(5, seeds=3), HOLDS, ""),
    ],
)
def test_what_decides_nothing(comparison, expected, reason):
    (found,) = judge([Case("", [comparison])])
    assert (found.verdict, found.reason, found.deciding) == (expected, reason, comparison)


def test_what_is_unfit_cannot_be_tested_however_clear_its_numbers():
    (found,) = judge([Case("", [against(-9)], unfit="no such network")])
    assert (found.verdict, found.reason) == (UNTESTABLE, "no such network")


def test_a_case_of_several_fails_if_one_fails_and_holds_if_all_hold():
    well, better, worse, worst = against(2), against(3), against(-4), against(-9)
    unclear, few = against(0.1), against(9, seeds=2)
    assert verdict(well, better) == HOLDS
    assert judge([Case("", [better, well])])[0].deciding == well
    assert judge([Case("", [well, worst, unclear, worse, NONE, few])])[0].deciding == worst
    assert verdict(well, worse, NONE) == FAILS
    assert judge([Case("", [well, unclear, better])])[:1] == judge([Case("", [unclear, well, better])])[:1]
    assert verdict(well, unclear) == UNCLEAR
    assert verdict(well, NONE) == verdict(well, few) == verdict(unclear, NONE) == TOO_FEW
    assert judge([Case("", [NONE, few])])[0].deciding == few


def test_holds_and_fails_are_corrected_for_the_cases_of_the_claim():
    """Clear alone, but not as one of ten of which nine show nothing."""
    nothing = [Case("", [against(0)])] * 9
    for mean, alone in ((1.2, HOLDS), (-1.2, FAILS)):
        case = Case("", [against(mean)])
        assert judge([case])[0].verdict == alone
        assert judge([case, *nothing])[0].verdict == UNCLEAR
        assert judge([Case("", [against(4 * mean)]), *nothing])[0].verdict == alone
    # what cannot decide is no comparison
    assert (
        judge([Case("", [against(1.2)]), *[Case("", [NONE]), Case("", [against(1, marks="‡")])] * 9])[0].verdict
        == HOLDS
    )


@given(st.lists(st.lists(st.floats(-4, 4), min_size=1, max_size=3), min_size=1, max_size=6), st.sampled_from([0, 1.7]))
def test_verdicts_are_those_of_holms_steps(means, margin):
    cases = [Case("", [against(m) for m in each], margin) for each in means]
    found = judge(cases)
    less = iter(holm([c.less(margin) for case in cases for c in case.comparisons]))
    more = holm([max(c.more(margin) for c in case.comparisons) for case in cases])
    for case, judged, above in zip(cases, found, more, strict=True):
        below = min([next(less) for _ in case.comparisons])
        assert judged.verdict == (FAILS if below < ALPHA else HOLDS if above < ALPHA else UNCLEAR)
        assert judged.deciding in case.comparisons
        # a claim of one comparison each is never clearer than the interval
        if len(case.comparisons) == 1 and judged.verdict != UNCLEAR:
            low, high = of(case.comparisons[0]).interval
            assert low > -margin or high < -margin


@given(st.lists(st.floats(-4, 4), min_size=1, max_size=6))
def test_turning_every_sign_swaps_holds_and_fails(means):
    swap = {HOLDS: FAILS, FAILS: HOLDS, UNCLEAR: UNCLEAR}
    there = judge([Case("", [against(m)]) for m in means])
    back = judge([Case("", [against(-m)]) for m in means])
    assert [swap[j.verdict] for j in there] == [j.verdict for j in back]


# What a row says


def test_a_row_that_holds():
    found = row(against(1.5, title="DAU", paper=0.6), against(2, title="RFNN", paper=1.1), notes=["a control"], seeds=5)
    why = "5 seeds; p = 0.007<br>the paper&#39;s +0.6 (DAU), +1.1 (RFNN) inside<br>a control"
    assert found[:6] == ("Ours", "+0.6 (DAU)", "+1.5 [+0.5, +2.5] (DAU)", HOLDS, why, "")
    dau, rfnn = found.printed
    assert dau == ("Ours", "DAU", 0.6, pytest.approx(0.5), pytest.approx(2.5))
    assert (rfnn.against, rfnn.paper) == ("RFNN", 1.1)


def test_a_row_without_a_clear_difference_tells_what_could_have_been_found():
    found = row(against(0.1, 0.5, paper=1.4), seeds=10)
    detectable = of(against(0.1, 0.5)).detectable()
    assert (found.paper, found.here, found.verdict) == ("+1.4", "+0.1 [−0.4, +0.6]", UNCLEAR)
    assert found.why == (
        f"5 of 10 seeds; the interval reaches both sides of 0; could have found {detectable:.1f} points<br>"
        "the paper's +1.4 lies <b>outside</b> [−0.4, +0.6]"
    )
    assert "both sides of −1.7" in row(against(-1.7), margin=1.7).why
    several = judge_claim(Claim("", "", [Case("", [against(1.2)]), Case("", [against(0)])])).rows[0]
    assert "clear alone, but not among all comparisons of the claim" in several.why
    wider = of(against(1.2)).detectable(2)
    assert f"could have found {wider:.1f} points" in several.why
    assert wider > of(against(1.2)).detectable()


def test_a_row_of_too_few_seeds_tells_how_long_the_rest_takes():
    found = row(against(0.4, seeds=1, paper=1.3), seeds=3, left="21 min", notes=["a control"])
    assert found == Row(
        "Ours", "+1.3", "+0.4", TOO_FEW, "1 of 3 seeds; 21 min to run<br>a control", "", [], found.measured
    )
    none = row(NONE, seeds=3, left="2.0 h")
    assert (none.here, none.verdict, none.why) == ("—", TOO_FEW, "not run yet; 2.0 h to run")


def test_a_row_that_cannot_be_tested_gives_the_reason_alone():
    found = row(against(-4, paper=1.0, marks="§"), unfit="no such network", notes=["a control"], left="1 h")
    assert found == Row("Ours", "+1.0", "−4.0 [−5.0, −3.0]§", UNTESTABLE, "no such network", "", [], found.measured)


@pytest.mark.parametrize(
    ("paper", "margin", "said"), [(-0.2, 0, True), (0, 0, False), (-1.7, 1.7, False), (-2, 1.7, True)]
)
def test_a_paper_that_contradicts_itself_is_told(paper, margin, said):
    assert ("own numbers say otherwise" in row(against(0, paper=paper), margin=margin).why) == said


@pytest.mark.parametrize(
    ("paper", "inside"), [(0.6, True), (-0.4, True), (-0.49, True), (-0.51, False), (0.69, True), (0.71, False)]
)
def test_inside_allows_for_the_rounding_of_the_printed_numbers(paper, inside):
    assert Printed("", "", paper, -0.4, 0.6).inside == inside


def test_runs_left_out_are_told():
    estimate = against(2).estimate
    assert estimate is not None
    found = row(Comparison("DAU", estimate._replace(left_out=2)), seeds=5)
    assert found.why.startswith("5 seeds (CPU only); p")


def test_what_was_counted_keeps_its_verdict_and_its_tag():
    counted = Row("unpooled", "33.3 %", "34.3 %", HOLDS, "counted", BY_CONSTRUCTION)
    first, second = judge_claim(Claim("third-less", "", [counted, Case("", [against(9)])])).rows
    assert first == counted
    assert second.verdict == HOLDS
    assert verdict_as_html(first) == '<span class="holds">holds</span><br><small>by construction</small>'
    for name in VERDICTS:
        shown = verdict_as_html(Row("", "", "", name, ""))
        assert f">{name}</span>" in shown
        assert ('class="holds"' in shown, 'class="fails"' in shown) == (name == HOLDS, name == FAILS)


def test_a_control_in_words():
    told = ("more", "less", "perhaps")
    assert reading(Case("", [against(2)]), *told) == "DAU +2.0 [+1.0, +3.0], more"
    assert reading(Case("", [against(-2, marks="¶")]), *told) == "DAU −2.0 [−3.0, −1.0]¶, less"
    assert reading(Case("", [against(0)]), *told) == "DAU 0.0 [−1.0, +1.0], perhaps"
    assert reading(Case("", [against(2, seeds=2)]), *told) == "DAU +2.0 [+1.0, +3.0], too few seeds"
    assert reading(Case("", [NONE]), *told) == "not run yet"


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.25, (HOLDS, "counted")),
        (0.2603, (HOLDS, "counted")),
        (0.28, (FAILS, "counted")),
        (0.2, (FAILS, "counted")),
        (None, (TOO_FEW, "not run yet")),
    ],
)
def test_counted_shares_may_differ_by_a_tenth(share, expected):
    assert judge_count(share, 0.25) == expected


@pytest.mark.parametrize(
    ("points", "text"), [(0.44, "+0.4"), (-1.25, "−1.2"), (0.04, "0.0"), (-0.04, "0.0"), (0.06, "+0.1"), (10, "+10.0")]
)
def test_signed(points, text):
    assert signed(points) == text


@pytest.mark.parametrize(("chance", "text"), [(0.0004, "p ≤ 0.001"), (0.001, "p ≤ 0.001"), (0.0123, "p = 0.01")])
def test_chances_in_words(chance, text):
    assert chance_in_words(chance) == text


# The paper's sentences


@pytest.mark.parametrize("experiment", experiments())
def test_every_claim_is_judged_once_and_every_judgement_has_its_sentence(experiment, tmp_path):
    loaded = load(tmp_path, "paper", experiment, experiments()[experiment].trial.datasets[0], tmp_path)
    judged = [claim.name for claim in judgements.judged_claims(loaded)]
    assert sorted(judged) == sorted(experiments()[experiment].quotes)
    places = ("abstract", "section 3", "conclusion", "caption", "Table")
    others = ("Lindeberg 2022, abstract", "Perzanowski and Lindeberg 2024, abstract")  # beyond the paper
    for found in experiments()[experiment].quotes.values():
        for quote in found:
            assert quote.text
            assert quote.where.startswith(others if experiment == "scale" else places)


def test_numbers_that_the_paper_prints_with_its_claims():
    assert TABLE1.printed("third-less") == pytest.approx(1 / 3, abs=1e-4)
    assert TABLE3.printed("quarter") == 0.25
    assert TABLE3.printed("count-unet") == 97202
    assert TABLE3.printed("count-gaussian-unet") == 25298
