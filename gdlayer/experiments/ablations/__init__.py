"""Ablations: what of the layer Ours its accuracy comes from, one property at a time."""

from gdlayer.datasets import fashion_mnist
from gdlayer.experiments.ablations.layers import LAYERS
from gdlayer.experiments.ablations.trial import AblationTrial
from gdlayer.trials.experiment import Experiment

EXPERIMENT = Experiment(
    package=__name__,
    trial=AblationTrial,
    layers=LAYERS,
    resolve=fashion_mnist.resolve,
    embedded=fashion_mnist.SAMPLE,
    example={"layer": "trains-none", "n_train": 1000},
)
