"""Command line of the experiments: ``python -m gdlayer.experiments --help``."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

from gdlayer._plumbing.checks import one_of, positive_int
from gdlayer._plumbing.extras import MissingExtraError
from gdlayer.datasets import DataError
from gdlayer.trials.memory import keep_freed_memory
from gdlayer.trials.parallel import run_all, unfinished
from gdlayer.trials.plan import asked_by, choose_datasets, in_order, plan
from gdlayer.trials.progress import (
    Progress,
    cell_in_words,
    duration_in_words,
    metrics_in_words,
    result_in_words,
    seconds_each,
)
from gdlayer.trials.provenance import committed_record
from gdlayer.trials.record import ResultsError, every_record, load_records, read_record
from gdlayer.trials.registry import experiments, trial_of, trial_types
from gdlayer.trials.search import as_table
from gdlayer.trials.settings import hyperparameters
from gdlayer.trials.spread import Spread
from gdlayer.trials.trial import PROFILES, Search, Trial

TELL_SECONDS = 5.0
"""Between two lines that say how far a cell's training is."""


class TrialsFailedError(Exception):
    """Of many trials some ended without a record."""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command; every foreseeable error is one line on stderr and exit status 2."""
    options = _parser().parse_args(arguments)
    try:
        for name in ("jobs", "threads"):
            positive_int(name, getattr(options, name, 1))
        options.action(options)
    except (DataError, MissingExtraError, ResultsError, TrialsFailedError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; call again to go on", file=sys.stderr)
        return 130
    return 0


def _run(options: argparse.Namespace) -> None:
    trial = _trials(options)[0]
    print(result_in_words(trial, _execute(trial, options)), flush=True)


def _plan(options: argparse.Namespace) -> None:
    trials = _planned(options.profile, options.experiment, _datasets(options))
    for trial in trials:
        print("python", *trial.command(options.results))
    _announce(Progress(trials, options.results, committed_record()), options)


def _search(options: argparse.Namespace) -> None:
    """Runs what is missing of a round of a search, sources first, and prints which rates are best."""
    cls = experiments()[options.experiment].searches[options.round - 1]
    wanted = {name: value for name in _subject_fields(cls) if (value := getattr(options, name)) is not None}
    trials = [
        trial
        for trial in plan(options.profile, cls.experiment, _found(options.profile, cls.experiment))
        if isinstance(trial, Search) and all(str(getattr(trial, name)) == value for name, value in wanted.items())
    ]
    if not trials:
        raise ValueError(
            f"profile {options.profile!r} has no {cls.experiment} of {', '.join(wanted.values()) or 'the data at hand'}"
        )
    _run_missing(sorted(trials, key=lambda trial: trial.needs is not None), options)
    print(as_table(trials, options.results))


def _all(options: argparse.Namespace) -> None:
    """Runs the trials of a profile in its order."""
    for name in options.experiments:
        one_of("table", name, trial_types())
    asked = asked_by(options.profile)
    names = options.experiments or [name for name in _in_all() if name in asked]
    trials = [trial for name in names for trial in _planned(options.profile, name, _found(options.profile, name))]
    _run_missing(in_order(trials, options.profile), options)


def _in_all() -> list[str]:
    """What ``all`` runs unless told: everything but the searches."""
    return [name for name, cls in trial_types().items() if not issubclass(cls, Search)]


def _cell(options: argparse.Namespace) -> None:
    """Runs every seed of one cell again, beside the records that exist, and prints them beside the paper's numbers."""
    reference = committed_record()
    for asked in _trials(options):
        planned = plan(asked.profile, asked.experiment, (asked.dataset,))
        seeds = [trial for trial in planned if trial.cell == asked.cell]
        if not seeds:
            hyperparameters(asked)  # tells which setting it lacks, if it lacks one
            cells = ", ".join(" ".join(map(str, cell)) for cell in sorted({t.short_cell[1:] for t in planned}))
            raise ValueError(f"{cell_in_words(asked)} is no cell of profile {asked.profile!r}, which has {cells}")
        place = options.results / "cells"
        needed = {trial.needs for trial in seeds if trial.needs and not read_record(trial.needs.record_path(place))}
        takes = seconds_each([*needed, *seeds], [] if reference is None else [r for _, r in every_record(reference)])
        lasts = "" if takes is None else f": about {duration_in_words(sum(takes))}"
        print(f"{cell_in_words(asked)}, profile {asked.profile}{lasts}", flush=True)
        paper = experiments()[asked.experiment].published if asked.dataset not in asked.not_in_paper else {}
        for metric, value in ((m, v) for (cell, m), v in paper.items() if cell == asked.paper_cell(*asked.cell)):
            print(f"  paper            {metric.replace('_', ' ')} {value:.1f} %")
        kept = [] if reference is None else load_records(reference, asked.profile, asked.experiment, [asked.dataset])
        for told in _expected(asked, kept):
            print(f"  to expect        {told}", flush=True)
        for trial in seeds:
            before = read_record(trial.record_path(options.results))
            if before is None and reference is not None:
                before = read_record(trial.record_path(reference))
            options.force = True
            again = _execute(trial, options, place, _steps_told())
            on_record = f"; on record {metrics_in_words(before)}" if before else ""
            took = duration_in_words(again["seconds"])
            print(f"  run now, seed {trial.seed}  {metrics_in_words(again)} in {took}{on_record}", flush=True)


