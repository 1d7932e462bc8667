"""Trials and their records: what is to be run, and that a record is whole or not at all."""

import dataclasses
import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gdlayer.datasets import DataNotFoundError, balanced_subset, fashion_mnist
from gdlayer.experiments import progress, table1, training
from gdlayer.experiments.record import (
    REQUIRED,
    RESERVED_BYTES,
    ResultsError,
    check_current,
    provenance,
    read_record,
    reserve,
)
from gdlayer.experiments.trial import (
    LAYERS,
    Trial,
    choose_dataset,
    describe,
    hyperparameters,
    load_choices,
    load_profile,
    plan,
)

FULL, SAMPLE = fashion_mnist.FULL, fashion_mnist.SAMPLE
SIZES = (1000, 5000, 10000, 30000, 60000)

FEW_TEST_IMAGES = """
import dataclasses
from gdlayer.datasets import fashion_mnist
whole = fashion_mnist.load
def load(name):
    data = whole(name)
    return dataclasses.replace(data, test_images=data.test_images[:50], test_labels=data.test_labels[:50])
fashion_mnist.load = load
"""


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    """No data but the embedded sample, and 50 test images of it to be quick."""
    monkeypatch.delenv("GDLAYER_DATA", raising=False)
    monkeypatch.setenv("GDLAYER_OFFLINE", "1")
    monkeypatch.setenv("GDLAYER_CACHE", str(tmp_path / "cache"))
    whole = fashion_mnist.load

    def load(name: str) -> fashion_mnist.ImageSet:
        data = whole(name)
        return dataclasses.replace(data, test_images=data.test_images[:50], test_labels=data.test_labels[:50])

    monkeypatch.setattr(fashion_mnist, "load", load)


@pytest.fixture
def results(tmp_path):
    return tmp_path / "results"


def smoke(layer: str = "free-form", seed: int = 0) -> Trial:
    return Trial("table1", layer, 1000, seed, "smoke", SAMPLE)


def finished(path: Path, **changes: Any) -> dict[str, Any]:
    """Writes an invented record of the smoke profile."""
    record: dict[str, Any] = dict.fromkeys(REQUIRED)
    record |= {"trial": describe(smoke()), "hyperparameters": hyperparameters(smoke()), "seconds": 8.0}
    record |= {"metrics": {"test_accuracy": 0.5}} | changes
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record))
    return record


def names(path: Path) -> list[str]:
    """What lies in a record's folder."""
    return sorted(p.name for p in path.parent.iterdir())


