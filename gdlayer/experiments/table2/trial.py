"""The trials of experiment 2, and of the search for its learning rates."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from gdlayer._plumbing.checks import one_of
from gdlayer.datasets import cats_dogs
from gdlayer.experiments.table2.layers import LAYERS
from gdlayer.experiments.table2.sources import SOURCES
from gdlayer.trials.settings import chosen_rate
from gdlayer.trials.trial import Search, Trial


@dataclass(frozen=True, kw_only=True)
class Table2Trial(Trial):
    """What stands first in a network, and which network that is; layer "source" is the network before the change."""

    experiment = belongs_to = "table2"
    title = "Table 2"
    layers = tuple(LAYERS)
    datasets = tuple(cats_dogs.LABELS)
    copies = (cats_dogs.PACK,)
    sources: ClassVar = tuple(SOURCES)

    source: str

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("source", self.source, self.sources)

    @property
    def needs(self) -> "Table2Trial | None":
        return None if self.layer == "source" else replace(self, layer="source")

    @staticmethod
    def paper_cell(*cell: Any) -> tuple[str, ...]:
        """The paper has one layer of each family."""
        return (LAYERS[cell[0]].family,)

    @classmethod
    def network_of_paper(cls, *cell: Any) -> bool:
        return SOURCES[cell[1]].in_paper


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
