"""A record is written whole or not at all, by one process at a time, and read with one clear line for what is none."""

import errno
import hashlib
import json
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from invented import FULL, SAMPLE, finish, processed, python, record, save, smoke, sought

import gdlayer
from gdlayer.trials.provenance import checkout, committed_data, committed_record, provenance, repository
from gdlayer.trials.record import RESERVED_BYTES, ResultsError, load_records, read_record, reserve
from gdlayer.trials.registry import trial_of
from gdlayer.trials.schema import REQUIRED


def names(path: Path) -> list[str]:
    """What lies in a record's folder."""
    return sorted(p.name for p in path.parent.iterdir())


def test_reserve_and_write(tmp_path):
    path = tmp_path / "new" / "folder" / "r.json"
    with reserve(path) as place:
        assert names(path) == [".r.json.lock", ".r.json.part"]
        assert (path.parent / ".r.json.part").stat().st_size == RESERVED_BYTES
        place.write({"short": "ß"})
        assert names(path) == [".r.json.lock", "r.json"]
    assert names(path) == ["r.json"]
    digest = hashlib.sha256('{"short": "ß"}'.encode()).hexdigest()
    assert path.read_text() == f'{{\n "short": "\\u00df",\n "sha256": "{digest}"\n}}\n'


def test_a_record_longer_than_its_reservation(tmp_path):
    path = tmp_path / "r.json"
    with reserve(path) as place:
        place.write({"long": "x" * 2 * RESERVED_BYTES})
    assert json.loads(path.read_text())["long"] == "x" * 2 * RESERVED_BYTES


@pytest.mark.parametrize("error", [RuntimeError("training"), KeyboardInterrupt(), OSError(errno.EIO, "data")])
@pytest.mark.parametrize("old", [None, "an older record"])
def test_an_exception_leaves_nothing(tmp_path, error, old):
    """And it comes through as it is, also if it is an OSError that has nothing to do with the results."""
    path = tmp_path / "r.json"
    if old:
        path.write_text(old)
    with pytest.raises(type(error)) as caught, reserve(path):
        raise error
    assert caught.value is error
    assert names(path) == (["r.json"] if old else [])
    assert not old or path.read_text() == old


def test_what_is_no_json_leaves_nothing(tmp_path):
    path = tmp_path / "r.json"
    for value in (float("nan"), object()):
        with pytest.raises((ValueError, TypeError)), reserve(path) as place:
            place.write({"a": 1, "b": value})
        assert names(path) == []


DIES = """
import os, signal, sys
from pathlib import Path
from gdlayer.trials import record
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
with record.reserve(Path(sys.argv[1])) as place:
    if sys.argv[2] == "in between":
        die()
    setattr(os, sys.argv[2], die)
    place.write({"metrics": "x" * 100})
"""


@pytest.mark.parametrize("moment", ["in between", "fsync", "replace"])
def test_a_killed_process_leaves_no_half_record_and_no_obstacle(tmp_path, moment):
    path = tmp_path / "r.json"
    path.write_text("an older record")
    status, _, err = processed(python(DIES, path, moment))
    assert (status, err) == (-signal.SIGKILL, "")
    assert path.read_text() == "an older record"
    assert names(path) == [".r.json.lock", ".r.json.part", "r.json"]
    with reserve(path) as place:
        place.write({"n": 1})
    assert names(path) == ["r.json"]
    assert json.loads(path.read_text())["n"] == 1


def test_one_at_a_time_also_after_a_failure(tmp_path):
    """Who waited for a file that is gone does not hold its place against the next."""
    path = tmp_path / "r.json"
    entered, leave = threading.Semaphore(0), threading.Semaphore(0)

    def hold() -> None:
        with reserve(path):
            entered.release()
            assert leave.acquire(timeout=600)

    waited, came_later = threading.Thread(target=hold), threading.Thread(target=hold)
    with reserve(path):
        waited.start()
        time.sleep(0.1)
    assert entered.acquire(timeout=600)
    came_later.start()
    assert not entered.acquire(timeout=0.2)
    leave.release()
    assert entered.acquire(timeout=600)
    leave.release()
    waited.join()
    came_later.join()
    assert names(path) == []


