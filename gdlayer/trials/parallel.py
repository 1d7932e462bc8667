"""Many trials, several at a time, each a process of its own by its plain command. Needs no torch."""

import subprocess
import sys
import time
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from gdlayer.trials.record import check_current, read_record
from gdlayer.trials.settings import hyperparameters
from gdlayer.trials.trial import Trial


class Done(NamedTuple):
    """A trial that ended: with its record, or without one and why."""

    trial: Trial
    record: dict[str, Any] | None
    error: str


def unfinished(trials: Iterable[Trial], results: Path) -> list[Trial]:
    """The trials without a record.

    Raises
    ------
    gdlayer.trials.record.ResultsError
        If a record was made with other settings than the present ones.
    """
    left = []
    for trial in trials:
        path = trial.record_path(results)
        if record := read_record(path):
            check_current(record, hyperparameters(trial), path)
        else:
            left.append(trial)
    return left


def run_all(trials: Iterable[Trial], results: Path, *, jobs: int, device: str = "cpu") -> Generator[Done, None, None]:
    """Runs trials in the order given, ``jobs`` at a time with one thread each, and yields each as it ends.

    A trial that fails does not stop the others. Closing the generator, as an exception in its caller does, stops the
    trials that run. Whatever dies, and however, can be called again: finished records stay, started trials go on from
    their checkpoints.
    """
    running: set[subprocess.Popen[str]] = set()

    def run(trial: Trial) -> Done:
        command = [sys.executable, *trial.command(results), f"--device={device}"]
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            running.add(process)
            _, errors = process.communicate()
            running.remove(process)
        record = read_record(trial.record_path(results)) if process.returncode == 0 else None
        return Done(trial, record, errors.strip() or f"ended with status {process.returncode}")

    pool = ThreadPoolExecutor(jobs)
    futures = [pool.submit(run, trial) for trial in trials]
    try:
        for future in as_completed(futures):
            yield future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        while not all(future.done() for future in futures):
            for process in tuple(running):
                process.terminate()
            time.sleep(0.05)
