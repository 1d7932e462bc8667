"""The IDX format of the MNIST family: a big-endian header, then unsigned bytes, all in one gzip stream."""

import gzip
import math
import struct
import zlib
from os import PathLike
from pathlib import Path

import numpy as np

from gdlayer.datasets.files import DataCorruptError

_UNSIGNED_BYTE = b"\0\0\x08"  # then one byte, the number of dimensions, and each as a 4-byte integer
_CHUNK = 1 << 20

MAX_DIMENSIONS = 32  # what every NumPy can hold


def read_idx(path: str | PathLike[str], max_bytes: int = 1 << 28) -> np.ndarray:
    """Read a gzipped IDX file of unsigned bytes.

    Memory grows with the bytes that are really there, whatever the header says, and never beyond `max_bytes`. For
    that bound a side of 0 counts as 1.

    Parameters
    ----------
    path : path-like
        A `.gz` file.
    max_bytes : int
        Largest array accepted, in bytes.

    Returns
    -------
    ndarray of uint8
        Writable, with the shape in the header.

    Raises
    ------
    DataCorruptError
        Not gzip, not IDX of unsigned bytes, truncated, longer than its header says, above `max_bytes`, or of more
        than 32 dimensions.
    OSError
        The file cannot be opened.
    """
    with open(path, "rb") as file, gzip.open(file) as stream:
        try:
            magic = stream.read(4)
            if len(magic) < 4 or not magic.startswith(_UNSIGNED_BYTE):
                raise DataCorruptError(f"{path}: IDX magic {magic.hex()!r}, expected '000008' and one byte more")
            if magic[3] > MAX_DIMENSIONS:
                raise DataCorruptError(f"{path}: {magic[3]} dimensions, allowed are {MAX_DIMENSIONS}")
            header = stream.read(4 * magic[3])
            if len(header) < 4 * magic[3]:
                raise DataCorruptError(
                    f"{path}: truncated in the header, {len(header)} bytes for {magic[3]} dimensions, "
                    f"expected {4 * magic[3]}"
                )
            shape = struct.unpack(f">{magic[3]}I", header)
            if (bound := math.prod(max(side, 1) for side in shape)) > max_bytes:
                raise DataCorruptError(f"{path}: shape {shape} is {bound} bytes, allowed are {max_bytes}")
            size = math.prod(shape)
            data = bytearray()
            while chunk := stream.read(min(_CHUNK, size + 1 - len(data))):
                data += chunk
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataCorruptError(f"{path}: broken gzip stream: {error}") from error
    if len(data) != size:
        found = f"only {len(data)}" if len(data) < size else "more"
        raise DataCorruptError(f"{path}: shape {shape} needs {size} bytes, found {found}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def write_idx(path: str | PathLike[str], array: np.ndarray) -> None:
    """Write unsigned bytes as a gzipped IDX file, with neither time stamp nor file name in it.

    Parameters
    ----------
    path : path-like
        File to write.
    array : ndarray of uint8
        Any shape of at most 32 dimensions.

    Raises
    ------
    ValueError
        `array` is not uint8, or has more dimensions.
    """
    if array.dtype != np.uint8:
        raise ValueError(f"array must have dtype uint8, got {array.dtype}")
    if array.ndim > MAX_DIMENSIONS:
        raise ValueError(f"array must have at most {MAX_DIMENSIONS} dimensions, got {array.ndim}")
    header = _UNSIGNED_BYTE + struct.pack(f">B{array.ndim}I", array.ndim, *array.shape)
    with Path(path).open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as stream:
        stream.write(header + array.tobytes())