FULL_DISK = """
import resource, sys
from pathlib import Path
from gdlayer.trials.record import ResultsError, reserve
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    with reserve(Path(sys.argv[1])) as place:
        print("reserved")
        place.write({"metrics": "x" * 100_000})
except ResultsError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [0, 1000, RESERVED_BYTES - 1, RESERVED_BYTES])
def test_a_disk_without_room(tmp_path, limit):
    """Known before training, but for a record larger than its reservation."""
    path = tmp_path / "r.json"
    path.write_text("an older record")
    status, out, err = processed(python(FULL_DISK, path, limit))
    assert (status, err) == (0, "")
    reserved = ["reserved"] if limit == RESERVED_BYTES else []
    assert out.splitlines() == [*reserved, f"results cannot be written to {tmp_path}: File too large"]
    assert names(path) == ["r.json"]
    assert path.read_text() == "an older record"


def test_no_record_is_none(results):
    assert read_record(smoke().record_path(results)) is None
    results.write_text("a file")
    assert read_record(smoke().record_path(results)) is None


def test_provenance_without_git(monkeypatch):
    git = provenance("cpu", 1)["git"]
    assert git["commit"] is None or re.fullmatch("[0-9a-f]{40}", git["commit"])
    monkeypatch.setenv("PATH", "")
    assert provenance("cpu", 1)["git"] == {"commit": None, "dirty": None}


def test_outside_a_checkout_there_is_no_record_and_no_commit(monkeypatch, tmp_path):
    """An installed package may lie inside another project's repository: that one's commit is not its own."""
    root = checkout()
    assert root is not None
    assert committed_record() == committed_data() / "results" == root / "data" / "results"
    monkeypatch.setattr(gdlayer, "__file__", str(root / ".venv" / "site-packages" / "gdlayer" / "__init__.py"))
    assert (checkout(), repository(), committed_record()) == (None, None, None)
    assert provenance("cpu", 1)["git"] == {"commit": None, "dirty": None}
    with pytest.raises(ResultsError, match=rf"^neither {tmp_path} nor gdlayer, at {root}/.*, lies in a clone$"):
        committed_data()
    monkeypatch.chdir(root / "book")
    assert (repository(), committed_data()) == (root, root / "data")


@pytest.fixture
def unpacked(monkeypatch, tmp_path):
    """A source without its .git, inside another project's repository."""
    folder = tmp_path / "theirs" / "ours"
    (folder / "gdlayer").mkdir(parents=True)
    for name in ("pyproject.toml", "gdlayer/__init__.py"):
        (folder / name).touch()
    monkeypatch.setattr(gdlayer, "__file__", str(folder / "gdlayer" / "__init__.py"))
    commit(folder.parent)
    return folder


def commit(folder: Path) -> str:
    """The hash of a commit of everything in a new repository."""
    for command in ("init", "add .", "-c user.name=me -c user.email=me@localhost commit -m all"):
        subprocess.run(["git", "-C", folder, *command.split()], check=True, capture_output=True)
    told = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return told.stdout.strip()


def test_a_commit_of_another_project_is_not_ours(unpacked):
    assert provenance("cpu", 1)["git"] == {"commit": None, "dirty": None}
    own = commit(unpacked)
    assert provenance("cpu", 1)["git"] == {"commit": own, "dirty": False}
    (unpacked / "new.py").touch()
    assert provenance("cpu", 1)["git"] == {"commit": own, "dirty": True}


def test_data_are_those_of_the_clone_that_one_is_in(monkeypatch, unpacked):
    """Not of the clone whose package happens to be imported."""
    other = unpacked.with_name("other")
    shutil.copytree(unpacked, other)
    (other / "book" / "_static").mkdir(parents=True)
    assert committed_data() == unpacked / "data"
    monkeypatch.chdir(other / "book" / "_static")
    assert committed_data() == other / "data"


def test_reading_records_needs_no_lock():
    script = "import sys; sys.modules['filelock'] = sys.modules['fcntl'] = None; import gdlayer.trials.record"
    assert processed(python(script)) == (0, "", "")


# Many records


def test_load_records(tmp_path):
    wanted = [record("dau", seed=1), record("ours", seed=0)]
    save(tmp_path, *reversed(wanted))
    save(tmp_path, record(profile="quick"), record(dataset=SAMPLE))
    folder = tmp_path / "paper" / "table1" / FULL
    (folder / ".ours-n1000-s1.json.part").write_bytes(b" " * 100)
    (folder / ".ours-n1000-s1.checkpoint").write_bytes(b"binary")
    assert load_records(tmp_path, "paper", "table1", [FULL]) == wanted
    assert load_records(tmp_path, "smoke", "table1", [FULL]) == []
    assert load_records(tmp_path / "nowhere", "paper", "table1", [FULL]) == []
    assert load_records(tmp_path, "paper", "table1", []) == []
    both = load_records(tmp_path, "paper", "table1", (SAMPLE, FULL))
    assert [r["trial"]["dataset"] for r in both] == [SAMPLE, FULL, FULL]


