"""The trials of experiment 1, of the searches for its learning rates, and of the checks of precision and budget."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from gdlayer._plumbing.checks import one_of
from gdlayer.datasets import fashion_mnist
from gdlayer.experiments.table1.layers import LAYERS
from gdlayer.trials.trial import Search, Trial


@dataclass(frozen=True, kw_only=True)
class FashionMnistTrial(Trial):
    """A trial on some of the training images of Fashion-MNIST."""

    datasets = (fashion_mnist.FULL, fashion_mnist.SAMPLE)

    n_train: int

    def __post_init__(self) -> None:
        super().__post_init__()
        size = fashion_mnist.TRAIN_SIZE[self.dataset]
        if not 1 <= self.n_train <= size:
            raise ValueError(f"n_train must be from 1 to {size} ({self.dataset}), got {self.n_train}")

    @classmethod
    def possible(cls, dataset: str, *cell: Any) -> bool:
        """Whether the data set is large enough."""
        return cell[0] <= fashion_mnist.TRAIN_SIZE[dataset]


@dataclass(frozen=True, kw_only=True)
class Table1Trial(FashionMnistTrial):
    """A layer type, the number of training images of Fashion-MNIST, and which network.

    "unpooled" and "pooled" have no batch normalisation, as the paper says; "batch-norm" is the unpooled one with it.
    """

    experiment = belongs_to = "table1"
    title = "Table 1"
    layers = tuple(LAYERS)
    as_published: ClassVar = ("unpooled", "pooled")
    networks: ClassVar = (*as_published, "batch-norm")

    network: str = "unpooled"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("network", self.network, self.networks)

    @staticmethod
    def paper_cell(*cell: Any) -> tuple[str, ...]:
        """The paper does not say whether its network pools; it has no batch normalisation."""
        return tuple(map(str, cell[:2])) if cell[2] in Table1Trial.as_published else ()

    @staticmethod
    def trials_in_paper(cell: Mapping[str, Any]) -> int:
        """Three for the two smallest sizes."""
        return 3 if cell["n_train"] <= 5000 else 1


@dataclass(frozen=True, kw_only=True)
class Table1Search(Search, Table1Trial):
    """A learning rate for a layer of Table 1, tried on training images that the trial does not train on."""

    experiment = "table1-search"
    title = "rates of Table 1"


@dataclass(frozen=True, kw_only=True)
class Table1FullSearch(Table1Search):
    """Second round of the search of Table 1: each layer's best rates of the first, at the full budget of steps."""

    experiment = "table1-search-full"
    title = "rates of Table 1, full budget"


@dataclass(frozen=True, kw_only=True)
class Table1Precision(Table1Trial):
    """A cell of Table 1 in another precision: whether rounding matters."""

    experiment = "table1-precision"
    title = "precision, Table 1"
    layers = ("free-form", "ours")

    precision: str


@dataclass(frozen=True, kw_only=True)
class Table1EqualSteps(Table1Trial):
    """A cell of Table 1 trained for as many steps as any other size, so for more epochs the fewer the images."""

    experiment = "table1-equal-steps"
    title = "Table 1, equal steps"