def python(script: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


# Trials


def test_identity():
    trial = Trial("table1", "ours-few", 5000, 3, "paper", FULL)
    assert trial.id == "ours-few-n5000-s3"
    path = trial.record_path(Path("results"))
    assert path == Path("results/paper/table1/fashion-mnist/ours-few-n5000-s3.json")
    assert " ".join(trial.command("results")) == (
        "-m gdlayer.experiments run table1 --layer ours-few --n-train 5000 --seed 3 --profile paper "
        "--dataset fashion-mnist --results results"
    )


@pytest.mark.parametrize("dataset", [FULL, SAMPLE])
@pytest.mark.parametrize("profile", ["smoke", "quick", "paper"])
def test_no_two_trials_share_a_record(profile, dataset):
    trials = plan(profile, "table1", dataset)
    assert len({trial.record_path(Path()) for trial in trials}) == len(trials) == len(set(trials))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experiment": "table9"}, "experiment is 'table9', allowed are table1"),
        ({"layer": "conv"}, f"layer is 'conv', allowed are {', '.join(LAYERS)}"),
        ({"profile": "full"}, "profile is 'full', allowed are smoke, quick, paper"),
        ({"dataset": "mnist"}, "data set is 'mnist', allowed are fashion-mnist, fashion-mnist-sample"),
        ({"n_train": 0}, "n_train is 0, allowed are 1 to 5000 (fashion-mnist-sample)"),
        ({"n_train": -5}, "n_train is -5, allowed are 1 to 5000 (fashion-mnist-sample)"),
        ({"n_train": 5001}, "n_train is 5001, allowed are 1 to 5000 (fashion-mnist-sample)"),
        ({"n_train": 60001, "dataset": FULL}, "n_train is 60001, allowed are 1 to 60000 (fashion-mnist)"),
        ({"seed": -1}, "seed is -1, allowed are integers from 0 on"),
    ],
    ids=str,
)
def test_wrong_trials(changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        dataclasses.replace(smoke(), **changes)


def test_quick_is_every_cell_once():
    trials = plan("quick", "table1", FULL)
    assert len(trials) == 40
    assert {(t.layer, t.n_train) for t in trials} == {(layer, n) for layer in LAYERS for n in SIZES}
    assert [t.n_train for t in trials] == sorted(t.n_train for t in trials)
    assert {(t.experiment, t.seed, t.profile, t.dataset) for t in trials} == {("table1", 0, "quick", FULL)}


def test_the_sample_has_the_small_columns_only():
    trials = plan("quick", "table1", SAMPLE)
    assert {(t.layer, t.n_train) for t in trials} == {(layer, n) for layer in LAYERS for n in (1000, 5000)}
    assert len(trials) == 16


def test_smoke_is_every_layer_once_on_the_sample():
    assert choose_dataset("smoke") == SAMPLE
    assert [t.layer for t in plan("smoke", "table1", SAMPLE)] == list(LAYERS)
    assert {t.n_train for t in plan("smoke", "table1", SAMPLE)} == {1000}


def test_paper_has_five_and_three_seeds():
    trials = plan("paper", "table1", FULL)
    for n, seeds in zip(SIZES, (5, 5, 5, 3, 3), strict=True):
        for layer in LAYERS:
            assert [t.seed for t in trials if (t.layer, t.n_train) == (layer, n)] == list(range(seeds))
    assert len(trials) == 8 * (3 * 5 + 2 * 3)


def test_paper_demands_the_real_data():
    notes: list[str] = []
    with pytest.raises(DataNotFoundError, match=r"fashion-mnist/.*GDLAYER_DATA.*GDLAYER_OFFLINE=1"):
        choose_dataset("paper", notes.append)
    assert notes == []
    assert choose_dataset("quick", notes.append) == SAMPLE
    assert len(notes) == 1
    assert notes[0].startswith("fashion-mnist-sample instead of fashion-mnist: ")


@pytest.mark.parametrize("call", [load_profile, choose_dataset, lambda name: plan(name, "table1", SAMPLE)])
def test_unknown_profile(call):
    with pytest.raises(ValueError, match=r"^profile is 'full', allowed are smoke, quick, paper$"):
        call("full")


def test_a_size_without_a_budget():
    message = "n_train is 1234, the profile sets budgets for 1000, 5000, 10000, 30000, 60000"
    with pytest.raises(ValueError, match=f"^{message}$"):
        hyperparameters(Trial("table1", "ours", 1234, 0, "paper", FULL))


# Choices


def test_every_choice_has_a_value_and_a_reason():
    choices = load_choices("table1")
    for name, choice in choices.items():
        assert set(choice) == {"value", "reason"}, name
        assert len(choice["reason"]) > 5, name
        assert choice["reason"].endswith("."), name
    assert len(choices) >= 15


@pytest.mark.parametrize("profile", ["smoke", "quick", "paper"])
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("layer", LAYERS)
def test_hyperparameters_are_the_choices_and_the_budget(profile, n, layer):
    settings = hyperparameters(Trial("table1", layer, n, 0, profile, FULL))
    choices = {name: choice["value"] for name, choice in load_choices("table1").items()}
    assert set(choices["learning_rate"]) == set(LAYERS)
    choices["learning_rate"] = choices["learning_rate"][layer]
    budget = load_profile(profile)["table1"]
    steps = budget["steps"] if isinstance(budget["steps"], int) else budget["steps"][str(n)]
    own = {"steps": steps, "evaluations": budget["evaluations"], "precision": budget["precision"]}
    assert settings == choices | own
    assert json.loads(json.dumps(settings)) == settings
    assert set(training.Recipe.__dataclass_fields__) - {"seed"} <= settings.keys()


@pytest.mark.parametrize("name", ["activation", "optimiser", "input", "subset"])
def test_fixed_choices_refuse_other_values(name):
    settings = hyperparameters(smoke())
    assert name in table1.FIXED
    message = f"{name} is 'another', allowed is {settings[name]!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        table1.build_network("ours", settings | {name: "another"})


@pytest.mark.parametrize(
    "changes",
    [
        {"widths": [8, 16, 16, 32], "bases": [4, 8, 8, 16]},
        {"bases": [4, 4, 4, 8]},
        {"kernel_size": 5},
        {"pooled": True},
        {"norm": "batch"},
        {"initialisation": "authors"},
        {"sigma_min": 0.9},
    ],
    ids=str,
)
def test_every_other_choice_changes_the_network(changes):
    settings = hyperparameters(smoke())
    nets = []
    for chosen in (settings, settings, settings | changes):
        torch.manual_seed(0)
        nets.append(table1.build_network("ours", chosen))
    x = torch.randn(2, 1, 28, 28)
    first, same, changed = (net(x) for net in nets)
    assert torch.equal(first, same)
    assert not torch.allclose(first, changed)


def test_no_choice_is_without_effect():
    """Each is fixed, of the training recipe, or of the network."""
    network = {"widths", "bases", "kernel_size", "pooled", "norm", "initialisation", "sigma_min"}
    recipe = set(training.Recipe.__dataclass_fields__) - {"seed"}
    assert set(hyperparameters(smoke())) == network | recipe | set(table1.FIXED)


def test_standardise():
    images = np.array([[[0, 255], [51, 102]]], np.uint8)
    expected = torch.tensor([[[[0.0, 1.0], [0.2, 0.4]]]]).sub(0.2860).div(0.3530)
    torch.testing.assert_close(table1.standardise(images), expected)


# Records


def test_a_record_is_complete(results):
    trial = smoke(seed=3)
    record = table1.run(trial, results)
    path = trial.record_path(results)
    assert names(path) == [path.name]
    text = path.read_text()
    assert json.loads(text) == record == read_record(path)
    assert set(record) == set(REQUIRED)
    assert text.endswith("}\n")
    assert "NaN" not in text
    assert Trial(**record["trial"]) == trial
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


def test_training_gets_the_trial(results, monkeypatch):
    """The balanced subset of its size and seed, its network, its recipe."""
    seen: dict[str, Any] = {}

    def train(model, images, labels, evaluate, recipe, **options):
        seen.update(model=model, images=images, labels=labels, recipe=recipe, **options)
        return training.Run(4, 1.25, [{"step": 4, **evaluate()}])

    monkeypatch.setattr(table1, "train", train)
    trial = dataclasses.replace(smoke("ours-few", seed=2), n_train=70)
    record = table1.run(trial, results)
    data = fashion_mnist.load(SAMPLE)
    chosen = balanced_subset(data.train_labels, 70, 2)
    assert torch.equal(seen["images"], table1.standardise(data.train_images[chosen]))
    assert seen["labels"].tolist() == data.train_labels[chosen].tolist()
    settings = hyperparameters(trial)
    assert seen["settings"] == settings
    assert vars(seen["recipe"]) == {
        "seed": 2,
        **{name: settings[name] for name in training.Recipe.__dataclass_fields__ if name != "seed"},
    }
    torch.manual_seed(2)
    expected = table1.build_network("ours-few", settings)
    assert all(torch.equal(a, b) for a, b in zip(seen["model"].parameters(), expected.parameters(), strict=True))
    assert record["seconds"] == 1.25
    right = expected(table1.standardise(data.test_images)).argmax(1) == torch.from_numpy(data.test_labels)
    assert record["metrics"]["test_accuracy"] == pytest.approx(right.float().mean().item())


def test_a_finished_record_is_never_made_again(results, monkeypatch):
    trial = smoke()
    record = finished(trial.record_path(results))
    before = trial.record_path(results).stat()
    monkeypatch.setattr(table1, "train", lambda *_, **__: pytest.fail("trained again"))
    assert table1.run(trial, results) == record
    assert os.path.samestat(trial.record_path(results).stat(), before)
    assert trial.record_path(results).stat().st_mtime_ns == before.st_mtime_ns


def test_unless_asked_for(results):
    trial = smoke()
    invented = finished(trial.record_path(results))
    record = table1.run(trial, results, force=True)
    assert record != invented
    assert read_record(trial.record_path(results)) == record


def test_a_record_with_other_settings_is_not_taken(results, monkeypatch):
    trial = smoke()
    path = trial.record_path(results)
    then = hyperparameters(trial) | {"steps": 99, "sigma_min": 0.4, "older": True}
    del then["alpha"]
    finished(path, hyperparameters=then)
    monkeypatch.setattr(table1, "train", lambda *_, **__: pytest.fail("trained again"))
    message = (
        f"{path} was made with other settings (alpha was None, is 0.0; older was True, is None; "
        "sigma_min was 0.4, is 0.5; steps was 99, is 4); move it away to run it anew"
    )
    with pytest.raises(ResultsError, match=f"^{re.escape(message)}$"):
        table1.run(trial, results)
    assert check_current({"hyperparameters": hyperparameters(trial)}, hyperparameters(trial), path) is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"\(Expecting value: .*\)"),
        (b'{"metrics": {', r"\(Expecting property name .*\)"),
        (b"\xff\xfe\0\0", r"\(.*codec can't decode.*\)"),
        (b"[]", r"\(a list\)"),
        (b"null", r"\(a NoneType\)"),
        (json.dumps(dict.fromkeys(REQUIRED[2:], 0)).encode(), r"\(no trial, hyperparameters\)"),
    ],
    ids=str,
)
def test_a_corrupt_record_is_one_clear_line(results, content, reason):
    path = smoke().record_path(results)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    for call in (lambda: read_record(path), lambda: table1.run(smoke(), results)):
        with pytest.raises(ResultsError, match=rf"^{re.escape(str(path))} is not a record {reason}; move it away$"):
            call()
    assert path.read_bytes() == content


