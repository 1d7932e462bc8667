"""The ablations: test accuracy of every variant, and what each property is worth."""

import numpy as np
from markupsafe import Markup

from gdlayer.experiments.ablations.layers import LAYERS, QUESTIONS, Question
from gdlayer.extras import extra
from gdlayer.report import markup
from gdlayer.report.blocks import blocks_of, estimate
from gdlayer.report.cells import per_trial
from gdlayer.report.chapter import costs
from gdlayer.report.claims import MIN_SEEDS, NOT_RUN, REDUCED, STAND_IN, TOO_FEW, UNCLEAR, signed
from gdlayer.report.differences import ALPHA, Difference, holm
from gdlayer.report.grid import Panel, grid
from gdlayer.report.loaded import Loaded

with extra("report"):
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

QUESTION = "Does training the shape of the kernels make the layer more accurate?"
METRIC = "test_accuracy"
HIGHER, LOWER = "higher", "lower"
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


def differences(loaded: Loaded, question: Question, n: int) -> dict[str, Difference]:
    """{variant: it minus the question's reference}, in points of test accuracy, of those that have been run."""
    trials = per_trial(loaded.records, loaded.experiment)
    blocks = blocks_of(trials, {"n_train": n, "metric": METRIC})
    found = {variant: estimate(blocks, variant, question.reference) for variant in question.variants}
    return {variant: made.difference for variant, made in found.items() if made is not None}


def effects(loaded: Loaded, name: str) -> Figure | None:
    """A question's variants minus its reference with 95 % intervals, a panel per training set size.

    A point is filled where :func:`answer` calls the difference clear. None without records.
    """
    question = QUESTIONS[name]
    found = {n: differences(loaded, question, n) for n in sizes(loaded)}
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
        told = verdicts(loaded, made)
        for y, variant in enumerate(question.variants):
            if variant in made:
                error = np.nan_to_num(made[variant].interval[1] - made[variant].mean)
                fill = LAYERS["ours"].colour if told[variant] in (HIGHER, LOWER) else "white"
                axis.errorbar(
                    made[variant].mean, y, xerr=error, fmt="o", color=LAYERS["ours"].colour, mfc=fill, capsize=2, ms=6
                )
        if not made:
            axis.text(0.5, 0.5, NOT_RUN, ha="center", va="center", transform=axis.transAxes, color="#595959")
        axis.set(title=f"{n:,} images", ylim=(len(question.variants) - 0.5, -0.5))
        axis.set_yticks(range(len(question.variants)), [question.values[variant] for variant in question.variants])
        axis.xaxis.set_major_locator(MaxNLocator(5))
        axis.grid(axis="x", alpha=0.3)
    figure.supxlabel(f"test accuracy minus that of “{question.values[question.reference]}”, points", size=10)
    return figure


def verdicts(loaded: Loaded, made: dict[str, Difference]) -> dict[str, str]:
    """{variant: "higher", "lower", "no clear difference", or why nothing can be said}.

    A difference is clear if its p value, two-sided and corrected for the variants of its question (Holm), is below 5 %.
    """
    if loaded.experiment.embedded in loaded.datasets:
        return dict.fromkeys(made, STAND_IN)
    if loaded.profile != "paper":
        return dict.fromkeys(made, REDUCED)
    tested = {variant: one for variant, one in made.items() if one.blocks >= MIN_SEEDS}
    chances = holm([2 * min(one.chance_of_more(0), one.chance_of_less(0)) for one in tested.values()])
    told = dict.fromkeys(made, TOO_FEW)
    for (variant, one), chance in zip(tested.items(), chances, strict=True):
        told[variant] = UNCLEAR if chance >= 2 * ALPHA else HIGHER if one.mean > 0 else LOWER
    return told


def answer(loaded: Loaded, name: str) -> Markup:
    """HTML of a question and what the record answers: a sentence per training set size."""
    question = QUESTIONS[name]
    answers = [_answer(loaded, question, n) for n in sizes(loaded)]
    return markup.sentences(markup.bold(question.asks), *answers or [f"{NOT_RUN.capitalize()}."])


def _answer(loaded: Loaded, question: Question, n: int) -> str:
    made = differences(loaded, question, n)
    if not made:
        return f"With {n:,} images: {NOT_RUN}."
    told = verdicts(loaded, made)
    groups: dict[str, list[str]] = {}
    for variant, verdict in told.items():
        groups.setdefault(verdict, []).append(f"{question.values[variant]} ({signed(made[variant].mean)})")
    if missing := [question.values[variant] for variant in question.variants if variant not in made]:
        groups[NOT_RUN] = missing
    found = "; ".join(f"{_heading(verdict, made, told)} for {', '.join(names)}" for verdict, names in groups.items())
    return f"With {n:,} images, compared to {question.values[question.reference]}: {found}."


def _heading(verdict: str, made: dict[str, Difference], told: dict[str, str]) -> str:
    """The verdict; if no difference is clear also how large a difference would have shown."""
    if verdict != UNCLEAR:
        return verdict
    least = max(one.detectable() for variant, one in made.items() if told[variant] == UNCLEAR)
    return f"{UNCLEAR} ({least:.1f} points would probably show)"