def _expected(asked: Trial, kept: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A line per metric: the record's mean, and how far from it another seed or machine may lie."""
    spread = Spread(kept)
    cell = [record["metrics"] for record in kept if trial_of(record["trial"]).cell == asked.cell]
    for metric in cell[0] if cell else ():
        if (bound := spread.of(asked, metric, len(cell))) is not None:
            mean = sum(metrics[metric] for metrics in cell) / len(cell)
            told = f"{metric.replace('_', ' ')} {100 * mean:.2f} ± {100 * bound:.2f} %"
            yield f"{told}: the record's mean of {len(cell)} seed{'s' * (len(cell) > 1)}, and where 95 % of runs lie"


def _steps_told() -> Callable[[int, int], None] | None:
    """Tells every few seconds how far a training is; not on a terminal, which has a bar."""
    if sys.stderr.isatty():
        return None
    last = time.monotonic()

    def tell(step: int, steps: int) -> None:
        nonlocal last
        if time.monotonic() - last > TELL_SECONDS and step < steps:
            last = time.monotonic()
            _say(f"  step {step} of {steps}")

    return tell


def _planned(profile: str, name: str, datasets: tuple[str, ...]) -> list[Trial]:
    """The plan; says of which layers it has nothing."""
    trials = plan(profile, name, datasets)
    planned = {trial.layer for trial in trials}
    if trials and (left_out := [layer for layer in trial_types()[name].layers if layer not in planned]):
        _say(f"note: profile {profile!r} has no {name} of {', '.join(left_out)}")
    return trials


def _datasets(options: argparse.Namespace) -> tuple[str, ...]:
    return (options.dataset,) if options.dataset else _found(options.profile, options.experiment)


def _found(profile: str, experiment: str) -> tuple[str, ...]:
    return choose_datasets(profile, experiment, lambda line: _say(f"note: {line}"))


def _trials(options: argparse.Namespace) -> list[Trial]:
    """The trial that the options name, on each data set."""
    cls = trial_types()[options.experiment]
    given: dict[str, Any] = {f.name: getattr(options, f.name) for f in fields(cls) if hasattr(options, f.name)}
    return [cls(**{**given, "dataset": dataset}) for dataset in _datasets(options)]


def _execute(
    trial: Trial,
    options: argparse.Namespace,
    results: Path | None = None,
    told: Callable[[int, int], object] | None = None,
) -> dict[str, Any]:
    import torch

    from gdlayer.trials.run import run

    if options.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device must be 'cpu', as torch finds no GPU, got 'cuda'")
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.allow_tf32 = False  # on a GPU, convolutions in fp32 would round to 10 bits
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS refuses, being asked for the above
    keep = getattr(options, "keep_weights", False)
    place = results or options.results
    return run(trial, place, device=options.device, force=options.force, keep_weights=keep, told=told)


def _run_missing(trials: Sequence[Trial], options: argparse.Namespace) -> None:
    """Says how long the trials without a record will take, then runs them and prints each result as it comes.

    Raises
    ------
    TrialsFailedError
        At the end, if some failed.
    KeyboardInterrupt
        By SIGINT or SIGTERM, once the trials that ran are stopped.
    """
    missing = unfinished(trials, options.results)
    progress = Progress(trials, options.results, committed_record(), options.device)
    _announce(progress, options)
    failed = 0
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with closing(run_all(missing, options.results, jobs=options.jobs, device=options.device)) as several:
            for done in several:
                if done.record:
                    progress.add(done.trial)
                    print(progress.line(result_in_words(done.trial, done.record), options.jobs), flush=True)
                else:
                    failed += 1
                    _say(f"{cell_in_words(done.trial)} seed {done.trial.seed}: {done.error}")
    except KeyboardInterrupt:
        _say("the trials that ran are stopped, their checkpoints stay")
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if failed:
        raise TrialsFailedError(f"{failed} of {len(missing)} trials failed; call again to go on")


def _announce(progress: Progress, options: argparse.Namespace) -> None:
    left = duration_in_words(progress.seconds_left(options.jobs))
    _say(f"{progress.total} trials, {progress.finished} finished; about {left} left with {options.jobs} at a time")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gdlayer.experiments", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, action: Any, text: str, classes: Mapping[str, type[Trial]], profile: str = "quick"
    ) -> list[tuple[argparse.ArgumentParser, type[Trial]]]:
        experiments = commands.add_parser(name, help=text, description=text).add_subparsers(
            required=True, dest="experiment", metavar="TABLE"
        )
        subs = [(experiments.add_parser(key, help=c.__doc__, description=c.__doc__), c) for key, c in classes.items()]
        for sub, _ in subs:
            _add_plan(sub, action, profile)
        return subs

    types, found = trial_types(), experiments()
    tables = {name: experiment.trial for name, experiment in found.items()}
    for sub, cls in command("run", _run, "run one trial, unless its record is there", types):
        _add_cell(sub, cls)
        sub.add_argument("--seed", type=int, default=0)
        sub.add_argument("--force", action="store_true", help="run even if the record is there, and replace it")
        sub.add_argument("--keep-weights", action="store_true", help="write the trained network beside the record")
    text = "run one cell of a table again and print it beside the paper's number"
    for sub, cls in command("cell", _cell, text, tables):
        _add_cell(sub, cls, found[cls.experiment].example)
    for sub, cls in command("plan", _plan, "list the trials of a profile and how long they will take", types):
        _add_dataset(sub, cls)
    text = "run what is missing of the search for a table's learning rates, and print which are best"
    searched = {name: experiment.searches[0] for name, experiment in found.items() if experiment.searches}
    for sub, cls in command("search", _search, text, searched, "paper"):
        rounds = len(found[cls.belongs_to].searches)
        sub.add_argument("--round", type=int, default=1, choices=range(1, rounds + 1))
        for name in _subject_fields(cls):
            sub.add_argument(f"--{name.replace('_', '-')}", metavar=name.upper(), help="default: all")
        _add_device(sub)
    text = "run what is missing of a profile, in its order"
    sub = commands.add_parser("all", help=text, description=text)
    sub.add_argument("experiments", nargs="*", metavar="TABLE", help=f"default: {', '.join(_in_all())}")
    _add_plan(sub, _all, "paper")
    _add_device(sub)
    return parser


