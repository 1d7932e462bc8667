"""``make reproduce`` up to the point where it hands over, what it hands over, and the execution of chapters."""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import refresh
import reproduce
import soak
import writable
from invented import finish
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from gdlayer.trials.plan import plan
from gdlayer.trials.progress import STARTUP_SECONDS, duration_in_words
from gdlayer.trials.registry import experiments
from gdlayer.trials.trial import Trial

REPOSITORY = Path(reproduce.__file__).parents[1]
SAMPLE = REPOSITORY / "gdlayer" / "datasets" / "sample" / "fashion-mnist"
EMBEDDED = {
    "table1": "fashion-mnist-sample",
    "table2": "textures-synthetic",
    "table3": "nuclei-synthetic",
    "ablations": "fashion-mnist-sample",
    "scale": "fashion-mnist-sample",
}
METRICS = {
    "table1": ["test_accuracy"],
    "table2": ["val_accuracy", "test_accuracy"],
    "table3": ["pixel_accuracy", "dice", "iou", "nucleus_f1", "background_accuracy"],
    "ablations": ["test_accuracy"],
    "scale": ["test_accuracy_at_14", "test_accuracy_at_28"],
}
TRIALS = [trial for experiment, dataset in EMBEDDED.items() for trial in plan("smoke", experiment, (dataset,))]
OF = {name: [trial for trial in TRIALS if trial.experiment == name] for name in EMBEDDED}


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    """An empty working directory, and no data but the embedded sample."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GDLAYER_DATA", raising=False)
    monkeypatch.setenv("GDLAYER_OFFLINE", "1")
    monkeypatch.setenv("GDLAYER_CACHE", str(tmp_path / "cache"))


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "workflow" / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def error_of(*arguments: str) -> str:
    """What follows "error: " in the one line that reproduce.py prints."""
    done = run("reproduce.py", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr.removeprefix("error: ").rstrip("\n")


def write_records(trials: list[Trial], **changes: Any) -> list[Path]:
    """Invented records."""
    paths = []
    for trial in trials:
        finish(trial, Path("results"), **changes)
        paths.append(trial.record_path(Path("results")))
    return paths


# Errors before anything runs


def test_unknown_profile():
    assert error_of("--profile", "full") == "profile must be one of 'smoke', 'quick', 'paper', got 'full'"
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("cores", ["0", "-1", "many", "1.5"])
def test_wrong_cores(cores):
    error = error_of("--profile", "smoke", f"--cores={cores}")
    assert error == f"cores must be 'all' or an integer >= 1, got {cores!r}"


def test_unknown_cluster():
    error = error_of("--profile", "smoke", "--cluster=pbs")
    assert error == "cluster must be one of 'local', 'slurm', got 'pbs'"


@pytest.mark.parametrize("profile", ["quick", "paper"])
def test_corrupt_data(monkeypatch, tmp_path, profile):
    given = tmp_path / "given"
    shutil.copytree(SAMPLE, given / "fashion-mnist")
    monkeypatch.setenv("GDLAYER_DATA", str(given))
    file = given / "fashion-mnist" / "train-images-idx3-ubyte.gz"
    assert error_of("--profile", profile).startswith(f"{file} is not the published file: SHA256 ")
    assert not Path("results").exists()


def test_real_data_that_cannot_be_had():
    error = error_of("--profile", "paper")
    reason = r"fashion-mnist/train-images.* is neither in GDLAYER_DATA='' nor in the cache "
    assert re.match(rf"profile 'paper' demands real data, .*{reason}", error)


@pytest.mark.parametrize(
    ("experiment", "steps"), [("table1", 4), ("table2", 2), ("table3", 2), ("ablations", 4), ("scale", 2)]
)
def test_a_record_with_other_settings(experiment, steps):
    trials = OF[experiment]
    path = write_records(trials[:3])[2]
    record = json.loads(path.read_text())
    record["hyperparameters"]["steps"] = 99
    path.write_text(json.dumps(record))
    assert error_of("--profile", "smoke") == (
        f"{path} was made with other settings (steps was 99, is {steps}); move it away to run it anew"
    )


@pytest.mark.parametrize("trial", [TRIALS[0], TRIALS[-1]], ids=["table1", "scale"])
def test_a_corrupt_record(trial):
    path = write_records([trial])[0]
    path.write_text('{"trial": ')
    assert re.fullmatch(rf"{re.escape(str(path))} is not a record \(.*\); move it away", error_of("--profile", "smoke"))


def test_results_that_cannot_be_written(tmp_path):
    Path("results").write_text("in the way")
    assert error_of("--profile", "smoke") == f"results cannot be written to {tmp_path / 'results'}: File exists"
    Path("results").unlink()
    if Path("/proc/self").exists():
        Path("results").symlink_to("/proc/self")
        error = error_of("--profile", "smoke")
        assert re.fullmatch(r"results cannot be written to /proc/\w+: [A-Z][a-z ]+", error)


# The hand-over


def make_everything(stages: reproduce.Stages) -> None:
    """What Snakemake would make."""
    write_records([step for step in stages.progress.pending if isinstance(step, Trial)])
    for path in stages.paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("made")


@pytest.mark.parametrize("status", [0, 1])
def test_snakemake_gets_the_profile_and_its_data(monkeypatch, capsys, tmp_path, status):
    calls = []

    def called(command: list[str], environment: dict[str, str], stages: reproduce.Stages, log: Path, jobs: int) -> int:
        calls.append(command)
        assert environment["PATH"].startswith(str(Path(sys.executable).parent))
        if status == 0:
            make_everything(stages)
        return status

    monkeypatch.setattr(reproduce, "follow", called)
    write_records([*OF["table1"][:2], *OF["table2"][:2], *OF["table3"], *OF["ablations"], *OF["scale"]])
    pending = len(OF["table1"]) - 2 + len(OF["table2"]) - 2
    tables = [Path("results", "smoke", f"{name}.csv") for name in EMBEDDED]
    for table in tables:
        table.touch()
    monkeypatch.setattr(reproduce, "other_commits", lambda _: "")
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "--profile", "smoke", "--cores", "3"])
    assert reproduce.main() == status
    out, err = capsys.readouterr()
    # 4 steps at 2 s or 2 at 4 s, and the start of each; chapters are not side by side
    seconds = pending * (8 + STARTUP_SECONDS) / 3 + 10 * reproduce.CHAPTER_SECONDS + reproduce.BOOK_SECONDS
    html = tmp_path / "_build" / "smoke" / "html" / "index.html"
    assert out.splitlines() == [
        "table1: fashion-mnist-sample",
        "table2: textures-synthetic",
        "table3: nuclei-synthetic",
        "ablations: fashion-mnist-sample",
        "scale: fashion-mnist-sample",
        f"profile smoke: {len(TRIALS)} trials, 10 chapters and the book; {len(TRIALS) - pending} of {len(TRIALS) + 11}"
        f" finished; about {duration_in_words(seconds)} left on 3 cores",
        f"not finished; call again to go on. What was said: {tmp_path / '_build' / 'smoke' / 'log.txt'}"
        if status
        else f"the book of this run: {html}",
    ]
    assert err == ""
    assert [table.exists() for table in tables] == [False, False, True, True, True]  # made anew if a record is missing
    (command,) = calls
    assert command[1:5] == ["-m", "snakemake", "--snakefile", "workflow/Snakefile"]
    assert command[command.index("--cores") + 1] == "3"
    profile, datasets, results = command[command.index("--config") + 1 :]
    assert (profile, results) == ("profile=smoke", "results=results")
    assert json.loads(datasets.removeprefix("datasets=")) == {name: [dataset] for name, dataset in EMBEDDED.items()}
    assert (REPOSITORY / command[command.index("--workflow-profile") + 1] / "config.yaml").exists()


def test_what_snakemake_did_not_make_is_an_error(monkeypatch, capsys):
    """Whatever it says."""
    monkeypatch.setattr(reproduce, "follow", lambda *_: 0)
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "--profile", "smoke"])
    write_records(TRIALS[1:])
    assert reproduce.main() == 1
    out, err = capsys.readouterr()
    path = TRIALS[0].record_path(Path("results"))
    assert err == f"error: 12 files were not made, {path} is the first\n"
    assert out.splitlines()[-1].startswith("not finished; call again to go on. What was said: ")


def test_the_end_says_what_lies_within_the_spread_of_the_record(monkeypatch, capsys):
    """Of the trials that have a record with seeds."""
    kept = [dataclasses.replace(trial, seed=seed) for trial in OF["table1"][:2] for seed in range(3)]
    for trial, value in zip(kept, (0.5, 0.6, 0.7, 0.5, 0.6, 0.7), strict=True):
        finish(trial, reproduce.RECORD, metrics={"test_accuracy": value})
    write_records(OF["table1"][:1], metrics={"test_accuracy": 0.75})
    write_records(OF["table1"][1:2], metrics={"test_accuracy": 0.9})
    monkeypatch.setattr(reproduce, "follow", lambda _, __, stages, *___: make_everything(stages) or 0)
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "--profile", "smoke"])
    assert reproduce.main() == 0
    assert capsys.readouterr().out.splitlines()[-2] == "1 of 2 trials are within the spread of the record"


def test_records_of_other_commits_are_named(monkeypatch):
    monkeypatch.setattr(reproduce, "provenance_of_code", lambda: {"commit": "0123456789"})
    write_records(TRIALS[:2], git={"commit": "0123456789", "dirty": False})
    assert reproduce.other_commits(TRIALS) == ""
    write_records(TRIALS[2:4], git={"commit": "89abcdef01", "dirty": False})
    write_records(TRIALS[4:5], git={"commit": None, "dirty": None})
    assert reproduce.other_commits(TRIALS) == (
        "3 of 5 records are of other commits than the present 0123456: 89abcde (2), None (1); they count as finished,"
        " move them away to run them anew"
    )


@pytest.mark.parametrize(("cores", "jobs"), [("all", "100"), ("7", "7")])
def test_a_cluster_gets_its_own_profile(monkeypatch, capsys, cores, jobs):
    """With as many queue entries at a time as that says, unless told."""
    calls = []
    monkeypatch.setattr(reproduce, "check_slurm", lambda profile: None)
    monkeypatch.setattr(reproduce, "follow", lambda command, *_: calls.append(command) or 1)
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "--profile=smoke", "--cluster=slurm", f"--cores={cores}"])
    write_records(TRIALS[:1])
    assert reproduce.main() == 1
    assert f" left on {jobs} cores of slurm\n" in capsys.readouterr().out
    (command,) = calls
    assert command[command.index("--workflow-profile") + 1] == str(REPOSITORY / "workflow" / "profiles" / "slurm")
    assert command[command.index("--cores") + 1] == command[command.index("--jobs") + 1] == jobs
    assert "cluster=true" in command[command.index("--config") + 1 : command.index("--jobs")]


def test_on_a_cluster_no_blanks(monkeypatch, capsys):
    """Slurm's script would end at the first."""
    monkeypatch.setattr(sys, "executable", "/home/a user/.venv/bin/python")
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "--profile=smoke", "--cluster=slurm"])
    assert reproduce.main() == 2
    assert capsys.readouterr().err == (
        "error: on a cluster the path of Python must have no blank, got '/home/a user/.venv/bin/python':"
        " clone elsewhere\n"
    )


