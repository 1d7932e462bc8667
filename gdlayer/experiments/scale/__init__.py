"""Scale generalisation, beyond the paper: networks trained on images of one size, tested on others."""

from gdlayer.datasets import fashion_mnist
from gdlayer.experiments.scale.layers import LAYERS
from gdlayer.experiments.scale.trial import ScaleSearch, ScaleTrial
from gdlayer.trials.experiment import Experiment

EXPERIMENT = Experiment(
    package=__name__,
    trial=ScaleTrial,
    layers=LAYERS,
    resolve=fashion_mnist.resolve,
    embedded=fashion_mnist.SAMPLE,
    settings={
        "sizes": list[int],
        "canvas": int,
        "widths": list[int],
        "bases": list[int],
        "kernel_size": int,
        "norm": str,
        "global_pooling": str,
        "initialisation": str,
        "sigma_min": float,
        "scales": list[float],
        "first_sigma": float,
        "sigma_ratio": float,
    },
    searches=(ScaleSearch,),
    example={"layer": "scale-channels", "n_train": 5000},
)
