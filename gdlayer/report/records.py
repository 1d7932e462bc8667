"""Reading the record: one JSON file a trial."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gdlayer.experiments.record import read_record

ROOT = Path(__file__).parents[2]
"""The repository: published numbers and the record lie in its ``data/``."""


def load_records(folder: Path, profile: str, experiment: str, datasets: Iterable[str]) -> list[dict[str, Any]]:
    """All finished records of an experiment on some data sets, by file name; none yet gives an empty list.

    Raises
    ------
    gdlayer.experiments.record.ResultsError
        If a file is no record or lacks a field.
    """
    paths = [path for dataset in datasets for path in sorted((folder / profile / experiment / dataset).glob("*.json"))]
    return [record for path in paths if (record := read_record(path))]
