"""The networks whose first layer Table 2 replaces."""

from dataclasses import dataclass

from gdlayer.datasets.files import locate
from gdlayer.datasets.weights import VGG16_IMAGENET

_PREPARE = "gdlayer.experiments.table2.prepare"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A network before the change.

    Parameters
    ----------
    name : as trials, records and the tables of settings have it
    title : as tables and figures have it
    network : "module:function"
        Of the settings: the network with random weights.
    pretrained : "module:function", optional
        The network with published weights and a new last layer, which alone is trained; else all of it is.
    pixels : "module:function"
        Makes the module that stands between uint8 images and the network.
    in_paper : bool
        Whether it is the paper's.
    optional : bool
        Whether it needs what only some machines have: what is planned of it says nothing of a record.
    """

    name: str
    title: str
    network: str
    pretrained: str = ""
    pixels: str = f"{_PREPARE}:standardised"
    in_paper: bool = False
    optional: bool = False

    def at_hand(self) -> bool:
        """Whether what it needs lies on this machine: a plan fetches no 553 MB."""
        return not self.optional or locate(VGG16_IMAGENET) is not None


SOURCES = {
    row.name: row
    for row in (
        Source(
            name="squeezenet",
            title="SqueezeNet, ImageNet weights",
            network=f"{_PREPARE}:squeezenet",
            pretrained="gdlayer.networks.squeezenet:imagenet_squeezenet",
            pixels="gdlayer.networks.squeezenet:BlueGreenRed",
        ),
        Source(name="scratch", title="small VGG16, trained here", network=f"{_PREPARE}:sized_vgg16"),
        Source(
            name="imagenet",
            title="VGG16, ImageNet weights",
            network=f"{_PREPARE}:sized_vgg16",
            pretrained="gdlayer.networks.vgg16:imagenet_vgg16",
            in_paper=True,
            optional=True,
        ),
    )
}