BRACES = str.maketrans("[]", "{}")
SLURM_PROFILE = """
executor: slurm
default-resources: [slurm_account=lab, slurm_partition=long, mem_mb=3000]
"""


@pytest.fixture
def slurm(monkeypatch, tmp_path):
    """A profile, and a stand-in for sbatch that is made of a script."""

    def of(script: str, profile: str = SLURM_PROFILE) -> Path:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "sbatch").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / "sbatch").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/bin{os.pathsep}/usr/bin")
        (tmp_path / "config.yaml").write_text(profile)
        return tmp_path

    return of


@pytest.mark.parametrize("profile", [SLURM_PROFILE, SLURM_PROFILE.replace("=", ": ").translate(BRACES)])
def test_slurm_is_asked_for_what_the_profile_says(slurm, profile):
    """As a list or as a table."""
    profile = slurm('echo "$@" >"$(dirname "$0")/asked"', profile)
    reproduce.check_slurm(profile)
    asked = (profile / "bin" / "asked").read_text().split()
    assert asked == ["--test-only", "--time=1", "--account=lab", "--partition=long", "--wrap=true"]


def test_what_slurm_refuses_is_said_before_anything_runs(slurm):
    profile = slurm("echo 'sbatch: error: invalid partition specified: long' >&2; exit 1")
    expected = (
        f"Slurm takes no entry with --account=lab --partition=long, see {profile / 'config.yaml'}: sbatch: error: "
    )
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}invalid partition specified: long$"):
        reproduce.check_slurm(profile)


