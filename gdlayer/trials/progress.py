"""How far a plan has come and how long the rest will take."""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from gdlayer.trials.record import every_record, read_record
from gdlayer.trials.registry import experiments, trial_types
from gdlayer.trials.settings import hyperparameters
from gdlayer.trials.trial import Trial

STARTUP_SECONDS = 4.0
"""Of one trial's process: imports, data, first step."""
TRUST_SECONDS = 60.0
"""That a run lasts until its own speed counts as much as what was expected."""


class Progress:
    """How far a run has come: reads the records once, and is told of each step that ends.

    Parameters
    ----------
    trials : the whole plan
    results : folder of its records
    reference : folder of further records to judge the duration by, if there is one
    device : "cpu" or "cuda"
        What the rest will run on.
    further : {name: seconds}
        Steps besides the trials, and how long each takes where one trial runs at a time.
    """

    def __init__(
        self,
        trials: Iterable[Trial],
        results: Path,
        reference: Path | None = None,
        device: str = "cpu",
        further: Mapping[str, float] | None = None,
    ) -> None:
        own: list[dict[str, Any]] = []
        waiting: list[Trial] = []
        for trial in trials:
            record = read_record(trial.record_path(results))
            own.append(record) if record else waiting.append(trial)
        kept = [] if reference is None else [record for _, record in every_record(reference)]
        known = seconds_each(waiting, own, kept, device=device)
        self._known = known is not None
        self.pending: dict[Trial | str, float] = {}
        """Steps that have not ended, with the seconds that each is expected to take."""
        self.pending.update(zip(waiting, known or [1.0] * len(waiting), strict=True))
        self.pending.update(further or {})
        self.finished = len(own)
        self.total = len(own) + len(self.pending)
        self._work = 0.0
        self._started = time.monotonic()

    def add(self, step: Trial | str) -> None:
        """Counts a pending step as finished."""
        self._work += self.pending.pop(step)
        self.finished += 1

    def seconds_left(self, jobs: int) -> float | None:
        """Estimated seconds until every step has ended, ``jobs`` at a time; None if nothing tells.

        What the steps are expected to take, at the speed seen so far: at first ``jobs`` expected seconds a second, and
        the longer the run, the more by its clock.
        """
        left = sum(self.pending.values())
        weight = TRUST_SECONDS if self._known else 0.0
        elapsed = time.monotonic() - self._started
        done = self._work + weight * jobs
        if not left:
            return 0.0
        return left * (elapsed + weight) / done if done else None

    def line(self, told: str, jobs: int) -> str:
        """What has just ended, with its number and how long the rest will take."""
        return f"[{self.finished}/{self.total}] {told}; about {duration_in_words(self.seconds_left(jobs))} left"


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


def cell_in_words(trial: Trial) -> str:
    """ "table1 ours 1000 on fashion-mnist"."""
    return " ".join(map(str, (trial.experiment, *trial.short_cell, "on", trial.dataset)))


def result_in_words(trial: Trial, record: dict[str, Any]) -> str:
    """What a trial came to, in a line."""
    took = duration_in_words(record["seconds"])
    return f"{cell_in_words(trial)} seed {trial.seed}: {metrics_in_words(record)} in {took}"


def metrics_in_words(record: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {100 * value:.2f} %" for name, value in record["metrics"].items())


def duration_in_words(seconds: float | None) -> str:
    if seconds is None:
        return "an unknown time"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
