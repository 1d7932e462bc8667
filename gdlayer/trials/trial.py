"""What is true of every trial. Needs no torch."""

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from gdlayer._plumbing.checks import integer, one_of, positive_number

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
    """The name that its records go by."""
    belongs_to: ClassVar[str]
    """The experiment whose settings and code it goes by: itself, but for searches and checks."""
    title: ClassVar[str]
    layers: ClassVar[tuple[str, ...]]
    datasets: ClassVar[tuple[str, ...]]
    not_in_paper: ClassVar[tuple[str, ...]] = ()
    """Data sets that the paper's numbers do not belong beside."""
    copies: ClassVar[tuple[str, ...]] = ()
    """Data sets that are the paper's with less detail or fewer images."""
    folds: ClassVar[bool] = False
    """Whether seeds draw test images from the same set, so that training sets overlap."""
    prefixes: ClassVar[Mapping[str, str]] = {"n_train": "n", "learning_rate": "lr"}
    """What stands in an id before the values of a field."""

    layer: str
    dataset: str
    seed: int = 0
    profile: str = "quick"

    def __post_init__(self) -> None:
        one_of("layer", self.layer, self.layers)
        one_of("dataset", self.dataset, self.datasets)
        one_of("profile", self.profile, PROFILES)
        integer("seed", self.seed, 0)

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
        """The fields of a cell that have a default, with it."""
        return {f.name: f.default for f in fields(cls) if f.name in cls.cell_fields() and f.default is not MISSING}

    def short_fields(self) -> dict[str, Any]:
        """The cell's fields without those that are at their default."""
        defaults = self.cell_defaults()
        return {name: getattr(self, name) for name in self.cell_fields() if getattr(self, name) != defaults.get(name)}

    @property
    def short_cell(self) -> tuple[Any, ...]:
        """The layer and :meth:`short_fields`."""
        return (self.layer, *self.short_fields().values())

    @classmethod
    def possible(cls, dataset: str, *cell: Any) -> bool:
        """Whether a cell can be run on a data set; ``cell`` comes without its layer, as all layers share the answer."""
        return True

    @property
    def needs(self) -> "Trial | None":
        """The trial whose network this one goes on from."""
        return None

    @staticmethod
    def paper_cell(*cell: Any) -> tuple[str, ...]:
        """How the published numbers name a cell."""
        return tuple(map(str, cell))

    @classmethod
    def network_of_paper(cls, *cell: Any) -> bool:
        """Whether the paper's number of a cell was measured on the same network."""
        return True

    @staticmethod
    def trials_in_paper(cell: Mapping[str, Any]) -> int:
        """Of how many trials the paper's number of a cell is the mean."""
        return 1

    @property
    def cell_id(self) -> str:
        parts = (f"{self.prefixes.get(name, '')}{value}" for name, value in self.short_fields().items())
        return "-".join((self.layer, *parts))

    @property
    def id(self) -> str:
        return f"{self.cell_id}-s{self.seed}"

    def record_path(self, results: Path) -> Path:
        return results / self.profile / self.experiment / self.dataset / f"{self.id}.json"

    def command(self, results: Path | str) -> list[str]:
        """The plain command that makes the record, after the interpreter's name."""
        return ["-m", "gdlayer.experiments", "run", self.experiment, *_options(asdict(self)), f"--results={results}"]

    def cell_command(self) -> list[str]:
        """The plain command that runs every seed of the trial's cell again, after the interpreter's name."""
        named = {name: value for name, value in asdict(self).items() if name != "seed"}
        return ["-m", "gdlayer.experiments", "cell", self.experiment, *_options(named)]

    def describe(self) -> dict[str, Any]:
        """The trial as a record holds it."""
        return {"experiment": self.experiment, **asdict(self)}


def _options(fields: Mapping[str, Any]) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in fields.items()]


@dataclass(frozen=True, kw_only=True)
class Search(Trial):
    """A learning rate tried on training data that are held out: the test data have no say in the choice.

    How much is held out is its setting ``validation``, which other trials do not have, or the experiment's own rule.
    """

    metric: ClassVar[str] = "validation_accuracy"
    """The rate with the highest mean over seeds is chosen."""

    learning_rate: float

    def __post_init__(self) -> None:
        super().__post_init__()
        positive_number("learning_rate", self.learning_rate)
