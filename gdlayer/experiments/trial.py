"""What is to be run: trials, and the profiles that list them. Needs no torch."""

import tomllib
from collections.abc import Callable, Iterable
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import cache
from importlib.resources import files
from itertools import product
from math import inf
from pathlib import Path
from typing import Any, ClassVar

from gdlayer.datasets import DataNotFoundError, cats_dogs, fashion_mnist, nuclei
from gdlayer.datasets.files import locate
from gdlayer.datasets.weights import VGG16_IMAGENET

PROFILES = ("smoke", "quick", "paper")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training run: a cell of a table, a data set and a seed under a profile.

    Subclasses add the fields that, with ``layer``, name a cell.

    Raises
    ------
    ValueError
        If a field is not one of the allowed values.
    """

    experiment: ClassVar[str]
    table: ClassVar[str]
    """The experiment whose settings and code it goes by: its own, but for searches and checks."""
    layers: ClassVar[tuple[str, ...]]
    datasets: ClassVar[tuple[str, ...]]
    not_in_paper: ClassVar[tuple[str, ...]] = ()
    """Data sets that the paper's numbers do not belong beside."""

    layer: str
    dataset: str
    seed: int = 0
    profile: str = "quick"

    def __post_init__(self) -> None:
        one_of("layer", self.layer, self.layers)
        one_of("dataset", self.dataset, self.datasets)
        one_of("profile", self.profile, PROFILES)
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, allowed are integers from 0 on")

    @classmethod
    def cell_fields(cls) -> tuple[str, ...]:
        """Names of the fields that, with ``layer``, name a cell."""
        return tuple(field.name for field in fields(cls) if field.name not in Trial.__dataclass_fields__)

    @property
    def cell(self) -> tuple[Any, ...]:
        """The layer and what else names the cell."""
        return (self.layer, *(getattr(self, name) for name in self.cell_fields()))

    @classmethod
    def cell_defaults(cls) -> dict[str, Any]:
        """What names a cell unless said otherwise."""
        return {f.name: f.default for f in fields(cls) if f.name in cls.cell_fields() and f.default is not MISSING}

    @property
    def short_cell(self) -> tuple[Any, ...]:
        """The cell without what is as by default."""
        told = [name for name in self.cell_fields() if getattr(self, name) != self.cell_defaults().get(name)]
        return (self.layer, *(getattr(self, name) for name in told))

    @classmethod
    def possible(cls, dataset: str, *cell: Any) -> bool:
        """Whether a column, the cell without its layer, can be run here."""
        return True

    @property
    def needs(self) -> "Trial | None":
        """The trial whose network this one goes on from."""
        return None

    @staticmethod
    def paper_cell(*cell: Any) -> tuple[str, ...]:
        """How the published numbers name a cell."""
        return tuple(map(str, cell))

    @property
    def id(self) -> str:
        prefixes = {int: "n", float: "lr"}
        parts = (f"{prefixes.get(type(part), '')}{part}" for part in self.short_cell)
        return f"{'-'.join(parts)}-s{self.seed}"

    def record_path(self, results: Path) -> Path:
        return results / self.profile / self.experiment / self.dataset / f"{self.id}.json"

    def command(self, results: Path | str) -> list[str]:
        """The plain command that makes the record, after the interpreter's name."""
        options = (f"--{name.replace('_', '-')}={value}" for name, value in asdict(self).items())
        return ["-m", "gdlayer.experiments", "run", self.experiment, *options, f"--results={results}"]

    def describe(self) -> dict[str, Any]:
        """The trial as a record holds it."""
        return {"experiment": self.experiment, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class Table1Trial(Trial):
    """A layer type, the number of training images of Fashion-MNIST, and which network: without pooling or with."""

    experiment = table = "table1"
    layers = (
        "free-form",
        "rfnn",
        "dau",
        "ours",
        "ours-few",
        "ours-separated",
        "free-form-same-support",
        "n-jet",
    )
    datasets = (fashion_mnist.FULL, fashion_mnist.SAMPLE)
    networks: ClassVar = ("unpooled", "pooled")

    n_train: int
    network: str = "unpooled"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("network", self.network, self.networks)
        size = fashion_mnist.TRAIN_SIZE[self.dataset]
        if not 1 <= self.n_train <= size:
            raise ValueError(f"n_train is {self.n_train}, allowed are 1 to {size} ({self.dataset})")

    @classmethod
    def possible(cls, dataset: str, *cell: Any) -> bool:
        """Whether the data set is large enough."""
        return cell[0] <= fashion_mnist.TRAIN_SIZE[dataset]

    @staticmethod
    def paper_cell(*cell: Any) -> tuple[str, ...]:
        """The paper does not say whether its network pools."""
        return tuple(map(str, cell[:2]))


@dataclass(frozen=True, kw_only=True)
class Table2Trial(Trial):
    """What stands first in a VGG16, and where the rest comes from; layer "source" is the network before the change."""

    experiment = table = "table2"
    layers = (
        "source",
        "free-form",
        "free-form-original",
        "ours-7x7",
        "ours-7x7-fitted",
        "ours-3x3",
        "ours-3x3-fitted",
    )
    datasets = tuple(cats_dogs.LABELS)
    sources: ClassVar = ("scratch", "imagenet")

    source: str

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("source", self.source, self.sources)

    @classmethod
    def possible(cls, dataset: str, *cell: Any) -> bool:
        """Whether the source network needs no weights, or they lie on this machine: a plan fetches no 553 MB."""
        return cell[0] != "imagenet" or locate(VGG16_IMAGENET) is not None

    @property
    def needs(self) -> "Table2Trial | None":
        return None if self.layer == "source" else replace(self, layer="source")

    @staticmethod
    def paper_cell(*cell: Any) -> tuple[str, ...]:
        """The paper has one free-form and one Gaussian layer; it tells nothing of their size or start."""
        return (next(name for name in ("source", "free-form", "ours") if cell[0].startswith(name)),)


@dataclass(frozen=True, kw_only=True)
class Table3Trial(Trial):
    """A U-net, and how the tiles are split: as in the paper by tile, or by patient or source image."""

    experiment = table = "table3"
    layers = ("unet", "gaussian-unet", "unet-bn")
    datasets = tuple(nuclei.LABELS)
    not_in_paper = (nuclei.MONUSEG,)
    splits: ClassVar = ("tile", "group")

    split: str

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("split", self.split, self.splits)


@dataclass(frozen=True, kw_only=True)
class Search(Trial):
    """A learning rate tried on training data that are held out: the test data have no say in the choice."""

    metric: ClassVar[str] = "validation_accuracy"
    """The rate with the highest mean over seeds is chosen."""

    learning_rate: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.learning_rate < inf:
            raise ValueError(f"learning_rate is {self.learning_rate}, allowed are positive numbers")


@dataclass(frozen=True, kw_only=True)
class Table1Search(Search, Table1Trial):
    """A learning rate for a layer of Table 1, tried on training images that the trial does not train on."""

    experiment = "table1-search"


@dataclass(frozen=True, kw_only=True)
class Table1FullSearch(Table1Search):
    """Second round of the search of Table 1: each layer's best rates of the first, at the full budget of steps."""

    experiment = "table1-search-full"


@dataclass(frozen=True, kw_only=True)
class Table2Search(Search, Table2Trial):
    """A learning rate for a first layer of Table 2, or for the source; goes on from the search's own source network."""

    experiment = "table2-search"

    @property
    def needs(self) -> "Table2Search | None":
        if self.layer == "source":
            return None
        return replace(self, layer="source", learning_rate=chosen_rate(replace(self, layer="source")))


@dataclass(frozen=True, kw_only=True)
class Table3Search(Search, Table3Trial):
    """A learning rate for a U-net of Table 3, tried on the tiles of whole patients among the training tiles."""

    experiment = "table3-search"
    datasets = (nuclei.TNBC, nuclei.TNBC_DERIVED, nuclei.SYNTHETIC)
    metric = "validation_pixel_accuracy"


@dataclass(frozen=True, kw_only=True)
class Table1Precision(Table1Trial):
    """A cell of Table 1 in another precision: whether rounding matters."""

    experiment = "table1-precision"
    layers = ("free-form", "ours")

    precision: str


EXPERIMENTS: dict[str, type[Trial]] = {cls.experiment: cls for cls in (Table1Trial, Table2Trial, Table3Trial)}
"""The tables."""

SEARCHES: dict[str, type[Search]] = {cls.table: cls for cls in (Table1Search, Table2Search, Table3Search)}
"""How each table's learning rates were chosen."""

TRIALS: dict[str, type[Trial]] = EXPERIMENTS | {
    cls.experiment: cls for cls in (*SEARCHES.values(), Table1FullSearch, Table1Precision)
}
"""All there is to run, by name. What is not a table has its records apart."""


@cache
def load_profile(name: str) -> dict[str, Any]:
    one_of("profile", name, PROFILES)
    return tomllib.loads(files("gdlayer.experiments").joinpath("profiles", f"{name}.toml").read_text(encoding="utf-8"))


@cache
def load_choices(experiment: str) -> dict[str, dict[str, Any]]:
    """The open choices of an experiment: {name: {"value": ..., "reason": ...}}."""
    text = files("gdlayer.experiments").joinpath("choices.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)[experiment]


def hyperparameters(trial: Trial) -> dict[str, Any]:
    """Everything that decides a trial's outcome besides the trial itself: the choices and the profile's budget.

    A setting that is a table of layers or of training set sizes counts by the trial's own. What names the cells of a
    search or a check, but not those of its table, is a setting of the table.
    """
    choices = {name: choice["value"] for name, choice in load_choices(trial.table).items()}
    budget = {
        name: value
        for name, value in _section(trial.profile, trial.experiment).items()
        if name not in ("seeds", *trial.cell_fields())
    }
    varied = {
        name: getattr(trial, name) for name in trial.cell_fields() if name not in EXPERIMENTS[trial.table].cell_fields()
    }
    return {name: _own(value, trial.cell) for name, value in (choices | budget | varied).items()}


def chosen_rate(trial: Search) -> float:
    """The learning rate that the choices have for what a search is about."""
    table = EXPERIMENTS[trial.table]
    return hyperparameters(table(**{f.name: getattr(trial, f.name) for f in fields(table)}))["learning_rate"]


def plan(profile: str, experiment: str, datasets: tuple[str, ...]) -> list[Trial]:
    """All trials of an experiment under a profile that can be run here, column by column of its table."""
    cls = TRIALS[experiment]
    settings = _section(profile, experiment)
    names = cls.cell_fields()

    def wanted(layer: str, cell: tuple[Any, ...]) -> bool:
        return all(value in _own(settings[name], (layer,)) for name, value in zip(names, cell, strict=True))

    return [
        cls(layer=layer, dataset=dataset, seed=seed, profile=profile, **dict(zip(names, cell, strict=True)))
        for dataset in datasets
        for cell in product(*(_all_values(settings[name]) for name in names))
        if cls.possible(dataset, *cell)
        for seed in range(_own(settings["seeds"], cell))
        for layer in cls.layers
        if wanted(layer, cell)
    ]


def in_order(trials: Iterable[Trial], profile: str) -> list[Trial]:
    """The trials in the profile's order: by the first of its descriptions that fits, else last."""
    order = load_profile(profile).get("order", [])

    def fits(trial: Trial, wanted: dict[str, Any]) -> bool:
        values = ((getattr(trial, name, None), value) for name, value in wanted.items())
        return all(own in value if isinstance(value, list) else own == value for own, value in values)

    return sorted(trials, key=lambda trial: next((i for i, w in enumerate(order) if fits(trial, w)), len(order)))


def choose_datasets(
    profile: str, experiment: str, on_fallback: Callable[[str], object] | None = None
) -> tuple[str, ...]:
    """The data sets that a profile runs an experiment on: what it demands, or what can be had.

    Raises
    ------
    gdlayer.datasets.DataError
        If a file is wrong, or the profile demands real data that cannot be had.
    """
    demand, cls = load_profile(profile)["data"], TRIALS[experiment]
    if demand == "embedded":
        return (_EMBEDDED[cls.table],)
    notes: list[str] = []
    chosen = _RESOLVE[cls.table](notes.append)
    found = (chosen,) if isinstance(chosen, str) else chosen
    if demand == "real" and _EMBEDDED[cls.table] in found:
        raise DataNotFoundError(f"profile {profile!r} demands real data, there is only {'; '.join(notes)}")
    if on_fallback is not None:
        for note in notes:
            on_fallback(note)
    return tuple(name for name in found if name in cls.datasets)


_EMBEDDED = {"table1": fashion_mnist.SAMPLE, "table2": cats_dogs.SYNTHETIC, "table3": nuclei.SYNTHETIC}
_RESOLVE = {"table1": fashion_mnist.resolve, "table2": cats_dogs.resolve, "table3": nuclei.resolve}


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}, allowed are {', '.join(allowed)}")


def check_fixed(settings: dict[str, Any], fixed: dict[str, Any]) -> None:
    """Raises ValueError if a choice without another option in the code says something else."""
    for name, value in fixed.items():
        if settings[name] != value:
            raise ValueError(f"{name} is {settings[name]!r}, allowed is {value!r}")


def _section(profile: str, experiment: str) -> dict[str, Any]:
    """A profile's settings for an experiment; what a search or a check does not say is as in its table."""
    sections = load_profile(profile)
    if experiment not in sections:
        raise ValueError(f"profile {profile!r} has no {experiment}")
    return sections[TRIALS[experiment].table] | sections[experiment]


def _all_values(setting: Any) -> list[Any]:
    """The values of a list, or of a table of lists by layer, each once."""
    lists = setting.values() if isinstance(setting, dict) else [setting]
    return list(dict.fromkeys(value for values in lists for value in values))


def _own(value: Any, cell: tuple[Any, ...]) -> Any:
    """A setting's value for a cell: tables are looked up by what names it."""
    if not isinstance(value, dict):
        return value
    for key in map(str, cell):
        if key in value:
            return _own(value[key], cell)
    raise ValueError(f"{' '.join(map(str, cell))}: the profile and the choices have settings for {', '.join(value)}")
