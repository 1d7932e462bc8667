"""Table 2: cats and dogs told apart by a network whose first layer alone was trained anew."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from gdlayer.experiments.table2 import EXPERIMENT, LAYERS
from gdlayer.experiments.table2.sources import SOURCES
from gdlayer.report import markup
from gdlayer.report.cells import Selector
from gdlayer.report.chapter import costs
from gdlayer.report.grid import Panel, grid
from gdlayer.report.loaded import Loaded

QUESTION = "Is it better than free filters as the first layer of a trained network?"
_ROWS = {layer.title: {"layer": layer.name} for layer in LAYERS.values()}


def table(loaded: Loaded) -> Markup:
    """HTML of the table: a row per first layer, columns validation and test by source network, never mixed.

    A source has its columns if there are records of it, or trials still to be run.
    """
    columns: dict[str, Selector] = {
        markup.lines(split, markup.small(SOURCES[source].title)): {"source": source, "metric": f"{split}_accuracy"}
        for source in _sources(loaded)
        for split in ("val", "test")
    }
    return grid(loaded, _ROWS, columns, corner="first layer")


def panels(loaded: Loaded) -> list[Panel]:
    """The table of each source network."""
    columns = {part: {"metric": f"{part}_accuracy"} for part in ("val", "test")}
    return [
        Panel(
            f"{EXPERIMENT.title}, {SOURCES[source].title}",
            {title: {**row, "source": source} for title, row in _ROWS.items()},
            columns,
        )
        for source in _sources(loaded)
    ]


def durations(loaded: Loaded) -> Markup:
    """HTML of parameters that train and seconds per trial; see :func:`gdlayer.report.chapter.costs`."""
    sources = [source for source in SOURCES if source in {*loaded.cells["source"]}]
    return costs(loaded.cells, _ROWS, {SOURCES[source].title: {"source": source} for source in sources})


def residuals(records: Sequence[dict[str, Any]]) -> Markup:
    """HTML of what a fitted start misses of the original filters, relative to them, from the least to the most."""
    found: dict[tuple[str, str], list[float]] = {}
    for record in (r for r in records if "fit_residual" in r):
        found.setdefault((record["trial"]["layer"], record["trial"]["source"]), []).append(record["fit_residual"])
    sources = [source for source in SOURCES if source in {key[1] for key in found}]
    layers = [layer for layer in LAYERS.values() if layer.name in {key[0] for key in found}]
    body = {layer.title: [_span(found.get((layer.name, source), [])) for source in sources] for layer in layers}
    return markup.table(["first layer", *(SOURCES[source].title for source in sources)], body)


def _sources(loaded: Loaded) -> list[str]:
    """Those that are planned or have records."""
    return [source for source in SOURCES if source in {*loaded.cells["source"], *loaded.plan["source"]}]


def _span(values: Sequence[float]) -> str:
    return " to ".join(dict.fromkeys(f"{value:.3f}" for value in (min(values), max(values)))) if values else "—"