def test_slurm_that_does_not_answer(slurm, monkeypatch):
    monkeypatch.setattr(reproduce, "SLURM_SECONDS", 0.2)
    with pytest.raises(ValueError, match=r"^Slurm has not answered for 0\.2 s$"):
        reproduce.check_slurm(slurm("exec sleep 10"))


def test_no_slurm_where_it_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"^sbatch is not found: call this where Slurm takes entries$"):
        reproduce.check_slurm(REPOSITORY / "workflow" / "profiles" / "slurm")


def test_other_schedulers_are_not_asked(slurm):
    reproduce.check_slurm(slurm("exit 1", "executor: kubernetes"))
    reproduce.check_slurm(REPOSITORY / "workflow" / "profiles" / "local")


def test_a_cluster_is_as_careful_of_records_as_this_machine():
    local, slurm = (reproduce.settings(REPOSITORY / "workflow" / "profiles" / name) for name in ("local", "slurm"))
    del local["resources"]
    assert local == {name: slurm[name] for name in local}


def test_on_a_cluster_all_but_the_trials_is_one_queue_entry():
    """A rule that is missing makes Snakemake refuse the whole."""
    rules = re.findall(
        r"^rule (\w+):", (REPOSITORY / "workflow" / "Snakefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    groups = reproduce.settings(REPOSITORY / "workflow" / "profiles" / "slurm")["groups"]
    assert groups == [f"{rule}=book" for rule in rules if rule not in ("all", "trial")]


def follow(script: str, stages: reproduce.Stages) -> int:
    return reproduce.follow(["sh", "-c", script], dict(os.environ), stages, Path("_build", "log.txt"), 2)


def test_what_comes_about_is_told_and_counted(capsys):
    """Trials, chapters and book by what they write, in one count; nothing that was there or that Snakemake says."""
    trials = OF["table1"][:4]
    write_records([*trials[:2], *trials[3:]], metrics={"test_accuracy": 0.5})
    made = trials[3].record_path(Path("results"))
    made.rename("made.json")
    chapter = Path("_build", "smoke", "chapters", "table1.ipynb")
    chapter.parent.mkdir(parents=True)
    chapter.touch()
    stages = reproduce.Stages(trials, Path("_build", "smoke"), 2)
    steps = ("echo Building DAG of jobs", f"mv made.json {made}", f"touch {chapter}", f"touch {chapter}")
    assert follow("; sleep 1.2; ".join(steps), stages) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("[3/11] table1 ours 1000 on fashion-mnist-sample seed 0: test accuracy 50.00 % in ")
    assert re.fullmatch(r"\[4/11\] chapter table1; about \d+ (s|min) left", second)
    assert Path("_build", "log.txt").read_text() == "Building DAG of jobs\n"
    assert [path.parent.name for path in stages.missing()] == ["fashion-mnist-sample", *["chapters"] * 5, "html"]


def test_a_chapter_without_a_new_record_is_not_waited_for():
    write_records(OF["table1"])
    stages = reproduce.Stages(OF["table1"], Path("_build", "smoke"), 2)
    make_everything(stages)
    write_records(OF["table3"][:1])
    assert reproduce.Stages(OF["table1"], Path("_build", "smoke"), 2).progress.pending == {}
    pending = reproduce.Stages([*OF["table1"], *OF["table3"]], Path("_build", "smoke"), 2).progress.pending
    assert "chapter table3" in pending
    assert "chapter overview" in pending
    assert "chapter table1" not in pending


def test_why_something_failed_is_told(capsys):
    """Its error once; where none is told, the end of what was said."""
    stages = reproduce.Stages(TRIALS, Path("_build", "smoke"), 2)
    assert follow("echo noise; echo error: no room; exit 3", stages) == 3
    assert capsys.readouterr().err == "error: no room\n"
    assert follow("for i in $(seq 40); do echo line $i; done; exit 1", stages) == 1
    assert capsys.readouterr().err.splitlines() == [f"line {i}" for i in range(26, 41)]


def test_caches_go_where_they_can_be_written(monkeypatch, tmp_path):
    for variable in writable.PLACES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert writable.provide_caches(tmp_path / "instead") == ""
    assert "XDG_CACHE_HOME" not in os.environ
    assert not (tmp_path / "instead").exists()
    (tmp_path / "file").touch()
    for place, name in (("XDG_CACHE_HOME", ".cache"), ("IPYTHONDIR", ".ipython")):
        monkeypatch.setenv(place, str(tmp_path / "file" / name))
    assert writable.provide_caches(tmp_path / "instead") == (
        f"{tmp_path}/file/.cache, {tmp_path}/file/.ipython cannot be written: caches go to {tmp_path}/instead"
    )
    assert os.environ["XDG_CACHE_HOME"] == str(tmp_path / "instead" / ".cache")
    assert (tmp_path / "instead" / ".ipython").is_dir()
    assert "XDG_DATA_HOME" not in os.environ
    monkeypatch.setenv("HOME", "/proc/nonexistent")
    assert "/proc/nonexistent/.config" in writable.provide_caches(tmp_path / "instead")


def test_what_is_embedded_is_announced(monkeypatch, capsys):
    monkeypatch.setattr(reproduce, "follow", lambda _, __, stages, *___: make_everything(stages) or 0)
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "--cores", "all"])
    assert reproduce.main() == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12
    for note, names in zip(
        lines[:5],
        (
            "fashion-mnist-sample instead of fashion-mnist",
            "textures-synthetic instead of cats-dogs",
            "nuclei-synthetic instead of tnbc",
            "fashion-mnist-sample instead of fashion-mnist",
            "fashion-mnist-sample instead of fashion-mnist",
        ),
        strict=True,
    ):
        assert note.startswith(f"note: {names}: ")
    assert lines[5:10] == [f"{name}: {dataset}" for name, dataset in EMBEDDED.items()]
    planned = sum(len(plan("quick", name, (dataset,))) for name, dataset in EMBEDDED.items())
    assert lines[10].startswith(
        f"profile quick: {planned} trials, 10 chapters and the book; 0 of {planned + 11} finished; "
    )


