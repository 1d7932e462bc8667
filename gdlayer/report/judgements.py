"""The claims of each experiment: which cells each is about, and which controls tell why it holds or fails."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gdlayer.datasets import nuclei
from gdlayer.experiments.trial import Table1Trial, Table2Trial, Table3Trial
from gdlayer.report import claims, table1, table2, table3, tuning
from gdlayer.report.cells import Selector, find, per_trial, published, published_at, still_to_run
from gdlayer.report.chapter import Loaded
from gdlayer.report.claims import FAILS, HOLDS, UNDECIDED, Claim, Row, compare, judge, judge_all, judge_count, paired
from gdlayer.report.missing import duration
from gdlayer.report.records import COMMITTED

PAPER_LAYERS = tuple(dict.fromkeys(cell[0] for cell, _ in published("table1")))
PROPOSED = ("ours", "ours-few", "ours-separated")
OTHERS = tuple(layer for layer in PAPER_LAYERS if layer not in PROPOSED)
PREVIOUS = ("rfnn", "dau")
"""What the paper calls previous work."""

ABOVE = "Holds if the interval lies above 0, fails if it lies below."
ABOVE_ALL = "Holds if every interval lies above 0, fails if one lies below; shown is the one that decides."
SIMILAR = 1.0
"""Margin in points of Dice for predictions that are "quite similar": the paper gives none."""


def render(loaded: Loaded, committed: Path = COMMITTED) -> str:
    """HTML of an experiment's claims, with a note on how the compared layers were tuned."""
    titles = {"table1": table1.TITLES, "table2": table2.TITLES, "table3": table3.TITLES}[loaded.experiment]
    edge = tuning.at_the_edge(loaded.experiment, committed)
    foot = ""
    if edge is not None and loaded.profile == tuning.PROFILE:
        named = ", ".join(escape(titles[layer]) for layer in titles if layer in edge) or "none"
        foot = (
            f" Every layer was tuned by the same search; at the edge of its rates, perhaps not at their best: {named}."
        )
    return claims.render(loaded.experiment, judged_claims(loaded), foot)


def judged_claims(loaded: Loaded) -> list[Claim]:
    """The paper's claims of an experiment, judged by records of one profile."""
    return {"table1": _table1, "table2": _table2, "table3": _table3}[loaded.experiment](loaded)


def comparable_margin() -> float:
    """The largest difference that the paper calls comparable: Ours or Ours-few minus Ours-separated, in points."""
    paper = published("table1")
    return max(
        paper[(layer, str(n)), "test_accuracy"] - paper[("ours-separated", str(n)), "test_accuracy"]
        for layer in ("ours", "ours-few")
        for n in table1.SIZES
    )


def competing_margin() -> float:
    """The difference at which the paper says that the Gaussian U-net can compete, in points."""
    paper = published("table3")
    return paper[("unet", "tile"), "pixel_accuracy"] - paper[("gaussian-unet", "tile"), "pixel_accuracy"]


class _Bench:
    """An experiment's trials, and rows of comparisons between its cells."""

    def __init__(self, loaded: Loaded) -> None:
        self.experiment, self.plan = loaded.experiment, loaded.plan
        self.trials = per_trial(loaded.records, loaded.experiment)

    def row(
        self,
        case: str,
        one: Selector,
        others: Mapping[str, Selector],
        *controls: str,
        margin: float = 0.0,
    ) -> Row:
        """One cell against others; without a record the reason is how long these take."""
        judged, paper, here = compare(self.trials, self.experiment, one, others, margin)
        reasons = list(controls)
        if judged.estimate is None:
            left = [still_to_run(self.plan, selector) for selector in (one, *others.values())]
            trials, seconds = (sum(column) for column in zip(*left, strict=True))
            reasons = [duration(int(trials), seconds)] if trials else []
        if paper.startswith("−") and not margin:
            reasons.insert(0, "the paper's own numbers say otherwise")
        return Row(case, paper, here, judged.verdict, claims.why(judged, *reasons))

    def control(self, one: Selector, others: Mapping[str, Selector], holds: str, fails: str, undecided: str) -> str:
        """What a further comparison says of a claim."""
        judged = judge_all([judge(paired(self.trials, one, other), against=title) for title, other in others.items()])
        return claims.reading(judged, holds, fails, undecided)

    def count(self, selector: Selector) -> int | None:
        """Trainable parameters of a cell's network, from its records."""
        found = set(find(self.trials, selector)["parameters"])
        return found.pop() if len(found) == 1 else None


