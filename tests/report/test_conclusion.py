"""Conclusions in words: they say what the verdicts say, and change with the record."""

from typing import Any

from invented import FULL, TABLE1, Page, as_in_the_paper, loaded_of, record

from gdlayer.report import conclusion, judgements
from gdlayer.report.cells import summarise
from gdlayer.report.claims import (
    ABOVE,
    AGAINST,
    BELOW,
    FOR,
    OPEN,
    TOO_FEW,
    UNDECIDED,
    UNTESTABLE,
    Case,
    Judgement,
    Printed,
    Question,
    Row,
)
from gdlayer.report.conclusion import answer, differences, share
from gdlayer.report.plans import planned


def rows(*verdicts: str) -> list[Row]:
    says = {ABOVE: FOR, BELOW: AGAINST}
    return [Row(f"case {i}", "", "", v, f"reason {i}", says=says.get(v, OPEN)) for i, v in enumerate(verdicts)]


def test_shares_name_what_bears_out_or_contradicts_and_why_nothing_can_be_tested():
    found = rows(ABOVE, BELOW, ABOVE, UNDECIDED, TOO_FEW, UNTESTABLE)
    assert share(found, FOR) == "above in 2 of 6 cases (case 0; case 2)"
    assert share(found, AGAINST) == "below in 1 of 6 cases (case 1)"
    assert share(found, OPEN) == (
        "undecided in 1 of 6 cases, too few seeds in 1 of 6 cases, cannot be tested here in 1 of 6 cases (reason 5)"
    )
    assert share(rows(ABOVE), FOR) == "above"
    assert share(rows(ABOVE), AGAINST) == ""


def test_the_papers_differences_are_counted_once():
    papers = {"a": 0.1, "b": -2, "c": 2}
    made = [Printed("Ours", name, p, -0.4, 0.6, frozenset({name})) for name, p in papers.items()]
    found = [row._replace(printed=p) for row, p in zip(rows(*[ABOVE] * 4), [*made, made[0]], strict=True)]
    assert differences(found) == [
        "Of 3, 1 lie in the 95 % interval in which we expect them;"
        " of the 2 outside, ours is smaller in 1 and larger in 1.",
        "Ours, against b: the paper&#39;s −2.0, expected in [−0.4, +0.6].",
        "Ours, against c: the paper&#39;s +2.0, expected in [−0.4, +0.6].",
    ]
    assert differences(rows(ABOVE)) == []


def test_a_question_is_answered_case_by_case():
    question = Question("Is it?", [Case(title, "", None) for title in ("here", "there")])
    assert answer(question) == "Is it?: not run yet (here; there)."


def shown(*records: dict[str, Any]) -> tuple[str, list[Judgement]]:
    """The conclusion of Table 1 and its judged claims."""
    plan = planned("paper", "table1", [FULL], records)
    loaded = loaded_of(summarise([], TABLE1), None, plan)._replace(records=list(records), datasets=(FULL,))
    return Page(conclusion.render(loaded)).text, judgements.judgements(loaded)


def test_every_verdict_is_told_where_it_belongs():
    text, claims = shown(*as_in_the_paper(seeds=3))
    parts = text.split("What does not.")
    reproduces, fails = parts[0], parts[1].split("What stays open.")[0]
    for claim in claims:
        quote = TABLE1.quotes[claim.name][0].text
        for part, says in ((reproduces, FOR), (fails, AGAINST)):
            told = share([r for r in claim.rows if not r.tag], says)
            assert (f"“{quote}”: {told}" in part) if told else (quote not in part)
    everywhere = ("1,000 images +2.7", "5,000 images ", "10,000 images ", "30,000 images ", "60,000 images ")
    assert "Ours against Free-form 7×7: above (" in text
    assert all(place in text.split("Ours against Free-form 7×7: above (")[1].split(")")[0] for place in everywhere)
    assert "With batch normalisation, Ours against Free-form 3×3: not run yet (1,000 images; 5,000 images)." in text


def test_the_conclusion_changes_with_the_record():
    records = [
        r | {"metrics": {"test_accuracy": 0.5 + r["trial"]["seed"] / 100}} if r["trial"]["layer"] == "ours" else r
        for r in as_in_the_paper(seeds=3)
    ]
    after, _ = shown(*records)
    assert "Ours against N-Jet: below (1,000 images" in after
    assert "“to demonstrate the positive effect of fully training the Gaussian derives”: below in 5 of 5 cases" in after


def test_without_a_record_everything_is_open():
    text, claims = shown(record("n-jet", 1000))
    assert "What reproduces.Nothing yet." in text.replace("\n", "")
    assert "What does not.Nothing yet." in text.replace("\n", "")
    assert all(row.verdict == TOO_FEW for claim in claims for row in claim.rows)
    assert "The paper's differences" not in text