def test_snakemake_plans_what_is_missing():
    """A dry run: the commands of the pending trials, the tables, the chapters, the book."""
    prepare_a_dry_run()
    pending = OF["table1"][-2:] + OF["table2"][1:3] + OF["table3"][-2:]
    write_records([trial for trial in TRIALS if trial not in pending])
    output = dry_run({name: [dataset] for name, dataset in EMBEDDED.items()})
    for rule, count in (("trial", 6), ("table", 5), ("chapter", 5), ("page", 5), ("book", 1)):
        assert re.search(rf"^{rule} +{count}$", output, re.MULTILINE), (rule, output)
    for trial in TRIALS:
        command = f"python {' '.join(trial.command('results'))} --jobs 2"
        assert (command in output) == (trial in pending), trial
    for experiment, dataset in EMBEDDED.items():
        assert f"python -m gdlayer.report {experiment} --profile smoke --datasets {dataset} --results results" in output
        assert (
            f"python workflow/execute_chapter.py book/{experiment}.ipynb _build/smoke/chapters/{experiment}.ipynb"
            f" profile=smoke datasets={dataset} results=../results"
        ) in output
    of_all = (
        "python workflow/execute_chapter.py book/{0}.ipynb _build/smoke/chapters/{0}.ipynb"
        " profile=smoke 'datasets={1}' results=../results"
    )
    datasets = " ".join(f"{name}={dataset}" for name, dataset in EMBEDDED.items())
    assert all(
        of_all.format(page, datasets) in output
        for page in ("preface", "overview", "protocol", "records", "replication")
    )


