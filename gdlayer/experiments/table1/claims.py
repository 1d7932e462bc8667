"""The paper's claims of Table 1: which cells each is about, and which controls tell why it holds or fails."""

from collections.abc import Sequence
from typing import Any

from gdlayer.experiments.table1 import EXPERIMENT, LAYERS
from gdlayer.experiments.table1.page import MAIN, SIZES
from gdlayer.experiments.table1.trial import Table1Trial
from gdlayer.report import claims
from gdlayer.report.cells import select
from gdlayer.report.claims import (
    BY_CONSTRUCTION,
    EQUAL_OR_ABOVE,
    FAILS,
    HOLDS,
    NOT_BELOW,
    TOO_FEW,
    Case,
    Claim,
    Question,
    counted,
    decide_count,
)
from gdlayer.report.judgements import Comparer, averaged
from gdlayer.report.loaded import Loaded

PAPER_LAYERS = tuple(name for name, layer in LAYERS.items() if layer.in_paper)
PROPOSED = ("ours", "ours-few", "ours-separated")
OTHERS = tuple(layer for layer in PAPER_LAYERS if layer not in PROPOSED)
PREVIOUS = ("rfnn", "dau")
"""What the paper calls previous work."""
NORMALISED = "batch-norm"


def stated(loaded: Loaded) -> list[Claim]:
    """The paper's claims of Table 1."""
    comparer = Comparer(loaded)
    titles = {name: layer.title for name, layer in LAYERS.items()}

    def cell(layer: str, n: int, network: str = MAIN) -> dict[str, Any]:
        return {"layer": layer, "n_train": n, "network": network, "metric": "test_accuracy"}

    def cases(layers: Sequence[str], others: Sequence[str]) -> list[Case]:
        """Each layer against each other, at each number of images."""

        def pooled(layer: str, other: str, n: int) -> str:
            return f"pooled: {comparer.control(cell(layer, n, 'pooled'), cell(other, n, 'pooled'))}"

        return [
            comparer.case(
                f"{titles[layer]} − {titles[other]}, {n:,} images",
                cell(layer, n),
                cell(other, n),
                pooled(layer, other, n),
            )
            for layer in layers
            for other in others
            for n in SIZES
        ]

    def question(text: str, layer: str, other: str, network: str = MAIN) -> Question:
        """One layer against another at each size that the profile has for both."""
        plan = select(loaded.plan, {"network": network})
        sizes = [set(select(plan, {"layer": name})["n_train"]) for name in (layer, other)]
        shared = sorted(set.intersection(*sizes))
        found = [comparer.case(f"{n:,} images", cell(layer, n, network), cell(other, n, network)) for n in shared]
        return Question(text, found)

    means = [
        averaged(
            f"{titles[layer]} − {titles[other]}",
            [comparer.case("", cell(layer, n), cell(other, n)) for n in SIZES],
        )
        for layer in PROPOSED
        for other in (*OTHERS, "n-jet", "free-form-same-support")
    ]
    counts = {
        (layer, network): comparer.count({"layer": layer, "network": network})
        for layer in PAPER_LAYERS
        for network in Table1Trial.as_published
    }
    known = {titles[layer]: count for layer in PAPER_LAYERS if (count := counts[layer, MAIN])}
    sizes = ", ".join(f"{title} {count:,}" for title, count in known.items())
    fewer, third = [], []
    for network in Table1Trial.as_published:
        separated = counts["ours-separated", network]
        for other in ("ours", "ours-few"):
            here, verdict, reason = _fewer(separated, counts[other, network])
            case = f"{titles['ours-separated']} and {titles[other]}, {network}"
            fewer.append(counted(case, "—", here, verdict, reason, BY_CONSTRUCTION))
        total = counts["ours", network]
        share = 1 - separated / total if separated and total else None
        paper = EXPERIMENT.printed("third-less")
        verdict, reason = decide_count(share, paper)
        here = "—" if share is None else f"{100 * share:.1f} % fewer"
        if share is not None:
            chosen = "and were chosen so" if network == MAIN else "others would give another share"
            reason = f"counted; widths and bases are not printed, {chosen}"
        third.append(counted(network, f"{100 * paper:.1f} % fewer", here, verdict, reason, BY_CONSTRUCTION))
    return [
        Claim(
            "higher",
            f"The paper's other layers, one by one.{f' Parameters: {sizes}.' if sizes else ''}",
            cases(PROPOSED, OTHERS),
            [
                Question("Averaged over the five sizes", means),
                question("Is it more than the support? Ours against Free-form 7×7", "ours", "free-form-same-support"),
                question(
                    "Is it a basis, even a fixed one? RFNN against Free-form 7×7", "rfnn", "free-form-same-support"
                ),
                question(
                    "Is it the reach or the number of weights? Free-form 3×3, dilated, against Free-form 7×7",
                    "free-form-dilated",
                    "free-form-same-support",
                ),
                question(
                    "Is it the missing normalisation? With batch normalisation, Ours against Free-form 3×3",
                    "ours",
                    "free-form",
                    NORMALISED,
                ),
                question(
                    "And Ours against Free-form 7×7, with batch normalisation",
                    "ours",
                    "free-form-same-support",
                    NORMALISED,
                ),
                question(
                    "Is the lead still there with pooling? Ours against Free-form 3×3",
                    "ours",
                    "free-form",
                    "pooled",
                ),
            ],
        ),
        Claim(
            "fully-trained",
            "Ours against RFNN, whose basis is fixed.",
            cases(["ours"], ["rfnn"]),
            [question("Is one trained scale per layer enough? Ours against N-Jet", "ours", "n-jet")],
        ),
        Claim("comparable", EQUAL_OR_ABOVE, cases(["ours-separated"], ["ours", "ours-few"]), (), NOT_BELOW),
        Claim("competitive", EQUAL_OR_ABOVE, cases(["ours"], PREVIOUS), (), NOT_BELOW),
        Claim("fewer", "Counted.", fewer),
        Claim("third-less", f"Counted: holds within {100 * claims.TOLERANCE:.0f} % of the printed share.", third),
    ]


def _fewer(count: int | None, other: int | None) -> tuple[str, str, str]:
    """Ours in words, verdict and reason on one network having fewer parameters than another."""
    if count is None or other is None:
        return "—", TOO_FEW, claims.NOT_RUN
    return f"{count:,} and {other:,}", HOLDS if count < other else FAILS, "counted"
