"""Many trials at a time, by the functions and by the commands ``all`` and ``search``."""

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from invented import SAMPLE, finish, made_of

from gdlayer.experiments import __main__ as cli
from gdlayer.experiments.table1.trial import Table1Precision, Table1Trial
from gdlayer.trials import parallel
from gdlayer.trials.plan import plan
from gdlayer.trials.record import read_record
from gdlayer.trials.registry import trial_types
from gdlayer.trials.settings import hyperparameters
from gdlayer.trials.trial import Trial

WRITES = """
import json, os, sys, time
from pathlib import Path
path, record, log, status = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
with log.open("a") as stream:
    stream.write(f"start {path.stem}\\n")
time.sleep(0.2)
if status:
    sys.exit(f"error: {path.stem} is impossible")
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(record)
with log.open("a") as stream:
    stream.write(f"end {path.stem}\\n")
"""


@pytest.fixture
def quick_commands(monkeypatch, tmp_path) -> Path:
    """Trials whose commands write an invented record; those of DAU fail. Returns the log of what ran."""
    log = tmp_path / "log"
    log.touch()

    def command(trial: Trial, results: Path) -> list[str]:
        status = 2 if trial.layer == "dau" else 0
        return ["-c", WRITES, str(trial.record_path(results)), json.dumps(made_of(trial)), str(log), str(status)]

    monkeypatch.setattr(Trial, "command", command)
    return log


def test_trials_run_in_order_and_no_more_at_a_time_than_asked(results, quick_commands):
    trials = [t for t in plan("smoke", "table1", (SAMPLE,)) if t.layer != "dau"]
    done = list(parallel.run_all(trials, results, jobs=2))
    assert {d.trial for d in done} == set(trials)
    assert all(d.record == read_record(d.trial.record_path(results)) and d.record for d in done)
    lines = quick_commands.read_text().splitlines()
    running = np.cumsum([1 if line.startswith("start") else -1 for line in lines])
    assert running.max() == 2
    started = [line.split()[1] for line in lines if line.startswith("start")]
    ids = [t.id for t in trials]
    assert all(abs(started.index(name) - ids.index(name)) <= 1 for name in ids)


def test_a_trial_that_fails_does_not_stop_the_others(results, quick_commands):
    trials = plan("smoke", "table1", (SAMPLE,))
    done = list(parallel.run_all(trials, results, jobs=2))
    assert len(done) == len(trials) == len(Table1Trial.layers)
    (failed,) = [d for d in done if d.record is None]
    assert failed.trial.layer == "dau"
    assert failed.error == "error: dau-n1000-s0 is impossible"


def test_trials_whose_results_are_not_wanted_are_stopped(results, quick_commands, monkeypatch):
    """Whoever stops asking, as by ctrl-C, leaves no trial running and gets no further one started."""
    quick, trials = Trial.command, plan("smoke", "table1", (SAMPLE,))
    slow = "import pathlib, time; pathlib.Path('slow').touch(); time.sleep(600)"
    monkeypatch.setattr(Trial, "command", lambda t, r: quick(t, r) if t is trials[0] else ["-c", slow])
    several = parallel.run_all(trials, results, jobs=2)
    assert next(several).trial is trials[0]
    until = time.monotonic() + 60
    while not Path("slow").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    several.close()
    assert time.monotonic() < until
    assert quick_commands.read_text().count("start") == 1


def test_all_runs_the_tables_and_checks_that_have_no_record(capsys, quick_commands):
    assert cli._in_all() == [name for name in trial_types() if "-search" not in name]
    for trial in plan("smoke", "table1", (SAMPLE,))[:5]:
        finish(trial, Path("results"), metrics={"test_accuracy": 0.25})
    arguments = ["all", "table1", "table1-precision", "--profile=smoke", "--jobs=2"]
    total = len(Table1Trial.layers) + len(Table1Precision.layers)
    assert cli.main(arguments) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(rf"{total} trials, 5 finished; about \d+ s left with 2 at a time\n", err)
    lines = out.splitlines()
    assert len(lines) == total - 5
    assert re.fullmatch(
        rf"\[{total}/{total}\] table1\S* \S+ 1000.* on fashion-mnist-sample seed 0: "
        r"test accuracy 50\.00 % in 8 s; about 0 s left",
        lines[-1],
    )
    assert cli.main(arguments) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"{total} trials, {total} finished; about 0 s left with 2 at a time\n")


