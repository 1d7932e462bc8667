"""What a trial leaves behind: one JSON file, whole or not at all."""

import fcntl
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import gdlayer

RESERVED_BYTES = 1 << 16
REQUIRED = (
    "trial",
    "hyperparameters",
    "metrics",
    "curve",
    "parameters",
    "started",
    "seconds",
    "peak_memory_bytes",
    "data",
    "git",
    "versions",
    "machine",
)
"""What every record holds."""


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
    part = path.with_name(f".{path.name}.part")
    with _writing_to(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = _open_locked(part)
    reservation = Reservation(path, part)
    with stream:
        try:
            with _writing_to(path.parent):
                part.write_bytes(b" " * RESERVED_BYTES)
                os.fsync(stream.fileno())
            yield reservation
        finally:
            if not reservation.written:
                with suppress(OSError):
                    part.unlink()


@contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResultsError(f"results cannot be written to {folder}: {error.strerror}") from error


def _open_locked(part: Path) -> BinaryIO:
    while True:
        stream = part.open("a+b")
        fcntl.flock(stream, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(stream.fileno()), part.stat()):
                return stream
        stream.close()  # who held it has turned it into the record meanwhile, or given up


class Reservation:
    """The place of a record; :meth:`write` fills it, all at once."""

    def __init__(self, path: Path, part: Path) -> None:
        self.path = path
        self.part = part
        self.written = False

    def write(self, record: dict[str, Any]) -> None:
        text = json.dumps(record, indent=1, allow_nan=False) + "\n"
        with _writing_to(self.path.parent):
            with self.part.open("r+b") as stream:
                stream.write(text.encode())
                stream.truncate()
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(self.part, self.path)
        self.written = True


def write_beside(path: Path, content: bytes) -> None:
    """Writes a file that belongs to a record, whole or not at all.

    Raises
    ------
    ResultsError
        If the folder cannot be written or the disk is full; then what was there still is.
    """
    part = path.with_name(f".{path.name}.part")
    with _writing_to(path.parent):
        try:
            part.write_bytes(content)
            os.replace(part, path)
        except OSError:
            with suppress(OSError):
                part.unlink()
            raise


def read_record(path: Path) -> dict[str, Any] | None:
    """The finished record at ``path``, or None if there is none.

    Raises
    ------
    ResultsError
        If the file is not a record, or lacks a field.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} is not a record ({error}); move it away") from error
    if not isinstance(record, dict):
        raise ResultsError(f"{path} is not a record (a {type(record).__name__}); move it away")
    if missing := [field for field in REQUIRED if field not in record]:
        raise ResultsError(f"{path} is not a record (no {', '.join(missing)}); move it away")
    return record


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


def provenance(device: str, threads: int) -> dict[str, Any]:
    """Where, with what and by which code a record was made."""
    import torch

    return {
        "git": _git(),
        "versions": {
            "gdlayer": gdlayer.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": version("numpy"),
        },
        "machine": {
            "device": device,
            "name": torch.cuda.get_device_name() if device == "cuda" else _cpu_name(),
            "cores": os.cpu_count(),
            "threads": threads,
            "system": f"{platform.system()} {platform.machine()}",
        },
    }


def peak_memory_bytes(device: str) -> int:
    """The most memory this process, or on a GPU its tensors, ever held."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _git() -> dict[str, Any]:
    def git(*arguments: str) -> str:
        root = Path(__file__).parent
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
