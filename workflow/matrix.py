"""``make test-matrix``: the tests of the layer on each Python and torch that the package claims, and on the newest.

"3.11" and so on: the locked packages on that Python; "oldest": so on the first of them, but with the oldest torch;
"newest": on the last of them, with the newest of every package that pip finds. A Python is the oldest patch release on
PATH or under pyenv. What cannot be had is skipped aloud. Every row of ``data/test-matrix.csv`` is one of them.
"""

import csv
import os
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
PATCH = "import sys, ensurepip; assert sys.prefix == sys.base_prefix; print(sys.version_info[2])"
LOCKED = ("--no-deps", "--require-hashes", "-r")


def main(*runs: str) -> int:
    """0 if no test failed."""
    if unknown := set(runs) - set(RUNS):
        sys.exit(f"run must be one of {', '.join(RUNS)}, got {', '.join(sorted(unknown))}")
    rows = {row[0]: row for row in csv.reader(RECORD.read_text("utf-8").splitlines())}
    for name in runs or RUNS:
        rows[name] = [name, *run(name)]
        print(*(f"{column} {value}" for column, value in zip(COLUMNS, rows[name], strict=True) if value), flush=True)
        with RECORD.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream, lineterminator="\n").writerows(rows[key] for key in ("run", *RUNS) if key in rows)
    return int(any(rows[name][-1].isdecimal() and rows[name][-1] != "0" for name in runs or RUNS))


def run(name: str) -> list[str]:
    """A row of the record but its name, from an environment of its own."""
    with tempfile.TemporaryDirectory(prefix="gdlayer-matrix-") as scratch:
        own, report = f"{scratch}/bin/python", f"{scratch}/report.xml"
        try:
            interpreter = oldest({"oldest": PYTHONS[0], "newest": PYTHONS[-1]}.get(name, name))
            subprocess.run([interpreter, "-m", "venv", scratch], check=True)
            if name == "newest":
                install(own, ".[dev]")
            else:
                pip(own, *LOCKED, "requirements-cpu.lock")  # not everywhere
                install(own, *LOCKED, "requirements.lock")
            if name == "oldest":
                install(own, f"torch=={OLDEST_TORCH}")
            elif subprocess.run([own, "-c", "import torch"], capture_output=True).returncode:
                install(own, *LOCKED, "requirements-cuda.lock")
        except LookupError as error:
            return [""] * 5 + [f"not run: {error.args[0]}"]
        command = [own, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", f"--junit-xml={report}", *TESTS]
        subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
        suite = next(ET.parse(report).iter("testsuite"))
        versions = subprocess.run([own, "-c", VERSIONS], capture_output=True, text=True, check=True).stdout.split()
    total, skipped, failures, errors = (int(suite.attrib[key]) for key in ("tests", "skipped", "failures", "errors"))
    failed = failures + errors
    return [*versions, str(total - skipped - failed), str(skipped), str(failed)]


def oldest(python: str) -> Path:
    """The interpreter of the oldest patch release of a version."""
    found = {}
    folders = [*map(Path, os.environ["PATH"].split(os.pathsep)), *Path.home().glob(f".pyenv/versions/{python}.*/bin")]
    for candidate in [path for folder in folders if (path := folder / f"python{python}").exists()]:
        told = subprocess.run([candidate, "-c", PATCH], capture_output=True, text=True)
        if told.returncode == 0:
            found[int(told.stdout)] = candidate
    if not found:
        raise LookupError("there is no such interpreter")
    return found[min(found)]


def pip(own: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [own, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def install(own: str, *arguments: str) -> None:
    done = pip(own, *arguments)
    if done.returncode:
        raise LookupError(f"pip install {' '.join(arguments)}: {done.stderr.strip().splitlines()[-1]}")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
