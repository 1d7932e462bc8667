"""``make test-matrix``: the tests of the layer on each Python and torch that the package claims, and on the newest.

"3.11" and so on: the locked packages on the oldest patch release of that Python found on PATH or under pyenv; "oldest":
so on the first of them, but with the oldest torch; "newest": on the last of them, with the newest of every package that
pip finds. What cannot be had is skipped aloud. Every row of ``data/test-matrix.csv`` is one of them.
"""

import argparse
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
RUNS = ("oldest", *PYTHONS, "newest")
COLUMNS = ("run", "python", "torch", "numpy", "passed", "skipped", "failed")
VERSIONS = "import platform, torch, numpy; print(platform.python_version(), torch.__version__, numpy.__version__)"


class CannotBeHadError(Exception):
    """An interpreter or package is not to be had here."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", metavar="RUN", help=f"of {', '.join(RUNS)}; all unless told")
    runs = parser.parse_args().runs or RUNS
    if unknown := set(runs) - set(RUNS):
        parser.error(f"run must be one of {', '.join(RUNS)}, got {', '.join(sorted(unknown))}")
    with RECORD.open(newline="", encoding="utf-8") as stream:
        rows = {row[0]: tuple(row) for row in csv.reader(stream)}
    for name in runs:
        try:
            rows[name] = (name, *run(name))
            print(*(f"{column} {value}" for column, value in zip(COLUMNS, rows[name], strict=True)), flush=True)
        except CannotBeHadError as error:
            rows[name] = (name, "", "", "", "", "", f"not run: {error}")
            print(f"SKIPPED: {name}: {error}", flush=True)
        with RECORD.open("w", newline="", encoding="utf-8") as stream:
            written = [COLUMNS, *(rows[name] for name in RUNS if name in rows)]
            csv.writer(stream, lineterminator="\n").writerows(written)
    return 1 if any(rows[name][-1] != "0" and not rows[name][-1].startswith("not run") for name in runs) else 0


def run(name: str) -> tuple[str, ...]:
    """A row of the record but its name, from an environment of its own."""
    interpreter = oldest({"oldest": PYTHONS[0], "newest": PYTHONS[-1]}.get(name, name))
    with tempfile.TemporaryDirectory(prefix="gdlayer-matrix-") as scratch:
        subprocess.run([interpreter, "-m", "venv", scratch], check=True)
        own = f"{scratch}/bin/python"
        if name == "newest":
            install(own, ".[dev]")
        else:
            install(own, "--no-deps", "--require-hashes", "-r", "requirements-cpu.lock", needed=False)
            install(own, "--no-deps", "--require-hashes", "-r", "requirements.lock")
        if name == "oldest":
            install(own, f"torch=={OLDEST_TORCH}")
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
        code = "import sys, ensurepip; assert sys.prefix == sys.base_prefix; print(*sys.version_info[:3])"
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
