"""Table 2: cats and dogs told apart by a VGG16 whose first layer alone was trained anew."""

import pandas as pd

from gdlayer.experiments.trial import Table2Trial
from gdlayer.report.cells import grid

TITLES = {
    "source": "the network before",
    "free-form": "Free-form 3×3, random start",
    "free-form-original": "Free-form 3×3, trained on",
    "ours-7x7": "Ours 7×7, random start",
    "ours-7x7-fitted": "Ours 7×7, fitted start",
    "ours-3x3": "Ours 3×3, random start",
    "ours-3x3-fitted": "Ours 3×3, fitted start",
}
SOURCES = {"scratch": "trained here, reduced", "imagenet": "ImageNet weights"}


def render(cells: pd.DataFrame, record: pd.DataFrame | None = None) -> str:
    """HTML of the table: a row a first layer, columns validation and test by source network, never mixed."""
    shown = [source for source in Table2Trial.sources if source in set(cells["source"])]
    columns = {
        f"{split}<br><small>{SOURCES[source]}</small>": {"source": source, "metric": f"{split}_accuracy"}
        for source in shown
        for split in ("val", "test")
    }
    rows = {TITLES[layer]: {"layer": layer} for layer in Table2Trial.layers}
    return grid("table2", rows, columns, cells, record, corner="first layer")
