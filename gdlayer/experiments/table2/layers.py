"""What can stand first in the network of Table 2."""

from dataclasses import dataclass
from typing import Any

from gdlayer.trials.experiment import LayerType

_MAKERS = "gdlayer.experiments.table2.prepare"


@dataclass(frozen=True, kw_only=True)
class FirstLayer(LayerType):
    """A first layer; ``make(old, settings, row)`` gives it for the place of ``old``.

    Without ``make`` the old one stays, and what trains is the head.

    Parameters
    ----------
    family : "source", the network before the change; "free-form" or "ours"; "control"
        The paper has one of each of the first three and tells nothing of their size or start.
    kernel_size : int
    start : "random" or "original"
        From new random numbers, or from the filters that were there: kept, or fitted to them.
    """

    family: str
    kernel_size: int = 3
    start: str = "random"


def _control(name: str, title: str, make: str = "", **fields: Any) -> FirstLayer:
    maker = f"{_MAKERS}:{make}" if make else ""
    return FirstLayer(name=name, title=title, make=maker, family="control", start="original", in_paper=False, **fields)


LAYERS = {
    row.name: row
    for row in (
        FirstLayer(name="source", title="the network before", family="source", start="original"),
        FirstLayer(
            name="free-form",
            title="Free-form 3×3, random start",
            make=f"{_MAKERS}:free_first_layer",
            family="free-form",
        ),
        FirstLayer(
            name="free-form-original",
            title="Free-form 3×3, trained on",
            make=f"{_MAKERS}:free_first_layer",
            family="free-form",
            start="original",
        ),
        FirstLayer(
            name="ours-7x7",
            title="Ours 7×7, random start",
            make=f"{_MAKERS}:gaussian_first_layer",
            family="ours",
            kernel_size=7,
        ),
        FirstLayer(
            name="ours-7x7-fitted",
            title="Ours 7×7, fitted start",
            make=f"{_MAKERS}:gaussian_first_layer",
            family="ours",
            kernel_size=7,
            start="original",
        ),
        FirstLayer(
            name="ours-3x3", title="Ours 3×3, random start", make=f"{_MAKERS}:gaussian_first_layer", family="ours"
        ),
        FirstLayer(
            name="ours-3x3-fitted",
            title="Ours 3×3, fitted start",
            make=f"{_MAKERS}:gaussian_first_layer",
            family="ours",
            start="original",
        ),
        _control("head-on", "the head trained on"),
        _control("gain-bias", "gain and bias per channel", "gain_and_bias"),
        _control("free-form-7x7", "Free-form 7×7, from the old 3×3", "free_first_layer", kernel_size=7),
        _control(
            "ours-7x7-fixed",
            "Ours 7×7, fitted, geometry fixed",
            "gaussian_first_layer",
            options={"train_geometry": False},
            kernel_size=7,
        ),
    )
}
