"""The ablations: test accuracy of every variant, and what each property is worth."""

import numpy as np
from markupsafe import Markup

from gdlayer._plumbing.extras import extra
from gdlayer.experiments.ablations.layers import LAYERS, QUESTIONS, Question
from gdlayer.report import markup
from gdlayer.report.chapter import costs
from gdlayer.report.claims import ABOVE, BELOW, NOT_RUN, UNDECIDED, Case, Outcome, decide, signed
from gdlayer.report.grid import Panel, grid
from gdlayer.report.judgements import Comparer
from gdlayer.report.loaded import Loaded

with extra("report"):
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

QUESTION = "Does training the shape of the kernels make the layer more accurate?"
METRIC = "test_accuracy"
_ROWS = {layer.title: {"layer": name} for name, layer in LAYERS.items()}


def sizes(loaded: Loaded) -> list[int]:
    """Numbers of training images that are planned or have records."""
    return sorted({n for frame in (loaded.cells, loaded.plan) for n in frame["n_train"]})


def table(loaded: Loaded) -> Markup:
    """HTML of the table: a row per variant, a column per training set size; see :func:`gdlayer.report.grid.grid`."""
    columns = {f"{n:,} images": {"n_train": n, "metric": METRIC} for n in sizes(loaded)}
    return grid(loaded, _ROWS, columns, corner="variant")


def panels(loaded: Loaded) -> list[Panel]:
    """None: what the paper prints of these stands in Table 1."""
    return []


def durations(loaded: Loaded) -> Markup:
    """HTML of parameters and seconds per trial; see :func:`gdlayer.report.chapter.costs`."""
    return costs(loaded.cells, _ROWS, {f"{n:,} images": {"n_train": n} for n in sizes(loaded)})


def outcomes(loaded: Loaded, question: Question, n: int) -> dict[str, tuple[Case, Outcome]]:
    """{variant: it against the question's reference}, of those that have been run, judged together."""
    comparer = Comparer(loaded)

    def cell(name: str) -> dict[str, object]:
        return {"layer": name, "n_train": n, "metric": METRIC}

    made = {variant: comparer.case(variant, cell(variant), cell(question.reference)) for variant in question.variants}
    made = {variant: case for variant, case in made.items() if case.estimate is not None}
    return dict(zip(made, zip(made.values(), decide([*made.values()]), strict=True), strict=True))


def effects(loaded: Loaded, name: str) -> Figure | None:
    """A question's variants minus its reference with 95 % intervals, a panel per training set size.

    A point is filled where the verdict is above or below. None without records.
    """
    question = QUESTIONS[name]
    found = {n: outcomes(loaded, question, n) for n in sizes(loaded)}
    if not any(found.values()):
        return None
    figure, axes = plt.subplots(
        1,
        len(found),
        figsize=(1.6 + 3.1 * len(found), 0.9 + 0.32 * len(question.variants)),
        squeeze=False,
        sharex=True,
        sharey=True,
        layout="constrained",
    )
    for axis, (n, made) in zip(axes.flat, found.items(), strict=True):
        axis.axvline(0, color="black", lw=0.8, ls=":")
        for y, variant in enumerate(question.variants):
            if variant in made:
                case, outcome = made[variant]
                assert case.estimate is not None
                mean, (_, high) = case.estimate.difference.mean, case.estimate.difference.interval
                colour = LAYERS["ours"].colour
                fill = colour if outcome.verdict in (ABOVE, BELOW) else "white"
                error = np.nan_to_num(high - mean)
                axis.errorbar(mean, y, xerr=error, fmt="o", color=colour, mfc=fill, capsize=2, ms=6)
        if not made:
            axis.text(0.5, 0.5, NOT_RUN, ha="center", va="center", transform=axis.transAxes, color="#595959")
        axis.set(title=f"{n:,} images", ylim=(len(question.variants) - 0.5, -0.5))
        axis.set_yticks(range(len(question.variants)), [question.values[variant] for variant in question.variants])
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.grid(axis="x", alpha=0.3)
    figure.supxlabel(f"test accuracy minus that of “{question.values[question.reference]}”, points", size=10)
    return figure


def answer(loaded: Loaded, name: str) -> Markup:
    """HTML of a question and what the record answers: a sentence per training set size."""
    question = QUESTIONS[name]
    answers = [_answer(loaded, question, n) for n in sizes(loaded)]
    return markup.sentences(markup.bold(question.asks), *answers or [f"{NOT_RUN.capitalize()}."])


def _answer(loaded: Loaded, question: Question, n: int) -> str:
    made = outcomes(loaded, question, n)
    if not made:
        return f"With {n:,} images: {NOT_RUN}."
    groups: dict[str, list[str]] = {}
    for variant, (case, outcome) in made.items():
        assert case.estimate is not None
        told = f"{question.values[variant]} ({signed(case.estimate.difference.mean)})"
        groups.setdefault(outcome.reason or outcome.verdict, []).append(told)
    if missing := [question.values[variant] for variant in question.variants if variant not in made]:
        groups[NOT_RUN] = missing
    least = [
        case.estimate.difference.detectable(outcome.of)
        for case, outcome in made.values()
        if case.estimate and outcome.verdict == UNDECIDED
    ]
    if least:
        groups[f"{UNDECIDED} ({max(least):.1f} points would have shown)"] = groups.pop(UNDECIDED)
    found = "; ".join(f"{verdict} for {', '.join(names)}" for verdict, names in groups.items())
    return f"With {n:,} images, compared to {question.values[question.reference]}: {found}."
