"""How far a plan has come and how long the rest will take."""

from collections.abc import Iterable
from pathlib import Path
from statistics import mean
from typing import Any

from gdlayer.experiments.record import read_record
from gdlayer.experiments.trial import Trial, hyperparameters

STARTUP_SECONDS = 4.0
"""Of one trial's process: imports, data, first step."""


def seconds_left(trials: Iterable[Trial], results: Path, reference: Path, jobs: int) -> float | None:
    """Estimated seconds until every trial has its record, or None if there is nothing to judge by.

    A pending trial is taken to cost as much a step as others of its layer, or else of its experiment: the finished
    ones, or else those of the ``reference`` record.

    Parameters
    ----------
    trials : the whole plan
    results, reference : paths of records
    jobs : int
        Trials that run at the same time.
    """
    finished, pending = [], []
    for trial in trials:
        record = read_record(trial.record_path(results))
        finished.append(record) if record else pending.append(trial)
    kept = [record for path in sorted(reference.rglob("*.json")) if (record := read_record(path))]
    costs = [_step_seconds(trial, finished, kept) for trial in pending]
    known = [cost for cost in costs if cost is not None]
    if pending and not known:
        return None
    typical = mean(known) if known else 0.0
    work = sum(
        (typical if cost is None else cost) * hyperparameters(trial)["steps"] + STARTUP_SECONDS
        for trial, cost in zip(pending, costs, strict=True)
    )
    return work / jobs


def _step_seconds(trial: Trial, *pools: list[dict[str, Any]]) -> float | None:
    for same in (("experiment", "layer"), ("experiment",)):
        for records in pools:
            costs = [
                r["seconds"] / r["hyperparameters"]["steps"]
                for r in records
                if all(r["trial"][name] == getattr(trial, name) for name in same)
            ]
            if costs:
                return mean(costs)
    return None


def count_finished(trials: Iterable[Trial], results: Path) -> int:
    return sum(trial.record_path(results).exists() for trial in trials)


def in_words(seconds: float | None) -> str:
    if seconds is None:
        return "an unknown time"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
