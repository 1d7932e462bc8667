"""What a profile asks for and is not run yet, and how long that will take."""

from collections.abc import Iterable, Sequence
from typing import Any

from gdlayer._plumbing.extras import extra
from gdlayer.trials.plan import plan
from gdlayer.trials.progress import duration_in_words, seconds_each
from gdlayer.trials.registry import trial_of, trial_types

with extra("report"):
    import pandas as pd


def planned(
    profile: str,
    experiment: str,
    datasets: Sequence[str],
    records: Iterable[dict[str, Any]],
    *judged_by: Iterable[dict[str, Any]],
) -> pd.DataFrame:
    """One row per planned cell: what names it, ``planned`` and ``missing`` trials, and ``seconds`` that these take.

    The seconds are those of one core: records made on a GPU have no say. They are 0 if nothing is known of any.

    Parameters
    ----------
    profile, experiment, datasets : what was to be run; data sets that the experiment does not know are left out
    records : what was
    judged_by : collections of records
        What the duration is judged by besides, as :func:`gdlayer.trials.progress.seconds_each` does.
    """
    cls = trial_types()[experiment]
    names = ("layer", *cls.cell_fields(), "dataset")
    records = list(records)
    done = {trial_of(record["trial"]) for record in records}
    known = [name for name in datasets if name in cls.datasets]
    trials = plan(profile, experiment, known)
    pending = [trial for trial in trials if trial not in done]
    seconds = dict(zip(pending, seconds_each(pending, records, *judged_by) or [0.0] * len(pending), strict=True))
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
    return duration_in_words(seconds if seconds or not missing else None)
