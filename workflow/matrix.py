"""``make test-matrix``: the tests of the layer on each Python and torch that the package claims.

Of each Python the oldest patch release found on PATH or under pyenv, with the locked packages; on the oldest Python
also the oldest torch. What cannot be had is skipped aloud. Every row of ``data/test-matrix.csv`` is one of them.
"""

import csv
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "data" / "test-matrix.csv"
PYTHONS = ("3.11", "3.12", "3.13")
OLDEST_TORCH = "2.4.0"
TESTS = [*sorted(ROOT.glob("tests/test_*.py")), ROOT / "tests" / "related", ROOT / "tests" / "plot"]
COLUMNS = ("python", "torch", "numpy", "passed", "skipped", "failed")
VERSIONS = "import platform, torch, numpy; print(platform.python_version(), torch.__version__, numpy.__version__)"


class CannotBeHadError(Exception):
    """An interpreter or package is not to be had here."""


def main() -> int:
    rows: list[tuple[str, ...]] = [COLUMNS]
    for python, torch in [(PYTHONS[0], OLDEST_TORCH), *((python, "") for python in PYTHONS)]:
        try:
            rows.append(run(python, torch))
            print(*(f"{name} {value}" for name, value in zip(COLUMNS, rows[-1], strict=True)), flush=True)
        except CannotBeHadError as error:
            rows.append((python, torch or "locked", "", "", "", f"not run: {error}"))
            print(f"SKIPPED: Python {python}, torch {torch or 'as locked'}: {error}", flush=True)
        with RECORD.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerows(rows)
    return 1 if any(row[-1] != "0" and not row[-1].startswith("not run") for row in rows[1:]) else 0


def run(python: str, torch: str) -> tuple[str, ...]:
    """A row of the record, from an environment of its own."""
    interpreter = oldest(python)
    with tempfile.TemporaryDirectory(prefix="gdlayer-matrix-") as scratch:
        subprocess.run([interpreter, "-m", "venv", scratch], check=True)
        own = f"{scratch}/bin/python"
        install(own, "--no-deps", "--require-hashes", "-r", "requirements-cpu.lock", needed=False)
        install(own, "--no-deps", "--require-hashes", "-r", "requirements.lock")
        if torch:
            install(own, f"torch=={torch}")
        elif subprocess.run([own, "-c", "import torch"], capture_output=True).returncode:
            install(own, "--no-deps", "--require-hashes", "-r", "requirements-cuda.lock")
        report = Path(scratch, "report.xml")
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [own, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", f"--junit-xml={report}", *TESTS]
        subprocess.run(command, cwd=ROOT, env=environment)
        suite = next(ET.parse(report).iter("testsuite")).attrib
        versions = subprocess.run([own, "-c", VERSIONS], capture_output=True, text=True, check=True).stdout.split()
    failed, skipped = int(suite["failures"]) + int(suite["errors"]), int(suite["skipped"])
    return (*versions, str(int(suite["tests"]) - failed - skipped), str(skipped), str(failed))


def oldest(python: str) -> str:
    """The interpreter of the oldest patch release of a version."""
    on_path = [shutil.which(f"python{python}", path=folder) for folder in os.environ["PATH"].split(os.pathsep)]
    under_pyenv = Path.home().glob(f".pyenv/versions/{python}.*/bin/python")
    found = {}
    for candidate in filter(None, [*on_path, *map(str, under_pyenv)]):
        code = "import sys, venv; assert sys.prefix == sys.base_prefix; print(*sys.version_info[:3])"
        told = subprocess.run([candidate, "-c", code], capture_output=True, text=True)
        if told.returncode == 0 and told.stdout.split()[:2] == python.split("."):
            found[int(told.stdout.split()[2])] = candidate
    if not found:
        raise CannotBeHadError("there is no such interpreter")
    return found[min(found)]


def install(own: str, *arguments: str, needed: bool = True) -> None:
    done = subprocess.run(
        [own, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode and needed:
        raise CannotBeHadError(f"pip install {' '.join(arguments)}: {done.stderr.strip().splitlines()[-1]}")


if __name__ == "__main__":
    sys.exit(main())
