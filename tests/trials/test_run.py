"""From a trial to its record: what it holds, that it is made once, and what happens if its making is cut short."""

import dataclasses
import errno
import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from invented import FEW_TEST_IMAGES, SAMPLE, finish, processed, python, smoke, sought

from gdlayer.datasets import balanced_subset, fashion_mnist
from gdlayer.experiments.table1.layers import LAYERS
from gdlayer.experiments.table1.prepare import build_network
from gdlayer.trials import run as runner
from gdlayer.trials import training
from gdlayer.trials.files import checksum
from gdlayer.trials.record import ResultsError, check_current, read_record, reserve, unpacked
from gdlayer.trials.run import run
from gdlayer.trials.schema import REQUIRED
from gdlayer.trials.settings import hyperparameters


def test_a_record_is_complete(results):
    trial = smoke(seed=3)
    record = run(trial, results)
    path = trial.record_path(results)
    assert names(path) == [path.name]
    text = path.read_text()
    assert json.loads(text) == record | {"sha256": checksum(record)}
    assert read_record(path) == record
    assert set(record) == {*REQUIRED, "correct"}
    assert unpacked(record["correct"]["test_accuracy"], 50).mean() == record["metrics"]["test_accuracy"]
    assert text.endswith("}\n")
    assert "NaN" not in text
    assert record["trial"] == trial.describe()
    assert record["hyperparameters"] == hyperparameters(trial)
    assert [point["step"] for point in record["curve"]] == [1, 2, 3, 4]
    assert record["metrics"] == {"test_accuracy": record["curve"][-1]["test_accuracy"]}
    assert 0 <= record["metrics"]["test_accuracy"] <= 1
    assert record["parameters"] == 9770
    assert 0 < record["seconds"] < 100
    assert 1e7 < record["peak_memory_bytes"] < 1e11
    data = fashion_mnist.load(SAMPLE)
    assert record["data"] == {
        "name": SAMPLE,
        "source": "sample",
        "sha256": data.sha256,
        "n_train": 1000,
        "n_test": 50,
    }
    assert record["versions"]["torch"] == torch.__version__
    assert record["machine"]["device"] == "cpu"
    assert record["machine"]["threads"] == torch.get_num_threads()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", record["started"])


def test_a_block_stays_on_one_machine(results):
    """All layers of a cell and seed; another seed or size is another block."""
    rfnn, dau = smoke("rfnn"), smoke("dau")
    record = run(rfnn, results)
    here, path = record["machine"]["name"], rfnn.record_path(results)
    path.write_text(json.dumps(record | {"machine": record["machine"] | {"name": "another CPU"}}))
    message = (
        f"{path} was made on another CPU, this is {here}: all layers of a cell and seed must run on one model; "
        "finish them there, or move that record away"
    )
    with pytest.raises(ResultsError, match=f"^{re.escape(message)}$"):
        run(dau, results)
    assert names(path) == [path.name]
    assert run(rfnn, results)["machine"]["name"] == "another CPU"
    for other in (dataclasses.replace(dau, seed=1), dataclasses.replace(dau, n_train=50)):
        assert run(other, results)["machine"]["name"] == here


def test_a_search_may_go_on_elsewhere(results):
    """It compares the rates of one layer, not layers."""
    rfnn, dau = sought("rfnn"), sought("dau")
    record, path = run(rfnn, results), rfnn.record_path(results)
    path.write_text(json.dumps(record | {"machine": record["machine"] | {"name": "another CPU"}}))
    assert run(dau, results)["machine"]["name"] == record["machine"]["name"]