def _table1(loaded: Loaded) -> list[Claim]:
    bench, margin = _Bench(loaded), comparable_margin()
    titles = {layer: escape(title) for layer, title in table1.TITLES.items()}
    not_below = (
        f"Holds if the interval lies above −{margin:.1f} points, fails if it lies below:"
        " the largest difference that the paper calls comparable."
    )

    def cell(layer: str, n: int, network: str = table1.MAIN) -> dict[str, Any]:
        return {"layer": layer, "n_train": n, "network": network, "metric": "test_accuracy"}

    def cells(layers: Sequence[str], n: int, network: str = table1.MAIN) -> dict[str, dict[str, Any]]:
        return {titles[layer]: cell(layer, n, network) for layer in layers}

    def support(layer: str, _: Sequence[str], n: int) -> str:
        told = ("more than its support", "less than its support gives", "perhaps its support alone")
        return f"same support: {bench.control(cell(layer, n), cells(['free-form-same-support'], n), *told)}"

    def pooled(layer: str, others: Sequence[str], n: int) -> str:
        told = ("there too", "the other way there", "undecided there")
        return f"pooled: {bench.control(cell(layer, n, 'pooled'), cells(others, n, 'pooled'), *told)}"

    def scale(layer: str, _: Sequence[str], n: int) -> str:
        told = ("more than one trained scale", "less than one trained scale", "perhaps one trained scale is enough")
        return f"scale alone: {bench.control(cell(layer, n), cells(['n-jet'], n), *told)}"

    def rows(
        layers: Sequence[str],
        others: Sequence[str],
        *controls: Callable[[str, Sequence[str], int], str],
        margin: float = 0.0,
    ) -> list[Row]:
        return [
            bench.row(
                f"{titles[layer]}, {n:,} images",
                cell(layer, n),
                cells(others, n),
                *(control(layer, others, n) for control in controls),
                margin=margin,
            )
            for layer in layers
            for n in table1.SIZES
        ]

    best = []
    for n in table1.SIZES:
        first = max(PAPER_LAYERS, key=lambda layer: published_at("table1", cell(layer, n)) or 0.0)
        others = cells([layer for layer in PAPER_LAYERS if layer != first], n)
        best.append(bench.row(f"{titles[first]}, {n:,} images", cell(first, n), others, support(first, (), n)))
    counts = {
        (layer, network): bench.count({"layer": layer, "network": network})
        for layer in PAPER_LAYERS
        for network in Table1Trial.networks
    }
    known = {titles[layer]: count for layer in PAPER_LAYERS if (count := counts[layer, table1.MAIN])}
    sizes = ", ".join(f"{title} {count:,}" for title, count in known.items())
    fewer, third = [], []
    for network in Table1Trial.networks:
        separated = counts["ours-separated", network]
        for other in ("ours", "ours-few"):
            here, verdict, reason = _fewer(separated, counts[other, network])
            fewer.append(Row(f"{titles['ours-separated']} and {titles[other]}, {network}", "—", here, verdict, reason))
        total = counts["ours", network]
        share = 1 - separated / total if separated and total else None
        paper = claims.printed("table1", "third-less")
        verdict, reason = judge_count(share, paper)
        here = "—" if share is None else f"{100 * share:.1f} % fewer"
        if share is not None:
            chosen = "and were chosen so" if network == table1.MAIN else "others would give another share"
            reason = f"counted; widths and bases are not printed, {chosen}"
        third.append(Row(network, f"{100 * paper:.1f} % fewer", here, verdict, reason))
    others = ("ours", "ours-few")
    return [
        Claim(
            "higher", f"{ABOVE_ALL}{f' Parameters: {sizes}.' if sizes else ''}", rows(PROPOSED, OTHERS, support, pooled)
        ),
        Claim("best", f"{ABOVE_ALL} The layer in bold against the paper's five others.", best),
        Claim("fully-trained", f"{ABOVE} Ours against RFNN, whose basis is fixed.", rows(["ours"], ["rfnn"], scale)),
        Claim("comparable", not_below, rows(["ours-separated"], others, pooled, margin=margin)),
        Claim("competitive", not_below, rows(["ours"], PREVIOUS, pooled, margin=margin)),
        Claim("fewer", "Counted.", fewer),
        Claim("third-less", f"Counted: holds within {100 * claims.TOLERANCE:.0f} % of the printed share.", third),
    ]


