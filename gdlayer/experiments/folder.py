"""Files of an experiment's folder: what is wrong with one is told in one line that names it."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources.abc import Traversable
from typing import TypeVar

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
