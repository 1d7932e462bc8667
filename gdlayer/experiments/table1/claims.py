"""The paper's claims of Table 1: which cells each is about, and which controls tell why it holds or fails."""

from collections.abc import Callable, Sequence
from typing import Any

from gdlayer.experiments.table1 import EXPERIMENT, LAYERS
from gdlayer.experiments.table1.page import MAIN, SIZES
from gdlayer.experiments.table1.trial import Table1Trial
from gdlayer.report import claims
from gdlayer.report.cells import published_at, select
from gdlayer.report.claims import BY_CONSTRUCTION, FAILS, HOLDS, TOO_FEW, Case, Claim, Question, Row, judge_count
from gdlayer.report.judgements import ABOVE, ABOVE_ALL, Comparer
from gdlayer.report.loaded import Loaded

PAPER_LAYERS = tuple(name for name, layer in LAYERS.items() if layer.in_paper)
PROPOSED = ("ours", "ours-few", "ours-separated")
OTHERS = tuple(layer for layer in PAPER_LAYERS if layer not in PROPOSED)
PREVIOUS = ("rfnn", "dau")
"""What the paper calls previous work."""
NORMALISED = "batch-norm"


def comparable_margin() -> float:
    """The largest difference that the paper calls comparable: Ours or Ours-few minus Ours-separated, in points."""
    paper = EXPERIMENT.published
    return max(
        paper[(layer, str(n)), "test_accuracy"] - paper[("ours-separated", str(n)), "test_accuracy"]
        for layer in ("ours", "ours-few")
        for n in SIZES
    )


def judged(loaded: Loaded) -> list[Claim]:
    """The paper's claims of Table 1."""
    comparer, margin = Comparer(loaded), comparable_margin()
    titles = {name: layer.title for name, layer in LAYERS.items()}
    not_below = (
        f"Holds if it is above −{margin:.1f} points, fails if it is below:"
        " the largest difference that the paper calls comparable."
    )

    def cell(layer: str, n: int, network: str = MAIN) -> dict[str, Any]:
        return {"layer": layer, "n_train": n, "network": network, "metric": "test_accuracy"}

    def cells(layers: Sequence[str], n: int, network: str = MAIN) -> dict[str, dict[str, Any]]:
        return {titles[layer]: cell(layer, n, network) for layer in layers}

    def support(layer: str, _: Sequence[str], n: int) -> str:
        told = ("more than its support", "less than its support gives", "perhaps its support alone")
        return f"same support: {comparer.control(cell(layer, n), cells(['free-form-same-support'], n), *told)}"

    def pooled(layer: str, others: Sequence[str], n: int) -> str:
        told = ("there too", "the other way there", "no clear difference there")
        return f"pooled: {comparer.control(cell(layer, n, 'pooled'), cells(others, n, 'pooled'), *told)}"

    def scale(layer: str, _: Sequence[str], n: int) -> str:
        told = ("more than one trained scale", "less than one trained scale", "perhaps one trained scale is enough")
        return f"scale alone: {comparer.control(cell(layer, n), cells(['n-jet'], n), *told)}"

    def rows(
        layers: Sequence[str],
        others: Sequence[str],
        *controls: Callable[[str, Sequence[str], int], str],
        margin: float = 0.0,
    ) -> list[Case]:
        return [
            comparer.row(
                f"{titles[layer]}, {n:,} images",
                cell(layer, n),
                cells(others, n),
                *(control(layer, others, n) for control in controls),
                margin=margin,
            )
            for layer in layers
            for n in SIZES
        ]

    def question(text: str, layer: str, other: str, network: str = MAIN, *, headline: bool = False) -> Question:
        """One layer against another at each size that the profile has for both."""
        plan = select(loaded.plan, {"network": network})
        sizes = [set(select(plan, {"layer": name})["n_train"]) for name in (layer, other)]
        return Question(
            text,
            [
                comparer.row(f"{n:,} images", cell(layer, n, network), cells([other], n, network))
                for n in sorted(set.intersection(*sizes))
            ],
            headline=headline,
        )

    best = []
    for n in SIZES:
        first = max(PAPER_LAYERS, key=lambda layer: published_at(EXPERIMENT, cell(layer, n)) or 0.0)
        others = cells([layer for layer in PAPER_LAYERS if layer != first], n)
        best.append(comparer.row(f"{titles[first]}, {n:,} images", cell(first, n), others, support(first, (), n)))
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
            fewer.append(Row(case, "—", here, verdict, reason, BY_CONSTRUCTION))
        total = counts["ours", network]
        share = 1 - separated / total if separated and total else None
        paper = EXPERIMENT.printed("third-less")
        verdict, reason = judge_count(share, paper)
        here = "—" if share is None else f"{100 * share:.1f} % fewer"
        if share is not None:
            chosen = "and were chosen so" if network == MAIN else "others would give another share"
            reason = f"counted; widths and bases are not printed, {chosen}"
        third.append(Row(network, f"{100 * paper:.1f} % fewer", here, verdict, reason, BY_CONSTRUCTION))
    others = ("ours", "ours-few")
    return [
        Claim(
            "higher",
            f"{ABOVE_ALL}{f' Parameters: {sizes}.' if sizes else ''}",
            rows(PROPOSED, OTHERS, support, pooled),
            [
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
                    headline=True,
                ),
            ],
        ),
        Claim("best", f"{ABOVE_ALL} The layer in bold against the paper's five others.", best),
        Claim(
            "fully-trained",
            f"{ABOVE} Ours against RFNN, whose basis is fixed.",
            rows(["ours"], ["rfnn"], scale),
            [question("Is one trained scale per layer enough? Ours against N-Jet", "ours", "n-jet", headline=True)],
        ),
        Claim("comparable", not_below, rows(["ours-separated"], others, pooled, margin=margin)),
        Claim("competitive", not_below, rows(["ours"], PREVIOUS, pooled, margin=margin)),
        Claim("fewer", "Counted.", fewer),
        Claim("third-less", f"Counted: holds within {100 * claims.TOLERANCE:.0f} % of the printed share.", third),
    ]


def _fewer(count: int | None, other: int | None) -> tuple[str, str, str]:
    """Ours in words, verdict and reason on one network having fewer parameters than another."""
    if count is None or other is None:
        return "—", TOO_FEW, claims.NOT_RUN
    return f"{count:,} and {other:,}", HOLDS if count < other else FAILS, "counted"
