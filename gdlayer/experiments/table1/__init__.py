"""Experiment 1: layers compared on Fashion-MNIST with training sets of five sizes."""

from gdlayer.datasets import fashion_mnist
from gdlayer.experiments.table1.layers import LAYERS
from gdlayer.experiments.table1.trial import (
    Table1EqualSteps,
    Table1FullSearch,
    Table1Precision,
    Table1Search,
    Table1Trial,
)
from gdlayer.trials.experiment import Experiment

EXPERIMENT = Experiment(
    package=__name__,
    trial=Table1Trial,
    layers=LAYERS,
    resolve=fashion_mnist.resolve,
    embedded=fashion_mnist.SAMPLE,
    settings={
        "widths": list[int],
        "bases": list[int],
        "kernel_size": int,
        "pooled": bool,
        "norm": str,
        "activation": str,
        "initialisation": str,
        "sigma_min": float,
        "optimiser": str,
        "input": str,
        "subset": str,
    },
    searches=(Table1Search, Table1FullSearch),
    checks=(Table1Precision, Table1EqualSteps),
    example={"layer": "ours", "n_train": 5000},
)