def test_what_is_missing_behind_a_whole_book_is_made():
    """A record that was deleted, or moved away because it was damaged."""
    prepare_a_dry_run()
    paths = write_records(TRIALS)
    make_everything(reproduce.Stages(TRIALS, Path("_build", "smoke"), 2))
    for name in EMBEDDED:
        Path("results", "smoke", f"{name}.csv").touch()
    for path in reproduce.Stages(TRIALS, Path("_build", "smoke"), 2).paths.values():
        path.touch()
    paths[0].unlink()
    output = dry_run({name: [dataset] for name, dataset in EMBEDDED.items()})
    assert re.search(r"^trial +1$", output, re.MULTILINE), output
    assert re.search(r"^book +1$", output, re.MULTILINE), output


def test_a_trial_waits_for_the_record_of_its_source():
    """And every data set of an experiment has its trials, in one table and one chapter."""
    prepare_a_dry_run()
    sources = [trial for trial in TRIALS if trial.experiment == "table2" and trial.layer == "source"]
    write_records([trial for trial in TRIALS if trial not in sources and trial.experiment != "table3"])
    output = dry_run({name: [dataset] for name, dataset in EMBEDDED.items()} | {"table3": ["tnbc", "monuseg-crops"]})
    jobs = re.split(r"^(?:local)?rule |^(?:Job|\[)", output, flags=re.MULTILINE)
    (source,) = sources
    path = str(source.record_path(Path("results")))
    dependents = [trial for trial in TRIALS if trial.needs == source]
    assert len(dependents) == len(OF["table2"]) - 1
    for trial in dependents:  # asked again after their source; finished as they are, they keep their records
        (job,) = [job for job in jobs if f"output: {trial.record_path(Path('results'))}" in job]
        assert f"input: {path}\n" in job
    (job,) = [job for job in jobs if f"output: {path}" in job]
    assert "input:" not in job
    assert re.search(rf"^trial +{len(OF['table2']) + 2 * len(OF['table3'])}$", output, re.MULTILINE), output
    assert "--profile smoke --datasets tnbc monuseg-crops --results results" in output
    assert "profile=smoke datasets=tnbc,monuseg-crops results=../results" in output
    assert (
        "table3=tnbc,monuseg-crops ablations=fashion-mnist-sample scale=fashion-mnist-sample' results=../results"
        in output
    )


