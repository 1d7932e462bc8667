"""What an experiment's record says of the paper, in words: made from the verdicts, so that it is true of the record."""

from collections.abc import Iterable, Sequence

from markupsafe import Markup

from gdlayer.report import markup
from gdlayer.report.claims import (
    AGAINST,
    FOR,
    NOT_RUN,
    OPEN,
    UNTESTABLE,
    VERDICTS,
    Judgement,
    Printed,
    Question,
    Row,
    decide,
    signed,
)
from gdlayer.report.judgements import judgements
from gdlayer.report.loaded import Loaded

ALWAYS = ("What reproduces", "What does not", "What stays open")
"""The sections that are shown empty too."""


def render(loaded: Loaded) -> Markup:
    """HTML: what reproduces, what does not, what stays open, where the paper's differences lie, what explains it."""
    found = judgements(loaded)
    measured = [claim._replace(rows=[r for r in claim.rows if not r.tag]) for claim in found]
    chosen = [claim._replace(rows=[r for r in claim.rows if r.tag]) for claim in found]

    def told(claims: Iterable[Judgement], *says: str) -> list[Markup]:
        quotes = loaded.experiment.quotes
        texts = ((quotes[claim.name][0].text, share(claim.rows, *says)) for claim in claims)
        return [Markup("“{}”: {}.").format(quote, text) for quote, text in texts if text]

    sections = {
        "What reproduces": told(measured, FOR),
        "What does not": told(measured, AGAINST),
        "What stays open": told(measured, OPEN),
        "By construction, not measured": told(chosen, FOR, AGAINST, OPEN),
        "The paper's differences": differences([row for claim in found for row in claim.rows]),
        "What explains it": [Markup.escape(answer(q)) for claim in found for q in claim.questions if q.cases],
    }
    parts = [
        Markup("<p><b>{}.</b></p>{}").format(title, markup.bullets(texts or ["Nothing yet."]))
        for title, texts in sections.items()
        if texts or title in ALWAYS
    ]
    return markup.folded("Claim by claim in words, made from the verdicts", Markup("\n").join(parts))


def share(rows: Sequence[Row], *says: str) -> str:
    """How many cases of a claim say this of it, and with which verdicts; which, where they are for or against it."""
    texts = []
    for verdict in VERDICTS:
        found = [row for row in rows if row.verdict == verdict and row.says in says]
        if not found:
            continue
        named = "why" if verdict == UNTESTABLE else "case" if {FOR, AGAINST} & {*says} else ""
        told = "; ".join(dict.fromkeys(getattr(row, named) for row in found)) if named and len(rows) > 1 else ""
        count = f" in {len(found)} of {len(rows)} cases" if len(rows) > 1 else ""
        texts.append(f"{verdict}{count}{f' ({told})' if told else ''}")
    return ", ".join(texts)


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