def _fewer(count: int | None, other: int | None) -> tuple[str, str, str]:
    """Ours in words, verdict and reason on one network having fewer parameters than another."""
    if count is None or other is None:
        return "—", UNDECIDED, claims.NOT_RUN
    return f"{count:,} and {other:,}", HOLDS if count < other else FAILS, "counted"


def _table2(loaded: Loaded) -> list[Claim]:
    bench = _Bench(loaded)
    fair = {
        "ours-7x7": "free-form",
        "ours-3x3": "free-form",
        "ours-7x7-fitted": "free-form-original",
        "ours-3x3-fitted": "free-form-original",
    }
    run = [source for source in Table2Trial.sources if source == "scratch" or source in {*loaded.cells["source"]}]
    better, included = [], []
    for source in run:

        def cell(layer: str, part: str = "test", source: str = source) -> dict[str, Any]:
            return {"layer": layer, "source": source, "metric": f"{part}_accuracy"}

        for layer, other in fair.items():
            size = _sizes(bench.count(cell(layer)), bench.count(cell(other)))
            for part in ("val", "test"):
                case = f"{table2.TITLES[layer]}, {part}, {source}"
                against = {table2.TITLES[other]: cell(other, part)}
                support = _same_support(bench, cell(layer, part), cell(other, part))
                better.append(bench.row(case, cell(layer, part), against, *support, *size))
            told = ("a free layer gains", "a free layer loses", "undecided for a free layer")
            free = bench.control(cell(other), {table2.TITLES[other]: cell("source")}, *told)
            case = f"{table2.TITLES[layer]}, test, {source}"
            included.append(bench.row(case, cell(layer), {table2.TITLES["source"]: cell("source")}, free))
    for source in (source for source in Table2Trial.sources if source not in run):
        reason = f"{claims.NOT_RUN}: not at hand here"
        absent = Row(table2.SOURCES[source], "—", "—", UNDECIDED, reason)
        better.append(absent)
        included.append(absent)
    fairly = "A random start is held against a random start, a fitted one against the old layer trained on."
    return [
        Claim("better", f"{ABOVE} {fairly}", better),
        Claim("included", f"{ABOVE} Against the network before the change.", included),
    ]


def _same_support(bench: _Bench, one: Selector, other: Selector) -> list[str]:
    """For a layer of 7×7 what the same layer of 3×3 says, the support of the free filters."""
    small = one["layer"].replace("7x7", "3x3")
    if small == one["layer"]:
        return []
    told = ("more than its support", "less than free filters", "perhaps its support alone")
    return [f"same support: {bench.control({**one, 'layer': small}, {table2.TITLES[small]: other}, *told)}"]


def _sizes(count: int | None, other: int | None) -> list[str]:
    return [f"{count:,} parameters for {other:,}"] if count and other else []


