"""The networks that are tested on images of other sizes."""

from gdlayer.trials.experiment import LayerType

_MAKERS = "gdlayer.networks.convolutions"

CHANNELS = "scale-channels"
"""The network of scale channels; the others are one convolution after another of their layer."""

LAYERS = {
    row.name: row
    for row in (
        LayerType(
            name="free-form",
            title="Free-form 3×3",
            make=f"{_MAKERS}:free_form",
            options={"kernel_size": 3},
            colour="#000000",
            marker="o",
        ),
        LayerType(name="n-jet", title="N-Jet", make=f"{_MAKERS}:njet", in_paper=False, colour="#0072B2", marker="*"),
        LayerType(name="ours", title="Ours", make=f"{_MAKERS}:ours", colour="#D55E00", marker="^"),
        LayerType(
            name=CHANNELS,
            title="Scale channels",
            make="gdlayer.related:ScaleChannelNetwork",
            in_paper=False,
            colour="#009E73",
            marker="s",
        ),
    )
}