def test_all_says_what_failed(capsys, quick_commands):
    assert cli.main(["all", "table1", "--profile=smoke", "--jobs=2"]) == 2
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == len(Table1Trial.layers) - 1
    assert err.splitlines()[1:] == [
        "table1 dau 1000 on fashion-mnist-sample seed 0: error: dau-n1000-s0 is impossible",
        f"error: 1 of {len(Table1Trial.layers)} trials failed; call again to go on",
    ]


def test_all_refuses_records_of_other_settings_at_the_start(capsys, quick_commands):
    trial = plan("smoke", "table1", (SAMPLE,))[3]
    finish(trial, Path("results"), hyperparameters=hyperparameters(trial) | {"steps": 99})
    assert cli.main(["all", "--profile=smoke"]) == 2
    assert "was made with other settings (steps was 99, is 4)" in capsys.readouterr().err
    assert quick_commands.read_text() == ""


def test_wrong_words(capsys):
    assert cli.main(["all", "table9", "--profile=smoke"]) == 2
    assert (
        capsys.readouterr().err == f"error: table must be one of {', '.join(map(repr, trial_types()))}, got 'table9'\n"
    )
    assert cli.main(["search", "table1", "--layer=conv", "--profile=smoke"]) == 2
    assert capsys.readouterr().err == "error: profile 'smoke' has no table1-search of conv\n"
    assert cli.main(["search", "table1", "--profile=quick", "--jobs=0"]) == 2
    assert capsys.readouterr().err == "error: jobs must be an integer >= 1, got 0\n"
    assert cli.main(["search", "table1", "--profile=quick"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "error: profile 'quick' has no table1-search"
    assert list(Path().iterdir()) == []


def test_search_runs_what_is_missing_and_prints_the_table(capsys, quick_commands):
    assert cli.main(["search", "table2", "--profile=smoke", "--jobs=1", "--source=scratch"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("22 trials, 0 finished; ")
    assert out.splitlines()[-13] == "validation accuracy in percent, mean over 1 seed, by learning rate"
    assert out.splitlines()[-11].startswith("source scratch ")
    started = [line.split()[1] for line in quick_commands.read_text().splitlines() if line.startswith("start")]
    assert [name.startswith("source") for name in started] == [True] * 2 + [False] * 20
    assert cli.main(["search", "table2", "--profile=smoke", "--layer=ours-7x7"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert err.startswith("2 trials, 2 finished; ")


def session_size(process: subprocess.Popen[str]) -> int:
    return len(subprocess.run(["ps", "-o", "pid=", "-s", str(process.pid)], capture_output=True).stdout.split())


def kill_session(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_to_all_stops_its_trials(number):
    """Sent to the command alone, in the midst of its trials: none runs on, their checkpoints stay."""
    command = [sys.executable, "-m", "gdlayer.experiments", "all", "table1-precision", "--profile=smoke", "--jobs=2"]
    folder = Path("results/smoke/table1-precision") / SAMPLE
    folder.mkdir(parents=True)
    checkpoint = folder / ".ours-n1000-bf16-s0.checkpoint"
    checkpoint.write_bytes(b"as far as it came")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # else it is ignored where the tests' own is
    with contextlib.ExitStack() as held, contextlib.ExitStack() as ended:
        for layer in ("free-form", "ours"):  # neither comes further than to the place of its record
            place = held.enter_context((folder / f".{layer}-n1000-bf16-s0.json.lock").open("ab"))
            fcntl.flock(place, fcntl.LOCK_EX)
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        signal.signal(signal.SIGINT, before)
        ended.callback(kill_session, process)
        until = time.monotonic() + 100
        while session_size(process) < 3:
            assert time.monotonic() < until
            time.sleep(0.1)
        process.send_signal(number)
        out, err = process.communicate(timeout=600)
        assert session_size(process) == 0
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[1:] == [
        "the trials that ran are stopped, their checkpoints stay",
        "interrupted; call again to go on",
    ]
    assert checkpoint.exists()
    assert not list(folder.glob("*.json"))


def test_a_killed_run_of_all_goes_on(tmp_path):
    """SIGKILL for the whole and its children in the midst of their trials; the same command then finishes."""
    command = [sys.executable, "-m", "gdlayer.experiments", "all", "table1-precision", "--profile=smoke", "--jobs=2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    folder = Path("results/smoke/table1-precision") / SAMPLE
    try:
        until = time.monotonic() + 100
        while not list(folder.glob(".*.part")):
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert list(folder.glob(".*.part"))
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["free-form-n1000-bf16-s0.json", "ours-n1000-bf16-s0.json"]
    record = read_record(folder / "ours-n1000-bf16-s0.json")
    assert record is not None
    assert record["hyperparameters"]["precision"] == "bf16"
    assert record["machine"]["threads"] == 1
