"""The paper's claims judged by the record: differences with intervals, and stated rules for the verdicts."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from markupsafe import Markup

from gdlayer.experiments.experiment import Experiment
from gdlayer.report import markup
from gdlayer.report.blocks import Estimate
from gdlayer.report.cells import DEVICES
from gdlayer.report.differences import ALPHA, holm

HOLDS, FAILS, UNCLEAR = "holds", "fails", "no clear difference"
TOO_FEW, UNTESTABLE = "too few seeds", "cannot be tested here"
VERDICTS = (HOLDS, FAILS, UNCLEAR, TOO_FEW, UNTESTABLE)
BY_CONSTRUCTION = "by construction"
"""Tag of a verdict that was decided when widths and bases were chosen, not by training."""
MIN_SEEDS = 3
"""Fewer seeds than this decide nothing."""
TOLERANCE = 0.1
"""How far a counted fraction may lie from the printed one, relative to it."""
ROUNDING = 0.1
"""How far a difference of two printed numbers may be off, in points, as both are rounded to one decimal."""
NOT_RUN, REDUCED, STAND_IN = "not run yet", "reduced budget", "embedded stand-in"


class Comparison(NamedTuple):
    """One cell against another.

    Attributes
    ----------
    against : title of the other
    estimate : ours, None without a block that has both
    paper : float or None
        The difference of the paper's numbers.
    marks : signs of :data:`gdlayer.report.cells.MARKS`
    """

    against: str
    estimate: Estimate | None
    paper: float | None = None
    marks: str = ""

    @property
    def obstacle(self) -> tuple[str, str] | None:
        """The verdict and its reason where the runs can decide nothing."""
        if self.estimate is None:
            return TOO_FEW, ""
        if "†" in self.marks:
            return UNTESTABLE, STAND_IN
        if "‡" in self.marks:
            return UNTESTABLE, REDUCED
        return (TOO_FEW, "") if self.estimate.difference.blocks < MIN_SEEDS else None

    @property
    def mean(self) -> float:
        """The mean difference; infinite where nothing was run."""
        return self.estimate.difference.mean if self.estimate else math.inf

    def more(self, margin: float) -> float:
        """p value against the difference being above minus the margin."""
        return self.estimate.difference.chance_of_more(-margin) if self.estimate else 1.0

    def less(self, margin: float) -> float:
        """p value against the difference being below minus the margin."""
        return self.estimate.difference.chance_of_less(-margin) if self.estimate else 1.0


class Case(NamedTuple):
    """A case of a claim that the record decides: one cell against one or several others.

    Attributes
    ----------
    title : str
    comparisons : with each of the others; all must hold
    margin : float
        Percentage points by which the cell may be lower.
    notes : further reasons, as text or HTML
    seeds : int
        How many the profile asks for.
    left : how long the missing trials take, in words; "" if none is missing
    unfit : str
        Why no record can decide it; "" if one can.
    """

    title: str
    comparisons: Sequence[Comparison]
    margin: float = 0.0
    notes: Sequence[str] = ()
    seeds: int = 0
    left: str = ""
    unfit: str = ""


class Printed(NamedTuple):
    """A difference of the paper's numbers beside our 95 % interval of it."""

    case: str
    against: str
    paper: float
    low: float
    high: float

    @property
    def inside(self) -> bool:
        """Whether it lies in our interval, as far as the rounding of the printed numbers allows to tell."""
        return self.low - ROUNDING <= self.paper <= self.high + ROUNDING


class Measured(NamedTuple):
    """Our mean difference with its 95 % interval, and the paper's difference of the same two cells, if it has both."""

    mean: float
    interval: tuple[float, float]
    paper: float | None


class Row(NamedTuple):
    """One case of a claim with its verdict, as text; ``why`` may be HTML."""

    case: str
    paper: str
    here: str
    verdict: str
    why: str
    tag: str = ""
    printed: Sequence[Printed] = ()
    measured: Measured | None = None
    """The difference that decides, as numbers."""


class Question(NamedTuple):
    """What may explain a claim's verdicts: a question, its cases, and how to say that a case holds or fails."""

    text: str
    cases: Sequence[Case]
    above: str = "above"
    below: str = "below"
    headline: bool = False
    """Whether the experiment's answer is not complete without it."""


class Claim(NamedTuple):
    """A claim by its name in the experiment's ``claims.csv``, the rule of its verdicts, its cases, what explains it."""

    name: str
    rule: str
    rows: Sequence[Row | Case]
    questions: Sequence[Question] = ()


class JudgedClaim(NamedTuple):
    """A claim whose cases all have their verdict."""

    name: str
    rule: str
    rows: Sequence[Row]
    questions: Sequence[Question]


class Judged(NamedTuple):
    """A verdict and what it rests on: the comparison that decides, its corrected p value, and of how many it is one."""

    verdict: str
    reason: str
    deciding: Comparison
    chance: float | None = None
    of: int = 1


