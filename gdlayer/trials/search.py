"""Learning rates compared on held-out training data: from the records of a search to the choice. Needs no torch."""

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from gdlayer.trials.record import check_current, read_record
from gdlayer.trials.settings import chosen_rate, hyperparameters
from gdlayer.trials.trial import Search

SEEDS = 4
"""From how many seeds on the standard error decides between rates."""
Subject = tuple[Any, ...]
"""What a rate is sought for: a layer, and what else names its cell."""


def validation_means(trials: Sequence[Search], results: Path) -> dict[Subject, dict[float, float]]:
    """{subject: {rate: mean validation metric}}, of :func:`validation_values`."""
    return {
        subject: {rate: mean(values) for rate, values in found.items()}
        for subject, found in validation_values(trials, results).items()
    }


def validation_values(trials: Sequence[Search], results: Path) -> dict[Subject, dict[float, list[float]]]:
    """{subject: {rate: validation metric of each seed}}, of the rates whose seeds all have their records.

    Parameters
    ----------
    trials : the whole plan of a search
    results : path of records

    Raises
    ------
    gdlayer.trials.record.ResultsError
        If a record was made with other settings than the present ones.
    """
    values: dict[Subject, dict[float, list[float | None]]] = defaultdict(lambda: defaultdict(list))
    for trial in trials:
        path = trial.record_path(results)
        if record := read_record(path):
            check_current(record, hyperparameters(trial), path)
        values[_subject(trial)][trial.learning_rate].append(record["metrics"][trial.metric] if record else None)
    return {
        subject: {rate: known for rate, found in rates.items() if (known := _all_known(found))}
        for subject, rates in values.items()
    }


def best_rates(trials: Sequence[Search], results: Path) -> dict[Subject, float]:
    r"""{subject: the lowest rate that is as good as the best}, where no record is missing.

    As good is a rate if the best one, of highest mean, is better by no more than one standard error:
    :math:`\bar d \le s_d / \sqrt n` with the differences d of the n seeds. Seeds share data and start, so they are
    compared one by one. With fewer than :data:`SEEDS` seeds s tells nothing, and the highest mean counts.
    """
    tried = rates_tried(trials)
    return {
        subject: _lowest_of_the_best(found)
        for subject, found in validation_values(trials, results).items()
        if sorted(found) == tried[subject]
    }


def _lowest_of_the_best(found: dict[float, list[float]]) -> float:
    best = max(sorted(found), key=lambda rate: mean(found[rate]))
    return min(rate for rate in found if _as_good(found[rate], found[best]))


def _as_good(values: list[float], best: list[float]) -> bool:
    by = [b - value for value, b in zip(values, best, strict=True)]
    return mean(by) <= (stdev(by) / math.sqrt(len(by)) if len(by) >= SEEDS else 0)


def rates_tried(trials: Sequence[Search]) -> dict[Subject, list[float]]:
    """{subject: the rates that are planned for it, in order}; a later round has others for each layer."""
    tried: dict[Subject, set[float]] = defaultdict(set)
    for trial in trials:
        tried[_subject(trial)].add(trial.learning_rate)
    return {subject: sorted(rates) for subject, rates in tried.items()}


def chosen_rates(trials: Sequence[Search]) -> dict[Subject, float]:
    """{subject: the rate that the settings have}, where they have one."""
    return {_subject(trial): rate for trial in trials if (rate := chosen_rate(trial)) is not None}


def as_table(trials: Sequence[Search], results: Path) -> str:
    """The means in percent as lines of text, the best of each subject starred, with what is to be said of it."""
    rates = sorted({trial.learning_rate for trial in trials})
    means, best, chosen = validation_means(trials, results), best_rates(trials, results), chosen_rates(trials)
    tried = rates_tried(trials)
    seeds = len({trial.seed for trial in trials})
    width = max(len(_words(subject)) for subject in means)
    lines = [
        f"{trials[0].metric.replace('_', ' ')} in percent, mean over {seeds} seed{'s' * (seeds > 1)}, by learning rate",
        " " * width + "".join(f"{rate:>9g} " for rate in rates),
    ]
    for subject, found in means.items():
        cells = (f"{100 * found[rate]:9.2f}" if rate in found else f"{'-':>9}" for rate in rates)
        stars = ("*" if best.get(subject) == rate else " " for rate in rates)
        notes = []
        if subject in best:
            if best[subject] in (tried[subject][0], tried[subject][-1]):
                notes.append("best at the edge of the rates")
            if best[subject] != chosen.get(subject):
                notes.append(f"the settings have {chosen[subject]:g}" if subject in chosen else "no rate chosen yet")
        row = "".join(cell + star for cell, star in zip(cells, stars, strict=True))
        lines.append(f"{_words(subject):{width}}{row} {'; '.join(notes)}".rstrip())
    return "\n".join(lines)


def _subject(trial: Search) -> Subject:
    return trial.short_cell[:-1]


def _words(subject: Subject) -> str:
    return " ".join(map(str, subject))


def _all_known(values: list[float | None]) -> list[float]:
    """The values, or none of them if one is missing."""
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else []
