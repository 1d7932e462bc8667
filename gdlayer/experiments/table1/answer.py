"""The answer to Table 1, written by hand."""

from gdlayer.experiments.table1.page import MAIN, SIZES
from gdlayer.report.answers import Numbers, Sentence, all_of, between, count, minus, points
from gdlayer.report.claims import ABOVE, BELOW, EQUAL, UNDECIDED
from gdlayer.report.judgements import averaged
from gdlayer.report.loaded import Loaded


def sentences(loaded: Loaded) -> list[Sentence]:
    """Claim, finding, reasons."""
    record = Numbers(loaded, "test_accuracy")

    def across(one: str, other: str, sizes: tuple[int, ...] = SIZES, network: str = MAIN) -> list:
        return record.across(one, other, n_train=sizes, network=[network])

    printed = [record.paper("ours", n_train=n) - record.paper("free-form", n_train=n) for n in SIZES]
    free = across("ours", "free-form")
    rfnn, dau = (across("ours", other) for other in ("rfnn", "dau"))
    rfnn_mean, dau_mean = averaged("", rfnn), averaged("", dau)
    clear = count([*free, *rfnn, *dau], ABOVE) - len(free)
    support, basis = across("ours", "free-form-same-support"), across("rfnn", "free-form-same-support", SIZES[:3])
    first, *later = across("ours", "n-jet")
    pooled = across("ours", "free-form", SIZES[:3], "pooled")
    normalised, wide = (across("ours", x, SIZES[:2], "batch-norm") for x in ("free-form", "free-form-same-support"))
    return [
        Sentence(
            "The paper reports that its layer is more accurate than free-form 3×3 filters at every size of the training"
            f" set, by {between(printed, points)} points, and competitive with the structured layers RFNN and DAU.",
            min(printed) > 0,
        ),
        Sentence(
            f"We find the same against free-form filters, by {between(map(minus, free), points)} points, most at 1,000"
            f" images; averaged over the five sizes it is {points(minus(rfnn_mean))} points above RFNN and"
            f" {points(minus(dau_mean))} above DAU, which is clear at {clear} of {len(rfnn + dau)} single sizes alone.",
            all_of(free, ABOVE) and all_of([rfnn_mean, dau_mean], ABOVE) and max(free, key=minus) is free[0],
        ),
        Sentence(
            "The larger support is not the reason: free-form 7×7 filters stay"
            f" {between(map(minus, support), points)} points below the layer, and up to 10,000 images below the fixed"
            " basis of RFNN too; a basis of smooth filters helps, most of all with few images.",
            all_of(support, ABOVE) and all_of(basis, ABOVE),
        ),
        Sentence(
            "Training every kernel's shape is not what decides: N-Jet, with one trained scale per layer, is"
            f" {points(-minus(first))} points more accurate at 1,000 images and not clearly different at other sizes.",
            all_of([first], BELOW) and all_of(later, UNDECIDED, EQUAL),
        ),
        Sentence(
            "The lead depends on how the network trains. The paper's batch normalisation normalises nothing; with one"
            f" that does, the lead is {between(map(minus, normalised), points)} points over 3×3 filters and"
            f" {between(map(minus, wide), points)} over 7×7; with pooling it is gone ({between(map(minus, pooled))}).",
            all_of([*normalised, *wide], ABOVE) and all_of(pooled, BELOW, UNDECIDED),
        ),
    ]
