"""What a profile asks for: which trials, on which data, in which order. Needs no torch."""

from collections.abc import Callable, Iterable
from functools import cache
from importlib.resources import files
from itertools import product
from typing import Any

from gdlayer._plumbing.checks import one_of
from gdlayer.datasets import DataNotFoundError
from gdlayer.trials.files import parse_toml, read_from
from gdlayer.trials.registry import experiments, trial_types
from gdlayer.trials.settings import entry_of, find_entry
from gdlayer.trials.trial import PROFILES, Trial

DEMANDS = ("embedded", "real or embedded", "real")
"""What a profile can say of its data."""


@cache
def rules(profile: str) -> dict[str, Any]:
    """What holds for all experiments: ``data``, and optionally ``order``.

    Raises
    ------
    ValueError
        If there is no such profile.
    gdlayer.trials.files.FolderError
        If a profile is missing, or not what :class:`gdlayer.trials.schema.Rules` says.
    """
    from gdlayer.trials.schema import Rules, check

    one_of("profile", profile, PROFILES)
    path = files("gdlayer.trials").joinpath("profiles.toml")
    with read_from(path):
        found = parse_toml(path)
        check(dict[str, Rules], found)
        for name in PROFILES:
            if name not in found:
                raise ValueError(f"no {name}")
            one_of("data", found[name]["data"], DEMANDS)
        return found[profile]


def asked_by(profile: str) -> dict[str, type[Trial]]:
    """The types of trials that a profile asks for, by name."""
    found = experiments()
    return {name: cls for name, cls in trial_types().items() if found[cls.belongs_to].has(profile, name)}


def plan(profile: str, name: str, datasets: Iterable[str]) -> list[Trial]:
    """All trials of a name under a profile that can be run here, column by column of the table.

    A layer has the trials for which the profile has a learning rate: a new one has none until its rate is chosen.

    Raises
    ------
    ValueError
        If the profile does not ask for them.
    gdlayer.trials.files.FolderError
        If a file of the experiment's folder is not as it must be, or has a cell that cannot be.
    """
    cls = trial_types()[name]
    home = experiments()[cls.belongs_to]
    settings = home.budget(profile, name)
    names = cls.cell_fields()
    rates = settings.get("learning_rate", home.choices["learning_rate"]["value"])

    def wanted(layer: str, cell: tuple[Any, ...], seed: int) -> bool:
        if find_entry(rates, (layer, *cell)) is None:
            return False
        own = (entry_of(name, settings[name], (layer, *cell)) for name in names)
        fits = all(value in values for value, values in zip(cell, own, strict=True))
        return fits and seed < entry_of("seeds", settings["seeds"], (layer, *cell))

    with read_from(home.file("profiles.toml")):
        return [
            cls(layer=layer, dataset=dataset, seed=seed, profile=profile, **dict(zip(names, cell, strict=True)))
            for dataset in datasets
            for cell in product(*(_all_values(settings[name]) for name in names))
            if cls.possible(dataset, *cell)
            for seed in range(_largest(settings["seeds"]))
            for layer in cls.layers
            if wanted(layer, cell, seed)
        ]


def in_order(trials: Iterable[Trial], profile: str) -> list[Trial]:
    """The trials in the profile's order: by the first of its descriptions that fits, else last."""
    order = rules(profile).get("order", [])

    def fits(trial: Trial, wanted: dict[str, Any]) -> bool:
        values = ((getattr(trial, name, None), value) for name, value in wanted.items())
        return all(own in value if isinstance(value, list) else own == value for own, value in values)

    return sorted(trials, key=lambda trial: next((i for i, w in enumerate(order) if fits(trial, w)), len(order)))


def choose_datasets(profile: str, name: str, on_fallback: Callable[[str], object] | None = None) -> tuple[str, ...]:
    """The data sets on which a profile has the trials of a name run: what it demands, or what can be had.

    Raises
    ------
    gdlayer.datasets.DataError
        If a file is wrong, or the profile demands real data that cannot be had.
    """
    demand, cls = rules(profile)["data"], trial_types()[name]
    home = experiments()[cls.belongs_to]
    if demand == "embedded":
        return (home.embedded,)
    notes: list[str] = []
    chosen = home.resolve(notes.append)
    found = (chosen,) if isinstance(chosen, str) else chosen
    if demand == "real" and home.embedded in found:
        raise DataNotFoundError(f"profile {profile!r} demands real data, there is only {'; '.join(notes)}")
    if on_fallback is not None:
        for note in notes:
            on_fallback(note)
    return tuple(name for name in found if name in cls.datasets)


def _all_values(setting: Any) -> list[Any]:
    """The values of a list, or of all lists in a table, each once."""
    lists = map(_all_values, setting.values()) if isinstance(setting, dict) else [setting]
    return list(dict.fromkeys(value for values in lists for value in values))


def _largest(setting: Any) -> int:
    """The largest number in a table."""
    return max(map(_largest, setting.values())) if isinstance(setting, dict) else setting
