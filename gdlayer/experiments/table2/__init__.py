"""Experiment 2: the first layer of a network for cats and dogs, replaced and trained alone."""

from gdlayer.datasets import cats_dogs
from gdlayer.experiments.table2.layers import LAYERS
from gdlayer.experiments.table2.trial import Table2Search, Table2Trial
from gdlayer.trials.experiment import Experiment

EXPERIMENT = Experiment(
    package=__name__,
    trial=Table2Trial,
    layers=LAYERS,
    resolve=cats_dogs.resolve,
    embedded=cats_dogs.SYNTHETIC,
    settings={
        "widths": str | list[int],
        "hidden": int,
        "grid": int,
        "resolution": int,
        "paper_like": str,
        "order": int,
        "bases": int,
        "fit_steps": int,
    },
    searches=(Table2Search,),
    example={"layer": "ours-7x7", "source": "scratch"},
)
