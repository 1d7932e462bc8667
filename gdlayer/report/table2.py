"""Table 2: cats and dogs told apart by a VGG16 whose first layer alone was trained anew."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

import pandas as pd

from gdlayer.experiments.trial import Table2Trial
from gdlayer.report.cells import grid
from gdlayer.report.markup import note
from gdlayer.report.markup import table as table_of

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


def render(cells: pd.DataFrame, record: pd.DataFrame | None = None, plan: pd.DataFrame | None = None) -> str:
    """HTML of the table: a row a first layer, columns validation and test by source network, never mixed.

    A source has its columns if there are records of it, or trials still to be run.
    """
    asked = {*cells["source"], *(() if plan is None else plan["source"])}
    shown = [source for source in Table2Trial.sources if source in asked]
    columns = {
        f"{split}<br><small>{SOURCES[source]}</small>": {"source": source, "metric": f"{split}_accuracy"}
        for source in shown
        for split in ("val", "test")
    }
    rows = {TITLES[layer]: {"layer": layer} for layer in Table2Trial.layers}
    table = grid("table2", rows, columns, cells, record, plan, corner="first layer")
    left_out = [SOURCES[source] for source in Table2Trial.sources if source not in asked]
    return table + note("".join(f"No columns for {title}: not at hand here." for title in left_out))


def first_layers(records: Sequence[dict[str, Any]]) -> str:
    """HTML: parameters that train by first layer and source, and what a fitted start misses of the old filters."""
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in records:
        rows.setdefault((record["trial"]["source"], record["trial"]["layer"]), []).append(record)
    order = [(source, layer) for source in Table2Trial.sources for layer in Table2Trial.layers]
    body = []
    for source, layer in (key for key in order if key in rows):
        found = rows[source, layer]
        residuals = [r["fit_residual"] for r in found if "fit_residual" in r]
        counts = sorted({r["parameters"] for r in found})
        body.append(
            [
                TITLES[layer],
                SOURCES[source],
                " or ".join(f"{count:,}" for count in counts),
                f"{mean(residuals):.3f}" if residuals else "",
                f"{mean(r['seconds'] for r in found):,.0f}",
            ]
        )
    return table_of(["first layer", "source", "parameters", "residual", "seconds"], body) + note(
        "Parameters that train; relative residual of the fit and seconds a trial, means over seeds."
    )
