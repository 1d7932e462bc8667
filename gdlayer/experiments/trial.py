"""What is to be run: trials, and the profiles that list them. Needs no torch."""

import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from importlib.resources import files
from itertools import product
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
        parts = (f"n{part}" if isinstance(part, int) else part for part in self.cell)
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
    """A layer type, and the number of training images of Fashion-MNIST."""

    experiment = "table1"
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

    n_train: int

    def __post_init__(self) -> None:
        super().__post_init__()
        size = fashion_mnist.TRAIN_SIZE[self.dataset]
        if not 1 <= self.n_train <= size:
            raise ValueError(f"n_train is {self.n_train}, allowed are 1 to {size} ({self.dataset})")

    @classmethod
    def possible(cls, dataset: str, *cell: Any) -> bool:
        """Whether the data set is large enough."""
        return cell[0] <= fashion_mnist.TRAIN_SIZE[dataset]


@dataclass(frozen=True, kw_only=True)
class Table2Trial(Trial):
    """What stands first in a VGG16, and where the rest comes from; layer "source" is the network before the change."""

    experiment = "table2"
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

    experiment = "table3"
    layers = ("unet", "gaussian-unet", "unet-bn")
    datasets = tuple(nuclei.LABELS)
    not_in_paper = (nuclei.MONUSEG,)
    splits: ClassVar = ("tile", "group")

    split: str

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("split", self.split, self.splits)


EXPERIMENTS: dict[str, type[Trial]] = {cls.experiment: cls for cls in (Table1Trial, Table2Trial, Table3Trial)}


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

    A setting that is a table of layers or of training set sizes counts by the trial's own.
    """
    choices = {name: choice["value"] for name, choice in load_choices(trial.experiment).items()}
    budget = {
        name: value
        for name, value in load_profile(trial.profile)[trial.experiment].items()
        if name not in ("seeds", *trial.cell_fields())
    }
    return {name: _own(value, trial) for name, value in (choices | budget).items()}


def plan(profile: str, experiment: str, datasets: tuple[str, ...]) -> list[Trial]:
    """All trials of an experiment under a profile that can be run here, column by column of its table."""
    cls = EXPERIMENTS[experiment]
    settings = load_profile(profile)[experiment]
    names = cls.cell_fields()
    seeds = settings["seeds"]
    return [
        cls(layer=layer, dataset=dataset, seed=seed, profile=profile, **dict(zip(names, cell, strict=True)))
        for dataset in datasets
        for cell in product(*(settings[name] for name in names))
        if cls.possible(dataset, *cell)
        for seed in range(seeds if isinstance(seeds, int) else seeds[str(cell[0])])
        for layer in cls.layers
    ]


def choose_datasets(
    profile: str, experiment: str, on_fallback: Callable[[str], object] | None = None
) -> tuple[str, ...]:
    """The data sets that a profile runs an experiment on: what it demands, or what can be had.

    Raises
    ------
    gdlayer.datasets.DataError
        If a file is wrong, or the profile demands real data that cannot be had.
    """
    demand = load_profile(profile)["data"]
    if demand == "embedded":
        return (_EMBEDDED[experiment],)
    notes: list[str] = []
    chosen = _RESOLVE[experiment](notes.append)
    found = (chosen,) if isinstance(chosen, str) else chosen
    if demand == "real" and _EMBEDDED[experiment] in found:
        raise DataNotFoundError(f"profile {profile!r} demands real data, there is only {'; '.join(notes)}")
    if on_fallback is not None:
        for note in notes:
            on_fallback(note)
    return found


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


def _own(value: Any, trial: Trial) -> Any:
    """A setting's value for a trial: tables are looked up by what names its cell."""
    if not isinstance(value, dict):
        return value
    for key in map(str, trial.cell):
        if key in value:
            return _own(value[key], trial)
    raise ValueError(f"{trial.id}: the profile and the choices have settings for {', '.join(value)}")
