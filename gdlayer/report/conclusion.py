"""What a record says beside its verdicts: where the paper's differences lie, and what the controls answer."""

from collections.abc import Iterable

from markupsafe import Markup

from gdlayer.report import markup
from gdlayer.report.claims import NOT_RUN, Printed, Question, Row, decide, signed
from gdlayer.report.judgements import judgements
from gdlayer.report.loaded import Loaded


def render(loaded: Loaded) -> Markup:
    """HTML, folded: where the paper's differences lie, and what the controls answer."""
    claims = judgements(loaded)
    sections = {
        "The paper's differences": differences([row for claim in claims for row in claim.rows]),
        "What explains it": [Markup.escape(answer(q)) for claim in claims for q in claim.questions if q.cases],
    }
    parts = [
        Markup("<p><b>{}.</b></p>{}").format(title, markup.bullets(texts)) for title, texts in sections.items() if texts
    ]
    return markup.folded("More comparisons, case by case", Markup("\n").join(parts)) if parts else Markup()


def differences(rows: Iterable[Row]) -> list[Markup]:
    """How many of the paper's differences lie where we would expect them, and those that do not.

    A difference and its mirror image, of the same two cells, count once.
    """
    printed = {found.cells: found for row in rows if (found := row.printed)}
    if not printed:
        return []
    outside = [found for found in printed.values() if not found.inside]
    smaller = sum(found.high < found.paper for found in outside)
    count = (
        f"Of {len(printed)}, {len(printed) - len(outside)} lie in the 95 % interval in which we expect them;"
        f" of the {len(outside)} outside, ours is smaller in {smaller} and larger in {len(outside) - smaller}."
    )
    return [Markup.escape(count), *(Markup.escape(_beside(found)) for found in outside)]


def _beside(found: Printed) -> str:
    interval = f"[{signed(found.low)}, {signed(found.high)}]"
    return f"{found.case}, against {found.against}: the paper's {signed(found.paper)}, expected in {interval}."


def answer(question: Question) -> str:
    """The question with its answer: where the difference is above, below, equal or undecided."""
    answers = [f"{told} ({'; '.join(cases)})" for told, cases in places(question).items()]
    return f"{question.text}: {', '.join(answers)}."


def places(question: Question) -> dict[str, list[str]]:
    """The cases of a question by their verdicts, with the differences."""
    found: dict[str, list[str]] = {}
    for case, outcome in zip(question.cases, decide(question.cases), strict=True):
        told, number = outcome.verdict, ""
        if case.estimate is None:
            told = NOT_RUN
        elif not case.obstacle:
            number = f" {signed(case.estimate.difference.mean)}"
        found.setdefault(told, []).append(f"{case.title}{number}")
    return found
