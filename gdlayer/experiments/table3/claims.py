"""The paper's claims of Table 3: which cells each is about, and which controls tell why it holds or fails."""

from dataclasses import replace
from typing import Any

import numpy as np

from gdlayer._plumbing.extras import extra
from gdlayer.datasets import nuclei
from gdlayer.experiments.table3 import EXPERIMENT, LAYERS
from gdlayer.experiments.table3.page import SPLITS, picture_path
from gdlayer.experiments.table3.trial import Table3Trial
from gdlayer.report import claims, markup
from gdlayer.report.blocks import blocks_of, estimate
from gdlayer.report.cells import KIND, marks, per_trial, select
from gdlayer.report.claims import (
    BY_CONSTRUCTION,
    EQUAL_OR_ABOVE,
    FAILS,
    HOLDS,
    NOT_BELOW,
    TOO_FEW,
    UNTESTABLE,
    Case,
    Claim,
    Question,
    Row,
    counted,
    decide_count,
)
from gdlayer.report.judgements import Comparer
from gdlayer.report.loaded import Loaded
from gdlayer.trials.registry import trial_of

with extra("report"):
    import pandas as pd


def stated(loaded: Loaded) -> list[Claim]:
    """The paper's claims of Table 3."""
    comparer = Comparer(loaded)

    def cell(layer: str, split: str, dataset: str, metric: str = "pixel_accuracy") -> dict[str, Any]:
        return {"layer": layer, "split": split, "dataset": dataset, "metric": metric}

    compete, equal_size = [], []
    for dataset in loaded.datasets:
        for split in Table3Trial.splits:

            def control(other: str, metric: str, split: str = split, dataset: str = dataset) -> str:
                return comparer.control(
                    cell("gaussian-unet", split, dataset, metric), cell(other, split, dataset, metric)
                )

            title = f"{nuclei.LABELS[dataset]}, {SPLITS[split]}"
            equal_size.append(f"on {title}: {control('unet-small', 'pixel_accuracy')}")
            compete.append(
                comparer.case(
                    title,
                    cell("gaussian-unet", split, dataset),
                    cell("unet", split, dataset),
                    control("unet-bn", "pixel_accuracy"),
                    f"Dice: {control('unet', 'dice')}",
                    f"F1 by nucleus: {control('unet', 'nucleus_f1')}",
                    *(["tiles of one image on both sides"] if split == "tile" else []),
                )
            )
    counts = {layer: comparer.count({"layer": layer}) for layer in ("unet", "gaussian-unet")}
    share = counts["gaussian-unet"] / counts["unet"] if counts["unet"] and counts["gaussian-unet"] else None
    paper = EXPERIMENT.printed("quarter")
    verdict, reason = decide_count(share, paper)
    here = "—" if share is None else f"{100 * share:.1f} %"
    return [
        Claim(
            "compete",
            EQUAL_OR_ABOVE,
            compete,
            [
                Question(
                    f"Is it the layer? {LAYERS['gaussian-unet'].title} against {LAYERS[control].title}",
                    [
                        comparer.case(
                            f"{nuclei.LABELS[dataset]}, {SPLITS[split]}",
                            cell("gaussian-unet", split, dataset),
                            cell(control, split, dataset),
                        )
                        for dataset in loaded.datasets
                        for split in Table3Trial.splits
                    ],
                )
                for control in LAYERS
                if not LAYERS[control].in_paper
            ],
            NOT_BELOW,
        ),
        Claim(
            "quarter",
            f"Counted: holds within {100 * claims.TOLERANCE:.0f} % of the printed share. A classical net of the"
            " Gaussian one's size tells whether the layer saves the parameters or U-net has more than it needs.",
            [
                counted(
                    "Gaussian U-net of U-net",
                    f"{100 * paper:.0f} %",
                    here,
                    verdict,
                    markup.lines(reason, *equal_size),
                    BY_CONSTRUCTION,
                )
            ],
        ),
        *(
            Claim(f"count-{layer}", "Counted: holds if equal.", [_count(layer, count)])
            for layer, count in counts.items()
        ),
        Claim(
            "similar",
            "Dice of two nets' predictions, on the tiles that are kept: Gaussian U-net with U-net, minus U-net with BN"
            f" with U-net. {EQUAL_OR_ABOVE}",
            [_similar(loaded, dataset) for dataset in loaded.datasets],
            (),
            NOT_BELOW,
        ),
    ]


def _count(layer: str, count: int | None) -> Row:
    paper = int(EXPERIMENT.printed(f"count-{layer}"))
    if count is None:
        return counted(LAYERS[layer].title, f"{paper:,}", "—", TOO_FEW, claims.NOT_RUN)
    reason = "counted; the nets are not printed, and were chosen so"
    return counted(
        LAYERS[layer].title, f"{paper:,}", f"{count:,}", HOLDS if count == paper else FAILS, reason, BY_CONSTRUCTION
    )


def _similar(loaded: Loaded, dataset: str) -> Row | Case:
    """How alike the predictions of two nets are, by what is kept of them for Figure 2."""
    trials, label = agreement(loaded, dataset), nuclei.LABELS[dataset]
    nets = ("gaussian-unet", "unet-bn")
    found = estimate(blocks_of(trials, {}), *nets)
    if found is None:
        return Row(label, "—", "—", UNTESTABLE, "no predictions are kept")
    signs = marks(EXPERIMENT, {**dict(zip(KIND, found.kind, strict=True)), "layer": "gaussian-unet", "split": "tile"})
    means = [select(trials, {"layer": net})["value"].mean() for net in nets]
    told = f"Dice {means[0]:.1f}, with BN {means[1]:.1f}"
    return Case(label, LAYERS["unet-bn"].title, found, marks=signs, notes=[told])


def agreement(loaded: Loaded, dataset: str) -> pd.DataFrame:
    """By layer and seed the Dice, in percent, of a net's predictions with those of the U-net, split by tile.

    As :func:`gdlayer.report.cells.per_trial`, the metric being "agreement".
    """
    records = [
        r
        for r in loaded.records
        if (r["trial"]["dataset"], r["trial"]["split"]) == (dataset, "tile") and r["trial"]["layer"] != "unet"
    ]
    rows = []
    for record in records:
        trial = trial_of(record["trial"])
        path = picture_path(trial, loaded.folder)
        reference = picture_path(replace(trial, layer="unet"), loaded.folder)
        if path.exists() and reference.exists():
            with np.load(path) as own, np.load(reference) as other:
                value = _dice(own["predicted"], other["predicted"])
            rows.append(record | {"metrics": {"agreement": value}})
    return per_trial(rows, EXPERIMENT)


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0