def test_no_record_is_none(results):
    assert read_record(smoke().record_path(results)) is None
    results.write_text("a file")
    assert read_record(smoke().record_path(results)) is None


def test_provenance_without_git(monkeypatch):
    git = provenance("cpu", 1)["git"]
    assert git["commit"] is None or re.fullmatch("[0-9a-f]{40}", git["commit"])
    monkeypatch.setenv("PATH", "")
    assert provenance("cpu", 1)["git"] == {"commit": None, "dirty": None}


# Whole or not at all


def test_reserve_and_write(tmp_path):
    path = tmp_path / "new" / "folder" / "r.json"
    with reserve(path) as place:
        assert names(path) == [".r.json.part"]
        assert (path.parent / ".r.json.part").stat().st_size == RESERVED_BYTES
        place.write({"short": 1})
        assert names(path) == ["r.json"]
    assert path.read_text() == '{\n "short": 1\n}\n'


def test_a_record_longer_than_its_reservation(tmp_path):
    path = tmp_path / "r.json"
    with reserve(path) as place:
        place.write({"long": "x" * 2 * RESERVED_BYTES})
    assert json.loads(path.read_text()) == {"long": "x" * 2 * RESERVED_BYTES}


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
from gdlayer.experiments import record
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
    status, _, err = finish(python(DIES, path, moment))
    assert (status, err) == (-signal.SIGKILL, "")
    assert path.read_text() == "an older record"
    assert names(path) == [".r.json.part", "r.json"]
    with reserve(path) as place:
        place.write({"n": 1})
    assert names(path) == ["r.json"]
    assert json.loads(path.read_text()) == {"n": 1}


