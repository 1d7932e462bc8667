"""What a trial leaves behind: one JSON file, whole or not at all."""

import base64
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from gdlayer._plumbing.extras import extra
from gdlayer.trials.files import checksum, parse_json
from gdlayer.trials.registry import trial_of, trial_types
from gdlayer.trials.trial import Search

RESERVED_BYTES = 1 << 16


class ResultsError(RuntimeError):
    """A record cannot be written, or is at odds with what the profile says now."""


@contextmanager
def reserve(path: Path) -> Iterator["Reservation"]:
    """Holds the place of a record while its trial runs; waits while another process holds it.

    Space is taken on the disk before hours are spent, so that a full disk or a read-only folder is known at the start
    and cannot cost the result at the end. The lock goes with the process, however it ends.

    Raises
    ------
    ResultsError
        If the folder cannot be written or the disk is full.
    """
    with extra("experiments"):  # reading records does without
        from filelock import FileLock

    part = _part(path)
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    with _writing_to(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    reservation = Reservation(path, part)
    try:
        with _writing_to(path.parent), part.open("wb") as stream:
            stream.write(b" " * RESERVED_BYTES)
            stream.flush()
            os.fsync(stream.fileno())
        yield reservation
    finally:
        with suppress(OSError):
            if not reservation.written:
                part.unlink(missing_ok=True)
            Path(lock.lock_file).unlink()  # a waiting process sees that and takes a new lock
        lock.release()


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


@contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResultsError(f"results cannot be written to {folder}: {error.strerror}") from error


class Reservation:
    """The place of a record; :meth:`write` fills it, all at once, and adds the record's checksum, ``sha256``."""

    def __init__(self, path: Path, part: Path) -> None:
        self.path = path
        self.part = part
        self.written = False

    def write(self, record: dict[str, Any]) -> None:
        text = json.dumps(record | {"sha256": checksum(record)}, indent=1) + "\n"
        with _writing_to(self.path.parent):
            with self.part.open("r+b") as stream:
                stream.write(text.encode())
                stream.truncate()
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(self.part, self.path)
        self.written = True


def packed(right: np.ndarray) -> str:
    """Which pictures a network gets right, (n,) of bool, as a record holds it: base64 of eight pictures a byte."""
    return base64.b64encode(np.packbits(right).tobytes()).decode()


def unpacked(text: str, n: int) -> np.ndarray:
    """What :func:`packed` made of n pictures."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=n).astype(bool)


def write_beside(path: Path, content: bytes) -> None:
    """Writes a file that belongs to a record, whole or not at all.

    Raises
    ------
    ResultsError
        If the folder cannot be written or the disk is full; then what was there still is.
    """
    part = _part(path)
    with _writing_to(path.parent):
        try:
            part.write_bytes(content)
            os.replace(part, path)
        except OSError:
            with suppress(OSError):
                part.unlink()
            raise


def read_record(path: Path) -> dict[str, Any] | None:
    """The finished record at ``path``, without its checksum, or None if there is none.

    A file is read again only when it was replaced, so callers share what they get and do not change it. Records made
    before they had a checksum are read without.

    Raises
    ------
    ResultsError
        If the file is not a :class:`~gdlayer.trials.schema.Record`, is of another trial than its name says, or was
        changed after it was written; the message is one line.
    """
    try:
        file = path.stat()
        return _read(path, file.st_ino, file.st_mtime_ns, file.st_size)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise ResultsError(f"{path} is not a record ({error}); move it away") from error


@lru_cache(maxsize=1 << 14)
def _read(path: Path, *file: int) -> dict[str, Any]:
    record = parse_json(path.read_text(encoding="utf-8"))
    _check(record, path)
    return record


def _check(record: Any, path: Path) -> None:
    """Takes the checksum out of a record and raises TypeError, ValueError or RecursionError if something is wrong."""
    from gdlayer.trials.schema import check_record

    written = record.pop("sha256", None) if isinstance(record, dict) else None
    check_record(record)
    if written not in (None, checksum(record)):
        raise ValueError("it was changed after it was written")
    trial = trial_of(record["trial"])
    if defaults := trial.describe().keys() - record["trial"].keys():
        raise ValueError(f"no {', '.join(f'trial.{name}' for name in sorted(defaults))}")
    if path.parts[-4:] != trial.record_path(Path()).parts:
        raise ValueError(f"it is of {trial.record_path(Path())}")
    if isinstance(trial, Search) and trial.metric not in record["metrics"]:
        raise ValueError(f"no metrics.{trial.metric}")


def load_records(folder: Path, profile: str, experiment: str, datasets: Iterable[str]) -> list[dict[str, Any]]:
    """All finished records of an experiment on some data sets, by file name; none yet gives an empty list.

    Raises
    ------
    ResultsError
        If a file is no record or lacks a field.
    """
    paths = [path for dataset in datasets for path in sorted((folder / profile / experiment / dataset).glob("*.json"))]
    return [record for path in paths if (record := read_record(path))]


def every_record(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """All finished records of all profiles, by path.

    Raises
    ------
    ResultsError
        As :func:`load_records`.
    """
    for path in sorted(folder.glob("*/*/*/*.json")):
        if record := read_record(path):
            yield path, record


def recorded_datasets(folder: Path, profile: str, experiment: str) -> tuple[str, ...]:
    """The data sets of which there are records."""
    return tuple(
        name
        for name in trial_types()[experiment].datasets
        if any((folder / profile / experiment / name).glob("*.json"))
    )


def check_current(record: dict[str, Any], hyperparameters: dict[str, Any], path: Path) -> None:
    """Raises ResultsError if a record was made with other hyper-parameters than the present ones."""
    then = record["hyperparameters"]
    changed = [
        f"{name} was {then.get(name)!r}, is {hyperparameters.get(name)!r}"
        for name in sorted(then.keys() | hyperparameters.keys())
        if then.get(name) != hyperparameters.get(name)
    ]
    if changed:
        raise ResultsError(f"{path} was made with other settings ({'; '.join(changed)}); move it away to run it anew")
