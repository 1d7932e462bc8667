"""The trials of experiment 3, and of the search for its learning rates."""

from dataclasses import dataclass
from typing import ClassVar

from gdlayer._plumbing.checks import one_of
from gdlayer.datasets import nuclei
from gdlayer.experiments.table3.layers import LAYERS
from gdlayer.trials.trial import Search, Trial


@dataclass(frozen=True, kw_only=True)
class Table3Trial(Trial):
    """A U-net, and how the tiles are split: as in the paper by tile, or by patient or source image."""

    experiment = belongs_to = "table3"
    title = "Table 3"
    layers = tuple(LAYERS)
    datasets = tuple(nuclei.LABELS)
    not_in_paper = (nuclei.MONUSEG,)
    copies = (nuclei.TNBC_DERIVED,)
    folds = True
    splits: ClassVar = ("tile", "group")

    split: str

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("split", self.split, self.splits)


@dataclass(frozen=True, kw_only=True)
class Table3Search(Search, Table3Trial):
    """A learning rate for a U-net of Table 3, tried on the spare images of a data set: no table tests their patients.

    The folds are of the spare patients: seed s trains without the tiles of fold s, and is measured on them.
    """

    experiment = "table3-search"
    title = "rates of Table 3"
    datasets = tuple(nuclei.SPARE_LABELS)
    splits = ("group",)
    metric = "validation_pixel_accuracy"


@dataclass(frozen=True, kw_only=True)
class Table3FullSearch(Table3Search):
    """Second round of the search of Table 3: each net's best rates of the first, at the full budget of steps."""

    experiment = "table3-search-full"
    title = "rates of Table 3, full budget"
