"""The paper's claims that the ablations test."""

from typing import Any

from gdlayer.experiments.ablations.layers import LAYERS, QUESTIONS
from gdlayer.experiments.ablations.page import sizes
from gdlayer.report.claims import Case, Claim
from gdlayer.report.judgements import ABOVE, ABOVE_ALL, Comparer
from gdlayer.report.loaded import Loaded


def judged(loaded: Loaded) -> list[Claim]:
    """The paper's claims of what training the geometry and separating the combination are good for."""
    comparer = Comparer(loaded)

    def rows(case: str, layer: str, others: dict[str, str]) -> list[Case]:
        def cell(name: str, n: int) -> dict[str, Any]:
            return {"layer": name, "n_train": n, "metric": "test_accuracy"}

        return [
            comparer.row(
                f"{case}, {n:,} images", cell(layer, n), {title: cell(name, n) for name, title in others.items()}
            )
            for n in sizes(loaded)
        ]

    values = QUESTIONS["trainable"].values
    none, *alone = QUESTIONS["trainable"].variants
    return [
        Claim(
            "fully-trained",
            f"{ABOVE_ALL} The same layer with {values['ours']} against it with less trained.",
            [
                *rows(f"against {values[none]}", "ours", {none: values[none]}),
                *rows("against each alone", "ours", {name: values[name] for name in alone}),
            ],
        ),
        Claim(
            "separated",
            f"{ABOVE} Against a full network of as many parameters.",
            rows("narrower network", "separated", {"narrow": LAYERS["narrow"].title}),
        ),
    ]
