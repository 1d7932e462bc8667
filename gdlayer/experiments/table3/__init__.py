"""Experiment 3: nuclei segmented by a classical and a Gaussian derivative U-net."""

from gdlayer.datasets import nuclei
from gdlayer.experiments.table3.layers import LAYERS
from gdlayer.experiments.table3.trial import Table3FullSearch, Table3Search, Table3Trial
from gdlayer.trials.experiment import Experiment

EXPERIMENT = Experiment(
    package=__name__,
    trial=Table3Trial,
    layers=LAYERS,
    resolve=nuclei.resolve,
    embedded=nuclei.SYNTHETIC,
    settings={
        "kernel_size": int,
        "tile_size": int,
        "architecture": str,
    },
    searches=(Table3Search, Table3FullSearch),
    example={"layer": "gaussian-unet", "split": "tile"},
)
