"""The paper's claims of Table 2: which cells each is about, and which controls tell why it holds or fails."""

from typing import Any

from gdlayer.experiments.table2 import LAYERS
from gdlayer.experiments.table2.layers import FirstLayer
from gdlayer.experiments.table2.sources import SOURCES
from gdlayer.report.cells import Selector
from gdlayer.report.claims import UNTESTABLE, Claim, Question, Row
from gdlayer.report.judgements import ABOVE, Comparer
from gdlayer.report.loaded import Loaded

SOURCE = LAYERS["source"]
SATURATED = 0.999
"""Share of its training pictures that a network gets right when they have nothing more to tell."""


def judged(loaded: Loaded) -> list[Claim]:
    """The paper's claims of Table 2."""
    comparer = Comparer(loaded)
    free = {layer.start: layer for layer in LAYERS.values() if layer.family == "free-form"}
    ours = [layer for start in free for layer in LAYERS.values() if (layer.family, layer.start) == ("ours", start)]
    run = [name for name, source in SOURCES.items() if not source.optional or name in {*loaded.cells["source"]}]
    better, included = [], []
    for source in run:
        unfit = _unfit(loaded, source)

        def cell(layer: str, part: str = "test", source: str = source) -> dict[str, Any]:
            return {"layer": layer, "source": source, "metric": f"{part}_accuracy"}

        for layer in ours:
            other = free[layer.start]
            size = _sizes(comparer.count(cell(layer.name)), comparer.count(cell(other.name)))
            for part in ("val", "test"):
                case = f"{layer.title}, {part}, {source}"
                against = {other.title: cell(other.name, part)}
                support = _same_support(comparer, layer, cell(layer.name, part), cell(other.name, part))
                better.append(comparer.row(case, cell(layer.name, part), against, *support, *size, unfit=unfit))
            told = ("a free layer gains", "a free layer loses", "no clear difference for a free layer")
            alone = comparer.control(cell(other.name), {other.title: cell(SOURCE.name)}, *told)
            case = f"{layer.title}, test, {source}"
            before = {SOURCE.title: cell(SOURCE.name)}
            included.append(comparer.row(case, cell(layer.name), before, alone, unfit=unfit))
    for source in (source for name, source in SOURCES.items() if name not in run):
        absent = Row(source.title, "—", "—", UNTESTABLE, "its ImageNet weights are not at hand here")
        better.append(absent)
        included.append(absent)

    def question(text: str, *pairs: tuple[str, str]) -> Question:
        """One first layer against another on the test images, with each source that can answer."""
        return Question(
            text,
            [
                comparer.row(
                    f"{LAYERS[one].title}, {source}",
                    {"layer": one, "source": source, "metric": "test_accuracy"},
                    {LAYERS[other].title: {"layer": other, "source": source, "metric": "test_accuracy"}},
                )
                for source in run
                if not _unfit(loaded, source)
                for one, other in pairs
            ],
        )

    fairly = "A random start is held against a random start, a fitted one against the old layer trained on."
    return [
        Claim(
            "better",
            f"{ABOVE} {fairly}",
            better,
            [
                question(
                    "Does the start decide? The start from the old filters against the random one",
                    ("free-form-original", "free-form"),
                    ("ours-7x7-fitted", "ours-7x7"),
                    ("ours-3x3-fitted", "ours-3x3"),
                ),
                question(
                    "Is it the support? 7×7 against 3×3",
                    ("ours-7x7", "ours-3x3"),
                    ("ours-7x7-fitted", "ours-3x3-fitted"),
                ),
            ],
        ),
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


def _unfit(loaded: Loaded, source: str) -> str:
    """Why a source network cannot answer: the paper's was trained on ImageNet, not on these pictures; "" if it can."""
    if SOURCES[source].pretrained:
        return ""
    last = [
        record["curve"][-1].get("train_accuracy")
        for record in loaded.records
        if (record["trial"]["layer"], record["trial"]["source"]) == (SOURCE.name, source)
    ]
    if last and None not in last and min(last) > SATURATED:
        return f"the network before knows {100 * min(last):.1f} % of its training pictures: nothing is left to learn"
    return "the network before was not trained on ImageNet"


def _sizes(count: int | None, other: int | None) -> list[str]:
    return [f"{count:,} parameters for {other:,}"] if count and other else []
