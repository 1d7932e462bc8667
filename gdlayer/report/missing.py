"""What a profile asks for and is not run yet, and how long that will take."""

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from gdlayer.experiments.progress import in_words, seconds_each
from gdlayer.experiments.trial import TRIALS, Trial, plan

NEEDS_WEIGHTS = "imagenet"
"""The source network of Table 2 that only some machines can have: what is planned of it says nothing of the record."""


def planned(
    profile: str,
    experiment: str,
    datasets: Sequence[str],
    records: Iterable[dict[str, Any]],
    *judged_by: Iterable[dict[str, Any]],
) -> pd.DataFrame:
    """One row a planned cell: what names it, ``planned`` and ``missing`` trials, and ``seconds`` that these take.

    The seconds are those of one core: records made on a GPU have no say. They are 0 if nothing is known of any.

    Parameters
    ----------
    profile, experiment, datasets : what was to be run
    records : what was
    judged_by : collections of records
        What the duration is judged by besides, as :func:`gdlayer.experiments.progress.seconds_each` does.
    """
    names = ("layer", *TRIALS[experiment].cell_fields(), "dataset")
    records = list(records)
    done = {_trial(record) for record in records}
    trials = [t for t in _plan(profile, experiment, datasets) if getattr(t, "source", None) != NEEDS_WEIGHTS]
    pending = [trial for trial in trials if trial not in done]
    on_cpu = ([r for r in pool if r["machine"]["device"] == "cpu"] for pool in (records, *judged_by))
    seconds = dict(zip(pending, seconds_each(pending, *on_cpu) or [0.0] * len(pending), strict=True))
    cells: dict[tuple[Any, ...], list[Any]] = {}
    for trial in trials:
        counts = cells.setdefault(tuple(getattr(trial, name) for name in names), [0, 0, 0.0])
        counts[0] += 1
        counts[1] += trial in seconds
        counts[2] += seconds.get(trial, 0.0)
    rows = [[*cell, *counts] for cell, counts in cells.items()]
    return pd.DataFrame(rows, columns=[*names, "planned", "missing", "seconds"])


def duration(missing: int, seconds: float) -> str:
    """How long missing trials take, in words."""
    return in_words(seconds if seconds or not missing else None)


def _plan(profile: str, experiment: str, datasets: Sequence[str]) -> list[Trial]:
    """The plan, of the data sets that the experiment knows."""
    return plan(profile, experiment, tuple(name for name in datasets if name in TRIALS[experiment].datasets))


def _trial(record: dict[str, Any]) -> Trial:
    fields = dict(record["trial"])
    return TRIALS[fields.pop("experiment")](**fields)
