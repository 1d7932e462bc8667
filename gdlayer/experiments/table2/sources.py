"""The networks whose first layer Table 2 replaces."""

from dataclasses import dataclass

_PREPARE = "gdlayer.experiments.table2.prepare"
_RIGHT, _UNIT = f"{_PREPARE}:vgg16_pixels", f"{_PREPARE}:unit_pixels"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A network before the change.

    Parameters
    ----------
    name : as trials, records and the tables of settings have it
    title : as tables and figures have it
    network : "module:function"
        Of the settings: the network before it is trained here, with published weights if it is pretrained.
    pretrained : bool
        Whether it has published weights under a new head, which alone is trained; else all of it is.
    pixels : "module:function"
        Makes the module that stands between uint8 images and the network.
    cached : bool
        Whether the head trains on features that are computed once. All that goes on from it then trains on the
        pictures and their mirror images; beside the record lie the head's weights alone.
    in_paper : bool
        Whether it is the paper's.
    """

    name: str
    title: str
    network: str
    pretrained: bool = True
    pixels: str = f"{_PREPARE}:standardised"
    cached: bool = False
    in_paper: bool = False


def _vgg16(name: str, title: str, pixels: str) -> Source:
    return Source(
        name=name, title=title, network=f"{_PREPARE}:adapted_vgg16", pixels=pixels, cached=True, in_paper=True
    )


SOURCES = {
    row.name: row
    for row in (
        Source(
            name="squeezenet",
            title="SqueezeNet, ImageNet weights",
            network=f"{_PREPARE}:squeezenet",
            pixels="gdlayer.networks.squeezenet:BlueGreenRed",
        ),
        Source(name="scratch", title="small VGG16, trained here", network=f"{_PREPARE}:sized_vgg16", pretrained=False),
        _vgg16("vgg16-flatten", "VGG16, hidden layer", _RIGHT),
        _vgg16("vgg16-average", "VGG16, average pooling", _RIGHT),
        _vgg16("vgg16-255-flatten", "VGG16, x/255, hidden layer", _UNIT),
        _vgg16("vgg16-255-average", "VGG16, x/255, average pooling", _UNIT),
    )
}
