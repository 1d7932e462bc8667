"""The record of a benchmark: a JSON file of parts, each with its origin and one row per line. Needs no torch."""

import json
from pathlib import Path
from typing import Any

from gdlayer.trials.record import ResultsError, write_beside

Row = dict[str, Any]


def read(path: Path) -> dict[str, Any]:
    """The parts of a record by name: "made" says when, where and by which code, "rows" holds the measurements.

    Raises
    ------
    ResultsError
        If there is no record at ``path``.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        whole = all({"made", "rows"} <= part.keys() for part in record.values())
    except FileNotFoundError:
        raise ResultsError(f"{path} is not there; `make bench` makes results/bench/cpu.json") from None
    except (OSError, ValueError, AttributeError) as error:
        raise ResultsError(f"{path} is not a record of the benchmark ({error}); move it away") from error
    if not whole:
        raise ResultsError(f"{path} is not a record of the benchmark; move it away")
    return record


def write(record: dict[str, Any], path: Path) -> None:
    """Writes a record; a failure leaves the old file as it was.

    Raises
    ------
    ResultsError
        If the folder cannot be written or the disk is full.
    """
    parts = [
        f'"{name}": {{"made": {json.dumps(part["made"])}, "rows": [\n'
        + ",\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in part["rows"])
        + "\n]}"
        for name, part in record.items()
    ]
    write_beside(path, ("{\n" + ",\n".join(parts) + "\n}\n").encode())


def describe(row: Row) -> str:
    """Layer and algorithm of a row."""
    return " ".join(row[field] for field in ("layer", "algorithm") if field in row)
