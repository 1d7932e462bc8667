"""The records behind the numbers: a place per cell, which every number of a results table leads to."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from gdlayer.report import markup
from gdlayer.report.cells import DEVICES
from gdlayer.report.loaded import Loaded
from gdlayer.trials.experiment import Experiment
from gdlayer.trials.registry import trial_of
from gdlayer.trials.trial import Trial

PAGE = "records.html"
VERSIONS = ("torch", "numpy", "python", "gdlayer")


def place(trial: Trial) -> str:
    """The name of a cell's place on the page: that of its trials without seed and profile."""
    return f"{trial.experiment}-{trial.dataset}-{trial.cell_id}"


def link_to(experiment: Experiment, cell: Any, text: str) -> Markup:
    """The text as a link to the records of a cell, a row of what :func:`gdlayer.report.cells.summarise` gives."""
    cls = experiment.trial
    names = ("layer", *cls.cell_fields(), "dataset")
    return markup.link(text, f"{PAGE}#{place(cls(**{name: getattr(cell, name) for name in names}))}")


def render(tables: Mapping[str, Loaded]) -> Markup:
    """HTML of every record: links to the experiments, then each with its cells.

    A cell has the command that runs it again, and a row per record: seed, metrics in percent, seconds, commit, machine
    and versions.

    Parameters
    ----------
    tables : {experiment: as :func:`gdlayer.report.loaded.load` gives it}
    """
    links = [markup.link(loaded.experiment.title, f"#records-{name}") for name, loaded in tables.items()]
    sections = [
        markup.heading(loaded.experiment.title, f"records-{name}") + _table(loaded) for name, loaded in tables.items()
    ]
    return Markup("\n").join([markup.paragraph(markup.items(*links)), *sections])


def _table(loaded: Loaded) -> Markup:
    cells: dict[Trial, list[dict[str, Any]]] = {}
    for record in sorted(loaded.records, key=lambda record: _order(trial_of(record["trial"]))):
        cells.setdefault(trial_of(record["trial"] | {"seed": 0}), []).append(record)
    if not cells:
        return markup.paragraph("No trial has been run yet.")
    rows: list[Sequence[str]] = []
    for trial, records in cells.items():
        rows.append([_head(loaded, trial)])
        rows += map(_row, records)
    return markup.table(["", "percent", "seconds", "commit", "machine", "versions"], rows, "results records")


def _order(trial: Trial) -> tuple[Any, ...]:
    """By data set, what names the cell, layer as in the tables, and seed."""
    fields = (getattr(trial, name) for name in trial.cell_fields())
    return trial.dataset, *fields, trial.layers.index(trial.layer), trial.seed


def _head(loaded: Loaded, trial: Trial) -> Markup:
    fields = (f"{name.replace('_', ' ')} {getattr(trial, name)}" for name in trial.cell_fields())
    title = ", ".join((loaded.experiment.layers[trial.layer].title, *fields, trial.dataset))
    return markup.place(place(trial), title) + markup.command("python", *trial.cell_command())


def _row(record: dict[str, Any]) -> list[str]:
    machine, git = record["machine"], record["git"]
    threads = f"{machine['threads']} thread{'s' * (machine['threads'] != 1)}"
    return [
        f"seed {record['trial']['seed']}",
        markup.lines(*(f"{name.replace('_', ' ')} {100 * value:.2f}" for name, value in record["metrics"].items())),
        f"{record['seconds']:,.0f}",
        str(git["commit"])[:10] + " with changes" * bool(git["dirty"]),
        f"{DEVICES.get(machine['device'], machine['device'])}: {machine['name']}, {threads}, "
        f"{record['hyperparameters']['precision']}",
        ", ".join(f"{name} {record['versions'][name]}" for name in VERSIONS),
    ]
