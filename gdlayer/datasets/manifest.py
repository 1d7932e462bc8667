"""Manifests of data packs: CSV files without quotes, in which every line has one form."""

import re
from pathlib import Path

from gdlayer.datasets.files import DataCorruptError, DataError


def read_manifest(path: Path, head: str, line: str) -> list[dict[str, str]]:
    """Read a manifest, or refuse it as a whole.

    Parameters
    ----------
    path : Path
        An ASCII file with lines that end in a line feed.
    head : str
        Its first line: the names of the columns.
    line : str
        Regular expression for each other line. Its groups are returned; the group ``picture`` must differ from line
        to line.

    Returns
    -------
    list of dict of str to str
        The named groups of each line, in the order of the file.

    Raises
    ------
    DataCorruptError
        The file has another head, no other line, or a line that does not fit; the file and the line are named.
    DataError
        The file cannot be read.
    """
    try:
        lines = path.read_bytes().decode("ascii", "backslashreplace").split("\n")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error

    def refuse(problem: str) -> DataCorruptError:
        return DataCorruptError(f"{path} is not the manifest of this pack: {problem}; replace it by an undamaged copy")

    if lines[0] != head:
        raise refuse(f"its first line is {_quoted(lines[0])}, expected {head!r}")
    if len(lines) < 3 or lines[-1]:
        raise refuse("it is truncated")
    rows, pictures = [], set()
    for number, text in enumerate(lines[1:-1], 2):
        match = re.fullmatch(line, text)
        if match is None:
            raise refuse(f"line {number} is {_quoted(text)}, expected values of {head}")
        if match["picture"] in pictures:
            raise refuse(f"line {number} names {match['picture']} again")
        pictures.add(match["picture"])
        rows.append(match.groupdict())
    return rows


def _quoted(text: str, limit: int = 200) -> str:
    return repr(text if len(text) <= limit else text[:limit] + "...")