def _add_plan(sub: argparse.ArgumentParser, action: Any, profile: str) -> None:
    sub.set_defaults(action=action)
    sub.add_argument("--profile", default=profile, choices=PROFILES)
    sub.add_argument("--results", type=Path, default=Path("results"), help="folder of the records")
    sub.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="trials at a time")


def _add_dataset(sub: argparse.ArgumentParser, cls: type[Trial]) -> None:
    sub.add_argument("--dataset", choices=cls.datasets, help="default: what the profile demands and what can be had")


def _add_device(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--device", default="cpu", choices=("cpu", "cuda"))


def _add_cell(sub: argparse.ArgumentParser, cls: type[Trial], example: Mapping[str, Any] | None = None) -> None:
    """The options that name a cell, with those of an example by default, and where it is run."""
    _add_dataset(sub, cls)
    defaults = {**cls.cell_defaults(), **(example or {})}
    types = {field.name: field.type for field in fields(cls)}
    for name in ("layer", *cls.cell_fields()):
        told = ", ".join(cls.layers) if name == "layer" else None
        unless: dict[str, Any] = {"default": defaults[name]} if name in defaults else {"required": True}
        sub.add_argument(f"--{name.replace('_', '-')}", type=types[name], metavar=name.upper(), help=told, **unless)
    sub.add_argument("--threads", type=int, default=1)
    _add_device(sub)


def _subject_fields(cls: type[Trial]) -> tuple[str, ...]:
    """What a search's rates may be asked for by."""
    return ("layer", *experiments()[cls.belongs_to].trial.cell_fields())


if __name__ == "__main__":
    sys.exit(main())
