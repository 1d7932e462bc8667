"""The answer of the ablations, written by hand."""

from gdlayer.experiments.ablations.layers import QUESTIONS
from gdlayer.experiments.ablations.page import METRIC, sizes
from gdlayer.report.answers import Numbers, Sentence, all_of, between, minus, points
from gdlayer.report.claims import ABOVE, EQUAL, UNDECIDED, Case
from gdlayer.report.loaded import Loaded


def sentences(loaded: Loaded) -> list[Sentence]:
    """Claim, finding, what matters instead."""
    record = Numbers(loaded, METRIC)

    def loss(variant: str, reference: str = "ours") -> list[Case]:
        return record.across(reference, variant, n_train=sizes(loaded))

    def points_lost(variant: str) -> str:
        return between(map(minus, loss(variant)), points)

    fixed, shared = loss("trains-none"), loss("shared")
    partly = [case for variant in QUESTIONS["trainable"].variants[1:] for case in loss(variant)]
    order_1, size_3, authors = loss("order-1"), loss("size-3"), loss("authors")
    largest = record.across("size-11", "ours", n_train=sizes(loaded))
    return [
        Sentence("By the paper's title, what its layer has over earlier ones is that scale, shift and angle train."),
        Sentence(
            f"Training them is worth {points_lost('trains-none')} points over kernels that keep their starting shapes,"
            f" and training one of the three alone is at most {points(max(map(minus, partly)))} points behind.",
            all_of(fixed, ABOVE) and max(map(minus, partly)) < max(map(minus, fixed)),
        ),
        Sentence(
            "The order and the size of the kernels matter more: with first derivatives alone accuracy falls by"
            f" {points_lost('order-1')} points, with 3×3 kernels by {points_lost('size-3')}; 11×11 instead of 7×7 adds"
            f" {between(map(minus, largest), points)}.",
            all_of([*order_1, *size_3], ABOVE)
            and min(map(minus, order_1)) > max(map(minus, fixed))
            and min(map(minus, largest)) > 0,
        ),
        Sentence(
            "One geometry per basis, as section 2 of the paper defines it, instead of one per kernel costs"
            f" {points_lost('shared')} points, clear at 1,000 images alone; the separated combination costs"
            f" {points_lost('separated')}, which is what a full network of as few parameters loses too.",
            all_of(shared[:1], ABOVE)
            and all_of(shared[1:], UNDECIDED, EQUAL)
            and all_of(loss("separated"), ABOVE)
            and all_of(loss("separated", "narrow"), UNDECIDED, EQUAL),
        ),
        Sentence(
            f"The authors' initialisation loses {points(minus(authors[0]))} points at 1,000 images, none at 5,000.",
            all_of(authors[:1], ABOVE) and all_of(authors[1:], EQUAL),
        ),
    ]
