"""Command line of the experiments: ``python -m gdlayer.experiments --help``."""

import argparse
import os
import sys
from pathlib import Path

from gdlayer.datasets import DataError, fashion_mnist
from gdlayer.experiments.progress import count_finished, in_words, seconds_left
from gdlayer.experiments.record import ResultsError, read_record
from gdlayer.experiments.trial import LAYERS, PROFILES, Trial, choose_dataset, plan

REFERENCE = Path("data/results")


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; every foreseeable error is one line on stderr and exit status 2."""
    options = _parser().parse_args(arguments)
    try:
        for name in ("jobs", "threads"):
            if getattr(options, name, 1) < 1:
                raise ValueError(f"{name} is {getattr(options, name)}, allowed are integers from 1 on")
        options.action(options)
    except (DataError, ResultsError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; call again to go on", file=sys.stderr)
        return 130
    return 0


def _run(options: argparse.Namespace) -> None:
    trial = _trial(options, options.seed)
    record = _execute(trial, options)
    trials = plan(trial.profile, trial.experiment, trial.dataset)
    left = seconds_left(trials, options.results, REFERENCE, options.jobs)
    print(
        f"[{count_finished(trials, options.results)}/{len(trials)}] {trial.experiment} {trial.layer} "
        f"n={trial.n_train} seed={trial.seed}: test accuracy {100 * record['metrics']['test_accuracy']:.2f} % "
        f"in {in_words(record['seconds'])}; about {in_words(left)} left",
        flush=True,
    )


def _plan(options: argparse.Namespace) -> None:
    dataset = options.dataset or choose_dataset(options.profile, _say)
    trials = plan(options.profile, options.experiment, dataset)
    left = seconds_left(trials, options.results, REFERENCE, options.jobs)
    for trial in trials:
        print("python", *trial.command(options.results))
    _say(
        f"{len(trials)} trials on {dataset}, {count_finished(trials, options.results)} finished; "
        f"about {in_words(left)} left with {options.jobs} at a time"
    )


def _cell(options: argparse.Namespace) -> None:
    """Runs every seed of one cell again, beside the records that exist, and prints them beside the paper's number."""
    dataset = options.dataset or choose_dataset(options.profile, _say)
    seeds = [
        trial
        for trial in plan(options.profile, options.experiment, dataset)
        if (trial.layer, trial.n_train) == (options.layer, options.n_train)
    ]
    if not seeds:
        _trial(options, 0)
        sizes = sorted({trial.n_train for trial in plan(options.profile, options.experiment, dataset)})
        raise ValueError(
            f"n_train is {options.n_train}, profile {options.profile!r} on {dataset} has {', '.join(map(str, sizes))}"
        )
    from gdlayer.report.table1 import published

    print(f"{options.experiment}: {options.layer}, n = {options.n_train}, profile {options.profile}, {dataset}")
    paper = published().get((options.layer, options.n_train))
    print("  paper            " + (f"{paper:5.1f} %" if paper is not None else "    - (a control that it lacks)"))
    for trial in seeds:
        before = read_record(trial.record_path(options.results)) or read_record(trial.record_path(REFERENCE))
        options.force = True
        again = _execute(trial, options, options.results / "cells")
        accuracy = 100 * again["metrics"]["test_accuracy"]
        line = f"  run now, seed {trial.seed}  {accuracy:5.2f} % in {again['seconds']:.0f} s"
        if before:
            line += f"; on record {100 * before['metrics']['test_accuracy']:5.2f} %"
        print(line, flush=True)


def _trial(options: argparse.Namespace, seed: int) -> Trial:
    dataset = options.dataset or choose_dataset(options.profile, _say)
    return Trial(options.experiment, options.layer, options.n_train, seed, options.profile, dataset)


def _execute(trial: Trial, options: argparse.Namespace, results: Path | None = None) -> dict:
    import torch

    from gdlayer.experiments import table1

    if options.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is 'cuda', but torch finds no GPU; allowed is cpu")
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses, being asked for the above
    return table1.run(trial, results or options.results, device=options.device, force=options.force)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gdlayer.experiments", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, action, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(action=action)
        sub.add_argument("experiment", choices=("table1",))
        sub.add_argument("--profile", default="quick", choices=PROFILES)
        sub.add_argument("--dataset", choices=(fashion_mnist.FULL, fashion_mnist.SAMPLE), help="default: by profile")
        sub.add_argument("--results", type=Path, default=Path("results"), help="folder of the records")
        sub.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="trials at a time, for the estimate")
        return sub

    def training(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--layer", required=True, metavar="LAYER", help=", ".join(LAYERS))
        sub.add_argument("--n-train", required=True, type=int, metavar="N")
        sub.add_argument("--threads", type=int, default=1)
        sub.add_argument("--device", default="cpu", choices=("cpu", "cuda"))

    run = command("run", _run, "run one trial, unless its record is there")
    training(run)
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--force", action="store_true", help="run even if the record is there, and replace it")
    training(command("cell", _cell, "run one cell of a table again and print it beside the paper's number"))
    command("plan", _plan, "list the trials of a profile and how long they will take")
    return parser


if __name__ == "__main__":
    sys.exit(main())