KILLED_TRIAL = f"""{FEW_TEST_IMAGES}
import os, signal, sys
from pathlib import Path
from gdlayer.experiments import table1, training
from gdlayer.experiments.trial import Trial
training.train.__kwdefaults__["checkpoint_seconds"] = 0
accuracy, calls = table1.accuracy, []
def evaluate(*arguments):
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return accuracy(*arguments)
table1.accuracy = evaluate
table1.run(Trial("table1", "ours", 1000, 0, "smoke", {SAMPLE!r}), Path(sys.argv[1]))
"""


def test_a_killed_trial_goes_on_where_it_was_and_ends_the_same(results, tmp_path, monkeypatch):
    trial = smoke("ours")
    path = trial.record_path(results)
    status, _, err = finish(python(KILLED_TRIAL, results))
    assert (status, err) == (-signal.SIGKILL, "")
    assert names(path) == [".ours-n1000-s0.checkpoint", ".ours-n1000-s0.json.part"]
    uninterrupted = table1.run(trial, tmp_path / "other")
    steps = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: (steps.append(1), step(self))[1])
    resumed = table1.run(trial, results)
    assert len(steps) == 1  # of 4
    assert resumed["curve"] == uninterrupted["curve"]
    assert resumed["metrics"] == uninterrupted["metrics"]
    assert names(path) == [path.name]


