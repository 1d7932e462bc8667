"""The paper's claims judged by the record: paired differences with intervals, and stated rules for the verdicts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from gdlayer.experiments.experiment import Experiment
from gdlayer.extras import extra
from gdlayer.report import markup
from gdlayer.report.cells import DEVICES, KIND, Selector, interval, marks, published_at, rows_of, select

with extra("report"):
    import pandas as pd

HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"
MIN_SEEDS = 3
"""Fewer pairs than this decide nothing."""
TOO_FEW = f"fewer than {MIN_SEEDS} seeds"
TOLERANCE = 0.1
"""How far a counted fraction may lie from the printed one, relative to it."""
NOT_RUN, REDUCED, STAND_IN = "not run yet", "reduced budget", "embedded stand-in"


class Estimate(NamedTuple):
    """A mean difference in percentage points with its 95 % interval, NaN for one pair; what it was made of."""

    mean: float
    low: float
    high: float
    seeds: int
    kind: tuple[str, ...]
    left_out: int
    """Pairs of another kind: never averaged with these."""


class Judged(NamedTuple):
    """A verdict, and what it rests on."""

    verdict: str
    reason: str
    estimate: Estimate | None
    against: str


class Row(NamedTuple):
    """One case of a claim, as text; ``why`` may be HTML."""

    case: str
    paper: str
    here: str
    verdict: str
    why: str


class Claim(NamedTuple):
    """A claim by its name in the experiment's ``claims.csv``, the rule of its verdicts, and its cases."""

    name: str
    rule: str
    rows: Sequence[Row]


def paired(trials: pd.DataFrame, one: Selector, other: Selector, alike: Sequence[str] = KIND) -> Estimate | None:
    r"""The mean difference ``one`` - ``other`` over the seeds that both have, with its 95 % interval by Student's t.

    .. math:: \bar d \pm t_{0.975, n-1} \, s_d / \sqrt n

    Only trials of the same kind and machine make a pair, and only pairs of one kind are averaged: of the kind with the
    most.

    Parameters
    ----------
    trials : as :func:`gdlayer.report.cells.per_trial` gives them
    one, other : selectors of a cell and metric
    alike : what a kind is

    Returns
    -------
    Estimate, or None if there is no pair
    """
    pairs: dict[tuple[str, ...], list[float]] = {}

    def kind_of_pair(row: Any) -> tuple[str, ...]:
        return tuple(getattr(row, name) for name in alike)

    second = {(kind_of_pair(row), row.seed, row.machine): row.value for row in rows_of(select(trials, other))}
    for row in rows_of(select(trials, one)):
        kind = kind_of_pair(row)
        if (value := second.get((kind, row.seed, row.machine))) is not None:
            pairs.setdefault(kind, []).append(row.value - value)
    if not pairs:
        return None
    kind = max(sorted(pairs), key=lambda kind: len(pairs[kind]))
    differences = np.array(pairs[kind])
    mean, count = differences.mean(), len(differences)
    deviation = differences.std(ddof=1) if count > 1 else np.array(np.nan)
    low, high = interval(mean, deviation, np.array(count))
    return Estimate(float(mean), float(low), float(high), count, kind, sum(map(len, pairs.values())) - count)


def judge(estimate: Estimate | None, margin: float = 0.0, against: str = "") -> Judged:
    """Whether a difference is above minus the margin: above 0, or with a margin not lower by more than it.

    - holds: the whole interval lies above minus the margin;
    - fails: the whole interval lies below it;
    - undecided: the interval reaches both sides, there are fewer than :data:`MIN_SEEDS` pairs, the budget is reduced or
      the data are a stand-in, or nothing was run.
    """
    if estimate is None:
        return Judged(UNDECIDED, NOT_RUN, estimate, against)
    dataset, profile = estimate.kind[:2]
    if sign := marks(dataset, profile):
        return Judged(UNDECIDED, STAND_IN if "†" in sign else REDUCED, estimate, against)
    if estimate.seeds < MIN_SEEDS:
        return Judged(UNDECIDED, TOO_FEW, estimate, against)
    if estimate.low > -margin:
        return Judged(HOLDS, "", estimate, against)
    if estimate.high < -margin:
        return Judged(FAILS, "", estimate, against)
    return Judged(UNDECIDED, "the interval reaches both sides", estimate, against)


def judge_all(judged: Sequence[Judged]) -> Judged:
    """Of several comparisons that must all hold the one that decides: fails if one does, holds if all do."""
    by_verdict = {verdict: [j for j in judged if j.verdict == verdict] for verdict in (FAILS, UNDECIDED, HOLDS)}
    deciding = next(group for group in by_verdict.values() if group)
    known = [j for j in deciding if j.estimate is not None]
    if not known:
        return deciding[0]
    return min(known, key=lambda j: j.estimate.mean if j.estimate else np.inf)


