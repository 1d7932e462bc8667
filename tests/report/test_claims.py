"""The paper's claims: the verdicts, their correction, and where the paper's differences lie."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from invented import FULL
from scipy import stats

from gdlayer.report import judgements
from gdlayer.report.blocks import Estimate
from gdlayer.report.claims import (
    ABOVE,
    AGAINST,
    BELOW,
    BY_CONSTRUCTION,
    EQUAL,
    FAILS,
    FOR,
    HOLDS,
    NOT_BELOW,
    OPEN,
    TOO_FEW,
    UNDECIDED,
    UNTESTABLE,
    Case,
    Claim,
    Printed,
    Row,
    chance_in_words,
    counted,
    decide,
    decide_count,
    judgement,
    reading,
    signed,
    verdict_as_html,
)
from gdlayer.report.differences import ALPHA, Difference, holm
from gdlayer.report.loaded import load
from gdlayer.trials.registry import experiments

TABLE1, TABLE2, TABLE3, *_ = experiments().values()
KIND = (FULL, "paper", "fp32", "cpu")


def against(mean: float, half: float = 1.0, seeds: int = 5, **fields: object) -> Case:
    """A difference with half of its 95 % interval, four degrees of freedom; NaN for one seed."""
    error = half / 2.776445 if seeds > 1 else math.nan
    found = Difference(mean, error, 4, seeds, error * math.sqrt(seeds))
    return Case("Ours", "DAU", Estimate(found, KIND, 0), **fields)  # type: ignore[arg-type]


def of(case: Case) -> Difference:
    assert case.estimate is not None
    return case.estimate.difference


NONE = Case("Ours", "RFNN", None, 1.1)


def row(case: Case, borne_out: tuple[str, ...] = (ABOVE,)) -> Row:
    (found,) = judgement(Claim("higher", "", [case], (), borne_out)).rows
    return found


# Verdicts


@pytest.mark.parametrize(
    ("mean", "half", "expected"),
    [
        (1.01, 1.0, ABOVE),
        (-1.01, 1.0, BELOW),
        (0.99, 1.0, UNDECIDED),
        (-0.99, 1.0, UNDECIDED),
        (0.0, 0.65, EQUAL),  # t is 2.132 at 5 % to one side, 2.776 at 2.5 %: 0.65 becomes 0.499
        (0.0, 0.66, UNDECIDED),
        (0.3, 0.2, ABOVE),
    ],
)
def test_a_case_alone(mean, half, expected):
    assert decide([against(mean, half)])[0].verdict == expected


def test_what_is_above_may_be_equal_too():
    assert "p = 0.007; equal within 0.5" in row(against(0.3, 0.2)).why
    assert "equal" not in row(against(0.9, 0.6)).why


@pytest.mark.parametrize(
    ("case", "expected", "reason"),
    [
        (NONE, TOO_FEW, ""),
        (against(5, seeds=2), TOO_FEW, ""),
        (against(5, seeds=1), TOO_FEW, ""),
        (against(5, marks="‡"), UNTESTABLE, "reduced budget"),
        (against(5, marks="†‡"), UNTESTABLE, "embedded stand-in"),
        (against(-9, unfit="no such network"), UNTESTABLE, "no such network"),
        (against(5, marks="§¶"), ABOVE, ""),
        (against(5, seeds=3), ABOVE, ""),
    ],
)
def test_what_decides_nothing(case, expected, reason):
    (found,) = decide([case])
    assert (found.verdict, found.reason) == (expected, reason)


def test_verdicts_are_corrected_for_the_cases_of_the_claim():
    """Clear alone, but not as one of ten of which nine show nothing; what cannot decide is no case."""
    for mean, alone in ((1.2, ABOVE), (-1.2, BELOW)):
        assert decide([against(mean)])[0].verdict == alone
        assert decide([against(mean), *[against(0)] * 9])[0].verdict == UNDECIDED
        assert decide([against(4 * mean), *[against(0)] * 9])[0].verdict == alone
        assert decide([against(mean), *[NONE, against(1, marks="‡")] * 9])[0].verdict == alone


@given(st.lists(st.floats(-4, 4), min_size=1, max_size=6))
def test_verdicts_are_those_of_holms_steps(means):
    cases = [against(mean) for mean in means]
    more = holm([of(case).chance_of_more(0) for case in cases])
    less = holm([of(case).chance_of_less(0) for case in cases])
    swap = {ABOVE: BELOW, BELOW: ABOVE}
    found, mirrored = decide(cases), decide([against(-mean) for mean in means])
    for outcome, image, above, below in zip(found, mirrored, more, less, strict=True):
        assert (outcome.verdict == ABOVE, outcome.verdict == BELOW) == (above < ALPHA, below < ALPHA)
        assert image.verdict == swap.get(outcome.verdict, outcome.verdict)


# What a row says


def test_a_row_that_is_above():
    found = row(against(1.5, paper=0.6, notes=["a control"], seeds=5))
    assert found[:6] == ("Ours", "+0.6", "+1.5 [+0.5, +2.5]", ABOVE, "5 seeds; p = 0.007<br>a control", "")
    assert found.says == FOR
    assert found.printed is not None
    assert found.printed.inside


def test_the_papers_difference_has_noise_of_its_own():
    """As a new observation has, or the mean of three."""
    values = [0.3, 1.1, 0.8, 0.2, 1.6]
    mean, s, t = sum(values) / 5, math.sqrt(0.335), stats.t.ppf(0.975, 4)
    assert s == pytest.approx(stats.tstd(values), abs=0.01)
    found = Difference(mean, s / math.sqrt(5), 4, 5, s)
    for trials in (1, 3):
        half = t * s * math.sqrt(1 / 5 + 1 / trials)
        assert found.prediction(trials) == pytest.approx((mean - half, mean + half))
    told = row(Case("Ours", "DAU", Estimate(found, KIND, 0), mean + 1.1, 3)).why
    assert "lies <b>outside</b>" not in told
    assert "lies <b>outside</b>" in row(Case("Ours", "DAU", Estimate(found, KIND, 0), mean + 1.5, 3)).why


def test_an_undecided_row_tells_what_would_have_shown():
    found = row(against(0.1, 0.9, seeds=10))
    assert (found.here, found.verdict, found.says) == ("+0.1 [−0.8, +1.0]", UNDECIDED, OPEN)
    assert found.why == f"10 seeds; {of(against(0.1, 0.9)).detectable():.1f} points would have shown"
    assert "; not lower by more than 0.5; " in row(against(0.6)).why
    assert "; not higher by more than 0.5; " in row(against(-0.6)).why
    several = judgement(Claim("", "", [against(1.2), against(0)])).rows[0]
    assert f"{of(against(1.2)).detectable(2):.1f} points would have shown" in several.why


def test_what_a_verdict_says_of_its_claim():
    for borne_out, expected in (((ABOVE,), OPEN), (NOT_BELOW, FOR)):
        assert row(against(0, 0.3), borne_out).says == expected
        assert row(against(-2), borne_out).says == AGAINST
        assert row(against(2), borne_out).says == FOR
        assert row(NONE, borne_out).says == OPEN


def test_a_row_of_too_few_seeds_tells_how_long_the_rest_takes():
    found = row(against(0.4, seeds=1)._replace(seeds=3, left="21 min", notes=["a control"], paper=1.3))
    assert (found.here, found.verdict, found.why, found.printed) == (
        "+0.4",
        TOO_FEW,
        "1 of 3 seeds; 21 min to run<br>a control",
        None,
    )
    none = row(NONE._replace(seeds=3, left="2.0 h"))
    assert (none.here, none.verdict, none.why) == ("—", TOO_FEW, "not run yet; 2.0 h to run")


def test_a_row_that_cannot_be_tested_gives_the_reason_alone():
    found = row(against(-4, paper=1.0, marks="§", unfit="no such network", notes=["a control"], left="1 h"))
    assert (found.here, found.verdict, found.why) == ("−4.0 [−5.0, −3.0]§", UNTESTABLE, "no such network")


@pytest.mark.parametrize(("paper", "said"), [(-0.2, True), (0, False)])
def test_a_paper_that_contradicts_itself_is_told(paper, said):
    assert ("own numbers say otherwise" in row(against(0, paper=paper)).why) == said
    assert "own numbers" not in row(against(0, paper=paper), NOT_BELOW).why


@pytest.mark.parametrize(
    ("paper", "inside"), [(0.6, True), (-0.4, True), (-0.49, True), (-0.51, False), (0.69, True), (0.71, False)]
)
def test_inside_allows_for_the_rounding_of_the_printed_numbers(paper, inside):
    assert Printed("", "", paper, -0.4, 0.6).inside == inside


def test_runs_left_out_are_told():
    estimate = against(2).estimate
    assert estimate is not None
    assert row(Case("Ours", "DAU", estimate._replace(left_out=2), seeds=5)).why.startswith("5 seeds (CPU only); p")


def test_what_was_counted_keeps_its_verdict_and_its_tag():
    made = counted("unpooled", "33.3 %", "34.3 %", HOLDS, "counted", BY_CONSTRUCTION)
    first, second = judgement(Claim("third-less", "", [made, against(9)])).rows
    assert (first, first.says) == (made, FOR)
    assert second.verdict == ABOVE
    assert verdict_as_html(first) == '<span class="holds">holds</span><br><small>by construction</small>'
    for says in (FOR, AGAINST, OPEN):
        assert verdict_as_html(Row("", "", "", ABOVE, "", says=says)) == f'<span class="{says}">above</span>'


def test_a_control_in_words():
    assert reading(against(2)) == "DAU +2.0 [+1.0, +3.0], above"
    assert reading(against(-2, marks="¶")) == "DAU −2.0 [−3.0, −1.0]¶, below"
    assert reading(against(2, seeds=2)) == "DAU +2.0 [+1.0, +3.0], too few seeds"
    assert reading(NONE) == "not run yet"


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
    assert decide_count(share, 0.25) == expected


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
    judged = [claim.name for claim in judgements.judgements(loaded)]
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
