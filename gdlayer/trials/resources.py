"""What trials ask of a cluster, by the record: minutes and memory. Needs no torch."""

from collections import defaultdict
from collections.abc import Sequence
from math import ceil
from typing import Any, NamedTuple

from gdlayer.trials.progress import kinds, seconds_each
from gdlayer.trials.settings import hyperparameters
from gdlayer.trials.trial import Trial

TIME_MARGIN = 2.0
"""Of the minutes asked for to the estimated ones: the nodes may be slower than the machines of the record."""
MEMORY_MARGIN = 1.5
"""Of the memory asked for to the most on record: other versions and systems take more."""


class Request(NamedTuple):
    """What one trial asks for, on one thread."""

    minutes: int
    memory_mb: int


UNKNOWN = Request(120, 8000)
"""Where there is no record at all to judge by."""


def requests(trials: Sequence[Trial], records: Sequence[dict[str, Any]]) -> list[Request]:
    """What each trial asks for, judged by records made on CPUs.

    Time is estimated by :func:`gdlayer.trials.progress.seconds_each`. Memory is the most that those most alike
    took, or all if none is like it.

    Parameters
    ----------
    trials : what is to run
    records : what to judge by
    """
    judged_by = [record for record in records if record["machine"]["device"] == "cpu"]
    seconds = seconds_each(trials, judged_by)
    if seconds is None:
        return [UNKNOWN] * len(trials)
    peaks: dict[tuple[str, ...], int] = defaultdict(int)
    for record in judged_by:
        for kind in kinds(record["trial"], record["hyperparameters"]):
            peaks[kind] = max(peaks[kind], record["peak_memory_bytes"])
    most = max(peaks.values(), default=0)

    def peak(trial: Trial) -> int:
        return next((peaks[kind] for kind in kinds(trial.describe(), hyperparameters(trial)) if kind in peaks), most)

    return [
        Request(ceil(TIME_MARGIN * time / 60), ceil(MEMORY_MARGIN * peak(trial) / 1e6))
        for trial, time in zip(trials, seconds, strict=True)
    ]
