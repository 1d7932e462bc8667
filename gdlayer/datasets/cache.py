"""Arrays kept in the cache, each file with a checksum."""

import hashlib
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gdlayer.datasets.files import DataError, cache_directory

_DIGEST_BYTES = hashlib.sha256().digest_size


def cached(path: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays out of the cache; if they are not there, they are made and stored.

    The file begins with the SHA256 of its path and its other bytes. If one byte of it differs, if it is truncated, or
    if it was made for another path, then it is not used but made again. It is put in place by renaming, so it is
    never there half written.

    Parameters
    ----------
    path : str
        Path below the cache directory; it must contain everything that the arrays depend on.
    make : callable
        Makes the arrays, none of them of Python objects.

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    DataError
        The cache cannot be written.
    """
    place = cache_directory() / path
    arrays = _read(place, path)
    if arrays is None:
        arrays = make()
        _write(place, path, arrays)
    return arrays


def _read(place: Path, path: str) -> dict[str, np.ndarray] | None:
    """The arrays, or None if there is no file or it is not as it was written."""
    try:
        with place.open("rb") as stream:
            digest = stream.read(_DIGEST_BYTES)
            if digest != _digest(stream, path):
                return None
            stream.seek(_DIGEST_BYTES)
            with np.load(stream, allow_pickle=False) as stored:
                return dict(stored)
    except OSError:
        return None


def _write(place: Path, path: str, arrays: dict[str, np.ndarray]) -> None:
    partial = place.with_name(f".{uuid.uuid4().hex}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("x+b") as stream:
                stream.write(bytes(_DIGEST_BYTES))
                np.savez(stream, **arrays)  # pyright: ignore[reportArgumentType]
                stream.seek(_DIGEST_BYTES)
                digest = _digest(stream, path)
                stream.seek(0)
                stream.write(digest)
            partial.replace(place)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"the cache cannot be written ({error.strerror or error}), GDLAYER_CACHE can name another"
        ) from error


def _digest(stream, path: str) -> bytes:
    """SHA256 of the path and of the rest of the stream."""
    digest = hashlib.sha256(path.encode() + b"\0")
    while chunk := stream.read(1 << 20):
        digest.update(chunk)
    return digest.digest()