WAITS = f"""{FEW_TEST_IMAGES}
import fcntl, sys
from pathlib import Path
from gdlayer.experiments import table1
from gdlayer.experiments.trial import Trial
flock = fcntl.flock
def announced(*arguments):
    print("waits", flush=True)
    flock(*arguments)
fcntl.flock = announced
def train(*_, **__):
    print("trains", flush=True)
    raise SystemExit(3)
table1.train = train
record = table1.run(Trial("table1", "free-form", 1000, 0, "smoke", {SAMPLE!r}), Path(sys.argv[1]))
print(record["metrics"]["test_accuracy"])
"""


@pytest.mark.parametrize("ending", ["written", "failed"])
def test_a_second_process_waits_and_takes_the_record_over(results, tmp_path, ending):
    """Or trains itself, if the first came to nothing."""
    path = smoke().record_path(results)
    record = finished(tmp_path / "invented.json", metrics={"test_accuracy": 0.625})
    with reserve(path) as place:
        second = python(WAITS, results)
        assert second.stdout is not None
        assert second.stdout.readline() == "waits\n"
        time.sleep(0.2)
        assert second.poll() is None
        if ending == "written":
            place.write(record)
    status, out, err = finish(second)
    assert err == ""
    if ending == "written":
        assert (status, out.splitlines()[-1]) == (0, "0.625")
        assert "trains" not in out
        assert names(path) == [path.name]
        assert read_record(path) == record
    else:
        assert (status, out.splitlines()[-1]) == (3, "trains")
        assert names(path) == []


def test_one_at_a_time_also_after_a_failure(tmp_path):
    """Who waited for a file that is gone does not hold its place against the next."""
    path = tmp_path / "r.json"
    entered, leave = threading.Semaphore(0), threading.Semaphore(0)

    def hold() -> None:
        with reserve(path):
            entered.release()
            assert leave.acquire(timeout=60)

    waited, came_later = threading.Thread(target=hold), threading.Thread(target=hold)
    with reserve(path):
        waited.start()
        time.sleep(0.1)
    assert entered.acquire(timeout=60)
    came_later.start()
    assert not entered.acquire(timeout=0.2)
    leave.release()
    assert entered.acquire(timeout=60)
    leave.release()
    waited.join()
    came_later.join()
    assert names(path) == []


# Places that cannot be written


