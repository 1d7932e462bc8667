"""From the choices and budgets of an experiment to the settings of a trial. Needs no torch."""

from dataclasses import fields
from typing import Any

from gdlayer.experiments import experiments
from gdlayer.experiments.folder import read_from
from gdlayer.experiments.trial import Search, Trial


def hyperparameters(trial: Trial) -> dict[str, Any]:
    """Everything that decides a trial's outcome besides the trial itself: the choices and the profile's budget.

    Where a setting is a table, by layer for instance, the trial's own entry counts. A field of a search or a check
    that its table's trials do not have, such as the learning rate that is tried, takes the place of the setting.

    Raises
    ------
    ValueError
        If the profile does not ask for such trials.
    gdlayer.experiments.folder.FolderError
        If a file of the experiment's folder is not as it must be, or has no entry for the trial.
    """
    home = experiments()[trial.belongs_to]
    choices = {name: choice["value"] for name, choice in home.choices.items()}
    names = trial.cell_fields()
    budget = {
        name: value
        for name, value in home.budget(trial.profile, trial.experiment).items()
        if name not in ("seeds", *names)
    }
    varied = {name: getattr(trial, name) for name in names if name not in home.trial.cell_fields()}
    order = choices | budget | varied
    for name in budget:
        choices.pop(name, None)
    with read_from(home.file("choices.toml")):
        found = {name: entry_of(value, trial.cell) for name, value in choices.items()}
    with read_from(home.file("profiles.toml")):
        found |= {name: entry_of(value, trial.cell) for name, value in (budget | varied).items()}
    return {name: found[name] for name in order}


def chosen_rate(trial: Search) -> float:
    """The learning rate that the choices have for what a search is about."""
    table = experiments()[trial.belongs_to].trial
    return hyperparameters(table(**{f.name: getattr(trial, f.name) for f in fields(table)}))["learning_rate"]


def check_fixed(settings: dict[str, Any], fixed: dict[str, Any]) -> None:
    """Raises ValueError if a choice for which the code has no other option says something else."""
    for name, value in fixed.items():
        if settings[name] != value:
            raise ValueError(f"{name} must be {value!r}, got {settings[name]!r}")


def entry_of(value: Any, cell: tuple[Any, ...]) -> Any:
    """A setting's value for a cell: tables are looked up by what names it, and then by "otherwise".

    Raises
    ------
    ValueError
        If a table has no entry for the cell.
    """
    if not isinstance(value, dict):
        return value
    for key in (*map(str, cell), "otherwise"):
        if key in value:
            return entry_of(value[key], cell)
    raise ValueError(f"{' '.join(map(str, cell))}: the profile and the choices have settings for {', '.join(value)}")
