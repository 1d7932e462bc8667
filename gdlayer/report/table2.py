"""Table 2: cats and dogs told apart by a VGG16 whose first layer alone was trained anew."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from gdlayer.experiments.trial import Table2Trial
from gdlayer.report import markup
from gdlayer.report.cells import grid
from gdlayer.report.chapter import costs

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
    return table + markup.note("".join(f"No columns for {title}: not at hand here." for title in left_out))


def durations(cells: pd.DataFrame) -> str:
    """HTML of parameters that train and seconds a trial; see :func:`gdlayer.report.chapter.costs`."""
    sources = [source for source in Table2Trial.sources if source in {*cells["source"]}]
    rows = {TITLES[layer]: {"layer": layer} for layer in Table2Trial.layers}
    return costs(cells, rows, {SOURCES[source]: {"source": source} for source in sources})


def residuals(records: Sequence[dict[str, Any]]) -> str:
    """HTML of what a fitted start misses of the original filters, relative to them, from the least to the most."""
    found: dict[tuple[str, str], list[float]] = {}
    for record in (r for r in records if "fit_residual" in r):
        found.setdefault((record["trial"]["layer"], record["trial"]["source"]), []).append(record["fit_residual"])
    sources = [source for source in Table2Trial.sources if source in {key[1] for key in found}]
    layers = [layer for layer in Table2Trial.layers if layer in {key[0] for key in found}]
    body = {TITLES[layer]: [_span(found.get((layer, source), [])) for source in sources] for layer in layers}
    return markup.table(["first layer", *(SOURCES[source] for source in sources)], body)


def _span(values: Sequence[float]) -> str:
    return " to ".join(dict.fromkeys(f"{value:.3f}" for value in (min(values), max(values)))) if values else "—"