@pytest.mark.parametrize("place", ["a file", "a file above", "/proc"])
def test_a_results_folder_that_cannot_be_written(tmp_path, monkeypatch, place):
    monkeypatch.setattr(table1, "train", lambda *_, **__: pytest.fail("trained for nothing"))
    if place == "/proc":
        if not Path("/proc/self").exists():
            pytest.skip("no /proc")
        results = Path("/proc/results")
    else:
        (tmp_path / "file").write_text("in the way")
        results = tmp_path / "file" / ("below" if place == "a file above" else "")
    folder = smoke().record_path(results).parent
    with pytest.raises(ResultsError, match=rf"^results cannot be written to {re.escape(str(folder))}: [A-Z][a-z ]+$"):
        table1.run(smoke(), results)


FULL_DISK = """
import resource, sys
from pathlib import Path
from gdlayer.experiments.record import ResultsError, reserve
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
    status, out, err = finish(python(FULL_DISK, path, limit))
    assert (status, err) == (0, "")
    reserved = ["reserved"] if limit == RESERVED_BYTES else []
    assert out.splitlines() == [*reserved, f"results cannot be written to {tmp_path}: File too large"]
    assert names(path) == ["r.json"]
    assert path.read_text() == "an older record"


@pytest.mark.parametrize("failing_call", [1, 2])
def test_a_disk_that_is_full(results, monkeypatch, failing_call):
    """Before training, or at its end: one line, no half record, and what was there is still there."""
    trial = smoke()
    path = trial.record_path(results)
    old = finished(path)
    calls = []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == failing_call:
            raise OSError(errno.ENOSPC, "No space left on device")

    trained = []
    train = table1.train
    monkeypatch.setattr(table1, "train", lambda *a, **k: (trained.append(1), train(*a, **k))[1])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        message = f"results cannot be written to {path.parent}: No space left on device"
        with pytest.raises(ResultsError, match=f"^{re.escape(message)}$"):
            table1.run(trial, results, force=True)
    assert len(trained) == failing_call - 1
    assert names(path) == [path.name]
    assert read_record(path) == old


# How long it will take


def test_seconds_left_by_the_cost_of_the_same_layer(results, tmp_path):
    trials = plan("smoke", "table1", SAMPLE)
    reference = tmp_path / "reference"
    assert progress.seconds_left(trials, results, reference, 1) is None
    # 4 steps in 8 and in 40 seconds: 2 and 10 a step
    finished(trials[0].record_path(reference), trial=describe(trials[0]), seconds=8.0)
    finished(trials[1].record_path(reference), trial=describe(trials[1]), seconds=40.0)
    startup = 8 * progress.STARTUP_SECONDS
    for jobs in (1, 2):
        left = progress.seconds_left(trials, results, reference, jobs)
        assert left == pytest.approx((8 + 40 + 6 * 24 + startup) / jobs)
    assert progress.count_finished(trials, results) == 0
    # own records count alone, once there are any
    finished(trials[2].record_path(results), trial=describe(trials[2]), seconds=4.0)
    left = progress.seconds_left(trials, results, reference, 1)
    assert left == pytest.approx(7 * (4 + progress.STARTUP_SECONDS))
    assert progress.count_finished(trials, results) == 1
    for trial in trials:
        finished(trial.record_path(results))
    assert progress.seconds_left(trials, results, reference, 1) == 0


def test_seconds_left_knows_layers_apart(results):
    """Not the mean of all layers, where the layer's own cost is known."""
    dear, cheap = smoke("dau"), smoke("free-form")
    finished(dear.record_path(results), trial=describe(dear), seconds=40.0)
    finished(cheap.record_path(results), trial=describe(cheap), seconds=8.0)
    trials = [dear, cheap, smoke("free-form", seed=1)]
    assert progress.seconds_left(trials, results, results, 1) == pytest.approx(8 + progress.STARTUP_SECONDS)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "an unknown time"), (0, "0 s"), (89.4, "89 s"), (90, "2 min"), (5399, "90 min"), (9000, "2.5 h")],
)
def test_in_words(seconds, words):
    assert progress.in_words(seconds) == words
