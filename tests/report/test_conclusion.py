"""What is told beside the verdicts, and changes with the record."""

from typing import Any

from invented import FULL, TABLE1, Page, as_in_the_paper, loaded_of, record

from gdlayer.report import conclusion
from gdlayer.report.cells import summarise
from gdlayer.report.claims import UNDECIDED, Case, Printed, Question, Row
from gdlayer.report.conclusion import answer, differences
from gdlayer.report.plans import planned


def test_the_papers_differences_are_counted_once():
    papers = {"a": 0.1, "b": -2, "c": 2}
    made = [Printed("Ours", name, p, -0.4, 0.6, frozenset({name})) for name, p in papers.items()]
    rows = [Row("", "", "", UNDECIDED, "", printed=one) for one in (*made, made[0], None)]
    assert differences(rows) == [
        "Of 3, 1 lie in the 95 % interval in which we expect them;"
        " of the 2 outside, ours is smaller in 1 and larger in 1.",
        "Ours, against b: the paper&#39;s −2.0, expected in [−0.4, +0.6].",
        "Ours, against c: the paper&#39;s +2.0, expected in [−0.4, +0.6].",
    ]
    assert differences(rows[-1:]) == []


def test_a_question_is_answered_case_by_case():
    question = Question("Is it?", [Case(title, "", None) for title in ("here", "there")])
    assert answer(question) == "Is it?: not run yet (here; there)."


def shown(*records: dict[str, Any]) -> str:
    """What Table 1 shows beside its verdicts."""
    plan = planned("paper", "table1", [FULL], records)
    loaded = loaded_of(summarise([], TABLE1), None, plan)._replace(records=list(records), datasets=(FULL,))
    return Page(conclusion.render(loaded)).text


def test_controls_are_answered_by_size():
    text = shown(*as_in_the_paper(seeds=3))
    everywhere = ("1,000 images +2.7", "5,000 images ", "10,000 images ", "30,000 images ", "60,000 images ")
    told = text.split("Ours against Free-form 7×7: above (")[1].split(")")[0]
    assert all(place in told for place in everywhere)
    assert "With batch normalisation, Ours against Free-form 3×3: not run yet (1,000 images; 5,000 images)." in text


def test_the_answers_change_with_the_record():
    records = [
        r | {"metrics": {"test_accuracy": 0.5 + r["trial"]["seed"] / 100}} if r["trial"]["layer"] == "ours" else r
        for r in as_in_the_paper(seeds=3)
    ]
    assert "Ours against N-Jet: below (1,000 images" in shown(*records)


def test_without_a_record_the_papers_differences_are_not_shown():
    assert "The paper's differences" not in shown(record("n-jet", 1000))