def judge_count(share: float | None, claimed: float) -> tuple[str, str]:
    """Verdict and reason on a counted share: holds within :data:`TOLERANCE` of the printed one, relative to it."""
    if share is None:
        return UNDECIDED, NOT_RUN
    near = abs(share - claimed) <= TOLERANCE * claimed
    return (HOLDS if near else FAILS), "counted"


def compare(
    trials: pd.DataFrame, experiment: Experiment, one: Selector, others: Mapping[str, Selector], margin: float = 0.0
) -> tuple[Judged, str, str]:
    """One cell against each of others: the comparison that decides, the paper's closest difference, and ours in words.

    Parameters
    ----------
    trials : as :func:`gdlayer.report.cells.per_trial` gives them
    experiment : Experiment
    one : selector of a cell and metric
    others : {title: selector}
    margin : percentage points
    """
    decided = judge_all([judge(paired(trials, one, other), margin, title) for title, other in others.items()])
    own = published_at(experiment, one)
    differences = {
        title: own - number
        for title, other in others.items()
        if own is not None and (number := published_at(experiment, other)) is not None
    }
    closest = min(differences, key=lambda title: differences[title], default=None)
    paper = "—" if closest is None else signed(differences[closest]) + _named(closest, others)
    here = "—" if decided.estimate is None else estimate_in_words(decided.estimate) + _named(decided.against, others)
    return decided, paper, here


def _named(title: str, others: Mapping[str, Selector]) -> str:
    return f" ({title})" if len(others) > 1 else ""


def signed(points: float) -> str:
    """Percentage points with a sign: "+0.4", "−1.2", "0.0"."""
    text = f"{points:+.1f}".replace("-", "−")
    return "0.0" if text[1:] == "0.0" else text


def estimate_in_words(estimate: Estimate) -> str:
    """The difference, its interval, and the signs of what cannot be held against the paper."""
    dataset, profile = estimate.kind[:2]
    interval = f" [{signed(estimate.low)}, {signed(estimate.high)}]" if estimate.seeds > 1 else ""
    return f"{signed(estimate.mean)}{interval}{marks(dataset, profile)}"


def reading(judged: Judged, holds: str, fails: str, undecided: str) -> str:
    """A control in words: its difference, and what it says of the claim."""
    if judged.estimate is None:
        return NOT_RUN
    told = TOO_FEW if judged.reason == TOO_FEW else {HOLDS: holds, FAILS: fails, UNDECIDED: undecided}[judged.verdict]
    return f"{judged.against} {estimate_in_words(judged.estimate)}, {told}"


def why(judged: Judged, *controls: str) -> str:
    """The reason of a verdict and what the controls say; the reason alone of a run that cannot decide anything."""
    if judged.reason in (STAND_IN, REDUCED):
        return judged.reason
    seeds = markup.seeds(judged.estimate.seeds) if judged.estimate and judged.reason != TOO_FEW else ""
    if seeds and judged.estimate and judged.estimate.left_out:
        seeds = f"{seeds} ({DEVICES.get(judged.estimate.kind[-1], judged.estimate.kind[-1])} only)"
    return markup.lines(markup.items(seeds, judged.reason), *controls)


def tally(claim: Claim) -> str:
    """How many cases of a claim hold, fail and are undecided."""
    verdicts = [row.verdict for row in claim.rows]
    counts = {verdict: verdicts.count(verdict) for verdict in (HOLDS, FAILS, UNDECIDED)}
    return ", ".join(f"{verdict} {count}" for verdict, count in counts.items() if count)


def quoted(text: str, where: str) -> Markup:
    """A sentence of the paper, and where it stands."""
    return markup.sentences(f"“{text}”", markup.small(f"({where})"))


def render(experiment: Experiment, claims: Iterable[Claim], foot: str = "") -> Markup:
    """HTML of the claims: each with its sentences and rule, below them its cases."""
    rows: list[Sequence[str]] = []
    for claim in claims:
        said = [quoted(quote.text, quote.where) for quote in experiment.quotes[claim.name]]
        rows.append([markup.lines(*said, markup.small(claim.rule))])
        rows += [[r.case, r.paper, r.here, markup.marked(r.verdict, r.verdict), r.why] for r in claim.rows]
    table = markup.table(["claim", "paper", "here", "verdict", "why"], rows, "results claims")
    return table + markup.note(f"{RULES}{foot}")


RULES = (
    "Differences in percentage points, here with the 95 % interval of the mean difference, paired over seeds (Student's"
    f" t). Undecided: the interval reaches both sides, or fewer than {MIN_SEEDS} seeds, or a reduced budget (‡), or a"
    " stand-in instead of the data (†). A control gives the same layer's difference from the one named. Each interval"
    " is of one comparison: of twenty, one may miss."
)
