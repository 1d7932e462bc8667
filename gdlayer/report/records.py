"""Reading the record: one JSON file a trial."""

from pathlib import Path
from typing import Any

from gdlayer.experiments.record import ResultsError, read_record

ROOT = Path(__file__).parents[2]
"""The repository: published numbers and the record lie in its ``data/``."""

REQUIRED = (
    "trial",
    "hyperparameters",
    "metrics",
    "curve",
    "parameters",
    "started",
    "seconds",
    "peak_memory_bytes",
    "data",
    "git",
    "versions",
    "machine",
)


def load_records(folder: Path, profile: str, experiment: str, dataset: str) -> list[dict[str, Any]]:
    """All finished records of an experiment on a data set, by file name; none yet gives an empty list.

    Raises
    ------
    gdlayer.experiments.record.ResultsError
        If a file is no record or lacks a field.
    """
    records = []
    for path in sorted((folder / profile / experiment / dataset).glob("*.json")):
        record = read_record(path)
        assert record is not None
        if missing := [field for field in REQUIRED if field not in record]:
            raise ResultsError(f"{path} lacks {', '.join(missing)}; move it away")
        records.append(record)
    return records
