"""The trials of experiment 2, and of the search for its learning rates."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from gdlayer.checks import one_of
from gdlayer.datasets import cats_dogs
from gdlayer.datasets.files import locate
from gdlayer.datasets.weights import VGG16_IMAGENET
from gdlayer.experiments.settings import chosen_rate
from gdlayer.experiments.table2.layers import LAYERS
from gdlayer.experiments.trial import Search, Trial


@dataclass(frozen=True, kw_only=True)
class Table2Trial(Trial):
    """What stands first in a VGG16, and where the rest comes from; layer "source" is the network before the change."""

    experiment = belongs_to = "table2"
    title = "Table 2"
    layers = tuple(LAYERS)
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
    def optional(self) -> bool:
        return self.source == "imagenet"

    @property
    def needs(self) -> "Table2Trial | None":
        return None if self.layer == "source" else replace(self, layer="source")

    @staticmethod
    def paper_cell(*cell: Any) -> tuple[str, ...]:
        """The paper has one layer of each family."""
        return (LAYERS[cell[0]].family,)


@dataclass(frozen=True, kw_only=True)
class Table2Search(Search, Table2Trial):
    """A learning rate for a first layer of Table 2, or for the source; goes on from the search's own source network."""

    experiment = "table2-search"
    title = "rates of Table 2"

    @property
    def needs(self) -> "Table2Search | None":
        if self.layer == "source":
            return None
        return replace(self, layer="source", learning_rate=chosen_rate(replace(self, layer="source")))
