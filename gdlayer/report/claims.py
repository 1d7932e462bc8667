"""The paper's claims judged by the record: differences with intervals, and the rule of the verdicts."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from gdlayer.report import markup
from gdlayer.report.blocks import Estimate
from gdlayer.report.cells import DEVICES
from gdlayer.report.differences import ALPHA, Difference, holm
from gdlayer.trials.experiment import Experiment

ABOVE, BELOW, EQUAL, UNDECIDED = "above", "below", "equal within 0.5", "undecided"
"""What runs decide."""
HOLDS, FAILS = "holds", "fails"
"""What is counted."""
TOO_FEW, UNTESTABLE = "too few seeds", "cannot be tested here"
VERDICTS = (ABOVE, HOLDS, EQUAL, UNDECIDED, BELOW, FAILS, TOO_FEW, UNTESTABLE)
NOT_BELOW = (ABOVE, EQUAL)
"""The outcomes that bear out a claim of equal performance."""
NOT_LOWER, NOT_HIGHER = "not lower by more than 0.5", "not higher by more than 0.5"
"""What one of the two tests of equality says by itself."""
EQUAL_OR_ABOVE = "Borne out where it is above or equal within 0.5."
FOR, AGAINST, OPEN = "holds", "fails", "open"
"""What a verdict says of its claim."""
EQUIVALENCE = 0.5
"""Percentage points within which two layers count as equal."""
EQUIVALENT = 0.05
"""Level of each of the two tests for that (Schuirmann, 1987)."""
BY_CONSTRUCTION = "by construction"
"""Tag of a verdict that was decided when widths and bases were chosen, not by training."""
MIN_SEEDS = 3
"""Fewer seeds than this decide nothing."""
TOLERANCE = 0.1
"""How far a counted fraction may lie from the printed one, relative to it."""
ROUNDING = 0.1
"""How far a difference of two printed numbers may be off, in points, as both are rounded to one decimal."""
NOT_RUN, REDUCED, STAND_IN = "not run yet", "reduced budget", "embedded stand-in"


class Case(NamedTuple):
    """A case of a claim that the record decides: one cell against one other.

    Attributes
    ----------
    title : str
    against : title of the other
    estimate : ours, None without a block that has both
    paper : float or None
        The difference of the paper's numbers.
    trials : int
        Of how many trials each of the paper's numbers is a mean.
    marks : signs of :data:`gdlayer.report.cells.MARKS`
    notes : further reasons, as text or HTML
    seeds : int
        How many the profile asks for.
    left : how long the missing trials take, in words; "" if none is missing
    unfit : str
        Why no record can decide it; "" if one can.
    cells : what names the two
    """

    title: str
    against: str
    estimate: Estimate | None
    paper: float | None = None
    trials: int = 1
    marks: str = ""
    notes: Sequence[str] = ()
    seeds: int = 0
    left: str = ""
    unfit: str = ""
    cells: frozenset[Any] = frozenset()

    @property
    def obstacle(self) -> tuple[str, str] | None:
        """The verdict and its reason where the runs can decide nothing."""
        if self.unfit:
            return UNTESTABLE, self.unfit
        if self.estimate is None:
            return TOO_FEW, ""
        if "†" in self.marks:
            return UNTESTABLE, STAND_IN
        if "‡" in self.marks:
            return UNTESTABLE, REDUCED
        return (TOO_FEW, "") if self.estimate.difference.blocks < MIN_SEEDS else None


class Printed(NamedTuple):
    """A difference of the paper's numbers beside the 95 % interval in which we would expect it."""

    case: str
    against: str
    paper: float
    low: float
    high: float
    cells: frozenset[Any] = frozenset()

    @property
    def inside(self) -> bool:
        """Whether it lies in the interval, as far as the rounding of the printed numbers allows to tell."""
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
    printed: Printed | None = None
    measured: Measured | None = None
    """The difference, as numbers."""
    says: str = OPEN
    """Of the claim: :data:`FOR`, :data:`AGAINST` or :data:`OPEN`."""


class Question(NamedTuple):
    """What may explain a claim's verdicts: a question and its cases."""

    text: str
    cases: Sequence[Case]


