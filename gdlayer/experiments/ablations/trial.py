"""The trials of the ablations."""

from dataclasses import dataclass

from gdlayer.experiments.ablations.layers import LAYERS
from gdlayer.experiments.table1.trial import FashionMnistTrial


@dataclass(frozen=True, kw_only=True)
class AblationTrial(FashionMnistTrial):
    """A variant of the layer Ours of Table 1, and the number of training images of Fashion-MNIST."""

    experiment = belongs_to = "ablations"
    title = "Ablations"
    layers = tuple(LAYERS)
