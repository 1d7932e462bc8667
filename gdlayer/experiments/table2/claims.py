"""The paper's claims of Table 2: which cells each is about, and which controls tell why it holds or fails."""

from typing import Any

from gdlayer.experiments.table2 import LAYERS
from gdlayer.experiments.table2.layers import FirstLayer
from gdlayer.experiments.table2.sources import SOURCES
from gdlayer.report.claims import Claim, Question
from gdlayer.report.judgements import ABOVE, Comparer
from gdlayer.report.loaded import Loaded

SOURCE = LAYERS["source"]


def judged(loaded: Loaded) -> list[Claim]:
    """The paper's claims of Table 2."""
    comparer = Comparer(loaded)
    free = {layer.start: layer for layer in LAYERS.values() if layer.family == "free-form"}
    ours = [
        layer
        for start in ("original", "random")
        for layer in LAYERS.values()
        if (layer.family, layer.start) == ("ours", start)
    ]
    pairs = (loaded.cells[["layer", "source"]], loaded.plan[["layer", "source"]])
    run = {(layer, source) for frame in pairs for layer, source in frame.itertuples(index=False)}
    better, included = [], []
    for source, row in SOURCES.items():
        unfit = "" if row.pretrained else "the network before was not trained on ImageNet"

        def cell(layer: str, part: str = "test", source: str = source) -> dict[str, Any]:
            return {"layer": layer, "source": source, "metric": f"{part}_accuracy"}

        for layer in (layer for layer in ours if (layer.name, source) in run):
            other = free[layer.start]
            size = _sizes(comparer.count(cell(layer.name)), comparer.count(cell(other.name)))
            for part in ("val", "test"):
                case = f"{layer.title}, {part}, {source}"
                against = {other.title: cell(other.name, part)}
                controls = [*size]
                if (small := _small(layer)) is not layer and (small.name, source) in run:
                    told = ("more than its support", "less than free filters", "perhaps its support alone")
                    same = comparer.control(cell(small.name, part), {small.title: cell(other.name, part)}, *told)
                    controls.insert(0, f"same support: {same}")
                better.append(comparer.row(case, cell(layer.name, part), against, *controls, unfit=unfit))
            told = ("a free layer gains", "a free layer loses", "no clear difference for a free layer")
            alone = comparer.control(cell(other.name), {other.title: cell(SOURCE.name)}, *told)
            case = f"{layer.title}, test, {source}"
            before = {SOURCE.title: cell(SOURCE.name)}
            included.append(comparer.row(case, cell(layer.name), before, alone, unfit=unfit))

    def question(text: str, *pairs: tuple[str, str]) -> Question:
        """One first layer against another on the test images, with each source that has both and can answer."""
        return Question(
            text,
            [
                comparer.row(
                    f"{LAYERS[one].title}, {source}",
                    {"layer": one, "source": source, "metric": "test_accuracy"},
                    {LAYERS[other].title: {"layer": other, "source": source, "metric": "test_accuracy"}},
                )
                for source, row in SOURCES.items()
                if row.pretrained
                for one, other in pairs
                if {(one, source), (other, source)} <= run
            ],
        )

    fairly = "A random start is held against a random start, a fitted one against the old layer trained on."
    questions = [
        question(
            "Does the first layer matter? The old filters trained on against the head trained on",
            ("free-form-original", "head-on"),
        ),
        question(
            "Is it the input? A gain and a bias per channel against the network before",
            ("gain-bias", SOURCE.name),
        ),
        question("Is it the geometry? Trained against fixed after the fit", ("ours-7x7-fitted", "ours-7x7-fixed")),
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
        question(
            "Is it more than the support? Against free filters of 7×7 that start from the old ones",
            ("ours-7x7-fitted", "free-form-7x7"),
        ),
    ]
    return [
        Claim("better", f"{ABOVE} {fairly}", better, [question for question in questions if question.cases]),
        Claim("included", f"{ABOVE} Against the network before the change.", included),
    ]


def _small(layer: FirstLayer) -> FirstLayer:
    """The same layer at the support of the free filters."""
    return next(
        row
        for row in LAYERS.values()
        if (row.family, row.start) == (layer.family, layer.start) and row.kernel_size == 3
    )


def _sizes(count: int | None, other: int | None) -> list[str]:
    return [f"{count:,} parameters for {other:,}"] if count and other else []
