"""What Lindeberg claims of scale channels, tested on Fashion-MNIST: how much accuracy a change of size costs."""

from collections.abc import Sequence

from gdlayer.experiments.scale.layers import CHANNELS, LAYERS
from gdlayer.experiments.scale.page import SIZES, TRAINED, factor, metric_at, numbers
from gdlayer.report.claims import Case, Claim, Question
from gdlayer.report.judgements import Comparer
from gdlayer.report.loaded import Loaded

CLAIMED = (min(SIZES), 20, 40, max(SIZES))
"""Sizes at the factors 1/2, 1/√2, √2 and 2, about."""


def with_changes(loaded: Loaded) -> Loaded:
    """Its records with, besides the accuracy at each size, how much higher it is than at the size of training."""

    def changed(metrics: dict[str, float]) -> dict[str, float]:
        found = [size for size in SIZES if {metric_at(size), metric_at(TRAINED)} <= metrics.keys()]
        return metrics | {change_at(size): metrics[metric_at(size)] - metrics[metric_at(TRAINED)] for size in found}

    return loaded._replace(records=[record | {"metrics": changed(record["metrics"])} for record in loaded.records])


def stated(loaded: Loaded) -> list[Claim]:
    """Whether a change of size costs scale channels less, and at what price."""
    comparer = Comparer(with_changes(loaded))
    others = [name for name in LAYERS if name != CHANNELS]

    def case(title: str, layer: str, other: str, metric: str, n: int) -> Case:
        one, another = ({"layer": name, "n_train": n, "metric": metric} for name in (layer, other))
        return comparer.case(title, one, another)

    def changes(layer: str, others: Sequence[str]) -> list[Case]:
        return [
            case(
                f"at {factor(size)} the size{f', against {LAYERS[other].title}' * (len(others) > 1)}",
                layer,
                other,
                change_at(size),
                n,
            )
            for n in numbers(loaded)
            for other in others
            for size in CLAIMED
        ]

    return [
        Claim(
            "generalises",
            "Compared is the accuracy at that size minus the accuracy at the size of training: of scale channels, and"
            " of each other network. The claim is Lindeberg's, not the paper's.",
            changes(CHANNELS, others),
            [
                *(
                    Question(
                        f"Does it cost accuracy at the size of training? Scale channels against {LAYERS[name].title}",
                        [case(f"{TRAINED} pixels", CHANNELS, name, metric_at(TRAINED), n) for n in numbers(loaded)],
                    )
                    for name in others
                ),
                Question(
                    "Does a change of size cost Ours less than free filters? Ours against Free-form 3×3",
                    changes("ours", ["free-form"]),
                ),
            ],
            of_paper=False,
        )
    ]


def change_at(size: int) -> str:
    """The name of the accuracy at a size minus that at the size of training."""
    return f"change_at_{size}"
