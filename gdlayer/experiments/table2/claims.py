"""The paper's claims of Table 2: which cells each is about, and which controls tell why it holds or fails."""

from typing import Any

from gdlayer.experiments.table2 import LAYERS
from gdlayer.experiments.table2.layers import FirstLayer
from gdlayer.experiments.table2.sources import SOURCES
from gdlayer.report import claims
from gdlayer.report.cells import Selector
from gdlayer.report.claims import UNDECIDED, Claim, Row
from gdlayer.report.judgements import ABOVE, Comparer
from gdlayer.report.loaded import Loaded

SOURCE = LAYERS["source"]


def judged(loaded: Loaded) -> list[Claim]:
    """The paper's claims of Table 2."""
    comparer = Comparer(loaded)
    free = {layer.start: layer for layer in LAYERS.values() if layer.family == "free-form"}
    ours = [layer for start in free for layer in LAYERS.values() if (layer.family, layer.start) == ("ours", start)]
    run = [name for name, source in SOURCES.items() if not source.optional or name in {*loaded.cells["source"]}]
    better, included = [], []
    for source in run:

        def cell(layer: str, part: str = "test", source: str = source) -> dict[str, Any]:
            return {"layer": layer, "source": source, "metric": f"{part}_accuracy"}

        for layer in ours:
            other = free[layer.start]
            size = _sizes(comparer.count(cell(layer.name)), comparer.count(cell(other.name)))
            for part in ("val", "test"):
                case = f"{layer.title}, {part}, {source}"
                against = {other.title: cell(other.name, part)}
                support = _same_support(comparer, layer, cell(layer.name, part), cell(other.name, part))
                better.append(comparer.row(case, cell(layer.name, part), against, *support, *size))
            told = ("a free layer gains", "a free layer loses", "undecided for a free layer")
            alone = comparer.control(cell(other.name), {other.title: cell(SOURCE.name)}, *told)
            case = f"{layer.title}, test, {source}"
            included.append(comparer.row(case, cell(layer.name), {SOURCE.title: cell(SOURCE.name)}, alone))
    for source in (source for name, source in SOURCES.items() if name not in run):
        reason = f"{claims.NOT_RUN}: not at hand here"
        absent = Row(source.title, "—", "—", UNDECIDED, reason)
        better.append(absent)
        included.append(absent)
    fairly = "A random start is held against a random start, a fitted one against the old layer trained on."
    return [
        Claim("better", f"{ABOVE} {fairly}", better),
        Claim("included", f"{ABOVE} Against the network before the change.", included),
    ]


def _same_support(comparer: Comparer, layer: FirstLayer, one: Selector, other: Selector) -> list[str]:
    """What the same layer at the support of the free filters says; nothing if it has that support itself."""
    small = next(
        row
        for row in LAYERS.values()
        if (row.family, row.start) == (layer.family, layer.start) and row.kernel_size == 3
    )
    if small is layer:
        return []
    told = ("more than its support", "less than free filters", "perhaps its support alone")
    return [f"same support: {comparer.control({**one, 'layer': small.name}, {small.title: other}, *told)}"]


def _sizes(count: int | None, other: int | None) -> list[str]:
    return [f"{count:,} parameters for {other:,}"] if count and other else []
