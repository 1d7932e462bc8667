"""The variants of Ours that the ablations compare. Each differs from "ours" in one setting of ``choices.toml``."""

from dataclasses import dataclass

from gdlayer.experiments.experiment import LayerType


@dataclass(frozen=True, kw_only=True)
class Variant(LayerType):
    """A variant; its settings stand in ``choices.toml`` under its name.

    Parameters
    ----------
    axis : the property that it varies
    value : of that property, as figures have it
    """

    axis: str
    value: str


AXES = {
    "trainable": ("What trains", "σ, μ, θ"),
    "order": ("Highest derivative order K", "3"),
    "bases": ("Bases per layer", "f_out / 2"),
    "kernel_size": ("Kernel size", "7"),
    "combination": ("Combination", "full"),
    "geometry": ("Geometry of a basis", "one per kernel"),
    "initialisation": ("Initialisation", "variance preserving"),
}
"""Title of each property, and its value in the layer of Table 1."""

_VARIANTS = {
    "trainable": {"trains-none": "nothing", "trains-sigma": "σ", "trains-mu": "μ", "trains-theta": "θ"},
    "order": {"order-1": "1", "order-2": "2", "order-4": "4"},
    "bases": {"bases-1": "1", "bases-eighth": "f_out / 8", "bases-quarter": "f_out / 4", "bases-all": "f_out"},
    "kernel_size": {"size-3": "3", "size-5": "5", "size-9": "9", "size-11": "11"},
    "combination": {"separated": "separated", "narrow": "full, as few parameters"},
    "geometry": {"shared": "one per basis"},
    "initialisation": {"authors": "the authors'"},
}

LAYERS = {
    row.name: row
    for row in (
        Variant(name="ours", title="Ours", axis="", value=""),
        *(
            Variant(name=name, title=f"{AXES[axis][0]}: {value}", in_paper=False, axis=axis, value=value)
            for axis, variants in _VARIANTS.items()
            for name, value in variants.items()
        ),
    )
}
