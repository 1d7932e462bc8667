"""The answers of the experiments: each as its question, an answer in words, one number and a link."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from markupsafe import Markup

from gdlayer.report import markup
from gdlayer.report.claims import AGAINST, FOR, NOT_RUN, OPEN, TOO_FEW, UNTESTABLE, Question, Row
from gdlayer.report.conclusion import places
from gdlayer.report.judgements import judgements
from gdlayer.report.loaded import Loaded
from gdlayer.trials.spread import agreement

WORDS = {FOR: "Yes", AGAINST: "No"}
UNRUN = {TOO_FEW: "Too few runs so far", UNTESTABLE: "Cannot be tested here"}
IN_PART, NOT_CLEAR, NOT_JUDGED = "In part", "Not clear", "Not judged"


class Card(NamedTuple):
    """The answer to an experiment's question, which its first claim answers; without a claim it is not judged.

    Attributes
    ----------
    title : str
    page : name of the chapter
    question : str
    word : "Yes", "No" or what else the answer is in short
    cases : how many cases of the claim have which verdict
    number : the difference of one case, beside the paper's; "" before there is one
    further : answers to the questions without which this one is not complete
    """

    title: str
    page: str
    question: str
    word: str
    cases: str
    number: str
    further: Sequence[str]

    @property
    def colour(self) -> str:
        return {word: says for says, word in WORDS.items()}.get(self.word, OPEN)


def card(loaded: Loaded) -> Card:
    """The answer that an experiment's record gives."""
    found, experiment = judgements(loaded), loaded.experiment
    rows = found[0].rows if found else []
    return Card(
        experiment.title,
        experiment.name,
        experiment.page.QUESTION,
        word(rows),
        counted([row.verdict for row in rows]),
        number(rows),
        [told for claim in found for q in claim.questions if q.headline and (told := further(q))],
    )


def word(rows: Sequence[Row]) -> str:
    """The answer in short: "In part" where a claim is borne out or contradicted in some cases, but not in all."""
    says = {row.says for row in rows}
    if not says:
        return NOT_JUDGED
    if len(says) > 1:
        return IN_PART
    verdicts = {row.verdict for row in rows}
    return WORDS.get(says.pop()) or (UNRUN.get(verdicts.pop(), NOT_CLEAR) if len(verdicts) == 1 else NOT_CLEAR)


def counted(told: Sequence[str]) -> str:
    """How often each is told: "holds in 3 of 5 cases, too few seeds in 2"."""
    if not told:
        return "no case"
    first, *others = Counter(told).most_common()
    text = first[0] if len(told) == 1 else f"{first[0]} in {first[1]} of {len(told)} cases"
    return ", ".join([text, *(f"{name} in {count}" for name, count in others)])


def number(rows: Iterable[Row]) -> str:
    """The difference of the first case that seeds decide, or else of the first that has one and can be tested."""
    found = [row for row in rows if row.measured is not None and row.verdict != UNTESTABLE]
    row = min(found, key=lambda row: row.verdict == TOO_FEW, default=None)
    if row is None:
        return ""
    paper = "" if row.paper == "—" else f"; the paper's {row.paper}"
    return f"{row.case}: {row.here} percentage points{paper}"


def further(question: Question) -> str:
    """A question that belongs to the answer, and what its cases say; "" before any is run."""
    told = [told for told, cases in places(question).items() for _ in cases]
    return "" if {*told} <= {NOT_RUN, TOO_FEW} else f"{question.text}: {counted(told)}."


def render(tables: Mapping[str, Loaded]) -> Markup:
    """HTML of the answers, a card per experiment; of a user's own run also how far it agrees with the record.

    Parameters
    ----------
    tables : {experiment: as :func:`gdlayer.report.loaded.load` gives it}
    """
    answers = markup.division("answers", *(_division(card(loaded), link=True) for loaded in tables.values()))
    return answers + (markup.paragraph(told) if (told := agreement_in_words(tables)) else Markup())


def agreement_in_words(tables: Mapping[str, Loaded]) -> str:
    """How many trials of a user's own run lie within the spread of the record; "" where there is nothing to compare."""
    counts = [agreement(loaded.records, loaded.kept) for loaded in tables.values()]
    within, compared = (sum(count) for count in zip(*counts, strict=True))
    if not compared:
        return ""
    return (
        f"{within} of {compared} trials of this run lie within the spread of the record: no metric differs by more than"
        " twice the standard deviation of the difference of two seeds."
    )


def answer(loaded: Loaded) -> Markup:
    """HTML of the answer at the head of its own chapter."""
    return markup.division("answers", _division(card(loaded)))


def _division(found: Card, *, link: bool = False) -> Markup:
    return markup.division(
        f"answer {found.colour}",
        markup.paragraph(markup.bold(found.question)),
        markup.paragraph(markup.sentences(markup.marked(f"{found.word}:", found.colour), f"{found.cases}.")),
        *(markup.paragraph(f"For example: {text}.") for text in (found.number,) if text),
        *(markup.paragraph(text) for text in found.further),
        *([markup.paragraph(markup.link(found.title, f"{found.page}.html"))] if link else []),
    )


def markdown(tables: Mapping[str, Loaded]) -> str:
    """The answers as a table in Markdown, with links to the notebooks."""
    found = [card(loaded) for loaded in tables.values()]
    rows = [
        f"| [{c.title}](book/{c.page}.ipynb): {c.question} | **{c.word}**: {c.cases} | {c.number or '—'} |"
        for c in found
    ]
    return "\n".join(["| question | answer | for example |", "| --- | --- | --- |", *rows])