def _table3(loaded: Loaded) -> list[Claim]:
    bench, margin = _Bench(loaded), competing_margin()

    def cell(layer: str, split: str, dataset: str, metric: str = "pixel_accuracy") -> dict[str, Any]:
        return {"layer": layer, "split": split, "dataset": dataset, "metric": metric}

    compete = []
    for dataset in loaded.datasets:
        for split in Table3Trial.splits:

            def control(other: str, metric: str, title: str, split: str = split, dataset: str = dataset) -> str:
                other_cell = {title: cell(other, split, dataset, metric)}
                return bench.control(
                    cell("gaussian-unet", split, dataset, metric), other_cell, "above", "below", "undecided"
                )

            compete.append(
                bench.row(
                    f"{escape(nuclei.LABELS[dataset])}, {table3.SPLITS[split]}",
                    cell("gaussian-unet", split, dataset),
                    {table3.TITLES["unet"]: cell("unet", split, dataset)},
                    f"against {control('unet-bn', 'pixel_accuracy', 'U-net with BN')}",
                    f"Dice against {control('unet', 'dice', 'U-net')}",
                    *(["tiles of one image on both sides"] if split == "tile" else []),
                    margin=margin,
                )
            )
    counts = {layer: bench.count({"layer": layer}) for layer in ("unet", "gaussian-unet")}
    share = counts["gaussian-unet"] / counts["unet"] if counts["unet"] and counts["gaussian-unet"] else None
    paper = claims.printed("table3", "quarter")
    verdict, reason = judge_count(share, paper)
    here = "—" if share is None else f"{100 * share:.1f} %"
    return [
        Claim(
            "compete",
            f"Holds if the interval lies above −{margin:.1f} points, fails if it lies below:"
            " the difference at which the paper says so.",
            compete,
        ),
        Claim(
            "quarter",
            f"Counted: holds within {100 * claims.TOLERANCE:.0f} % of the printed share.",
            [Row("Gaussian U-net of U-net", f"{100 * paper:.0f} %", here, verdict, reason)],
        ),
        *(
            Claim(f"count-{layer}", "Counted: holds if equal.", [_count(layer, count)])
            for layer, count in counts.items()
        ),
        Claim(
            "similar",
            f"Dice of two nets' predictions, on the tiles that are kept: Gaussian U-net with U-net, minus U-net with BN"
            f" with U-net. Holds above −{SIMILAR:.1f} points, fails below: the paper gives no number.",
            [_similar(loaded, dataset) for dataset in loaded.datasets],
        ),
    ]


def _count(layer: str, count: int | None) -> Row:
    paper = int(claims.printed("table3", f"count-{layer}"))
    if count is None:
        return Row(table3.TITLES[layer], f"{paper:,}", "—", UNDECIDED, claims.NOT_RUN)
    reason = "counted; the nets are not printed, and were chosen so"
    return Row(table3.TITLES[layer], f"{paper:,}", f"{count:,}", HOLDS if count == paper else FAILS, reason)


def _similar(loaded: Loaded, dataset: str) -> Row:
    """How alike the predictions of two nets are, by what is kept of them for Figure 2."""
    trials = agreement(loaded, dataset)
    one, other = ({"layer": layer, "metric": "agreement"} for layer in ("gaussian-unet", "unet-bn"))
    judged = judge(paired(trials, one, other), SIMILAR)
    label = escape(nuclei.LABELS[dataset])
    if judged.estimate is None:
        return Row(label, "—", "—", UNDECIDED, "no predictions are kept")
    means = [find(trials, selector)["value"].mean() for selector in (one, other)]
    told = f"Dice {means[0]:.1f}, with BN {means[1]:.1f}"
    return Row(label, "—", claims.in_words(judged.estimate), judged.verdict, claims.why(judged, told))


def agreement(loaded: Loaded, dataset: str) -> pd.DataFrame:
    """By layer and seed the Dice, in percent, of a net's predictions with those of the U-net, split by tile.

    As :func:`gdlayer.report.cells.per_trial`, the metric being "agreement".
    """
    records = [r for r in loaded.records if (r["trial"]["dataset"], r["trial"]["split"]) == (dataset, "tile")]
    rows = []
    for record in records:
        trial = Table3Trial(**{k: v for k, v in record["trial"].items() if k != "experiment"})
        path = table3.picture_path(trial, loaded.folder)
        reference = table3.picture_path(Table3Trial(**{**vars(trial), "layer": "unet"}), loaded.folder)
        if path.exists() and reference.exists():
            with np.load(path) as own, np.load(reference) as other:
                value = _dice(own["predicted"], other["predicted"])
            rows.append(record | {"metrics": {"agreement": value}})
    return per_trial(rows, "table3")


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0
