"""What an experiment is: its trials, its layer types and, read when asked for, the files of its folder."""

import csv
import pkgutil
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib import import_module
from importlib.resources import files
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from gdlayer.checks import one_of
from gdlayer.experiments.trial import PROFILES, Search, Trial

if TYPE_CHECKING:
    from gdlayer.experiments.run import Task, Workplace


@dataclass(frozen=True, kw_only=True)
class LayerType:
    """A layer type, or a network of one, that an experiment compares: one row of its ``layers.py``.

    Parameters
    ----------
    name : as trials, records and the tables of settings have it
    title : as tables and figures have it
    make, options : "module:function" and keyword arguments of it
        What makes the layer; imported when the first is made, as it imports torch.
    in_paper : bool
        Whether the paper has it; others are controls.
    colour, marker : of its line and points in figures
    """

    name: str
    title: str
    make: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    in_paper: bool = True
    colour: str = "#555555"
    marker: str = "o"

    def maker(self) -> Callable[..., Any]:
        """The function that makes the layer, with its options."""
        return partial(pkgutil.resolve_name(self.make), **self.options)


class Quote(NamedTuple):
    """A sentence of the paper: where it stands, and the number that it gives, if any."""

    where: str
    text: str
    printed: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Experiment:
    """An experiment: what its folder says at once. The rest is read, or imported, when asked for.

    Parameters
    ----------
    package : the folder, as a package
    trial : type of its trials; the experiment has its name and title
    layers : {name: layer type}
    resolve : function
        The data sets to run on, or one of them, as far as they can be had; it tells its argument, a function of a
        line, what it takes instead of what.
    embedded : data set in the package itself, for tests and machines without another
    searches : types of trials by which its learning rates are chosen, round by round
    checks : types of further trials that go by its settings
    example : what names a cell for ``python -m gdlayer.experiments cell`` unless told
    """

    package: str
    trial: type[Trial]
    layers: Mapping[str, LayerType]
    resolve: Callable[[Callable[[str], object]], str | tuple[str, ...]]
    embedded: str
    searches: tuple[type[Search], ...] = ()
    checks: tuple[type[Trial], ...] = ()
    example: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.trial.experiment

    @property
    def title(self) -> str:
        return self.trial.title

    @property
    def trial_types(self) -> dict[str, type[Trial]]:
        """Its trials, searches and checks, by name."""
        return {cls.experiment: cls for cls in (self.trial, *self.searches, *self.checks)}

    # What settings its trials have

    @cached_property
    def choices(self) -> dict[str, dict[str, Any]]:
        """What the paper leaves open: {name: {"value": ..., "reason": ...}}."""
        return tomllib.loads(self._read("choices.toml"))

    @cached_property
    def _profiles(self) -> dict[str, dict[str, Any]]:
        return tomllib.loads(self._read("profiles.toml"))

    def has(self, profile: str, name: str) -> bool:
        """Whether a profile asks for its trials, or for those of its search or check of that name."""
        section = self._profiles.get(one_of("profile", profile, PROFILES), {})
        return bool(section) if name == self.name else name in section

    def budget(self, profile: str, name: str) -> dict[str, Any]:
        """A profile's settings for the trials of a name; what a search or a check does not say is as in the table.

        Raises
        ------
        ValueError
            If the profile does not ask for them.
        """
        if not self.has(profile, name):
            raise ValueError(f"profile {profile!r} has no {name}")
        section = self._profiles[profile]
        own = {key: value for key, value in section.items() if key not in self.trial_types}
        return own if name == self.name else own | section[name]

    # What the paper says

    @cached_property
    def published(self) -> dict[tuple[tuple[str, ...], str], float]:
        """The paper's numbers: {(cell, metric): percent}, a cell as the trials' ``paper_cell`` names it."""
        return {
            (tuple(v for k, v in row.items() if k not in ("metric", "percent")), row["metric"]): float(row["percent"])
            for row in self._rows("paper.csv")
        }

    @cached_property
    def quotes(self) -> dict[str, list[Quote]]:
        """What the paper claims: {claim: its sentences}."""
        found: dict[str, list[Quote]] = {}
        for row in self._rows("claims.csv"):
            number = float(row["printed"]) if row["printed"] else None
            found.setdefault(row["claim"], []).append(Quote(row["where"], row["quote"], number))
        return found

    def printed(self, claim: str) -> float:
        """The number that the paper gives with a claim."""
        return next(quote.printed for quote in self.quotes[claim] if quote.printed is not None)

    # What it does

    @property
    def prepare(self) -> "Callable[[Any, dict[str, Any], Workplace], Task]":
        """From a trial, its settings and its workplace to the task: imports torch."""
        return self._module("prepare").prepare

    @property
    def page(self) -> ModuleType:
        """Its tables and figures: imports pandas and matplotlib."""
        return self._module("page")

    @property
    def claims(self) -> ModuleType:
        """The paper's claims, and which cells they are about: imports pandas."""
        return self._module("claims")

    def _module(self, name: str) -> ModuleType:
        return import_module(f"{self.package}.{name}")

    def _read(self, name: str) -> str:
        return files(self.package).joinpath(name).read_text(encoding="utf-8")

    def _rows(self, name: str) -> list[dict[str, str]]:
        return list(csv.DictReader(self._read(name).splitlines()))
