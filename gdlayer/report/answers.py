"""The answers of the experiments, written by hand; each sentence is held to the record that its numbers come from."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from statistics import fmean
from typing import Any, NamedTuple

from markupsafe import Markup

from gdlayer.report import markup
from gdlayer.report.cells import published_at, select
from gdlayer.report.claims import Case, decide, signed
from gdlayer.report.judgements import Comparer
from gdlayer.report.loaded import FULLEST, Loaded, load
from gdlayer.trials.spread import agreement

STALE = "(the record no longer says this)"
OF_RECORD = "by the repository's record, not by this run"
UNWRITTEN = "No answer is written yet."
FRONT = 2
"""How many of an answer's sentences stand on the front page: what the paper claims, and what was found."""


class NotRecordedError(LookupError):
    """The record lacks what an answer needs."""


class Sentence(NamedTuple):
    """A sentence of an answer, its numbers taken from the record, and whether the record bears out its words."""

    text: str
    follows: bool = True


class Numbers:
    """An experiment's record, as its answer asks for it; what the record lacks is a NotRecordedError.

    Parameters
    ----------
    loaded : the experiment's record
    metric : the one meant unless told
    """

    def __init__(self, loaded: Loaded, metric: str) -> None:
        self.loaded, self.metric = loaded, metric
        self._comparer = Comparer(loaded)

    def mean(self, layer: str, **cell: Any) -> float:
        """Mean over seeds of a cell, in percent."""
        values = select(self._comparer.trials, self._cell(layer, cell))["value"].tolist()
        if not values:
            raise NotRecordedError(f"no record of {layer} with {cell}")
        return fmean(values)

    def paper(self, layer: str, **cell: Any) -> float:
        """The number that the paper prints, in percent."""
        found = published_at(self.loaded.experiment, self._cell(layer, cell))
        if found is None:
            raise NotRecordedError(f"the paper prints no number of {layer} with {cell}")
        return found

    def parameters(self, layer: str, **cell: Any) -> int:
        """Trainable parameters of a cell's network."""
        found = self._comparer.count({"layer": layer, **cell})
        if found is None:
            raise NotRecordedError(f"no record of {layer} with {cell}, or different numbers of parameters")
        return found

    def case(self, one: str, other: str, **cell: Any) -> Case:
        """One layer against another in a cell."""
        return self._comparer.case("", self._cell(one, cell), self._cell(other, cell))

    def across(self, one: str, other: str, **cells: Sequence[Any]) -> list[Case]:
        """One layer against another in every cell: ``across("ours", "rfnn", n_train=(1000, 5000))``."""
        return [self.case(one, other, **dict(zip(cells, values, strict=True))) for values in product(*cells.values())]

    def _cell(self, layer: str, cell: Mapping[str, Any]) -> dict[str, Any]:
        return {"metric": self.metric, **cell, "layer": layer}


def minus(case: Case) -> float:
    """The mean difference of a case, in percentage points."""
    if case.estimate is None:
        raise NotRecordedError(f"no block of the record decides {case.title or 'a case'} against {case.against}")
    return case.estimate.difference.mean


def points(number: float) -> str:
    """Without a sign: "1.2"."""
    return f"{number:.1f}"


def between(numbers: Iterable[float], form: Callable[[float], str] = signed) -> str:
    """The smallest and the largest: "+1.2 to +4.9"; one where they are alike."""
    low, *_, high = sorted([*numbers] * 2)
    return " to ".join(dict.fromkeys((form(low), form(high))))


def all_of(cases: Sequence[Case], *verdicts: str) -> bool:
    """Whether every case, judged with the others, has one of the verdicts."""
    return all(outcome.verdict in verdicts for outcome in decide(cases))


def count(cases: Sequence[Case], verdict: str) -> int:
    """How many cases, judged together, have the verdict."""
    return sum(outcome.verdict == verdict for outcome in decide(cases))


def sentences(loaded: Loaded) -> list[Sentence]:
    """The answer of an experiment's committed record, beside a user's own run too; none before it is written."""
    module, kept = loaded.experiment.answer, loaded.committed
    if module is None:
        return []
    try:
        return module.sentences(load(kept, FULLEST, loaded.experiment.name, "", kept) if _own_run(loaded) else loaded)
    except NotRecordedError as error:
        return [Sentence(f"The record lacks what the answer needs: {error}.", follows=False)]


def _own_run(loaded: Loaded) -> bool:
    """Whether its records are a user's own, beside those of the repository."""
    return loaded.committed is not None and loaded.folder.resolve() != loaded.committed.resolve()


def answer(loaded: Loaded) -> Markup:
    """HTML of the question and the whole answer, at the head of the experiment's chapter."""
    return markup.division("answers", _division(loaded, sentences(loaded)))


def render(tables: Mapping[str, Loaded]) -> Markup:
    """HTML of the question, the claim and the finding of each experiment, with a link to its chapter.

    Of a user's own run also how far it agrees with the record.

    Parameters
    ----------
    tables : {experiment: as :func:`gdlayer.report.loaded.load` gives it}
    """
    parts = [
        _division(loaded, sentences(loaded)[:FRONT], markup.link(loaded.experiment.title, f"{name}.html"))
        for name, loaded in tables.items()
    ]
    told = agreement_in_words(tables)
    return markup.division("answers", *parts) + (markup.paragraph(told) if told else Markup())


def markdown(tables: Mapping[str, Loaded]) -> str:
    """The same as a list in Markdown, with links to the notebooks."""
    return "\n".join(
        f"- **[{loaded.experiment.title}](book/{name}.ipynb): {loaded.experiment.page.QUESTION}** {_in_words(loaded)}"
        for name, loaded in tables.items()
    )


def in_words(tables: Mapping[str, Loaded]) -> str:
    """The claim and the finding of each experiment as plain text."""
    return " ".join(
        f"{loaded.experiment.title}{f', {OF_RECORD}' * _own_run(loaded)}: {_in_words(loaded)}"
        for loaded in tables.values()
    )


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


def _in_words(loaded: Loaded) -> str:
    return " ".join(_text(found) for found in sentences(loaded)[:FRONT]) or UNWRITTEN


def _division(loaded: Loaded, found: list[Sentence], *links: Markup) -> Markup:
    here = f"Here, {OF_RECORD}." if _own_run(loaded) else "Here."
    parts = {"Claim.": found[:1], here: found[1:2], "Why.": found[2:]}
    return markup.division(
        "answer",
        markup.paragraph(markup.bold(loaded.experiment.page.QUESTION)),
        *(
            markup.paragraph(markup.sentences(markup.bold(part), *map(_text, written)))
            for part, written in parts.items()
            if written
        ),
        *([] if found else [markup.paragraph(UNWRITTEN)]),
        *map(markup.paragraph, links),
    )


def _text(found: Sentence) -> str:
    return found.text if found.follows else f"{found.text} {STALE}"
