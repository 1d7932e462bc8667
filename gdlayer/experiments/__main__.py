"""Command line of the experiments: ``python -m gdlayer.experiments --help``."""

import argparse
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from gdlayer.datasets import DataError
from gdlayer.experiments.progress import count_finished, in_words, seconds_left
from gdlayer.experiments.record import ResultsError, read_record
from gdlayer.experiments.trial import EXPERIMENTS, PROFILES, Trial, choose_datasets, plan

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
    trial = _trials(options)[0]
    record = _execute(trial, options)
    trials = plan(trial.profile, trial.experiment, (trial.dataset,))
    left = seconds_left(trials, options.results, REFERENCE, options.jobs)
    print(
        f"[{count_finished(trials, options.results)}/{len(trials)}] {_words(trial)} seed {trial.seed}: "
        f"{_metrics(record)} in {in_words(record['seconds'])}; about {in_words(left)} left",
        flush=True,
    )


def _plan(options: argparse.Namespace) -> None:
    trials = plan(options.profile, options.experiment, _datasets(options))
    left = seconds_left(trials, options.results, REFERENCE, options.jobs)
    for trial in trials:
        print("python", *trial.command(options.results))
    _say(
        f"{len(trials)} trials, {count_finished(trials, options.results)} finished; "
        f"about {in_words(left)} left with {options.jobs} at a time"
    )


def _cell(options: argparse.Namespace) -> None:
    """Runs every seed of one cell again, beside the records that exist, and prints them beside the paper's numbers."""
    from gdlayer.report.cells import published

    for asked in _trials(options):
        planned = plan(asked.profile, asked.experiment, (asked.dataset,))
        seeds = [trial for trial in planned if trial.cell == asked.cell]
        if not seeds:
            cells = ", ".join(" ".join(map(str, cell)) for cell in sorted({trial.cell[1:] for trial in planned}))
            raise ValueError(f"{_words(asked)} is no cell of profile {asked.profile!r}, which has {cells}")
        print(f"{_words(asked)}, profile {asked.profile}")
        paper = published(asked.experiment) if asked.dataset not in asked.not_in_paper else {}
        for metric, value in ((m, v) for (cell, m), v in paper.items() if cell == asked.paper_cell(*asked.cell)):
            print(f"  paper            {metric.replace('_', ' ')} {value:.1f} %")
        for trial in seeds:
            before = read_record(trial.record_path(options.results)) or read_record(trial.record_path(REFERENCE))
            options.force = True
            again = _execute(trial, options, options.results / "cells")
            on_record = f"; on record {_metrics(before)}" if before else ""
            print(
                f"  run now, seed {trial.seed}  {_metrics(again)} in {in_words(again['seconds'])}{on_record}",
                flush=True,
            )


def _datasets(options: argparse.Namespace) -> tuple[str, ...]:
    if options.dataset:
        return (options.dataset,)
    return choose_datasets(options.profile, options.experiment, lambda line: _say(f"note: {line}"))


def _trials(options: argparse.Namespace) -> list[Trial]:
    """The trial that the options name, on each data set."""
    cls = EXPERIMENTS[options.experiment]
    given: dict[str, Any] = {f.name: getattr(options, f.name) for f in fields(cls) if hasattr(options, f.name)}
    return [cls(**{**given, "dataset": dataset}) for dataset in _datasets(options)]


def _execute(trial: Trial, options: argparse.Namespace, results: Path | None = None) -> dict[str, Any]:
    import torch

    from gdlayer.experiments.run import run

    if options.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is 'cuda', but torch finds no GPU; allowed is cpu")
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses, being asked for the above
    return run(trial, results or options.results, device=options.device, force=options.force)


def _words(trial: Trial) -> str:
    return " ".join(map(str, (trial.experiment, *trial.cell, "on", trial.dataset)))


def _metrics(record: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {100 * value:.2f} %" for name, value in record["metrics"].items())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gdlayer.experiments", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, action: Any, text: str, *, training: bool) -> list[argparse.ArgumentParser]:
        experiments = commands.add_parser(name, help=text, description=text).add_subparsers(
            required=True, dest="experiment", metavar="TABLE"
        )
        return [_experiment(experiments, cls, action, training) for cls in EXPERIMENTS.values()]

    for sub in command("run", _run, "run one trial, unless its record is there", training=True):
        sub.add_argument("--seed", type=int, default=0)
        sub.add_argument("--force", action="store_true", help="run even if the record is there, and replace it")
    command("cell", _cell, "run one cell of a table again and print it beside the paper's number", training=True)
    command("plan", _plan, "list the trials of a profile and how long they will take", training=False)
    return parser


def _experiment(experiments: Any, cls: type[Trial], action: Any, training: bool) -> argparse.ArgumentParser:
    """The options of one command for one experiment."""
    sub = experiments.add_parser(cls.experiment, help=cls.__doc__, description=cls.__doc__)
    sub.set_defaults(action=action)
    sub.add_argument("--profile", default="quick", choices=PROFILES)
    sub.add_argument("--dataset", choices=cls.datasets, help="default: what the profile demands and what can be had")
    sub.add_argument("--results", type=Path, default=Path("results"), help="folder of the records")
    sub.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="trials at a time, for the estimate")
    if training:
        sub.add_argument("--layer", required=True, metavar="LAYER", help=", ".join(cls.layers))
        for field in fields(cls):
            if field.name in cls.cell_fields():
                kind = {"type": int, "metavar": "N"} if field.type in (int, "int") else {"metavar": field.name.upper()}
                sub.add_argument(f"--{field.name.replace('_', '-')}", required=True, **kind)
        sub.add_argument("--threads", type=int, default=1)
        sub.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    return sub


if __name__ == "__main__":
    sys.exit(main())