@pytest.mark.parametrize("missing", REQUIRED)
def test_a_record_that_lacks_a_field(tmp_path, missing):
    incomplete = record()
    (path,) = save(tmp_path, incomplete)
    del incomplete[missing]
    path.write_text(json.dumps(incomplete))
    with pytest.raises(ResultsError, match=rf"^{re.escape(str(path))} is not a record \(no {missing}\); move it away$"):
        load_records(tmp_path, "paper", "table1", [FULL])


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"seed": 0', '"seed": 0, "seed": 0', "'seed' twice"),
        ('"epoch": 0.0', '"epoch": NaN', "'NaN' is not a finite number"),
        ('"epoch": 0.0', '"epoch": -1e999', "'-1e999' is not a finite number"),
        ('"epoch": 0.0', f'"epoch": {"9" * 5000}', f"'{'9' * 12}...{'9' * 13}' is too large"),
        ('"epoch": 0.0', f'"epoch": {"[" * 100_000}', "nested too deeply"),
        ('"source": "invented"', '"source": "\\ud800"', "'utf-8' codec can't encode character '\\ud800' in position "),
        ('"epoch": 0.0', '"epoch": "0.0"', "curve.0.epoch must be a valid number, got '0.0'"),
        ('"train_loss": 2.0', '"train_loss": true', "curve.0.train_loss must be a valid number, got True"),
        ('"threads": 1', '"threads": 1.0', "machine.threads must be a valid integer, got 1.0"),
        ('"dirty": false', '"dirty": 0', "git.dirty must be a valid boolean, got 0"),
        (
            '"test_accuracy": 0.8',
            '"test_accuracy": 1.5',
            "metrics.test_accuracy must be less than or equal to 1, got 1.5",
        ),
        ('"test_accuracy": 0.8', '"a\\nb": null', "metrics.'a\\nb' must be a valid number, got None"),
        ('"parameters": 12810', '"parameters": 12810, "note": "x"', "note must be a valid number, got 'x'"),
        ('"table1"', '"table9"', "experiment must be one of 'table1', "),
        ('"layer": "ours"', '"layer": "our"', "layer must be one of 'free-form', "),
        ('"layer": "ours"', '"layer": "dau"', f"it is of paper/table1/{FULL}/dau-n1000-s0.json"),
        ('"n_train": 1000', '"n_train": 1000.0', f"it is of paper/table1/{FULL}/ours-n1000.0-s0.json"),
        ('"seed": 0', '"a\\nb": 0', "field must be one of 'layer', "),
        (', "seed": 0', "", "no trial.seed"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_record_that_does_not_fit_is_one_line(tmp_path, old, new, reason):
    (path,) = save(tmp_path, record())
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ResultsError, match=rf"^{re.escape(f'{path} is not a record ({reason}')}.*; move it away$"):
        read_record(path)


def test_a_record_of_a_search_without_its_metric(tmp_path):
    trial = sought()
    finish(trial, tmp_path, metrics={"test_accuracy": 0.5})
    with pytest.raises(ResultsError, match=r" is not a record \(no metrics.validation_accuracy\); move it away$"):
        read_record(trial.record_path(tmp_path))


def test_a_record_that_was_changed_after_it_was_written(tmp_path):
    made = record()
    path = trial_of(made["trial"]).record_path(tmp_path)
    with reserve(path) as place:
        place.write(made)
    assert read_record(path) == made
    text = path.read_text()
    path.write_text(json.dumps(json.loads(text)))  # white space means nothing
    assert read_record(path) == made
    path.write_text(text.replace('"seconds": 60.0', '"seconds": 61.0'))
    reason = "it was changed after it was written"
    with pytest.raises(ResultsError, match=rf"^{re.escape(f'{path} is not a record ({reason}); move it away')}$"):
        read_record(path)


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_a_file_that_is_no_record(tmp_path, content):
    (path,) = save(tmp_path, record())
    path.write_text(content)
    with pytest.raises(ResultsError, match=rf"^{re.escape(str(path))} is not a record .*; move it away$"):
        load_records(tmp_path, "paper", "table1", [FULL])
