"""Damaged records, checkpoints, settings and tables are refused in one line, see ``mutations.py``."""

import dataclasses
import importlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from invented import TABLE1, TABLE3, finish
from mutations import attack
from torch import nn

import gdlayer.experiments
from gdlayer.report import chapter, judgements
from gdlayer.report.cells import summarise
from gdlayer.report.loaded import load
from gdlayer.trials import plan as planning
from gdlayer.trials import training
from gdlayer.trials.experiment import Experiment
from gdlayer.trials.files import FolderError
from gdlayer.trials.parallel import unfinished
from gdlayer.trials.plan import in_order, plan, rules
from gdlayer.trials.progress import Progress
from gdlayer.trials.record import ResultsError, load_records, read_record, reserve
from gdlayer.trials.run import run
from gdlayer.trials.search import as_table
from gdlayer.trials.settings import hyperparameters
from gdlayer.trials.trial import PROFILES, Search, Trial

# Records

TRIALS = plan("smoke", "table3", ("nuclei-synthetic",))
SOUGHT = [t for t in plan("smoke", "table3-search", ("nuclei-synthetic",)) if isinstance(t, Search)]
METRICS = dict.fromkeys(("pixel_accuracy", "dice", "iou", "background_accuracy"), 0.75)
POINT = {"step": 2, "epoch": 0.5, "train_loss": 0.6931, "train_accuracy": 0.7, **METRICS}


def shown(results: Path) -> None:
    """Of the chapter, what is made of records."""
    loaded = load(results, "smoke", "table3", "nuclei-synthetic", results)
    loaded.experiment.page.table(loaded, dataset="nuclei-synthetic")
    judgements.render(loaded)
    chapter.runs(loaded)


USES: dict[str, Callable[[Path], object]] = {
    "plan": lambda results: Progress(TRIALS, results, results).seconds_left(2),
    "run": lambda results: run(TRIALS[0], results),
    "all": lambda results: unfinished(TRIALS, results),
    "report": lambda results: summarise(load_records(results, "smoke", "table3", ("nuclei-synthetic",)), TABLE3),
    "chapter": shown,
    "search": lambda results: as_table(SOUGHT, results),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("sealed", [True, False], ids=["checksum", "older"])
def test_mutations_of_a_record(results, use, sealed):
    """With its checksum, and as records were before they had one."""
    trial = SOUGHT[0] if use == "search" else TRIALS[0]
    metrics = {f"validation_{name}": value for name, value in METRICS.items()} if use == "search" else METRICS
    good, path = finish(trial, results, metrics=metrics, curve=[POINT], fit_residual=0.25), trial.record_path(results)
    if sealed:
        with reserve(path) as place:
            place.write(good)

    def read() -> dict[str, Any]:
        USES[use](results)
        record = read_record(path)
        assert record is not None
        return record

    def same(found: dict[str, Any]) -> bool:
        return all(found.get(name) == value for name, value in good.items())

    label = f"record, {use}, {'checksum' if sealed else 'form alone'}"
    counts = attack(label, path, read, same, ResultsError, may_change=not sealed)
    assert counts["refused"] > counts.total() / 2


# Checkpoints


class Refused(Exception):
    pass


def test_mutations_of_a_checkpoint(tmp_path, capsys):
    path, model = tmp_path / "checkpoint", nn.Linear(2, 2)
    run, made_for = training.Run(3, 1.5, [POINT]), {"settings": {"steps": 9}}
    model(torch.ones(2)).sum().backward()
    optimiser = torch.optim.Adam(model.parameters())
    optimiser.step()
    training._save(path, model, optimiser, run, made_for)

    def read() -> training.Run:
        fresh = nn.Linear(2, 2)
        found = training._resume(path, fresh, torch.optim.Adam(fresh.parameters()), made_for)
        if found is None:
            raise Refused(capsys.readouterr().out)
        return found

    assert read() == run
    assert attack("checkpoint", path, read, lambda _: False, Refused).keys() == {"refused"}


# Settings and tables


Renewed = Callable[[], Experiment]


@pytest.fixture(params=[TABLE1, TABLE3], ids=lambda experiment: experiment.name)
def copied(request, monkeypatch, tmp_path) -> Iterator[tuple[Path, Renewed]]:
    """A copy of an experiment's folder, and what reads it anew."""
    home: Experiment = request.param
    folder = tmp_path / f"copied_{home.name}"
    shutil.copytree(str(home.file("")), folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(gdlayer.experiments.FOLDERS, home.name, folder.name)
    package = importlib.import_module(folder.name)

    def renewed() -> Experiment:
        experiment = dataclasses.replace(home, package=folder.name)
        monkeypatch.setattr(package, "EXPERIMENT", experiment, raising=False)
        return experiment

    yield folder, renewed
    del sys.modules[folder.name]


def settings_of(experiment: Experiment) -> list[tuple[Trial, dict[str, Any]]]:
    """Of some trials of every profile and kind, each a value that a record can hold."""
    found = []
    for profile in PROFILES:
        for name, cls in experiment.trial_types.items():
            if experiment.has(profile, name):
                trials = plan(profile, name, cls.datasets[:1])[::20]
                found += [(trial, hyperparameters(trial)) for trial in trials]
    json.dumps([settings for _, settings in found], allow_nan=False)
    return found


@pytest.mark.parametrize("file", ["choices.toml", "profiles.toml"])
def test_mutations_of_the_settings(copied, file):
    folder, renewed = copied
    good = settings_of(renewed())

    def read() -> list[tuple[Trial, dict[str, Any]]]:
        return settings_of(renewed())

    label = f"{file} of {folder.name.removeprefix('copied_')}"
    counts = attack(label, folder / file, read, lambda found: found == good, FolderError, folder, may_change=True)
    assert counts["refused"] > counts.total() / 4  # most of the file is reasons


@pytest.mark.parametrize(("file", "name"), [("paper.csv", "published"), ("claims.csv", "quotes")])
def test_mutations_of_the_papers_tables(copied, file, name):
    folder, renewed = copied
    good = getattr(renewed(), name)
    label = f"{file} of {folder.name.removeprefix('copied_')}"
    counts = attack(
        label,
        folder / file,
        lambda: getattr(renewed(), name),
        lambda found: found == good,
        FolderError,
        may_change=True,
    )
    assert counts["refused"] > counts.total() / 10  # of claims most is quotes


def test_mutations_of_the_profiles_rules(monkeypatch, tmp_path):
    path = tmp_path / "profiles.toml"
    path.write_bytes(planning.files("gdlayer.trials").joinpath(path.name).read_bytes())
    monkeypatch.setattr(planning, "files", lambda _: tmp_path)

    def read() -> list[Any]:
        rules.cache_clear()
        return [[rules(profile) for profile in PROFILES], in_order(TRIALS, "paper")]

    good = read()
    counts = attack("profiles.toml", path, read, lambda found: found == good, FolderError, may_change=True)
    assert counts["refused"] > counts.total() / 10
    rules.cache_clear()
