"""How far a plan has come and how long the rest will take."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from gdlayer.experiments.record import read_record
from gdlayer.experiments.trial import EXPERIMENTS, TRIALS, Trial, hyperparameters

STARTUP_SECONDS = 4.0
"""Of one trial's process: imports, data, first step."""


def seconds_left(trials: Iterable[Trial], results: Path, reference: Path, jobs: int) -> float | None:
    """Estimated seconds until every trial has its record, or None if there is nothing to judge by.

    Judged by the finished ones, or else by those of the ``reference`` record, see :func:`seconds_each`.

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
    known = seconds_each(pending, finished, kept)
    return None if known is None else sum(known) / jobs


def seconds_each(trials: Sequence[Trial], *judged_by: Iterable[dict[str, Any]]) -> list[float] | None:
    """Estimated seconds of each trial, or None if there is nothing to judge any by.

    A trial is taken to cost as much a step as those most like it: of its cell's names and precision, of its layer and
    precision, of its layer, or else of its table; of equally like ones the first collection counts. One that is like
    none is taken to cost as much a step as the others do on average.

    Parameters
    ----------
    trials : what is to run
    judged_by : collections of records
    """
    pools = [_step_seconds(records) for records in judged_by]
    costs = [
        next(
            (pool[kind] for kind in _kinds(trial.describe(), hyperparameters(trial)) for pool in pools if kind in pool),
            None,
        )
        for trial in trials
    ]
    known = [cost for cost in costs if cost is not None]
    if trials and not known:
        return None
    return [
        (mean(known) if cost is None else cost) * hyperparameters(trial)["steps"] + STARTUP_SECONDS
        for trial, cost in zip(trials, costs, strict=True)
    ]


def _step_seconds(records: Iterable[dict[str, Any]]) -> dict[tuple[str, ...], float]:
    """Mean seconds a step of each kind of trial."""
    costs = defaultdict(list)
    for record in records:
        for kind in _kinds(record["trial"], record["hyperparameters"]):
            costs[kind].append(record["seconds"] / record["hyperparameters"]["steps"])
    return {kind: mean(values) for kind, values in costs.items()}


def _kinds(trial: dict[str, Any], settings: dict[str, Any]) -> list[tuple[str, ...]]:
    """What a trial is alike by, the closest first."""
    table, layer, precision = TRIALS[trial["experiment"]].table, trial["layer"], settings["precision"]
    names = (trial[name] for name in EXPERIMENTS[table].cell_fields() if isinstance(trial[name], str))
    return [(table, layer, precision, *names), (table, layer, precision), (table, layer), (table,)]


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
