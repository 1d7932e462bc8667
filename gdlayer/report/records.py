"""Reading the record: one JSON file a trial."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gdlayer.experiments.record import read_record
from gdlayer.experiments.trial import TRIALS

ROOT = Path(__file__).parents[2]
"""The repository: published numbers and the record lie in its ``data/``."""
COMMITTED = ROOT / "data" / "results"
"""The record in the repository."""
FULLEST = "fullest"
"""Instead of a profile: ``paper`` as soon as it has a record of the experiment, else ``quick``."""

PROVENANCE = {
    "git": ("commit", "dirty"),
    "versions": ("gdlayer", "python", "torch", "numpy"),
    "machine": ("device", "name", "cores", "threads", "system"),
    "data": ("name", "source", "sha256"),
    "hyperparameters": ("precision", "steps"),
}
"""What says where, with what, by which code and on which data a record was made, besides its start and duration."""


def load_records(folder: Path, profile: str, experiment: str, datasets: Iterable[str]) -> list[dict[str, Any]]:
    """All finished records of an experiment on some data sets, by file name; none yet gives an empty list.

    Raises
    ------
    gdlayer.experiments.record.ResultsError
        If a file is no record or lacks a field.
    """
    paths = [path for dataset in datasets for path in sorted((folder / profile / experiment / dataset).glob("*.json"))]
    return [record for path in paths if (record := read_record(path))]


def every_record(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """All finished records of all profiles, by path.

    Raises
    ------
    gdlayer.experiments.record.ResultsError
        As :func:`load_records`.
    """
    for path in sorted(folder.glob("*/*/*/*.json")):
        if record := read_record(path):
            yield path, record


def recorded_datasets(folder: Path, profile: str, experiment: str) -> tuple[str, ...]:
    """The data sets of which there are records."""
    return tuple(
        name for name in TRIALS[experiment].datasets if any((folder / profile / experiment / name).glob("*.json"))
    )


def choose_profile(folder: Path, profile: str, experiment: str, datasets: Iterable[str]) -> str:
    """The profile itself, or what :data:`FULLEST` stands for."""
    if profile != FULLEST:
        return profile
    return "paper" if set(datasets) & set(recorded_datasets(folder, "paper", experiment)) else "quick"


def missing_provenance(record: dict[str, Any]) -> list[str]:
    """What a record does not tell of :data:`PROVENANCE`, as dotted names."""
    flat = [name for name in ("started", "seconds", "peak_memory_bytes", "parameters") if record.get(name) is None]
    return flat + [
        f"{part}.{name}"
        for part, names in PROVENANCE.items()
        for name in names
        if (record.get(part) or {}).get(name) is None
    ]
