"""The trials of the experiment on scale generalisation, and of the search for its learning rates."""

from dataclasses import dataclass

from gdlayer.experiments.scale.layers import LAYERS
from gdlayer.experiments.table1.trial import FashionMnistTrial
from gdlayer.trials.trial import Search


@dataclass(frozen=True, kw_only=True)
class ScaleTrial(FashionMnistTrial):
    """A network, and the number of training images of Fashion-MNIST, which all have one size."""

    experiment = belongs_to = "scale"
    title = "Scale generalisation"
    layers = tuple(LAYERS)


@dataclass(frozen=True, kw_only=True)
class ScaleSearch(Search, ScaleTrial):
    """A learning rate, tried on other training images of the same size: no image of another size has a say."""

    experiment = "scale-search"
    title = "rates of Scale generalisation"
