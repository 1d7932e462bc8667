"""Files of an experiment's folder: read whole, or refused in one line that names the file."""

import csv
import io
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources.abc import Traversable
from typing import Any, TypeVar

from gdlayer.checks import one_of
from gdlayer.experiments.schema import finite

Key, Value = TypeVar("Key"), TypeVar("Value")


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
