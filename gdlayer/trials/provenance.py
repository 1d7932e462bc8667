"""Where, with what and by which code a record is made, and where the repository's own lie."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gdlayer
from gdlayer.trials.record import ResultsError


def machine_name(device: str) -> str:
    """The model of the GPU or CPU that a record is made on."""
    if device == "cuda":
        import torch

        return torch.cuda.get_device_name()
    return _cpu_name()


def provenance(device: str, threads: int) -> dict[str, Any]:
    """Where, with what and by which code a record was made."""
    import torch

    return {
        "git": provenance_of_code(),
        "versions": {
            "gdlayer": gdlayer.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": version("numpy"),
        },
        "machine": {
            "device": device,
            "name": machine_name(device),
            "cores": os.cpu_count(),
            "threads": threads,
            "system": f"{platform.system()} {platform.machine()}",
        },
    }


def checkout() -> Path | None:
    """The repository, if this package lies in a checkout of it and not among installed ones."""
    root = Path(gdlayer.__file__).parents[1]
    return root if _is_checkout(root) else None


def repository() -> Path | None:
    """The checkout that the working directory lies in, or else the one that this package lies in."""
    here = Path.cwd()
    return next(filter(_is_checkout, (here, *here.parents)), checkout())


def _is_checkout(folder: Path) -> bool:
    return (folder / "pyproject.toml").is_file() and (folder / "gdlayer" / "__init__.py").is_file()


def committed_data() -> Path:
    """The folder ``data`` of the repository.

    Raises
    ------
    ResultsError
        If there is no repository.
    """
    root = repository()
    if root is None:
        raise ResultsError(f"neither {Path.cwd()} nor gdlayer, at {Path(gdlayer.__file__).parent}, lies in a clone")
    return root / "data"


def committed_record() -> Path | None:
    """The folder of the repository's own record, or None if there is no repository."""
    root = repository()
    return None if root is None else root / "data" / "results"


def provenance_of_code() -> dict[str, Any]:
    """The commit that this package lies in, and whether it has changes; None where there is no git to tell."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    unknown = {"commit": None, "dirty": None}
    root = checkout()
    if root is None or not (root / ".git").exists():  # unpacked, it may lie inside another project's repository
        return unknown
    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return unknown


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
