"""Seeded damage to a file: its reader must refuse it in one line that names the file, or give what it gave before.

`GDLAYER_MUTATIONS` is the number of damaged versions per reader (60 by default), `GDLAYER_MUTATIONS_CSV` a file to
which each reader appends its counts; `make soak` sets both.
"""

import csv
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

COUNT = int(os.environ.get("GDLAYER_MUTATIONS", "60"))
OUTCOMES = ("refused", "same", "changed", "silent", "uncaught")
"""Refused in one line that names the file; read as before; read with another value that fits, of files without a
checksum; the same of files with one; ended by another exception."""
TOKENS = (
    b"", b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\n", b"\r", b",", b'"', b"'", b"-1", b"0", b"1e999", b"NaN", b"null",
    b"../../", b"{}", b"[" * 3000, b"9" * 5000,
)  # fmt: skip


def damaged(good: bytes, count: int = COUNT, seed: int = 0) -> Iterator[bytes]:
    """``count`` versions of ``good``, each different from it: the same ones for the same seed."""
    rng = random.Random(seed)
    while count:
        bad = rng.choice(_KINDS)(good, rng)
        if bad != good:
            count -= 1
            yield bad


def attack(
    name: str,
    path: Path,
    read: Callable[[], T],
    same: Callable[[T], bool],
    refusal: type[Exception],
    named: Path | None = None,
    *,
    may_change: bool = False,
) -> Counter[str]:
    """Reads damaged versions of a file, which is put back afterwards.

    Parameters
    ----------
    name : str
        The reader's, for the table of a soak test.
    path : Path
        The file.
    read : callable
        Reads it.
    same : callable
        Whether what was read is what the undamaged file gives.
    refusal : exception type
        What ``read`` may raise: one line that contains ``named``.
    named : Path
        By default the path of the file.
    may_change : bool
        Whether what fits is read, as of files that are written by hand; else to read a change is silent damage.

    Returns
    -------
    Counter
        How often the file was "refused", gave the "same", or something "changed" that may be.

    Raises
    ------
    AssertionError
        Of some version another exception came out, or a refusal that is not such a line, or it was read as if it was
        whole; the message has their indices.
    """
    good = path.read_bytes()
    counts: Counter[str] = Counter()
    faults = []
    try:
        for index, bad in enumerate(damaged(good)):
            path.write_bytes(bad)
            try:
                found = read()
            except Exception as error:
                one_line = len(str(error).splitlines()) == 1
                clear = isinstance(error, refusal) and one_line and str(named or path) in str(error)
                outcome, told = "refused" if clear else "uncaught", f"{type(error).__name__}: {error}"
            else:
                outcome = "same" if same(found) else "changed" if may_change else "silent"
                told = "read as if it was whole"
            counts[outcome] += 1
            if outcome in ("silent", "uncaught"):
                faults.append(f"version {index}: {told}")
    finally:
        path.write_bytes(good)
    if table := os.environ.get("GDLAYER_MUTATIONS_CSV"):
        with Path(table).open("a", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            if stream.tell() == 0:
                writer.writerow(["reader", "versions", *OUTCOMES])
            writer.writerow([name, counts.total(), *(counts[outcome] for outcome in OUTCOMES)])
    assert not faults, "\n".join([name, *faults[:10]])
    return counts


def _place(good: bytes, rng: random.Random) -> tuple[int, int]:
    """A random slice, short more often than long."""
    start = rng.randrange(len(good))
    return start, min(len(good), start + 1 + int(len(good) ** rng.random()))


def _flip_bit(good: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(good))
    return good[:place] + bytes([good[place] ^ 1 << rng.randrange(8)]) + good[place + 1 :]


def _truncate(good: bytes, rng: random.Random) -> bytes:
    return good[: rng.randrange(len(good))]


def _delete(good: bytes, rng: random.Random) -> bytes:
    start, end = _place(good, rng)
    return good[:start] + good[end:]


def _repeat(good: bytes, rng: random.Random) -> bytes:
    start, end = _place(good, rng)
    return good[:end] + good[start:end] + good[end:]


def _overwrite(good: bytes, rng: random.Random) -> bytes:
    start, end = _place(good, rng)
    return good[:start] + rng.randbytes(end - start) + good[end:]


def _insert(good: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(good))
    return good[:place] + rng.choice(TOKENS) + good[place:]


def _replace_field(good: bytes, rng: random.Random) -> bytes:
    """One of the fields between commas, colons and line ends."""
    ends = [index for index, byte in enumerate(good) if byte in b",:\n"] or [0, len(good)]
    which = rng.randrange(len(ends))
    start, end = (ends[which - 1] + 1 if which else 0), ends[which]
    return good[:start] + rng.choice(TOKENS) + good[end:]


def _swap_lines(good: bytes, rng: random.Random) -> bytes:
    lines = good.split(b"\n")
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return b"\n".join(lines)


_KINDS = (_flip_bit, _truncate, _delete, _repeat, _overwrite, _insert, _replace_field, _swap_lines)
