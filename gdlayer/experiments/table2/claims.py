"""The paper's claims of Table 2: which cells each is about, and which controls tell why it holds or fails."""

from typing import Any

import numpy as np

from gdlayer.experiments.table2 import LAYERS
from gdlayer.experiments.table2.sources import SOURCES
from gdlayer.report.cells import select
from gdlayer.report.claims import Claim, Question
from gdlayer.report.judgements import Comparer
from gdlayer.report.loaded import Loaded

SOURCE = LAYERS["source"]
FAILED = 10
"""Percentage points below the network before, from which on a layer counts as not trained."""


def stated(loaded: Loaded) -> list[Claim]:
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

    def cell(layer: str, source: str) -> dict[str, Any]:
        return {"layer": layer, "source": source, "metric": "test_accuracy"}

    def mean(layer: str, source: str) -> float:
        return float(np.mean(select(comparer.trials, cell(layer, source))["value"].tolist() or [np.nan]))

    better, included = [], []
    for source, row in SOURCES.items():
        untrained = "" if row.pretrained else "the network before was not trained on ImageNet"
        for layer in (layer for layer in ours if (layer.name, source) in run):
            other = free[layer.start]
            size = _sizes(*(comparer.count(cell(name, source)) for name in (layer.name, other.name)))
            failed = all(mean(name, source) < mean(SOURCE.name, source) - FAILED for name in (layer.name, other.name))
            unfit = untrained or (f"both end more than {FAILED} points below the network before" if failed else "")
            title = f"{layer.title}, {source}"
            better.append(comparer.case(title, cell(layer.name, source), cell(other.name, source), *size, unfit=unfit))
            alone = comparer.control(cell(other.name, source), cell(SOURCE.name, source))
            included.append(
                comparer.case(
                    title,
                    cell(layer.name, source),
                    cell(SOURCE.name, source),
                    f"{other.title} against {alone}",
                    unfit=untrained,
                )
            )

    def question(text: str, *pairs: tuple[str, str]) -> Question:
        """One first layer against another on the test images, with each source that has both and can answer."""
        return Question(
            text,
            [
                comparer.case(f"{LAYERS[one].title}, {source}", cell(one, source), cell(other, source))
                for source, row in SOURCES.items()
                if row.pretrained
                for one, other in pairs
                if {(one, source), (other, source)} <= run
            ],
        )

    fairly = (
        "A random start is held against a random start, a fitted one against the old layer trained on. Test images."
    )
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
        Claim("better", fairly, better, [question for question in questions if question.cases]),
        Claim("included", "Against the network before the change. Test images.", included),
    ]


def _sizes(count: int | None, other: int | None) -> list[str]:
    return [f"{count:,} parameters for {other:,}"] if count and other else []