def test_training_gets_the_trial(results, monkeypatch):
    """The balanced subset of its size and seed, its network, its recipe."""
    seen: dict[str, Any] = {}

    def train(model, images, labels, evaluate, recipe, **options):
        seen.update(model=model, images=images, labels=labels, recipe=recipe, **options)
        return training.Run(4, 1.25, [{"step": 4, **evaluate()}])

    monkeypatch.setattr(runner, "train", train)
    trial = dataclasses.replace(smoke("ours-few", seed=2), n_train=70)
    record = run(trial, results)
    data = fashion_mnist.load(SAMPLE)
    chosen = balanced_subset(data.train_labels, 70, 2)
    assert seen["images"].tolist() == data.train_images[chosen, None].tolist()
    assert seen["labels"].tolist() == data.train_labels[chosen].tolist()
    settings = hyperparameters(trial)
    assert seen["settings"] == settings
    assert vars(seen["recipe"]) == {
        "seed": 2,
        **{name: settings[name] for name in training.Recipe.__dataclass_fields__ if name != "seed"},
    }
    torch.manual_seed(2)
    expected = build_network(LAYERS["ours-few"].maker(), settings)
    assert all(torch.equal(a, b) for a, b in zip(seen["model"].parameters(), expected.parameters(), strict=True))
    assert record["seconds"] == 1.25
    images, labels = torch.from_numpy(data.test_images[:, None]), torch.from_numpy(data.test_labels)
    right = expected(images).argmax(1) == labels
    assert record["metrics"]["test_accuracy"] == pytest.approx(right.float().mean().item())


def test_a_finished_record_is_never_made_again(results, monkeypatch):
    trial = smoke()
    record = finish(trial, results)
    before = trial.record_path(results).stat()
    monkeypatch.setattr(runner, "train", lambda *_, **__: pytest.fail("trained again"))
    assert run(trial, results) == record
    assert os.path.samestat(trial.record_path(results).stat(), before)
    assert trial.record_path(results).stat().st_mtime_ns == before.st_mtime_ns


def test_unless_asked_for(results):
    trial = smoke()
    invented = finish(trial, results)
    record = run(trial, results, force=True)
    assert record != invented
    assert read_record(trial.record_path(results)) == record


def test_a_record_with_other_settings_is_not_taken(results, monkeypatch):
    trial = smoke()
    path = trial.record_path(results)
    then = hyperparameters(trial) | {"steps": 99, "sigma_min": 0.4, "older": True}
    del then["alpha"]
    finish(trial, results, hyperparameters=then)
    monkeypatch.setattr(runner, "train", lambda *_, **__: pytest.fail("trained again"))
    message = (
        f"{path} was made with other settings (alpha was None, is 0.0; older was True, is None; "
        "sigma_min was 0.4, is 0.5; steps was 99, is 4); move it away to run it anew"
    )
    with pytest.raises(ResultsError, match=f"^{re.escape(message)}$"):
        run(trial, results)
    assert check_current({"hyperparameters": hyperparameters(trial)}, hyperparameters(trial), path) is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"\(Expecting value: .*\)"),
        (b'{"metrics": {', r"\(Expecting property name .*\)"),
        (b"\xff\xfe\0\0", r"\(.*codec can't decode.*\)"),
        (b"[]", r"\(it must be a valid dictionary, got \[\]\)"),
        (b"null", r"\(it must be a valid dictionary, got None\)"),
        (json.dumps(dict.fromkeys(REQUIRED[2:], 0)).encode(), r"\(no trial\)"),
    ],
    ids=str,
)
def test_a_corrupt_record_is_one_clear_line(results, content, reason):
    path = smoke().record_path(results)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    for call in (lambda: read_record(path), lambda: run(smoke(), results)):
        with pytest.raises(ResultsError, match=rf"^{re.escape(str(path))} is not a record {reason}; move it away$"):
            call()
    assert path.read_bytes() == content


def names(path: Path) -> list[str]:
    """What lies in a record's folder."""
    return sorted(p.name for p in path.parent.iterdir())


KILLED_TRIAL = f"""{FEW_TEST_IMAGES}
import os, signal, sys
from pathlib import Path
from gdlayer.trials import training
from gdlayer.trials.run import run
from gdlayer.experiments.table1 import prepare
from gdlayer.experiments.table1.trial import Table1Trial
training.train.__kwdefaults__["checkpoint_seconds"] = 0
correct, calls = prepare.correct, []
def evaluate(*arguments):
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return correct(*arguments)
prepare.correct = evaluate
run(Table1Trial(layer="ours", n_train=1000, profile="smoke", dataset={SAMPLE!r}), Path(sys.argv[1]))
"""


