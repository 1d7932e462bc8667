"""``make reproduce`` up to the point where it hands over, what it hands over, and the execution of chapters."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
import refresh
import reproduce
import soak
from invented import finish
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from gdlayer.experiments import experiments
from gdlayer.experiments.profiles import plan
from gdlayer.experiments.progress import STARTUP_SECONDS, Progress
from gdlayer.experiments.trial import Trial

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
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


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


@pytest.mark.parametrize(
    ("status", "last"), [(0, "the book of this run: {page}"), (1, "not finished; call again to go on")]
)
def test_snakemake_gets_the_profile_and_its_data(monkeypatch, capsys, tmp_path, status, last):
    calls = []

    def called(command: list[object], **options: Any) -> subprocess.CompletedProcess[str]:
        calls.append([str(word) for word in command])
        assert options["env"]["PATH"].startswith(str(Path(sys.executable).parent))
        return subprocess.CompletedProcess([], status)

    monkeypatch.setattr(subprocess, "run", called)
    write_records([*OF["table1"][:2], *OF["table2"][:2], *OF["table3"], *OF["ablations"], *OF["scale"]])
    pending = len(OF["table1"]) - 2 + len(OF["table2"]) - 2
    tables = [Path("results", "smoke", f"{name}.csv") for name in EMBEDDED]
    for table in tables:
        table.touch()
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "--profile", "smoke", "--cores", "3"])
    assert reproduce.main() == status
    out, err = capsys.readouterr()
    seconds = pending * (8 + STARTUP_SECONDS) / 3  # 4 steps at 2 s or 2 at 4 s, and the start of each
    assert out.splitlines() == [
        "table1: fashion-mnist-sample",
        "table2: textures-synthetic",
        "table3: nuclei-synthetic",
        "ablations: fashion-mnist-sample",
        "scale: fashion-mnist-sample",
        f"profile smoke: {len(TRIALS)} trials, {len(TRIALS) - pending} finished; about {seconds:.0f} s left on 3 cores,"
        " then the book",
        last.format(page=tmp_path / "_build" / "smoke" / "html" / "index.html"),
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


@pytest.mark.parametrize(("cores", "jobs"), [("all", "100"), ("7", "7")])
def test_a_cluster_gets_its_own_profile(monkeypatch, capsys, cores, jobs):
    """With as many queue entries at a time as that says, unless told."""
    calls = []
    monkeypatch.setattr(reproduce, "check_slurm", lambda profile: None)
    monkeypatch.setattr(reproduce, "follow", lambda command, *_: calls.append(command) or 0)
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "--profile=smoke", "--cluster=slurm", f"--cores={cores}"])
    write_records(TRIALS[:1])
    assert reproduce.main() == 0
    assert f" left on {jobs} cores of slurm, then the book\n" in capsys.readouterr().out
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


def test_a_cluster_is_followed_by_what_its_trials_write(monkeypatch, capsys, tmp_path):
    """Every so often, if there is something new; what runs is what has taken its place."""
    monkeypatch.setattr(reproduce, "REPORT_SECONDS", 0.5)
    trials = OF["table1"][:4]
    write_records(trials[:1])
    progress = Progress(trials, Path("results"))
    assert reproduce.follow(["sleep", "1.2"], dict(os.environ), progress) == 0
    assert capsys.readouterr().out == "1 of 4 trials finished, 0 running\n"
    write_records(trials[1:2])
    for trial in trials[2:]:
        path = trial.record_path(Path("results"))
        path.with_name(f".{path.name}.part").touch()
    assert reproduce.follow(["sh", "-c", "sleep 0.7; exit 3"], dict(os.environ), progress) == 3
    seconds = 8 + STARTUP_SECONDS  # two, two at a time
    assert capsys.readouterr().out == f"2 of 4 trials finished, 2 running; about {seconds:.0f} s left with so many\n"


def test_what_is_embedded_is_announced(monkeypatch, capsys):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0))
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
    assert lines[10].startswith(f"profile quick: {planned} trials, 0 finished; about an unknown time")


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
    assert len(dependents) == 6
    for trial in dependents:  # asked again after their source; finished as they are, they keep their records
        (job,) = [job for job in jobs if f"output: {trial.record_path(Path('results'))}" in job]
        assert f"input: {path}\n" in job
    (job,) = [job for job in jobs if f"output: {path}" in job]
    assert "input:" not in job
    assert re.search(rf"^trial +{1 + 6 + 2 * len(OF['table3'])}$", output, re.MULTILINE), output
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
        timeout=120,
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


def test_mutations_are_counted(capsys):
    rows = [["record", 60, 50, 10, 0, 0, 0], ["choices.toml", 60, 40, 10, 10, 0, 0]]
    columns = ["reader", "versions", *soak.MUTATION_OUTCOMES]
    assert soak.report_mutations(pd.DataFrame(rows, columns=columns)) == 0
    assert capsys.readouterr().out.endswith("\n120 damaged files for 2 readers: 0 uncaught, 0 silent\n")
    rows[0][-2:] = [2, 1]
    assert soak.report_mutations(pd.DataFrame(rows, columns=columns)) == 1
    assert capsys.readouterr().out.endswith("\n120 damaged files for 2 readers: 1 uncaught, 2 silent\n")


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