def judge(cases: Sequence[Case]) -> list[Judged]:
    r"""The verdicts on all cases of a claim.

    With margin m, a cell is to be above each of the others, or not lower than it by more than m:

    - holds: the differences from all others are above -m;
    - fails: the difference from one of them is below -m;
    - no clear difference: neither can be told;
    - too few seeds: fewer than :data:`MIN_SEEDS`, or none;
    - cannot be tested here: reduced budget, a stand-in for the data, or what the claim is about was not at hand.

    The tests are to one side, at 2.5 % each, the level of a 95 % interval. Among the cases of the claim they are
    corrected by Holm's steps: for "holds" the p values of the cases, each the largest of its comparisons; for "fails"
    those of all comparisons.
    """
    ready = [[] if case.unfit else [c for c in case.comparisons if not c.obstacle] for case in cases]
    pairs = list(zip(cases, ready, strict=True))
    less = [c.less(case.margin) for case, found in pairs for c in found]
    more = [max(c.more(case.margin) for c in found) for case, found in pairs if len(found) == len(case.comparisons)]
    each_less, each_more = iter(holm(less)), iter(holm(more))
    verdicts = []
    for case, found in pairs:
        failing = {c: p for c, p in zip(found, each_less, strict=False) if p < ALPHA}
        chance = next(each_more) if len(found) == len(case.comparisons) else None
        if failing:
            worst = min(failing, key=lambda c: c.mean)
            verdicts.append(Judged(FAILS, "", worst, failing[worst], len(less)))
        elif chance is None:
            verdicts.append(_undecided(case))
        else:
            closest = max(found, key=lambda c: c.more(case.margin))
            verdicts.append(Judged(HOLDS if chance < ALPHA else UNCLEAR, "", closest, chance, len(more)))
    return verdicts


def _undecided(case: Case) -> Judged:
    """Of a case that has no complete set of runs that could decide."""
    if case.unfit:
        return Judged(UNTESTABLE, case.unfit, min(case.comparisons, key=lambda c: c.mean))
    obstacles = {c: found for c in case.comparisons if (found := c.obstacle)}
    deciding = min(obstacles, key=lambda c: c.mean)
    return Judged(*obstacles[deciding], deciding)


def judge_claim(claim: Claim) -> JudgedClaim:
    """The claim with its verdicts: its cases judged together, what was counted as it is."""
    cases = [row for row in claim.rows if isinstance(row, Case)]
    made = iter([_row(case, judged) for case, judged in zip(cases, judge(cases), strict=True)])
    rows = [next(made) if isinstance(row, Case) else row for row in claim.rows]
    return JudgedClaim(claim.name, claim.rule, rows, claim.questions)


def _row(case: Case, judged: Judged) -> Row:
    several = len(case.comparisons) > 1
    papers = [c for c in case.comparisons if c.paper is not None]
    closest = min(papers, key=lambda c: c.paper or 0.0, default=None)
    paper, here = "—", "—"
    if closest is not None and closest.paper is not None:
        paper = signed(closest.paper) + f" ({closest.against})" * several
    if judged.deciding.estimate is not None:
        here = (
            estimate_in_words(judged.deciding.estimate, judged.deciding.marks)
            + f" ({judged.deciding.against})" * several
        )
    printed = [
        Printed(case.title, c.against, c.paper, *c.estimate.difference.interval)
        for c in papers
        if c.paper is not None and c.estimate is not None and c.obstacle is None and not case.unfit
    ]
    why = _why(case, judged, closest, printed)
    return Row(case.title, paper, here, judged.verdict, why, "", printed, _measured(judged.deciding))


def _measured(deciding: Comparison) -> Measured | None:
    if deciding.estimate is None:
        return None
    found = deciding.estimate.difference
    return Measured(found.mean, found.interval, deciding.paper)


def _why(case: Case, judged: Judged, closest: Comparison | None, printed: Sequence[Printed]) -> Markup:
    """The reason of a verdict, where the paper's differences lie, and what the controls say."""
    if judged.verdict == UNTESTABLE:
        return markup.lines(judged.reason)
    contradicted = closest is not None and (closest.paper or 0.0) < -case.margin - ROUNDING / 2
    return markup.lines(
        markup.items(_seeds(case, judged), _clearness(case, judged)),
        "the paper's own numbers say otherwise" if contradicted else "",
        _beside(printed),
        *case.notes,
    )


def _seeds(case: Case, judged: Judged) -> str:
    """How many seeds decide, of how many that are planned; where they are too few, how long the rest takes."""
    estimate = judged.deciding.estimate
    told = NOT_RUN
    if estimate is not None:
        blocks = estimate.difference.blocks
        told = f"{blocks} of {markup.seeds(case.seeds)}" if blocks < case.seeds else markup.seeds(blocks)
        if estimate.left_out:
            told = f"{told} ({DEVICES.get(estimate.kind[-1], estimate.kind[-1])} only)"
    return markup.items(told, f"{case.left} to run" if case.left and judged.verdict == TOO_FEW else "")


