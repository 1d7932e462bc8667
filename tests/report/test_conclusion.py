"""Conclusions in words: they say what the verdicts say, and change with the record."""

from typing import Any

from invented import FULL, TABLE1, Page, as_in_the_paper, loaded_of, record

from gdlayer.report import conclusion, judgements
from gdlayer.report.cells import summarise
from gdlayer.report.claims import (
    BY_CONSTRUCTION,
    FAILS,
    HOLDS,
    TOO_FEW,
    UNCLEAR,
    UNTESTABLE,
    VERDICTS,
    Case,
    Comparison,
    JudgedClaim,
    Printed,
    Question,
    Row,
)
from gdlayer.report.conclusion import answer, differences, share
from gdlayer.report.missing import planned


def rows(*verdicts: str) -> list[Row]:
    return [Row(f"case {i}", "", "", verdict, f"reason {i}") for i, verdict in enumerate(verdicts)]


def test_shares_name_what_holds_or_fails_and_why_nothing_can_be_tested():
    found = rows(HOLDS, FAILS, HOLDS, UNCLEAR, TOO_FEW, UNTESTABLE)
    assert share(found, HOLDS) == "holds in 2 of 6 cases (case 0; case 2)"
    assert share(found, FAILS) == "fails in 1 of 6 cases (case 1)"
    assert share(found, UNCLEAR, TOO_FEW, UNTESTABLE) == (
        "no clear difference in 1 of 6 cases, too few seeds in 1 of 6 cases,"
        " cannot be tested here in 1 of 6 cases (reason 5)"
    )
    assert share(rows(HOLDS), HOLDS) == "holds"
    assert share(rows(HOLDS), FAILS) == ""


def test_the_papers_differences_are_counted_once():
    papers = {"a": 0.1, "b": -2, "c": 2}
    inside, larger, smaller = (Printed("Ours", name, paper, -0.4, 0.6) for name, paper in papers.items())
    first, second = rows(HOLDS, HOLDS)
    found = [first._replace(printed=[inside, larger]), second._replace(printed=[larger, smaller])]
    assert differences(found) == [
        "Of 3 that could be set against an interval of ours, 1 lie inside;"
        " of the 2 outside, ours is smaller in 1 and larger in 1.",
        "Ours, against b: the paper&#39;s −2.0, ours [−0.4, +0.6].",
        "Ours, against c: the paper&#39;s +2.0, ours [−0.4, +0.6].",
    ]
    assert differences(rows(HOLDS)) == []


def test_a_question_is_answered_case_by_case():
    question = Question("Is it?", [Case(title, [Comparison("", None)]) for title in ("here", "there")])
    assert answer(question) == "Is it?: not run yet (here; there)."


def shown(*records: dict[str, Any]) -> tuple[str, list[JudgedClaim]]:
    """The conclusion of Table 1 and its judged claims."""
    plan = planned("paper", "table1", [FULL], records)
    loaded = loaded_of(summarise([], TABLE1), None, plan)._replace(records=list(records), datasets=(FULL,))
    return Page(conclusion.render(loaded)).text, judgements.judged_claims(loaded)


def test_every_verdict_is_told_where_it_belongs():
    text, claims = shown(*as_in_the_paper(seeds=3))
    reproduces, rest = text.split("What does not.")
    fails, rest = rest.split("What stays open.")
    stays, rest = rest.split("By construction, not measured.")
    for claim in claims:
        counted = {verdict: [r.case for r in claim.rows if r.verdict == verdict and not r.tag] for verdict in VERDICTS}
        quote = TABLE1.quotes[claim.name][0].text
        for part, verdicts in ((reproduces, [HOLDS]), (fails, [FAILS]), (stays, [UNCLEAR, TOO_FEW, UNTESTABLE])):
            told = [f"{v} in {len(counted[v])} of {len(claim.rows)} cases" for v in verdicts if counted[v]]
            assert (f"“{quote}”: {told[0]}" in part) if told else (quote not in part)
            assert all(t in part for t in told)
        assert (quote in rest.split("What explains it.")[0]) == any(r.tag == BY_CONSTRUCTION for r in claim.rows)
    assert (
        "fails in 3 of 15 cases (Ours-few, 1,000 images; Ours-separated, 1,000 images; Ours-separated, 60,000 images)"
        in fails
    )
    everywhere = "1,000 images; 5,000 images; 10,000 images; 30,000 images; 60,000 images"
    assert f"Ours against Free-form 7×7: above ({everywhere})." in rest
    assert f"Ours against N-Jet: above ({everywhere})." in rest
    assert "With batch normalisation, Ours against Free-form 3×3: not run yet (1,000 images; 5,000 images)." in rest


def test_the_conclusion_changes_with_the_record():
    records = [
        r | {"metrics": {"test_accuracy": 0.5 + r["trial"]["seed"] / 100}} if r["trial"]["layer"] == "ours" else r
        for r in as_in_the_paper(seeds=3)
    ]
    after, _ = shown(*records)
    assert "Ours against N-Jet: below (1,000 images" in after
    assert "“to demonstrate the positive effect of fully training the Gaussian derives”: fails in 5 of 5 cases" in after


def test_without_a_record_everything_is_open():
    text, claims = shown(record("n-jet", 1000))
    assert "What reproduces.Nothing yet." in text.replace("\n", "")
    assert "What does not.Nothing yet." in text.replace("\n", "")
    assert all(row.verdict == TOO_FEW for claim in claims for row in claim.rows)
    assert "The paper's differences" not in text
