"""The paper's claims that the ablations test."""

from collections.abc import Mapping
from typing import Any

from gdlayer.experiments.ablations.layers import LAYERS, QUESTIONS
from gdlayer.experiments.ablations.page import METRIC, sizes
from gdlayer.report.claims import Case, Claim
from gdlayer.report.judgements import Comparer
from gdlayer.report.loaded import Loaded


def stated(loaded: Loaded) -> list[Claim]:
    """The paper's claims of what training the geometry and separating the combination are good for."""
    comparer = Comparer(loaded)

    def cases(layer: str, others: Mapping[str, str]) -> list[Case]:
        def cell(name: str, n: int) -> dict[str, Any]:
            return {"layer": name, "n_train": n, "metric": METRIC}

        return [
            comparer.case(f"against {title}, {n:,} images", cell(layer, n), cell(name, n), against=title)
            for name, title in others.items()
            for n in sizes(loaded)
        ]

    trained = QUESTIONS["trainable"]
    return [
        Claim(
            "fully-trained",
            f"The same layer with {trained.values['ours']} against it with less trained.",
            cases("ours", {name: trained.values[name] for name in trained.variants}),
        ),
        Claim(
            "separated",
            "Against a full network of as many parameters.",
            cases("separated", {"narrow": LAYERS["narrow"].title}),
        ),
    ]
