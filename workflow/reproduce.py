"""``make reproduce``: checks what could go wrong, hands over to Snakemake, tells what comes about and what is left."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from writable import provide_caches

from gdlayer._plumbing.checks import one_of
from gdlayer.datasets import DataError
from gdlayer.report import PAGES
from gdlayer.trials.parallel import unfinished
from gdlayer.trials.plan import asked_by, choose_datasets, plan
from gdlayer.trials.progress import Progress, duration_in_words, result_in_words
from gdlayer.trials.provenance import provenance_of_code
from gdlayer.trials.record import RESERVED_BYTES, ResultsError, load_records, read_record
from gdlayer.trials.registry import experiments
from gdlayer.trials.spread import agreement
from gdlayer.trials.trial import PROFILES, Trial

RESULTS = Path("results")
RECORD = Path("data/results")
PROFILES_OF_SNAKEMAKE = Path(__file__).parent / "profiles"
LOCAL = "local"
REPORT_SECONDS = 0.5
"""Between two looks at what has come about."""
CHAPTER_SECONDS = 10.0
"""That the execution of a chapter is expected to take."""
BOOK_SECONDS = 30.0
TAIL = 15
"""Lines of what Snakemake and its jobs said that are shown where no error was told."""
SLURM_SECONDS = 60.0
"""That Slurm has to answer whether it would take an entry."""
FLAGS = {"slurm_account": "account", "slurm_partition": "partition", "constraint": "constraint", "qos": "qos"}
"""Of sbatch, by the names that they have in a profile of Snakemake."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="quick", metavar="PROFILE", help=", ".join(PROFILES))
    parser.add_argument("--cores", default="all", help="trials at a time, or 'all'; on a cluster queue entries")
    parser.add_argument("--cluster", default=LOCAL, metavar="NAME", help="a folder of workflow/profiles")
    options = parser.parse_args()
    try:
        if note := provide_caches(Path("_build", "home")):
            print(f"note: {note}", flush=True)
        snakemake = profile_of_snakemake(options.cluster)
        check_slurm(snakemake)
        cores = count_cores(options.cores, settings(snakemake).get("jobs"))
        datasets = {
            experiment: choose_datasets(options.profile, experiment, lambda line: print(f"note: {line}", flush=True))
            for experiment in experiments()
            if experiment in asked_by(options.profile)
        }
        trials = [trial for name, chosen in datasets.items() for trial in plan(options.profile, name, chosen)]
        check_results(trials)
        build = Path("_build", options.profile)
        stages = Stages(trials, build, cores)
    except (DataError, ResultsError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for experiment, chosen in datasets.items():
        print(f"{experiment}: {', '.join(chosen)}")
    progress = stages.progress
    left = duration_in_words(progress.seconds_left(cores))
    print(
        f"profile {options.profile}: {len(trials)} trials, {len(datasets) + len(PAGES)} chapters and the book; ", end=""
    )
    where = "cores" if options.cluster == LOCAL else f"cores of {options.cluster}"
    print(f"{progress.finished} of {progress.total} finished; about {left} left on {cores} {where}")
    if note := other_commits(trials):
        print(f"note: {note}")
    sys.stdout.flush()
    clear_stale(trials)
    command = [
        *(sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile"),
        *("--workflow-profile", str(snakemake), "--cores", str(cores)),
        *("--config", f"profile={options.profile}", f"datasets={json.dumps(datasets)}", f"results={RESULTS}"),
    ]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    if options.cluster != LOCAL:
        command += ["cluster=true", "--jobs", str(cores)]
    log = build / "log.txt"
    try:
        status = follow(command, environment, stages, log, cores)
        missing = stages.missing()
    except (ResultsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not status and missing:
        print(f"error: {len(missing)} files were not made, {missing[0]} is the first", file=sys.stderr)
        status = 1
    if status:
        print(f"not finished; call again to go on. What was said: {log.resolve()}", flush=True)
        try:
            check_results(trials)  # Snakemake does not say that the disk is full
        except ResultsError as error:
            print(f"error: {error}", file=sys.stderr)
        return status
    own, kept = (load(trials, folder) for folder in (RESULTS, RECORD))
    within, compared = agreement(own, kept)
    if compared:
        print(f"{within} of {compared} trials are within the spread of the record")
    print(f"the book of this run: {(build / 'html' / 'index.html').resolve()}", flush=True)
    return 0


class Stages:
    """What a run is made of, and which of it has come about, judged by the files that it leaves.

    Parameters
    ----------
    trials : the whole plan
    build : folder of chapters and book
    cores : on which trials run side by side; chapters do not
    """

    def __init__(self, trials: Sequence[Trial], build: Path, cores: int) -> None:
        self.trials = trials
        chapters = dict.fromkeys([*(trial.experiment for trial in trials), *PAGES])
        self.paths = {f"chapter {name}": build / "chapters" / f"{name}.ipynb" for name in chapters}
        self.paths["the book"] = build / "html" / "index.html"
        self._before = {name: made_at(path) for name, path in self.paths.items()}
        left = {f"chapter {trial.experiment}" for trial in unfinished(trials, RESULTS)}
        kept = {f"chapter {name}" for name in chapters if name not in PAGES} - left if left else self.paths.keys()
        takes = {name: BOOK_SECONDS if name == "the book" else CHAPTER_SECONDS for name in self.paths}
        further = {name: cores * takes[name] for name in self.paths if name not in kept or self._before[name] is None}
        self.progress = Progress(trials, RESULTS, RECORD, further=further)

    def missing(self) -> list[Path]:
        """What is not there, or not whole."""
        records = [trial.record_path(RESULTS) for trial in unfinished(self.trials, RESULTS)]
        return [*records, *(path for path in self.paths.values() if made_at(path) is None)]

    def news(self) -> Iterator[str]:
        """What has come about since the last call: a line each, counted at once."""
        progress = self.progress
        for trial in [step for step in progress.pending if isinstance(step, Trial)]:
            if record := read_record(trial.record_path(RESULTS)):
                progress.add(trial)
                yield result_in_words(trial, record)
        for name in [name for name, before in self._before.items() if made_at(self.paths[name]) not in (None, before)]:
            del self._before[name]  # once: Snakemake sets the time of what a job has made
            if name in progress.pending:
                progress.add(name)
            yield name


def made_at(path: Path) -> int | None:
    """When a file was written; None if it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def follow(command: list[str], environment: dict[str, str], stages: Stages, log: Path, jobs: int) -> int:
    """Runs Snakemake, and says what it has done, by the files that come about, and why something failed.

    Parameters
    ----------
    command, environment : of Snakemake
    stages : what is to come about
    log : file for what Snakemake and its jobs say themselves
    jobs : at a time
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    told = ""
    with log.open("w", encoding="utf-8") as stream, log.open(encoding="utf-8", errors="replace") as said:

        def report() -> None:
            nonlocal told
            for news in stages.news():
                print(stages.progress.line(news, jobs), flush=True)
                told = news
            for line in said.readlines():
                if line.startswith("error: "):
                    print(line, end="", file=sys.stderr, flush=True)
                    told = line

        with subprocess.Popen(command, env=environment, stdout=stream, stderr=subprocess.STDOUT) as process:
            while True:
                try:
                    status = process.wait(REPORT_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    report()
                except KeyboardInterrupt:
                    process.wait()  # it stops what runs, and on a cluster takes back what waits
                    raise
        report()
        said.seek(0)
        if status and not told.startswith("error: "):
            print("".join(said.readlines()[-TAIL:]), end="", file=sys.stderr, flush=True)
    return status


def load(trials: Iterable[Trial], folder: Path) -> list[dict[str, Any]]:
    """The records of a folder of the profile, experiments and data sets of the trials."""
    places = dict.fromkeys((trial.profile, trial.experiment, trial.dataset) for trial in trials)
    return [record for profile, name, dataset in places for record in load_records(folder, profile, name, [dataset])]


def other_commits(trials: Iterable[Trial]) -> str:
    """A line that names the commits by which finished trials were run, if they are not of the present one."""
    present = provenance_of_code()["commit"]
    records = [record for trial in trials if (record := read_record(trial.record_path(RESULTS)))]
    counts = Counter(str(record["git"]["commit"]) for record in records)
    others = {commit: count for commit, count in counts.items() if commit != str(present)}
    if not others:
        return ""
    told = ", ".join(f"{commit[:7]} ({count})" for commit, count in others.items())
    return (
        f"{sum(others.values())} of {len(records)} records are of other commits than the present"
        f" {str(present)[:7]}: {told}; they count as finished, move them away to run them anew"
    )


def profile_of_snakemake(cluster: str) -> Path:
    one_of("cluster", cluster, sorted(path.parent.name for path in PROFILES_OF_SNAKEMAKE.glob("*/config.yaml")))
    if cluster != LOCAL and " " in sys.executable:  # Snakemake's plugins write it into their scripts as it is
        raise ValueError(f"on a cluster the path of Python must have no blank, got {sys.executable!r}: clone elsewhere")
    return PROFILES_OF_SNAKEMAKE / cluster


def settings(profile: Path) -> dict[str, Any]:
    return yaml.safe_load((profile / "config.yaml").read_text(encoding="utf-8"))


def check_slurm(profile: Path) -> None:
    """Asks Slurm, if the profile is for it, whether it would take an entry: Snakemake hides why it did not.

    Raises
    ------
    ValueError
        If it would not, with what it says.
    """
    chosen = settings(profile)
    if chosen.get("executor") != "slurm":
        return
    given = chosen.get("default-resources", {})
    resources = given if isinstance(given, dict) else dict(resource.split("=", 1) for resource in given)
    options = [f"--{flag}={resources[name]}" for name, flag in FLAGS.items() if name in resources]
    command = ["sbatch", "--test-only", "--time=1", *options, "--wrap=true"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=SLURM_SECONDS)
    except FileNotFoundError:
        raise ValueError("sbatch is not found: call this where Slurm takes entries") from None
    except subprocess.TimeoutExpired:
        raise ValueError(f"Slurm has not answered for {SLURM_SECONDS:g} s") from None
    if asked.returncode:
        with_options = f" with {' '.join(options)}" if options else ""
        raise ValueError(f"Slurm takes no entry{with_options}, see {profile / 'config.yaml'}: {asked.stderr.strip()}")


def count_cores(option: str, every: int | None) -> int:
    """How many are used at a time: ``every`` if all, or this machine's if that is None."""
    if option == "all":
        return every or os.cpu_count() or 1
    if not option.isdecimal() or int(option) < 1:
        raise ValueError(f"cores must be 'all' or an integer >= 1, got {option!r}")
    return int(option)


def check_results(trials: list[Trial]) -> None:
    """Raises before anything runs if results cannot be written, or were made with other settings."""
    try:
        RESULTS.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=RESULTS) as probe:
            probe.write(bytes(RESERVED_BYTES))
    except OSError as error:
        raise ResultsError(f"results cannot be written to {RESULTS.resolve()}: {error.strerror}") from error
    unfinished(trials, RESULTS)


def clear_stale(trials: list[Trial]) -> None:
    """Removes tables that lack a record, which would stand for whole, and Snakemake's copies of records.

    It would put such a copy of a killed run in the place of the record of a trial that fails.
    """
    for trial in unfinished(trials, RESULTS):
        (RESULTS / trial.profile / f"{trial.experiment}.csv").unlink(missing_ok=True)
    shutil.rmtree(".snakemake/backups", ignore_errors=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; call again to go on")
