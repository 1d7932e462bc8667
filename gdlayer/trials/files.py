"""JSON, TOML and CSV, read strictly: what a format does not have, or leaves open, is an error of one line.

An error in a file of an experiment's folder names the file.
"""

import csv
import hashlib
import io
import json
import math
import reprlib
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources.abc import Traversable
from typing import Any, TypeVar

from gdlayer._plumbing.checks import one_of

Key = TypeVar("Key")
Value = TypeVar("Value")


class FolderError(ValueError):
    """A file of an experiment's folder is not as it must be; the message is one line."""


class Entries(dict[Key, Value]):
    """What a file says, by key; to ask for what it does not say is an error that names the file."""

    def __init__(self, path: Traversable) -> None:
        super().__init__()
        self.path = path

    def __missing__(self, key: Key) -> Value:
        raise FolderError(f"{self.path}: no {key}; mend the file")


@contextmanager
def read_from(path: Traversable) -> Iterator[None]:
    """Turns what is found wrong with a file's content into a :class:`FolderError`."""
    try:
        yield
    except FolderError:
        raise
    except RecursionError:
        raise FolderError(f"{path}: nested too deeply; mend the file") from None
    except (TypeError, ValueError, csv.Error) as error:
        raise FolderError(f"{path}: {error}; mend the file") from error


def parse_json(text: str) -> Any:
    """The content of a JSON file without what JSON does not have, or leaves open: NaN, infinities, a key twice.

    Raises
    ------
    ValueError
        One line.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_constant=finite, parse_float=finite, parse_int=_integer
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parse_toml(path: Traversable) -> dict[str, Any]:
    """The content of a TOML file; ValueError also for numbers that are infinite or none."""
    return tomllib.loads(path.read_bytes().decode("utf-8"), parse_float=finite)


def parse_csv(path: Traversable, *heads: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """The rows of a CSV file.

    Parameters
    ----------
    path : file
    heads : what its first line may be

    Raises
    ------
    ValueError
        If the first line is another, or a line has more or fewer values; the line is named.
    csv.Error
        If it is no CSV.
    """
    lines = csv.reader(io.StringIO(path.read_bytes().decode("utf-8"), newline=""), strict=True)
    head = one_of("its first line", ",".join(next(lines, [])), map(",".join, heads)).split(",")
    for values in lines:
        if len(values) != len(head):
            raise ValueError(f"line {lines.line_num} has {len(values)} values, expected {len(head)}")
        yield dict(zip(head, values, strict=True))


def finite(text: str) -> float:
    """The number; ValueError if it is none or too large for a float."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{reprlib.repr(text)} is not a finite number")
    return value


def checksum(content: Any) -> str:
    """SHA256 of parsed JSON, whatever its white space; ValueError or TypeError if JSON cannot hold it."""
    return hashlib.sha256(json.dumps(content, ensure_ascii=False, allow_nan=False).encode()).hexdigest()


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{reprlib.repr(key)} twice")
        found[key] = value
    return found


def _integer(text: str) -> int:
    if len(text) > 19:
        raise ValueError(f"{reprlib.repr(text)} is too large")
    return int(text)