def prepare_a_dry_run() -> None:
    """The files that the plan names as inputs."""
    shutil.copytree(REPOSITORY / "workflow", "workflow")
    Path("book").mkdir()
    for chapter in (*experiments(), "preface", "overview", "protocol", "records", "replication"):
        Path("book", f"{chapter}.ipynb").touch()
    for file in ("_config.yml", "_toc.yml", "pyproject.toml"):
        shutil.copy(REPOSITORY / file, file)


def dry_run(datasets: dict[str, list[str]]) -> str:
    done = snakemake(datasets, "--dry-run", "--printshellcmds", "--quiet", "host")
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def snakemake(datasets: dict[str, list[str]], *arguments: object) -> subprocess.CompletedProcess[str]:
    """Snakemake in the working directory, with its profile."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile", "--cores", "2"),
            *("--workflow-profile", "workflow/profiles/local", *map(str, arguments)),
            *("--config", "profile=smoke", f"datasets={json.dumps(datasets)}", "results=results"),
        ],
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=600,
    )


# Kills


def test_kills_lose_no_finished_record(capsys):
    """Four of the 200 of ``make soak``, each within 2 s of a new record."""
    assert soak.main(["--kills=4", "--at-records=1", "--seed=2"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"4 kills while \d+ records stood finished: 0 lost or damaged", last)
    assert {line.split()[-9] for line in lines[:4]} == {"scheduler", "everything"}


def test_damage_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(soak, "COPIED", ())
    victim = soak.Victim(tmp_path)
    paths = write_records(TRIALS[:4])
    assert not victim.damage()
    victim.stood = victim.records()
    assert len(victim.stood) == 4
    assert not victim.damage()
    paths[0].unlink()
    paths[1].write_text(paths[1].read_text() + "\n")
    paths[2].write_text(paths[2].read_text()[:50])
    assert victim.damage() == {"lost": 1, "changed": 2, "half-written": 1}


# Full disks


@pytest.fixture
def disk(tmp_path):
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {getattr(error, 'stderr', error)}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> None:
    with (folder / "fill").open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(bytes(4096))


def test_a_book_on_a_full_disk_is_one_line_and_goes_on_with_room(disk):
    done = run("build_book.py", disk / "html")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: the book was not built in {disk}: No space left on device\n"
    assert list(disk.iterdir()) == []
    subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)
    done = run("build_book.py", disk / "html")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"the book: {disk / 'html' / 'index.html'}\n"
    assert [path.name for path in disk.iterdir()] == ["html"]


def test_a_chapter_on_a_full_disk_is_one_line(disk):
    write_chapter('profile = "quick"', "print(profile)")
    fill(disk)
    done = run("execute_chapter.py", "chapter.ipynb", disk / "chapter.ipynb", "profile=smoke")
    assert done.returncode == 1
    assert done.stderr == f"error: results cannot be written to {disk}: No space left on device\n"
    assert [path.name for path in disk.iterdir()] == ["fill"]


def test_tables_need_no_room_in_tmpdir(disk, monkeypatch):
    """Nor does Snakemake, which would put its scheduling problem there."""
    prepare_a_dry_run()
    for trial in TRIALS:
        metrics = dict.fromkeys(METRICS[trial.experiment], 0.5)
        write_records([trial], metrics=metrics, parameters=10)
    tables = [Path("results", "smoke", f"{name}.csv") for name in EMBEDDED]
    fill(disk)
    monkeypatch.setenv("TMPDIR", str(disk))
    done = snakemake({name: [dataset] for name, dataset in EMBEDDED.items()}, *tables)
    assert done.returncode == 0, done.stderr
    assert all(table.exists() for table in tables)


# Chapters


def write_chapter(*cells: str) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, "chapter.ipynb")


def test_unknown_parameter():
    write_chapter('profile = "quick"')
    done = run("execute_chapter.py", "chapter.ipynb", "out/chapter.ipynb", "profile=smoke", "profil=paper", "data=x")
    assert done.returncode == 1
    assert done.stderr == "error: chapter.ipynb has no parameter data, profil\n"
    assert not Path("out").exists()


def test_a_chapter_is_executed_whole_or_not_at_all():
    """With its parameters, in its own folder; a failing cell leaves the chapter of before."""
    write_chapter('profile = "quick"', "from pathlib import Path\nprint(profile, Path('chapter.ipynb').exists())")
    Path("elsewhere").mkdir()
    source = Path("chapter.ipynb").rename("elsewhere/chapter.ipynb")
    done = run("execute_chapter.py", source, "out/chapter.ipynb", "profile=smoke")
    assert done.returncode == 0, done.stderr
    executed = nbformat.read("out/chapter.ipynb", 4)
    assert executed.cells[-1].outputs[0].text == "smoke True\n"
    before = Path("out/chapter.ipynb").read_bytes()
    write_chapter('profile = "quick"', "1 / 0", "print('after')")
    done = run("execute_chapter.py", "chapter.ipynb", "out/chapter.ipynb", "profile=smoke")
    assert done.returncode == 1
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert Path("out/chapter.ipynb").read_bytes() == before


def test_what_a_library_says_on_stderr_enters_no_chapter():
    write_chapter('profile = "quick"', "import sys\nprint('shown')\nprint('building the font cache', file=sys.stderr)")
    done = run("execute_chapter.py", "chapter.ipynb", "out.ipynb")
    assert (done.returncode, done.stderr) == (0, "building the font cache\n")
    refresh.execute(Path("chapter.ipynb"))
    for path in ("out.ipynb", "chapter.ipynb"):
        assert [output.text for output in nbformat.read(path, 4).cells[1].outputs] == ["shown\n"]


def test_a_chapter_is_executed_in_its_place():
    write_chapter("profile = 'quick'", "from pathlib import Path\nprint(profile, Path('chapter.ipynb').exists())")
    Path("elsewhere").mkdir()
    path = Path("chapter.ipynb").rename("elsewhere/chapter.ipynb")
    refresh.execute(path)
    first = path.read_bytes()
    executed = nbformat.read(path, 4)
    assert executed.cells[-1].outputs[0].text == "quick True\n"
    assert [cell.execution_count for cell in executed.cells] == [1, 2]
    assert all("execution" not in cell.metadata for cell in executed.cells)
    assert executed.metadata.language_info == {"name": "python", "pygments_lexer": "ipython3"}
    refresh.execute(path)
    assert path.read_bytes() == first
    write_chapter("profile = 'quick'", "1 / 0")
    before = Path("chapter.ipynb").read_bytes()
    with pytest.raises(CellExecutionError, match="division by zero"):
        refresh.execute(Path("chapter.ipynb"))
    assert Path("chapter.ipynb").read_bytes() == before


def test_a_chapter_shows_the_same_from_any_folder():
    """As papermill executes it from the root of a clone, and an editor from wherever it was opened."""
    notebook = nbformat.read(REPOSITORY / "book" / "preface.ipynb", 4)
    committed = [cell.get("outputs") for cell in notebook.cells]
    NotebookClient(notebook, kernel_name="python3", extra_arguments=["--log-level=CRITICAL"]).execute()
    assert [cell.get("outputs") for cell in notebook.cells] == committed