class Claim(NamedTuple):
    """A claim by its name in the experiment's ``claims.csv``, what its verdicts mean, its cases, what explains it."""

    name: str
    rule: str
    rows: Sequence[Row | Case]
    questions: Sequence[Question] = ()
    borne_out: Sequence[str] = (ABOVE,)
    """The outcomes that bear it out; below contradicts it."""
    of_paper: bool = True


class Judgement(NamedTuple):
    """A claim whose cases all have their verdict."""

    name: str
    rule: str
    rows: Sequence[Row]
    questions: Sequence[Question]
    of_paper: bool = True


class Outcome(NamedTuple):
    """A verdict and what it rests on.

    Attributes
    ----------
    verdict, reason : str
    chance : its p value, corrected
    not_below, not_above : whether the difference is clearly above -0.5, and clearly below +0.5
    of : int
        How many cases are judged together.
    """

    verdict: str
    reason: str = ""
    chance: float | None = None
    not_below: bool = False
    not_above: bool = False
    of: int = 1


def decide(cases: Sequence[Case]) -> list[Outcome]:
    r"""The verdicts on all cases of a claim, by the rule of the book's page on verdicts.

    - above, below: a test to that side is clear at 2.5 %, the level of a 95 % interval, after Holm's correction for the
      cases of the claim;
    - equal within 0.5: neither, and the tests against -0.5 and against +0.5 points are both clear at 5 %;
    - undecided: none of these;
    - too few seeds: fewer than :data:`MIN_SEEDS`, or none;
    - cannot be tested here: reduced budget, a stand-in for the data, or what the claim is about was not at hand.
    """
    ready = [case.estimate.difference for case in cases if case.estimate and not case.obstacle]
    more = holm([found.chance_of_more(0) for found in ready])
    less = holm([found.chance_of_less(0) for found in ready])
    found = iter(zip(ready, more, less, strict=True))
    return [Outcome(*case.obstacle) if case.obstacle else _outcome(*next(found), len(ready)) for case in cases]


def _outcome(found: Difference, more: float, less: float, of: int) -> Outcome:
    not_below = found.chance_of_more(-EQUIVALENCE) < EQUIVALENT
    not_above = found.chance_of_less(EQUIVALENCE) < EQUIVALENT
    chance, equal = min(more, less), EQUAL if not_below and not_above else UNDECIDED
    verdict = (ABOVE if more < less else BELOW) if chance < ALPHA else equal
    return Outcome(verdict, "", chance, not_below, not_above, of)


def judgement(claim: Claim) -> Judgement:
    """The claim with its verdicts: its cases judged together, what was counted as it is."""
    cases = [row for row in claim.rows if isinstance(row, Case)]
    made = iter([_row(case, found, claim.borne_out) for case, found in zip(cases, decide(cases), strict=True)])
    rows = [next(made) if isinstance(row, Case) else row for row in claim.rows]
    return Judgement(claim.name, claim.rule, rows, claim.questions, claim.of_paper)


def _row(case: Case, found: Outcome, borne_out: Sequence[str]) -> Row:
    printed = None
    if case.estimate is not None and case.paper is not None and case.obstacle is None:
        interval = case.estimate.difference.prediction(case.trials)
        printed = Printed(case.title, case.against, case.paper, *interval, case.cells)
    measured = None
    if case.estimate is not None:
        measured = Measured(case.estimate.difference.mean, case.estimate.difference.interval, case.paper)
    return Row(
        case.title,
        "—" if case.paper is None else signed(case.paper),
        "—" if case.estimate is None else estimate_in_words(case.estimate, case.marks),
        found.verdict,
        _why(case, found, printed, borne_out),
        "",
        printed,
        measured,
        FOR if found.verdict in borne_out else AGAINST if found.verdict == BELOW else OPEN,
    )


