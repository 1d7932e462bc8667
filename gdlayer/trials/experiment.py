"""What an experiment is: its trials, its layer types and, read when asked for, the files of its folder."""

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property, partial
from importlib import import_module
from importlib.resources import files
from importlib.resources.abc import Traversable
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from gdlayer._plumbing.checks import one_of
from gdlayer.trials.files import Entries, finite, parse_csv, parse_toml, read_from
from gdlayer.trials.trial import PROFILES, Search, Trial

if TYPE_CHECKING:
    from gdlayer.trials.task import Task, Workplace


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
        Gives the data sets to run on, or one, as far as they can be had. It calls its argument with a line of text
        for each that it takes instead of another.
    embedded : data set in the package itself, for tests and machines without another
    settings : {name: type}
        Of its own choices; where a choice is a table, of its entries.
    searches : types of trials by which its learning rates are chosen, round by round
    checks : types of further trials that go by its settings
    example : what names a cell for ``python -m gdlayer.experiments cell`` unless told
    """

    package: str
    trial: type[Trial]
    layers: Mapping[str, LayerType]
    resolve: Callable[[Callable[[str], object]], str | tuple[str, ...]]
    embedded: str
    settings: Mapping[str, Any] = field(default_factory=dict)
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
        """What the paper leaves open: {name: {"value": ..., "reason": ...}}.

        Raises
        ------
        gdlayer.trials.files.FolderError
            If a choice is missing, or one is not what its type says.
        """
        from gdlayer.trials import schema

        path = self.file("choices.toml")
        with read_from(path):
            found = parse_toml(path)
            kinds = {**schema.CHOSEN, **self.settings}
            if missing := kinds.keys() - found.keys():
                raise ValueError(f"no {', '.join(sorted(missing))}")
            for name, choice in found.items():
                schema.check(schema.Choice, choice, name)
                schema.check_entries(kinds.get(name, schema.Free), choice["value"], name, "value")
            return found

    @cached_property
    def _profiles(self) -> dict[str, dict[str, Any]]:
        from gdlayer.trials import schema

        path = self.file("profiles.toml")
        with read_from(path):
            found = parse_toml(path)
            for profile, section in found.items():
                schema.check(dict[str, Any], section, one_of("profile", profile, PROFILES))
                own = self._table(section)
                self._check_budget(self.trial, own, profile)
                for name in section.keys() - own.keys():
                    schema.check(dict[str, Any], section[name], profile, name)
                    self._check_budget(self.trial_types[name], own | section[name], profile, name)
            return found

    def _check_budget(self, cls: type[Trial], budget: dict[str, Any], *place: str) -> None:
        """Raises ValueError if a setting is missing, unknown, or not what its type says."""
        from gdlayer.trials import schema

        values = {name: list[kind] for name, kind in self._columns(cls).items() if name != "layer"}
        needed = {**schema.BUDGET, **values}
        allowed = {
            **dict.fromkeys(self.choices, schema.Free),
            **schema.OPTIONAL,
            **schema.CHOSEN,
            **self.settings,
            **needed,
        }
        if missing := needed.keys() - budget.keys():
            raise ValueError(f"{'.'.join(place)} has no {', '.join(sorted(missing))}")
        for name, setting in budget.items():
            one_of(f"a setting of {'.'.join(place)}", name, allowed)
            schema.check_entries(allowed[name], setting, *place, name)

    def _columns(self, cls: type[Trial]) -> dict[str, Any]:
        """What names a cell: {field: type}."""
        kinds = {f.name: f.type for f in fields(cls)}
        return {name: kinds[name] for name in ("layer", *cls.cell_fields())}

    def _table(self, section: dict[str, Any]) -> dict[str, Any]:
        """What a profile's section says of the table itself."""
        return {name: value for name, value in section.items() if name == self.name or name not in self.trial_types}

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
        gdlayer.trials.files.FolderError
            If a setting is missing, unknown, or not what its type says.
        """
        if not self.has(profile, name):
            raise ValueError(f"profile {profile!r} has no {name}")
        section = self._profiles[profile]
        own = self._table(section)
        return own if name == self.name else own | section[name]

    # What the paper says

    @cached_property
    def published(self) -> dict[tuple[tuple[str, ...], str], float]:
        """The paper's numbers: {(cell, metric): percent}, a cell as the trials' ``paper_cell`` names it.

        Raises
        ------
        gdlayer.trials.files.FolderError
            If a row names no cell or has no percentage, or if a number is there twice.
        """
        from gdlayer.trials import schema

        columns = self._columns(self.trial)
        heads = [(*list(columns)[:count], "metric", "percent") for count in range(1, len(columns) + 1)]
        path = self.file("paper.csv")
        found: Entries[tuple[tuple[str, ...], str], float] = Entries(path)
        with read_from(path):
            for row in parse_csv(path, *heads):
                for name in row.keys() & columns.keys():
                    if not _is_plain(row[name], columns[name]):
                        raise ValueError(f"{name} must be a plain {columns[name].__name__}, got {row[name]!r}")
                *cell, metric, percent = row.values()
                if (key := (tuple(cell), metric)) in found:
                    raise ValueError(f"{', '.join((*cell, metric))!r} is there twice")
                found[key] = finite(percent)
                schema.check(schema.Percentage, found[key], "percent")
        return found

    @cached_property
    def quotes(self) -> dict[str, list[Quote]]:
        """What the paper claims: {claim: its sentences}.

        Raises
        ------
        gdlayer.trials.files.FolderError
            If a row lacks its claim, its place or its sentence, or if a number is none.
        """
        path = self.file("claims.csv")
        found: Entries[str, list[Quote]] = Entries(path)
        with read_from(path):
            for row in parse_csv(path, ("claim", "where", "printed", "quote")):
                for name in ("claim", "where", "quote"):
                    if not row[name]:
                        raise ValueError(f"a row has no {name}: {', '.join(row.values())!r}")
                number = finite(row["printed"]) if row["printed"] else None
                found.setdefault(row["claim"], []).append(Quote(row["where"], row["quote"], number))
        return found

    def printed(self, claim: str) -> float:
        """The number that the paper gives with a claim."""
        with read_from(self.file("claims.csv")):
            number = next((quote.printed for quote in self.quotes[claim] if quote.printed is not None), None)
            if number is None:
                raise ValueError(f"no number with claim {claim!r}")
            return number

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

    @property
    def answer(self) -> ModuleType | None:
        """Its answer, written by hand; None before there is one."""
        return self._module("answer") if self.file("answer.py").is_file() else None

    def _module(self, name: str) -> ModuleType:
        return import_module(f"{self.package}.{name}")

    def file(self, name: str) -> Traversable:
        """A file of its folder."""
        return self._folder.joinpath(name)

    @cached_property
    def _folder(self) -> Traversable:
        return files(self.package)


def _is_plain(text: str, kind: type) -> bool:
    """Whether a text is how a value of that type is written, and not empty."""
    try:
        return bool(text) and str(kind(text)) == text
    except ValueError:
        return False
