"""What a chapter shows: an experiment's records under one profile, and what of the plan is still to run."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gdlayer._plumbing.extras import extra
from gdlayer.report.cells import summarise
from gdlayer.report.plans import planned
from gdlayer.trials.experiment import Experiment
from gdlayer.trials.plan import plan
from gdlayer.trials.provenance import committed_data, committed_record
from gdlayer.trials.record import ResultsError, every_record, load_records, recorded_datasets
from gdlayer.trials.registry import experiments, trial_of

with extra("report"):
    import pandas as pd

FULLEST = "fullest"
"""Instead of a profile: ``paper`` as soon as it has a record of the experiment, else ``quick``; of what these two ask
nothing of, ``smoke``."""


class Loaded(NamedTuple):
    """An experiment's records under a profile, their cells, what is planned, and beside a user's own run the record."""

    experiment: Experiment
    folder: Path
    profile: str
    datasets: tuple[str, ...]
    records: list[dict[str, Any]]
    cells: pd.DataFrame
    plan: pd.DataFrame
    beside: pd.DataFrame | None
    committed: Path | None
    """Folder of the repository's record, if there is one."""
    kept: Sequence[dict[str, Any]] = ()
    """Beside a user's own run: all records of the repository of the same profile and data sets, further seeds too."""


def load(
    results: str | Path | None, profile: str, experiment: str, datasets: str = "", committed: Path | None = None
) -> Loaded:
    """What a chapter shows: of one profile only.

    Parameters
    ----------
    results : folder of records
        None is the repository's own record, wherever the chapter is executed.
    profile : str
        Or :data:`FULLEST`.
    experiment : str
    datasets : str
        Names separated by commas; by default all that have records, or if none has the paper's own.
    committed : folder
        Of the repository's record, by default found where there is one. What it has of the same profile, data sets and
        seeds is shown beside other results, and it tells how long trials take.

    Raises
    ------
    ResultsError
        If there is no such folder, or one of its files is no record.
    """
    folder = committed_data() / "results" if results is None else Path(results)
    committed = committed or committed_record()
    if not folder.is_dir():
        raise ResultsError(f"there is no folder of records {str(folder)!r}, seen from {Path.cwd()}")
    names = tuple(datasets.split(",")) if datasets else _recorded(folder, profile, experiment)
    profile = choose_profile(folder, profile, experiment, names)
    records = load_records(folder, profile, experiment, names)
    kept = []
    if committed is not None and folder.resolve() != committed.resolve():
        kept = load_records(committed, profile, experiment, names)
    known = [] if committed is None else [record for _, record in every_record(committed)]
    found = experiments()[experiment]
    asked = {*plan(profile, experiment, [name for name in names if name in found.trial.datasets])} if kept else {}
    beside = [record for record in kept if trial_of(record["trial"]) in asked]
    return Loaded(
        found,
        folder,
        profile,
        names,
        records,
        summarise(records, found),
        planned(profile, experiment, names, records, known),
        summarise(beside, found) if beside else None,
        committed,
        kept,
    )


def choose_profile(folder: Path, profile: str, experiment: str, datasets: Iterable[str]) -> str:
    """The profile itself, or what :data:`FULLEST` stands for."""
    if profile != FULLEST:
        return profile
    first, *others = _profiles(experiment)
    return first if not others or set(datasets) & set(recorded_datasets(folder, first, experiment)) else others[0]


def _recorded(folder: Path, profile: str, experiment: str) -> tuple[str, ...]:
    """The data sets that have records of the profile, or of the fullest that has any; before the first the paper's."""
    profiles = _profiles(experiment) if profile == FULLEST else [profile]
    found = (recorded_datasets(folder, name, experiment) for name in profiles)
    return next(filter(None, found), experiments()[experiment].trial.datasets[:1])


def _profiles(experiment: str) -> list[str]:
    """What :data:`FULLEST` can stand for, the fullest first."""
    return [name for name in ("paper", "quick") if experiments()[experiment].has(name, experiment)] or ["smoke"]