def _why(case: Case, found: Outcome, printed: Printed | None, borne_out: Sequence[str]) -> Markup:
    """The reason of a verdict, where the paper's difference lies, and what the controls say."""
    if found.verdict == UNTESTABLE:
        return markup.lines(found.reason)
    contradicted = EQUAL not in borne_out and case.paper is not None and case.paper < -ROUNDING / 2
    return markup.lines(
        markup.items(_seeds(case, found), _clearness(case, found)),
        "the paper's own numbers say otherwise" if contradicted else "",
        _beside(printed) if printed and not printed.inside else "",
        *case.notes,
    )


def _seeds(case: Case, found: Outcome) -> str:
    """How many seeds decide, of how many that are planned; where they are too few, how long the rest takes."""
    told = NOT_RUN
    if case.estimate is not None:
        blocks = case.estimate.difference.blocks
        told = f"{blocks} of {markup.seeds(case.seeds)}" if blocks < case.seeds else markup.seeds(blocks)
        if case.estimate.left_out:
            told = f"{told} ({DEVICES.get(case.estimate.kind[-1], case.estimate.kind[-1])} only)"
    return markup.items(told, f"{case.left} to run" if case.left and found.verdict == TOO_FEW else "")


def _clearness(case: Case, found: Outcome) -> str:
    """The corrected p value; of an undecided case the difference that would have shown."""
    if found.chance is None or case.estimate is None:
        return ""
    if found.verdict == EQUAL:
        return ""
    within = EQUAL if found.not_below and found.not_above else ""
    if found.verdict == UNDECIDED:
        within = NOT_LOWER if found.not_below else NOT_HIGHER if found.not_above else ""
        return markup.items(within, f"{case.estimate.difference.detectable(found.of):.1f} points would have shown")
    return markup.items(chance_in_words(found.chance), within)


def _beside(printed: Printed) -> Markup:
    """That the paper's difference lies outside."""
    return Markup("the paper's {} lies <b>outside</b> [{}, {}]").format(
        signed(printed.paper), signed(printed.low), signed(printed.high)
    )


def counted(case: str, paper: str, here: str, verdict: str, why: str, tag: str = "") -> Row:
    """The row of a case that is counted."""
    return Row(case, paper, here, verdict, why, tag, says={HOLDS: FOR, FAILS: AGAINST}.get(verdict, OPEN))


def decide_count(share: float | None, claimed: float) -> tuple[str, str]:
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


def reading(case: Case) -> str:
    """A control in words: its difference, and the verdict on it alone."""
    (found,) = decide([case])
    if case.estimate is None:
        return NOT_RUN
    return f"{case.against} {estimate_in_words(case.estimate, case.marks)}, {found.verdict}"


def quoted(text: str, where: str) -> Markup:
    """A sentence of the paper, and where it stands."""
    return markup.sentences(f"“{text}”", markup.small(f"({where})"))


def render(experiment: Experiment, claims: Iterable[Judgement], foot: str = "") -> Markup:
    """HTML of the claims: each with its sentences and rule, below them its cases."""
    rows: list[Sequence[str]] = []
    for claim in claims:
        said = [quoted(quote.text, quote.where) for quote in experiment.quotes[claim.name]]
        rows.append([markup.lines(*said, markup.small(claim.rule))])
        rows += [[r.case, r.paper, r.here, verdict_as_html(r), r.why] for r in claim.rows]
    table = markup.table(["claim", "paper", "here", "verdict", "why"], rows, "results claims")
    return table + markup.note(f"{RULES}{foot}")


def verdict_as_html(row: Row) -> Markup:
    """The verdict in the colour of what it says of the claim, and its tag below it."""
    return markup.lines(markup.marked(row.verdict, row.says), markup.small(row.tag) if row.tag else "")


RULES = (
    "Differences in percentage points within blocks, runs of one seed on one machine; here with the 95 % interval."
    " p: to one side, corrected for the cases of the claim (Holm), clear below 0.025. Equal within 0.5: tests against"
    " −0.5 and +0.5 are both clear at 5 %. Would have shown: the true difference that four of five repetitions find."
    " Outside: the paper's difference lies outside the 95 % interval in which we expect it, with its own noise."
    f" Too few seeds: fewer than {MIN_SEEDS}. By construction: our widths and bases were chosen so, or decide it;"
    " nothing was measured. The rule stands on the page “How verdicts are decided”."
)
