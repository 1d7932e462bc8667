"""The Makefile: when .venv is made anew, and that ``make test`` runs every step. Interpreters are stand-ins."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[2] / "Makefile"
PYTHON = """#!/bin/sh
case "$*" in
    "-m venv"*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && touch "$3/pip" ;;
    "-c import pip") test -e .venv/pip ;;
    *sys.version_info*) ;;
    "-c import os, sys"*) echo {name} ;;
    *) echo "$@" >>log ;;
esac
"""


@pytest.fixture
def clone(tmp_path) -> Path:
    folder = tmp_path / "a clone"
    folder.mkdir()
    shutil.copy(MAKEFILE, folder)
    for name in ("requirements.lock", "requirements-cpu.lock", "requirements-cuda.lock", "pyproject.toml"):
        (folder / name).touch()
    interpreter(folder, "python3")
    return folder


def interpreter(folder: Path, name: str) -> Path:
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(PYTHON.format(name=name))
    path.chmod(0o755)
    return path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    given = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "PYTHON"))}
    given["PATH"] = f"{folder / 'bin'}{os.pathsep}{given['PATH']}"
    return subprocess.run(["make", *arguments], cwd=folder, env=given, capture_output=True, text=True, timeout=600)


def installs(folder: Path, *arguments: str) -> bool:
    """Whether ``make`` sets .venv up, and from nothing."""
    old = folder / ".venv" / "of before"
    if was_there := old.parent.exists():
        old.touch()
    done = make(folder, "book", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    installed = "installing into .venv" in done.stdout
    assert old.exists() == (was_there and not installed)
    return installed


def test_a_sound_environment_is_kept(clone):
    assert installs(clone)
    assert not installs(clone)
    assert (clone / "log").read_text().splitlines()[-1] == "workflow/build_book.py _build/html"


def test_a_moved_clone_gets_its_own(clone):
    assert installs(clone)
    assert installs(clone.rename(clone.with_name("moved")))


def test_a_copied_clone_gets_its_own(clone):
    assert installs(clone)
    assert installs(shutil.copytree(clone, clone.with_name("copy")))
    assert not installs(clone)


def test_a_linked_environment_of_another_clone_is_left_alone(clone):
    assert installs(clone)
    other = clone.with_name("other")
    shutil.copytree(clone, other, ignore=lambda *_: [".venv"])
    (other / ".venv").symlink_to(clone / ".venv")
    assert make(other, "book").returncode == 0
    assert not (other / ".venv").is_symlink()
    assert not installs(clone)


def test_an_environment_without_pip_is_made_anew(clone):
    assert installs(clone)
    (clone / ".venv" / "pip").unlink()
    assert installs(clone)
    assert not installs(clone)


@pytest.mark.parametrize("broken", ["bin/python", ".home"])
def test_a_broken_or_unfinished_environment_is_made_anew(clone, broken):
    assert installs(clone)
    (clone / ".venv" / broken).unlink()
    assert installs(clone)


def test_another_interpreter_is_taken_if_asked_for(clone):
    assert installs(clone)
    other = interpreter(clone, "python3.12")
    assert not installs(clone, "PYTHON=python3")
    assert installs(clone, f"PYTHON={other}")
    assert not installs(clone, f"PYTHON={other}")
    assert not installs(clone)


TOOL = """#!/bin/sh
test "$*" = "-c import pip" && exit 0
echo "{name} $*" >>log
exit {status}
"""


@pytest.mark.parametrize(
    ("failing", "named"),
    [((), ""), (("ruff",), " lint"), (("pyright", "python"), " types tests notebooks smoke")],
    ids=["none", "first", "others"],
)
def test_every_step_runs_and_those_that_failed_are_named(clone, failing, named):
    assert installs(clone)
    for name in ("ruff", "pyright", "python"):
        tool = clone / ".venv" / "bin" / name
        tool.write_text(TOOL.format(name=name, status=int(name in failing)))
        tool.chmod(0o755)
    (clone / "log").unlink()
    done = make(clone, "test", "SEED=3")
    assert (clone / "log").read_text().splitlines() == [
        "ruff check",
        *(["ruff format --check"] if "ruff" not in failing else []),
        "pyright ",
        "python -m pytest -n 2 -p randomly --randomly-seed=3",
        "python -m pytest -p no:cacheprovider --nbval book",
        "python workflow/reproduce.py --profile smoke --cores 2",
    ]
    assert done.returncode == (2 if failing else 0)
    assert (f"make test: failed:{named}\n" in done.stderr) == bool(failing)