def _clearness(case: Case, judged: Judged) -> str:
    """The corrected p value; where nothing is clear, the difference that would have been."""
    if judged.chance is None or judged.deciding.estimate is None:
        return ""
    if judged.verdict != UNCLEAR:
        return chance_in_words(judged.chance)
    low, high = judged.deciding.estimate.difference.interval
    told = "clear alone, but not among all comparisons of the claim"
    if low <= -case.margin <= high:
        told = f"the interval reaches both sides of {f'−{case.margin:.1f}' if case.margin else 0}"
    found = judged.deciding.estimate.difference.detectable(judged.of)
    return f"{told}; could have found {found:.1f} points"


def _beside(printed: Sequence[Printed]) -> Markup:
    """Which of the paper's differences lie inside our intervals, and which outside."""

    def told(found: Printed) -> str:
        return f"{signed(found.paper)}{f' ({found.against})' * (len(printed) > 1)}"

    inside = ", ".join(told(found) for found in printed if found.inside)
    outside = [
        Markup("the paper's {} lies <b>outside</b> [{}, {}]").format(told(found), signed(found.low), signed(found.high))
        for found in printed
        if not found.inside
    ]
    return markup.lines(f"the paper's {inside} inside" if inside else "", *outside)


def judge_count(share: float | None, claimed: float) -> tuple[str, str]:
    """Verdict and reason on a counted share: holds within :data:`TOLERANCE` of the printed one, relative to it."""
    if share is None:
        return TOO_FEW, NOT_RUN
    near = abs(share - claimed) <= TOLERANCE * claimed
    return (HOLDS if near else FAILS), "counted"


def signed(points: float) -> str:
    """Percentage points with a sign: "+0.4", "−1.2", "0.0"."""
    text = f"{points:+.1f}".replace("-", "−")
    return "0.0" if text[1:] == "0.0" else text


def chance_in_words(chance: float) -> str:
    """A p value: "p = 0.03", "p ≤ 0.001"."""
    return "p ≤ 0.001" if chance <= 0.001 else f"p = {chance:.1g}"


def estimate_in_words(estimate: Estimate, marks: str = "") -> str:
    """The difference, its interval, and its marks."""
    low, high = estimate.difference.interval
    interval = f" [{signed(low)}, {signed(high)}]" if estimate.difference.blocks > 1 else ""
    return f"{signed(estimate.difference.mean)}{interval}{marks}"


def reading(case: Case, holds: str, fails: str, unclear: str) -> str:
    """A control in words: its difference, and what it says of the claim."""
    (judged,) = judge([case])
    if judged.deciding.estimate is None:
        return NOT_RUN
    told = {HOLDS: holds, FAILS: fails, UNCLEAR: unclear}.get(judged.verdict, judged.verdict)
    estimate = estimate_in_words(judged.deciding.estimate, judged.deciding.marks)
    return f"{judged.deciding.against} {estimate}, {told}"


def quoted(text: str, where: str) -> Markup:
    """A sentence of the paper, and where it stands."""
    return markup.sentences(f"“{text}”", markup.small(f"({where})"))


def render(experiment: Experiment, claims: Iterable[JudgedClaim], foot: str = "") -> Markup:
    """HTML of the claims: each with its sentences and rule, below them its cases."""
    rows: list[Sequence[str]] = []
    for claim in claims:
        said = [quoted(quote.text, quote.where) for quote in experiment.quotes[claim.name]]
        rows.append([markup.lines(*said, markup.small(claim.rule))])
        rows += [[r.case, r.paper, r.here, verdict_as_html(r), r.why] for r in claim.rows]
    table = markup.table(["claim", "paper", "here", "verdict", "why"], rows, "results claims")
    return table + markup.note(f"{RULES}{foot}")


def verdict_as_html(row: Row) -> Markup:
    """The verdict in its colour, and its tag below it."""
    colour = row.verdict if row.verdict in (HOLDS, FAILS) else "open"
    return markup.lines(markup.marked(row.verdict, colour), markup.small(row.tag) if row.tag else "")


RULES = (
    "Differences in percentage points, here with the 95 % interval of the mean difference within blocks: runs of one"
    " seed on one machine. The error is that of all layers of a row of the table, or of the two alone where variances"
    " differ. Verdicts are corrected for the number of comparisons of a claim (Holm); p: corrected, to one side, clear"
    f" below {ALPHA}. Could have found: the true difference that four of five repetitions find. Inside, outside:"
    " whether the paper's difference lies in our interval; each interval is of one comparison, of twenty one may miss,"
    f" and the paper does not print how much its numbers vary. Too few seeds: fewer than {MIN_SEEDS}. A control gives"
    " the same layer's difference from the one named. By construction: our widths and bases were chosen so, or decide"
    " it; nothing was measured."
)
