"""The layer types of Table 1: its six columns, then three controls that the paper lacks."""

from gdlayer.trials.experiment import LayerType

_MAKERS = "gdlayer.networks.convolutions"

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
        LayerType(name="rfnn", title="RFNN", make=f"{_MAKERS}:rfnn", colour="#E69F00", marker="s"),
        LayerType(name="dau", title="DAU", make=f"{_MAKERS}:dau", colour="#56B4E9", marker="D"),
        LayerType(name="ours", title="Ours", make=f"{_MAKERS}:ours", colour="#D55E00", marker="^"),
        LayerType(
            name="ours-few",
            title="Ours-few",
            make=f"{_MAKERS}:ours",
            options={"share_of_bases": 0.5},
            colour="#CC79A7",
            marker="v",
        ),
        LayerType(
            name="ours-separated",
            title="Ours-separated",
            make=f"{_MAKERS}:ours",
            options={"separated": True},
            colour="#009E73",
            marker=">",
        ),
        LayerType(
            name="free-form-same-support",
            title="Free-form 7×7",
            make=f"{_MAKERS}:free_form",
            in_paper=False,
            colour="#888888",
            marker="P",
        ),
        LayerType(
            name="free-form-dilated",
            title="Free-form 3×3, dilated",
            make=f"{_MAKERS}:free_form",
            options={"kernel_size": 3, "dilation": 3},
            in_paper=False,
            colour="#8C6D31",
            marker="X",
        ),
        LayerType(name="n-jet", title="N-Jet", make=f"{_MAKERS}:njet", in_paper=False, colour="#0072B2", marker="*"),
    )
}
