"""The paper's claims as a picture: for each the paper's differences and ours, coloured by verdict."""

import textwrap
from collections.abc import Mapping
from typing import Any

from gdlayer._plumbing.extras import extra
from gdlayer.report.claims import ABOVE, BELOW, EQUAL, TOO_FEW, UNDECIDED, UNTESTABLE, Judgement, Row
from gdlayer.report.judgements import judgements
from gdlayer.report.loaded import Loaded
from gdlayer.trials.experiment import Experiment

with extra("report"):
    import matplotlib.pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

COLOURS = {ABOVE: "#009E73", EQUAL: "#56B4E9", UNDECIDED: "#0072B2", BELOW: "#D55E00", TOO_FEW: "#999999"}
MARKERS = {ABOVE: "o", EQUAL: "d", UNDECIDED: "s", BELOW: "X", TOO_FEW: "v"}
PAPER = {"marker": "D", "mfc": "none", "mec": "black", "ls": "", "ms": 4}
WIDTH, CHARACTERS = 5.6, 72
HEADING, LINE, CASE, GAP = 0.28, 0.15, 0.08, 0.1
"""Inches: of an experiment's title, of a line of text, of a case, between claims."""
BEYOND = 10.0
"""Percentage points at which the axis ends at the latest."""


def claims_of(tables: Mapping[str, Loaded], *, first: bool = False) -> list[tuple[Experiment, list[Judgement]]]:
    """Every experiment with its judged claims, or with the first of them alone."""
    return [(loaded.experiment, judgements(loaded)[: 1 if first else None]) for loaded in tables.values()]


def drawn(claim: Judgement) -> list[Row]:
    """The cases that have a difference and can be tested."""
    return [row for row in claim.rows if row.measured is not None and row.verdict != UNTESTABLE]


def in_words(tables: Mapping[str, Loaded], *, first: bool = False) -> str:
    """What the picture shows, case by case, as text."""
    return "\n".join(
        f"{experiment.title}, {claim.name}, {row.case}: {row.here}, the paper's {row.paper}, {row.verdict}"
        for experiment, claims in claims_of(tables, first=first)
        for claim in claims
        for row in claim.rows
    )


def verdicts_in_short(claim: Judgement) -> str:
    """The verdicts with the numbers of their cases: "holds 3, too few seeds 2", and whether by construction."""
    names = dict.fromkeys(row.verdict for row in claim.rows)
    counts = ", ".join(f"{name} {sum(r.verdict == name for r in claim.rows)}" for name in names)
    tags = "".join(f" ({tag})" for tag in sorted({row.tag for row in claim.rows} - {""}))
    return f"{counts if len(claim.rows) > 1 else next(iter(names))}{tags}"


def dot_plot(tables: Mapping[str, Loaded], *, first: bool = False) -> Figure:
    """A row per claim, a point per case: our difference with its 95 % interval, coloured by verdict, and the paper's.

    Cases that nothing was run of, or that cannot be tested here, are counted in the text of the row alone.

    Parameters
    ----------
    tables : {experiment: as :func:`gdlayer.report.loaded.load` gives it}
    first : whether to show the first claim of each experiment alone
    """
    shown = claims_of(tables, first=first)
    figure = plt.figure(figsize=(WIDTH, 1))
    axis = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    y = 0.0
    for experiment, claims in shown:
        y += HEADING
        _write(axis, y, experiment.title, weight="bold", size=10)
        for claim in claims:
            quote = textwrap.shorten(experiment.quotes[claim.name][0].text, CHARACTERS, placeholder=" …")
            for text, ink in ((f"“{quote}”", "black"), (verdicts_in_short(claim), "#444444")):
                y += LINE
                _write(axis, y, text, color=ink, size=8.5)
            for row in drawn(claim):
                y += CASE
                _draw(axis, y, row)
            y += GAP
    found = [row.measured for _, claims in shown for claim in claims for row in drawn(claim)]
    points = [point for m in found if m for point in (m.mean, m.paper) if point is not None]
    reach = min(max(map(abs, [*points, 1.0])) + 0.5, BEYOND)
    axis.axvline(0, color="#bbbbbb", lw=1, zorder=0)
    axis.set(xlim=(-reach, reach), ylim=(y + 0.05, 0), yticks=[])
    axis.set_xlabel("difference, percentage points: left of 0 the layer is worse, right of it better", size=8.5)
    axis.tick_params(labelsize=8.5)
    axis.spines[["left", "top", "right"]].set_visible(False)
    figure.set_size_inches(WIDTH, y + 1.1)
    axis.set_position((0.03, 0.5 / (y + 1.1), 0.94, y / (y + 1.1)))
    keys = [Line2D([], [], color=COLOURS[v], marker=MARKERS[v], label=v, ms=5) for v in COLOURS]
    figure.legend(
        handles=[*keys, Line2D([], [], label="the paper's", **PAPER)],
        loc="upper left", ncols=3, fontsize=8.5, frameon=False,
    )  # fmt: skip
    return figure


def _write(axis: Axes, y: float, text: str, **style: Any) -> None:
    ground = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    axis.text(0, y, text, transform=axis.get_yaxis_transform(), va="bottom", bbox=ground, **style)


def _draw(axis: Axes, y: float, row: Row) -> None:
    assert row.measured is not None
    mean, interval, paper = row.measured
    colour = COLOURS[row.verdict]
    axis.plot(interval, (y, y), color=colour, lw=1.2, solid_capstyle="butt")
    axis.plot([mean], [y], color=colour, marker=MARKERS[row.verdict], ms=4.5)
    if paper is not None:
        axis.plot([paper], [y], **PAPER)
