"""From the choices and budgets of an experiment to the settings of a trial. Needs no torch."""

from typing import Any

from gdlayer.trials.files import read_from
from gdlayer.trials.registry import experiments
from gdlayer.trials.trial import Search, Trial


def hyperparameters(trial: Trial) -> dict[str, Any]:
    """Everything that decides a trial's outcome besides the trial itself: the choices and the profile's budget.

    Where a setting is a table, by layer for instance, the trial's own entry counts. A field of a search or a check
    that its table's trials do not have, such as the learning rate that is tried, takes the place of the setting.

    Raises
    ------
    ValueError
        If the profile does not ask for such trials.
    gdlayer.trials.files.FolderError
        If a file of the experiment's folder is not as it must be, or has no entry for the trial.
    """
    home = experiments()[trial.belongs_to]
    choices = {name: choice["value"] for name, choice in home.choices.items() if choice.get("setting", True)}
    names = trial.cell_fields()
    budget = {
        name: value
        for name, value in home.budget(trial.profile, trial.experiment).items()
        if name not in ("seeds", *names)
    }
    budget |= {name: getattr(trial, name) for name in names if name not in home.trial.cell_fields()}
    found = {}
    for name, value in (choices | budget).items():
        with read_from(home.file("profiles.toml" if name in budget else "choices.toml")):
            found[name] = entry_of(name, value, trial.cell)
    return found


def chosen_rate(trial: Search) -> float | None:
    """The learning rate that the settings have for what a search is about; None if it has none yet."""
    home = experiments()[trial.belongs_to]
    rates = home.budget(trial.profile, home.name).get("learning_rate", home.choices["learning_rate"]["value"])
    return find_entry(rates, (trial.layer, *(getattr(trial, name) for name in home.trial.cell_fields())))


def check_fixed(settings: dict[str, Any], fixed: dict[str, Any]) -> None:
    """Raises ValueError if a choice for which the code has no other option says something else."""
    for name, value in fixed.items():
        if settings[name] != value:
            raise ValueError(f"{name} must be {value!r}, got {settings[name]!r}")


def find_entry(value: Any, cell: tuple[Any, ...]) -> Any:
    """A setting's value for a cell, see :func:`entry_of`; None if a table has no entry for it."""
    try:
        return entry_of("", value, cell)
    except ValueError:
        return None


def entry_of(name: str, value: Any, cell: tuple[Any, ...]) -> Any:
    """The value for a cell of the setting ``name``: tables are looked up by what names it, and then by "otherwise".

    Raises
    ------
    ValueError
        If a table has no entry for the cell.
    """
    if not isinstance(value, dict):
        return value
    for key in (*map(str, cell), "otherwise"):
        if key in value:
            return entry_of(f"{name}.{key}", value[key], cell)
    raise ValueError(f"{name} has no entry for {' '.join(map(str, cell))}, only for {', '.join(value)}")
