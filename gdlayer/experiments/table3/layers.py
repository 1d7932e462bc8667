"""The networks of Table 3: its two columns, then controls.

One tells the layer from the batch normalisation, one from the number of parameters.
"""

from gdlayer.trials.experiment import LayerType

_UNET = "gdlayer.networks.unet:UNet"

LAYERS = {
    row.name: row
    for row in (
        LayerType(name="unet", title="U-net", make=_UNET, options={"convolution": "free-form", "norm": "beta"}),
        LayerType(
            name="gaussian-unet",
            title="Gaussian U-net",
            make=_UNET,
            options={"convolution": "gaussian", "norm": "batch"},
        ),
        LayerType(
            name="unet-bn",
            title="U-net with BN (control)",
            make=_UNET,
            options={"convolution": "free-form", "norm": "batch"},
            in_paper=False,
        ),
        LayerType(
            name="unet-small",
            title="U-net, small",
            make=_UNET,
            options={"convolution": "free-form", "norm": "batch", "widths": (4, 8, 16)},
            in_paper=False,
        ),
    )
}
