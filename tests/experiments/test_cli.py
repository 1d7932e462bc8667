"""The command line of the experiments: what it prints, and one line for every error that can be foreseen."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from invented import FULL, finish, smoke

from gdlayer.datasets import files as files_module
from gdlayer.experiments import __main__ as cli
from gdlayer.experiments.table1.trial import Table1Trial
from gdlayer.trials import run as runner
from gdlayer.trials.plan import asked_by, plan
from gdlayer.trials.record import read_record

LAYERS = Table1Trial.layers
QUOTED = ", ".join(map(repr, LAYERS))
SMOKE = ("--profile", "smoke")
CELL = ("--layer", "free-form", "--n-train", "1000")


def record_of(layer: str = "free-form", results: str = "results") -> Path:
    return smoke(layer).record_path(Path(results))


def error_of(capsys, *arguments: str) -> str:
    """What follows "error: " in the one line that a failing command prints."""
    assert cli.main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    return err.removeprefix("error: ").removesuffix("\n")


def flipped(source: Path, target: Path) -> Path:
    """A copy of a folder of data, one bit of the first file another."""
    shutil.copytree(source, target)
    file = target / "train-images-idx3-ubyte.gz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    return file


# What works


def test_run(capsys, monkeypatch):
    assert cli.main(["run", "table1", *CELL, *SMOKE]) == 0
    out, err = capsys.readouterr()
    record = read_record(record_of())
    assert record is not None
    accuracy = f"{100 * record['metrics']['test_accuracy']:.2f}"
    assert re.fullmatch(
        rf"table1 free-form 1000 on fashion-mnist-sample seed 0: test accuracy {accuracy} % in \d+ s\n",
        out,
    )
    assert err == ""
    assert record["machine"]["threads"] == 1
    assert record["hyperparameters"]["steps"] == 4
    # a second time: the same line, nothing trained
    monkeypatch.setattr(runner, "train", lambda *_, **__: pytest.fail("trained again"))
    assert cli.main(["run", "table1", *CELL, *SMOKE]) == 0
    assert capsys.readouterr().out == out


def test_run_with_force_trains_again(capsys):
    record_of().parent.mkdir(parents=True)
    cli.main(["run", "table1", *CELL, *SMOKE])
    record = read_record(record_of())
    assert record is not None
    record["metrics"]["test_accuracy"] = 0.99
    record_of().write_text(json.dumps(record))
    cli.main(["run", "table1", *CELL, *SMOKE])
    assert "test accuracy 99.00 %" in capsys.readouterr().out.splitlines()[-1]
    cli.main(["run", "table1", *CELL, *SMOKE, "--force", "--threads", "2"])
    assert "test accuracy 99.00 %" not in capsys.readouterr().out
    assert json.loads(record_of().read_text())["machine"]["threads"] == 2


def test_plan_prints_commands_that_make_the_records(capsys, monkeypatch):
    assert cli.main(["plan", "table1", *SMOKE, "--results", "some where"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert [line.split()[:5] for line in lines] == [["python", "-m", "gdlayer.experiments", "run", "table1"]] * len(
        LAYERS
    )
    assert [line.split()[5] for line in lines] == [f"--layer={layer}" for layer in LAYERS]
    assert err.startswith(f"{len(LAYERS)} trials, 0 finished; about an unknown time left with ")
    assert err.count("\n") == 1
    assert not Path("some where").exists()
    cli.main(["run", "table1", *CELL, *SMOKE])
    capsys.readouterr()
    cli.main(["plan", "table1", *SMOKE, "--jobs", "3"])
    assert re.fullmatch(
        rf"{len(LAYERS)} trials, 1 finished; about \d+ s left with 3 at a time\n", capsys.readouterr().err
    )


def test_plan_of_quick_on_either_data_set(capsys):
    cli.main(["plan", "table1", "--dataset", FULL])
    assert capsys.readouterr().out.count("--dataset=fashion-mnist --seed=0 --profile=quick ") == 5 * len(LAYERS)
    cli.main(["plan", "table1"])
    out, err = capsys.readouterr()
    assert out.count("--dataset=fashion-mnist-sample --seed=0 --profile=quick ") == 2 * len(
        LAYERS
    )  # it has images for two sizes
    note, summary = err.splitlines()
    assert note.startswith("note: fashion-mnist-sample instead of fashion-mnist: ")
    assert summary.startswith(f"{2 * len(LAYERS)} trials, 0 finished; ")


def test_a_trials_command_is_that_trial(capsys, monkeypatch, tmp_path):
    executed = []

    def execute(trial, options):
        executed.append((trial, options.results))
        return {"metrics": {"test_accuracy": 0.5, "iou": 0.25}, "seconds": 3}

    monkeypatch.setattr(cli, "_execute", execute)
    results = tmp_path / "results of mine"
    trials = [
        trial
        for profile in ("smoke", "quick", "paper")
        for name, cls in asked_by(profile).items()
        for trial in plan(profile, name, cls.datasets)[-3::-30]
    ]
    assert len(trials) > 20
    for trial in trials:
        module, *arguments = trial.command(results)[1:]
        assert module == "gdlayer.experiments"
        assert cli.main(arguments) == 0
        words = f"{trial.experiment} {' '.join(map(str, trial.short_cell))} on {trial.dataset} seed {trial.seed}"
        assert capsys.readouterr().out == f"{words}: test accuracy 50.00 %, iou 25.00 % in 3 s\n"
    assert executed == [(trial, results) for trial in trials]


def test_cell_shows_the_papers_number_and_the_record_and_leaves_the_record(capsys):
    arguments = ["table1", "--layer", "ours", "--n-train", "1000", *SMOKE]
    assert cli.main(["cell", *arguments]) == 0
    first = capsys.readouterr().out.splitlines()
    assert first[:2] == [
        "table1 ours 1000 on fashion-mnist-sample, profile smoke",
        "  paper            test accuracy 80.5 %",
    ]
    assert re.fullmatch(r"  run now, seed 0  test accuracy \d+\.\d\d % in \d+ s", first[2])
    assert len(first) == 3
    made = record_of("ours", "results/cells")
    assert made.exists()
    # beside a record, which stays as it is
    record = read_record(made)
    assert record is not None
    record["metrics"]["test_accuracy"] = 0.99
    record_of("ours").parent.mkdir(parents=True)
    record_of("ours").write_text(json.dumps(record))
    assert cli.main(["cell", *arguments]) == 0
    line = capsys.readouterr().out.splitlines()[2]
    assert line.startswith(first[2].split(" in ")[0])  # the same seed, the same accuracy
    assert line.endswith("; on record test accuracy 99.00 %")
    assert json.loads(record_of("ours").read_text()) == record


def test_cell_of_a_control_has_no_number_of_the_paper(capsys):
    assert cli.main(["cell", "table1", "--layer", "n-jet", "--n-train", "1000", *SMOKE]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["table1", "run"]


@pytest.mark.parametrize(
    ("arguments", "paper"),
    [
        ("table2 --layer ours-7x7 --source scratch", ["val accuracy 98.1 %", "test accuracy 97.2 %"]),
        ("table2 --layer source --source scratch", ["test accuracy 92.8 %"]),
        ("table3 --layer gaussian-unet --split tile", ["pixel accuracy 94.4 %"]),
        ("table3 --layer gaussian-unet --split group", []),
    ],
)
def test_cells_of_the_other_tables(capsys, monkeypatch, arguments, paper):
    monkeypatch.setattr(cli, "_execute", lambda *_: {"metrics": {"dice": 0.5}, "seconds": 3})
    assert cli.main(["cell", *arguments.split(), *SMOKE]) == 0
    numbers = [f"  paper            {number}" for number in paper]
    assert capsys.readouterr().out.splitlines()[1:] == [*numbers, "  run now, seed 0  dice 50.00 % in 3 s"]


def test_cell_has_an_example_for_every_table(capsys, monkeypatch):
    """So that nobody has to know its fields: ``make cell TABLE=2``."""
    monkeypatch.setattr(cli, "_execute", lambda *_: {"metrics": {"dice": 0.5}, "seconds": 3})
    for name, cell in (
        ("table1", "ours 5000"),
        ("table2", "ours-7x7 scratch"),
        ("table3", "gaussian-unet tile"),
        ("ablations", "trains-none 1000"),
        ("scale", "scale-channels 5000"),
    ):
        assert cli.main(["cell", name]) == 0
        assert capsys.readouterr().out.startswith(f"{name} {cell} on ")


def test_cell_finds_the_committed_record(capsys, monkeypatch):
    finish(smoke(), Path("committed"), metrics={"test_accuracy": 0.75})
    monkeypatch.setattr(cli, "committed_record", lambda: Path("committed"))
    monkeypatch.setattr(cli, "_execute", lambda *_: {"metrics": {"test_accuracy": 0.5}, "seconds": 3})
    assert cli.main(["cell", "table1", *CELL, *SMOKE]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("in 3 s; on record test accuracy 75.00 %")


def test_cell_says_what_to_expect(capsys, monkeypatch):
    """By the seeds on record."""
    for seed, value in enumerate((0.5, 0.6, 0.7)):
        finish(smoke(seed=seed), Path("committed"), metrics={"test_accuracy": value})
    monkeypatch.setattr(cli, "committed_record", lambda: Path("committed"))
    monkeypatch.setattr(cli, "_execute", lambda *_: {"metrics": {"test_accuracy": 0.5}, "seconds": 3})
    assert cli.main(["cell", "table1", *CELL, *SMOKE]) == 0
    bound = 2 * 10 * (1 + 1 / 3) ** 0.5
    told = f"test accuracy 60.00 ± {bound:.2f} %: the record's mean of 3 seeds, and where 95 % of runs lie"
    assert capsys.readouterr().out.splitlines()[2] == f"  to expect        {told}"


def test_cell_tells_how_far_it_is(capsys, monkeypatch):
    """Where there is no terminal with a bar."""
    monkeypatch.setattr(cli, "TELL_SECONDS", 0.0)
    assert cli.main(["cell", "table1", *CELL, *SMOKE]) == 0
    assert capsys.readouterr().err == "  step 1 of 4\n  step 2 of 4\n  step 3 of 4\n"


def test_as_a_process(tmp_path):
    """Once from outside, all test images, in a directory that has nothing of the repository."""
    trial = smoke("free-form")
    done = subprocess.run(
        [sys.executable, *trial.command(tmp_path / "out")], capture_output=True, text=True, timeout=600, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("table1 free-form 1000 on fashion-mnist-sample seed 0: test accuracy ")
    record = read_record(trial.record_path(tmp_path / "out"))
    assert record is not None
    assert record["data"]["n_test"] == 1000
    failed = subprocess.run(
        [sys.executable, "-m", "gdlayer.experiments", "run", "table1", "--layer", "conv", "--n-train", "1000", *SMOKE],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=tmp_path,
    )
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr == f"error: layer must be one of {QUOTED}, got 'conv'\n"


# What does not


def test_a_package_that_is_not_installed(tmp_path):
    script = (
        "import sys; sys.modules['tqdm'] = None; from gdlayer.experiments.__main__ import main; "
        f"sys.exit(main({['run', 'table1', '--layer', 'rfnn', '--n-train', '1000', *SMOKE]!r}))"
    )
    failed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600, cwd=tmp_path)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr == "error: tqdm is not installed: pip install 'gdlayer[experiments]'\n"


@pytest.mark.parametrize("command", ["run", "cell"])
@pytest.mark.parametrize(
    ("layer", "n", "message"),
    [
        ("conv", "1000", f"layer must be one of {QUOTED}, got 'conv'"),
        ("ours", "-5", "n_train must be from 1 to 5000 (fashion-mnist-sample), got -5"),
        ("ours", "0", "n_train must be from 1 to 5000 (fashion-mnist-sample), got 0"),
        ("ours", "60000", "n_train must be from 1 to 5000 (fashion-mnist-sample), got 60000"),
    ],
)
def test_wrong_trials(capsys, command, layer, n, message):
    assert error_of(capsys, command, "table1", "--layer", layer, f"--n-train={n}", *SMOKE) == message
    assert list(Path().iterdir()) == []


def test_other_wrong_values(capsys):
    seed = ("run", "table1", *CELL, *SMOKE, "--seed=-1")
    assert error_of(capsys, *seed) == "seed must be an integer >= 0, got -1"
    cell = ("cell", "table1", "--layer", "ours", "--n-train", "70")
    assert error_of(capsys, *cell, *SMOKE) == (
        "table1 ours 70 on fashion-mnist-sample is no cell of profile 'smoke', which has 1000"
    )
    assert error_of(capsys, "cell", "table2", "--layer", "source", "--source", "vgg16-flatten", *SMOKE) == (
        "table2 source vgg16-flatten on textures-synthetic is no cell of profile 'smoke', which has scratch"
    )
    jobs = "jobs must be an integer >= 1, got 0"
    assert error_of(capsys, "plan", "table1", *SMOKE, "--jobs", "0") == jobs
    assert error_of(capsys, "run", "table1", *CELL, *SMOKE, "--jobs", "0") == jobs
    threads = error_of(capsys, "run", "table1", *CELL, *SMOKE, "--threads", "0")
    assert threads == "threads must be an integer >= 1, got 0"
    assert list(Path().iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA GPU")
def test_a_gpu_that_is_not_there(capsys):
    error = error_of(capsys, "run", "table1", *CELL, *SMOKE, "--device", "cuda")
    assert error == "device must be 'cpu', as torch finds no GPU, got 'cuda'"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["run"],
        ["run", "table9", *CELL],
        ["run", "table1"],
        ["run", "table1", *CELL, "--profile", "full"],
        ["run", "table1", "--layer", "ours", "--n-train", "many"],
        ["run", "table1", *CELL, "--unknown"],
    ],
    ids=str,
)
def test_what_is_no_command(capsys, arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("command", [("plan", "table1"), ("cell", "table1", *CELL), ("run", "table1", *CELL)])
def test_corrupt_data(capsys, monkeypatch, tmp_path, command):
    file = flipped(files_module._EMBEDDED / "sample" / "fashion-mnist", tmp_path / "given" / "fashion-mnist")
    monkeypatch.setenv("GDLAYER_DATA", str(tmp_path / "given"))
    error = error_of(capsys, *command)
    assert re.fullmatch(
        rf"{re.escape(str(file))} is not the published file: SHA256 [0-9a-f]{{64}} \(\d+ bytes\), expected .*", error
    )
    assert not Path("results").exists()


def test_corrupt_sample(capsys, monkeypatch, tmp_path):
    file = flipped(files_module._EMBEDDED / "sample" / "fashion-mnist", tmp_path / "sample" / "fashion-mnist")
    monkeypatch.setattr(files_module, "_EMBEDDED", tmp_path)
    error = error_of(capsys, "run", "table1", *CELL, *SMOKE)
    assert error.startswith(f"{file} is not the published file: ")
    assert list(record_of().parent.iterdir()) == []


def test_real_data_that_cannot_be_had(capsys):
    for command in ("plan", "run", "cell"):
        cell = () if command == "plan" else CELL
        error = error_of(capsys, command, "table1", *cell, "--profile", "paper")
        assert re.match(
            "profile 'paper' demands real data, there is only fashion-mnist-sample instead of fashion-mnist: "
            r"fashion-mnist/train-images.* is neither in GDLAYER_DATA='' nor in the cache .*",
            error,
        )


@pytest.mark.parametrize("place", ["a file", "/proc"])
@pytest.mark.parametrize("command", ["run", "cell"])
def test_results_that_cannot_be_written(capsys, tmp_path, command, place):
    if place == "/proc" and not Path("/proc/self").exists():
        pytest.skip("no /proc")
    results = "/proc/results" if place == "/proc" else str(tmp_path / "file")
    if place == "a file":
        Path(results).write_text("in the way")
    assert cli.main([command, "table1", *CELL, *SMOKE, "--results", results]) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(rf"error: results cannot be written to {results}/\S+: [A-Z][a-z ]+\n", err)


@pytest.mark.parametrize("failing_call", [1, 2])
def test_a_full_disk(capsys, monkeypatch, failing_call):
    calls = []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == failing_call:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    error = error_of(capsys, "run", "table1", *CELL, *SMOKE)
    assert error == f"results cannot be written to {record_of().parent}: No space left on device"
    assert list(record_of().parent.iterdir()) == []


@pytest.mark.parametrize("content", ["", "[]", '{"metrics": {}}'])
@pytest.mark.parametrize("command", [("run", *CELL), ("plan",), ("cell", *CELL)])
def test_a_corrupt_record(capsys, command, content):
    record_of().parent.mkdir(parents=True)
    record_of().write_text(content)
    assert cli.main([command[0], "table1", *command[1:], *SMOKE]) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(rf"error: {re.escape(str(record_of()))} is not a record \(.*\); move it away\n", err)
    assert record_of().read_text() == content


def test_a_record_with_other_settings(capsys):
    cli.main(["run", "table1", *CELL, *SMOKE])
    record = read_record(record_of())
    assert record is not None
    record["hyperparameters"]["steps"] = 99
    record_of().write_text(json.dumps(record))
    capsys.readouterr()
    assert error_of(capsys, "run", "table1", *CELL, *SMOKE) == (
        f"{record_of()} was made with other settings (steps was 99, is 4); move it away to run it anew"
    )


def test_an_interruption_is_no_error(capsys, monkeypatch):
    def train(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "train", train)
    assert cli.main(["run", "table1", *CELL, *SMOKE]) == 130
    assert capsys.readouterr().err == "interrupted; call again to go on\n"
    assert list(record_of().parent.iterdir()) == []
