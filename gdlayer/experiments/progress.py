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

    A pending trial is taken to cost as much a step as the finished ones of its layer, or of any layer; where none is
    finished, as those of the ``reference`` record.

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
    known = [*finished] or [record for path in sorted(reference.rglob("*.json")) if (record := read_record(path))]
    if not known:
        return None
    work = sum(_step_seconds(known, t.layer) * hyperparameters(t)["steps"] + STARTUP_SECONDS for t in pending)
    return work / jobs


def _step_seconds(records: list[dict[str, Any]], layer: str) -> float:
    costs = {id(r): r["seconds"] / r["hyperparameters"]["steps"] for r in records}
    same = [costs[id(r)] for r in records if r["trial"]["layer"] == layer]
    return mean(same or costs.values())


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
