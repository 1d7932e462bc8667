"""``make reproduce``: checks what could go wrong, says how long it takes, hands over to Snakemake."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from gdlayer.checks import one_of
from gdlayer.datasets import DataError
from gdlayer.experiments import experiments
from gdlayer.experiments.parallel import unfinished
from gdlayer.experiments.profiles import asked_by, choose_datasets, plan
from gdlayer.experiments.progress import Progress, duration_in_words
from gdlayer.experiments.record import RESERVED_BYTES, ResultsError, is_reserved, read_record
from gdlayer.experiments.trial import PROFILES, Trial

RESULTS = Path("results")
RECORD = Path("data/results")
PROFILES_OF_SNAKEMAKE = Path(__file__).parent / "profiles"
LOCAL = "local"
REPORT_SECONDS = 60.0
"""Between two lines that say how far a cluster has come."""
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
        snakemake = profile_of_snakemake(options.cluster)
        check_slurm(snakemake)
        cores = count_cores(options.cores, settings(snakemake).get("jobs"))
        datasets = {
            experiment: choose_datasets(options.profile, experiment, lambda line: print(f"note: {line}"))
            for experiment in experiments()
            if experiment in asked_by(options.profile)
        }
        trials = [trial for name, chosen in datasets.items() for trial in plan(options.profile, name, chosen)]
        check_results(trials)
        progress = Progress(trials, RESULTS, RECORD)
        left = duration_in_words(progress.seconds_left(cores))
    except (DataError, ResultsError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for experiment, chosen in datasets.items():
        print(f"{experiment}: {', '.join(chosen)}")
    print(f"profile {options.profile}: {progress.total} trials, {progress.finished} finished; ", end="")
    where = "cores" if options.cluster == LOCAL else f"cores of {options.cluster}"
    print(f"about {left} left on {cores} {where}, then the book", flush=True)
    clear_stale(trials)
    page = Path("_build", options.profile, "html", "index.html").resolve()
    command = [
        *(sys.executable, "-m", "snakemake", "--snakefile", "workflow/Snakefile"),
        *("--workflow-profile", str(snakemake), "--cores", str(cores)),
        *("--config", f"profile={options.profile}", f"datasets={json.dumps(datasets)}", f"results={RESULTS}"),
    ]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    if options.cluster == LOCAL:
        status = subprocess.run(command, env=environment).returncode
    else:
        status = follow([*command, "cluster=true", "--jobs", str(cores)], environment, progress)
    if status:
        print("not finished; call again to go on", flush=True)
        try:
            check_results(trials)  # Snakemake does not say that the disk is full
        except ResultsError as error:
            print(f"error: {error}", file=sys.stderr)
    else:
        print(f"the book of this run: {page}", flush=True)
    return status


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


def follow(command: list[str], environment: dict[str, str], progress: Progress) -> int:
    """Runs Snakemake and says from time to time how far its trials have come elsewhere, judged by what they write."""
    said = ""
    with subprocess.Popen(command, env=environment) as process:
        while True:
            try:
                return process.wait(REPORT_SECONDS)
            except subprocess.TimeoutExpired:
                line = state(progress)
                if line != said:
                    print(line, flush=True)
                said = line
            except KeyboardInterrupt:
                process.wait()  # it takes back what waits and runs
                raise


def state(progress: Progress) -> str:
    for trial in tuple(progress.pending):
        if record := read_record(trial.record_path(RESULTS)):
            progress.add(trial, record)
    running = sum(is_reserved(trial.record_path(RESULTS)) for trial in progress.pending)
    left = f"; about {duration_in_words(progress.seconds_left(running))} left with so many" if running else ""
    return f"{progress.finished} of {progress.total} trials finished, {running} running{left}"


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
