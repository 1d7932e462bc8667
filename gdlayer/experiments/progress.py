"""How far a plan has come and how long the rest will take."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from gdlayer.experiments import experiments, trial_types
from gdlayer.experiments.record import every_record, read_record
from gdlayer.experiments.settings import hyperparameters
from gdlayer.experiments.trial import Trial

STARTUP_SECONDS = 4.0
"""Of one trial's process: imports, data, first step."""


class Progress:
    """How far a plan has come: reads the records once, and is told of each trial that finishes.

    Parameters
    ----------
    trials : the whole plan
    results : folder of its records
    reference : folder of further records to judge the duration by, if there is one
    device : "cpu" or "cuda"
        What the rest will run on.
    """

    def __init__(
        self, trials: Iterable[Trial], results: Path, reference: Path | None = None, device: str = "cpu"
    ) -> None:
        self.device = device
        self.pending: list[Trial] = []
        self._records: list[dict[str, Any]] = []
        for trial in trials:
            record = read_record(trial.record_path(results))
            self._records.append(record) if record else self.pending.append(trial)
        self._reference = [] if reference is None else [record for _, record in every_record(reference)]

    @property
    def finished(self) -> int:
        return len(self._records)

    @property
    def total(self) -> int:
        return len(self._records) + len(self.pending)

    def add(self, trial: Trial, record: dict[str, Any]) -> None:
        """Counts a pending trial as finished."""
        self.pending.remove(trial)
        self._records.append(record)

    def seconds_left(self, jobs: int) -> float | None:
        """Estimated seconds until every trial has its record, ``jobs`` at a time; None if nothing tells.

        Judged by the finished ones, or else by the reference, see :func:`seconds_each`.
        """
        known = seconds_each(self.pending, self._records, self._reference, device=self.device)
        return None if known is None else sum(known) / jobs


def seconds_each(
    trials: Sequence[Trial], *judged_by: Iterable[dict[str, Any]], device: str = "cpu"
) -> list[float] | None:
    """Estimated seconds of each trial, or None if there is nothing to judge any by.

    A trial costs as much per step as those most like it: of the same named cell and precision, of the same layer and
    precision, of the same layer, or else of the same experiment. Where two collections have equally close ones, the
    first counts. A trial that is like none costs as much per step as the others do on average.

    Parameters
    ----------
    trials : what is to run
    judged_by : collections of records
    device : "cpu" or "cuda"
        What they are to run on; records made on the other tell nothing.
    """
    pools = [_step_seconds(r for r in records if r["machine"]["device"] == device) for records in judged_by]
    settings = [hyperparameters(trial) for trial in trials]
    costs = [
        next((pool[kind] for kind in kinds(trial.describe(), own) for pool in pools if kind in pool), None)
        for trial, own in zip(trials, settings, strict=True)
    ]
    known = [cost for cost in costs if cost is not None]
    if trials and not known:
        return None
    return [
        (mean(known) if cost is None else cost) * own["steps"] + STARTUP_SECONDS
        for own, cost in zip(settings, costs, strict=True)
    ]


def _step_seconds(records: Iterable[dict[str, Any]]) -> dict[tuple[str, ...], float]:
    """Mean seconds per step of each kind of trial."""
    costs = defaultdict(list)
    for record in records:
        for kind in kinds(record["trial"], record["hyperparameters"]):
            costs[kind].append(record["seconds"] / record["hyperparameters"]["steps"])
    return {kind: mean(values) for kind, values in costs.items()}


def kinds(trial: dict[str, Any], settings: dict[str, Any]) -> list[tuple[str, ...]]:
    """What makes trials alike, the closest first."""
    home, layer, precision = trial_types()[trial["experiment"]].belongs_to, trial["layer"], settings["precision"]
    names = (trial[name] for name in experiments()[home].trial.cell_fields() if isinstance(trial[name], str))
    return [(home, layer, precision, *names), (home, layer, precision), (home, layer), (home,)]


def duration_in_words(seconds: float | None) -> str:
    if seconds is None:
        return "an unknown time"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