def test_a_killed_trial_goes_on_where_it_was_and_ends_the_same(results, tmp_path, monkeypatch):
    trial = smoke("ours")
    path = trial.record_path(results)
    status, _, err = processed(python(KILLED_TRIAL, results))
    assert (status, err) == (-signal.SIGKILL, "")
    left = [".ours-n1000-s0.checkpoint", ".ours-n1000-s0.json.lock", ".ours-n1000-s0.json.part"]
    assert names(path) == left
    uninterrupted = run(trial, tmp_path / "other")
    steps = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: (steps.append(1), step(self))[1])
    resumed = run(trial, results)
    assert len(steps) == 1  # of 4
    assert resumed["curve"] == uninterrupted["curve"]
    assert resumed["metrics"] == uninterrupted["metrics"]
    assert names(path) == [path.name]


WAITS = f"""{FEW_TEST_IMAGES}
import sys
from pathlib import Path
import filelock
from gdlayer.trials import run as runner
from gdlayer.experiments.table1.trial import Table1Trial
acquire = filelock.FileLock.acquire
def announced(lock):
    print("waits", flush=True)
    return acquire(lock)
filelock.FileLock.acquire = announced
def train(*_, **__):
    print("trains", flush=True)
    raise SystemExit(3)
runner.train = train
trial = Table1Trial(layer="free-form", n_train=1000, profile="smoke", dataset={SAMPLE!r})
record = runner.run(trial, Path(sys.argv[1]))
print(record["metrics"]["test_accuracy"])
"""


@pytest.mark.parametrize("ending", ["written", "failed"])
def test_a_second_process_waits_and_takes_the_record_over(results, tmp_path, ending):
    """Or trains itself, if the first came to nothing."""
    path = smoke().record_path(results)
    record = finish(smoke(), tmp_path / "invented", metrics={"test_accuracy": 0.625})
    with reserve(path) as place:
        second = python(WAITS, results)
        assert second.stdout is not None
        assert second.stdout.readline() == "waits\n"
        time.sleep(0.2)
        assert second.poll() is None
        if ending == "written":
            place.write(record)
    status, out, err = processed(second)
    assert err == ""
    if ending == "written":
        assert (status, out.splitlines()[-1]) == (0, "0.625")
        assert "trains" not in out
        assert names(path) == [path.name]
        assert read_record(path) == record
    else:
        assert (status, out.splitlines()[-1]) == (3, "trains")
        assert names(path) == []


@pytest.mark.parametrize("place", ["a file", "a file above", "/proc"])
def test_a_results_folder_that_cannot_be_written(tmp_path, monkeypatch, place):
    monkeypatch.setattr(runner, "train", lambda *_, **__: pytest.fail("trained for nothing"))
    if place == "/proc":
        if not Path("/proc/self").exists():
            pytest.skip("no /proc")
        results = Path("/proc/results")
    else:
        (tmp_path / "file").write_text("in the way")
        results = tmp_path / "file" / ("below" if place == "a file above" else "")
    folder = smoke().record_path(results).parent
    with pytest.raises(ResultsError, match=rf"^results cannot be written to {re.escape(str(folder))}: [A-Z][a-z ]+$"):
        run(smoke(), results)


@pytest.mark.parametrize("failing_call", [1, 2])
def test_a_disk_that_is_full(results, monkeypatch, failing_call):
    """Before training, or at its end: one line, no half record, and what was there is still there."""
    trial = smoke()
    path = trial.record_path(results)
    old = finish(trial, results)
    calls = []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == failing_call:
            raise OSError(errno.ENOSPC, "No space left on device")

    trained = []
    train = runner.train
    monkeypatch.setattr(runner, "train", lambda *a, **k: (trained.append(1), train(*a, **k))[1])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        message = f"results cannot be written to {path.parent}: No space left on device"
        with pytest.raises(ResultsError, match=f"^{re.escape(message)}$"):
            run(trial, results, force=True)
    assert len(trained) == failing_call - 1
    assert names(path) == [path.name]
    assert read_record(path) == old
