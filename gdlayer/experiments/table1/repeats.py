"""What precision, length of training and machine do to Table 1: the same trials again, seed by seed."""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from gdlayer._plumbing.extras import extra
from gdlayer.experiments.table1 import EXPERIMENT, LAYERS
from gdlayer.experiments.table1.trial import Table1EqualSteps, Table1Precision, Table1Trial
from gdlayer.report import markup
from gdlayer.report.blocks import Estimate, blocks_of, estimate
from gdlayer.report.cells import Selector, per_trial, rows_of, select
from gdlayer.report.claims import MIN_SEEDS, estimate_in_words, signed
from gdlayer.report.plans import duration, planned
from gdlayer.trials.provenance import committed_record
from gdlayer.trials.record import every_record, load_records, recorded_datasets

with extra("report"):
    import pandas as pd

PROFILE = "paper"
BOTH = 10000
"""Images at which 30 epochs are the steps of the second budget."""


class Pair(NamedTuple):
    """A cell that was run in two ways.

    Attributes
    ----------
    found : the paired difference, None without a pair
    noise : standard deviation of the second way over seeds, in percentage points; NaN for fewer than two
    """

    cell: str
    found: Estimate | None
    noise: float
    pending: str = ""


def precision(committed: Path | None = None) -> Markup:
    """HTML: whether bf16 may fill cells; by layer and training set size the paired difference to fp32."""
    folder = committed or committed_record()
    check, datasets = Table1Precision.experiment, Table1Trial.datasets[:1]
    own, other, known = [], [], []
    if folder is not None:
        datasets = recorded_datasets(folder, PROFILE, check) or datasets
        own, other = (load_records(folder, PROFILE, name, datasets) for name in (check, EXPERIMENT.name))
        known = [record for _, record in every_record(folder)]
    trials = pd.concat([per_trial(own, EXPERIMENT), per_trial(other, EXPERIMENT)])
    plan = planned(PROFILE, check, datasets, own, known)
    used = EXPERIMENT.budget(PROFILE, EXPERIMENT.name)["precision"]
    (checked,) = set(plan["precision"])
    pairs = []
    for cell in rows_of(plan):
        selector = {"layer": cell.layer, "n_train": cell.n_train, "network": cell.network, "metric": "test_accuracy"}
        blocks = blocks_of(trials, selector, "precision", ("dataset", "profile", "device"))
        noise = _deviation(trials, {**selector, "precision": checked})
        pending = f"{cell.missing} to run, {duration(cell.missing, cell.seconds)}" if cell.missing else ""
        pairs.append(
            Pair(_named(cell.layer, cell.n_train, cell.network), estimate(blocks, used, checked), noise, pending)
        )
    return _render(pairs, used, checked)


def budgets(committed: Path | None = None) -> Markup:
    """HTML: 30 epochs beside equal steps and the paper, over the seeds that both have, and which is nearer.

    At 10,000 images the two are one. The nearer budget is the one whose differences from the paper depend less on n:
    the smaller range of their mean over the layers.
    """
    folder = committed or committed_record()
    kinds = (EXPERIMENT.name, Table1EqualSteps.experiment)
    runs = [load_records(folder, PROFILE, kind, Table1Trial.datasets[:1]) for kind in kinds] if folder else [[], []]
    epochs, equal = (
        select(per_trial(found, EXPERIMENT), {"network": Table1Trial.networks[0], "metric": "test_accuracy"})
        for found in runs
    )
    same = epochs[epochs["n_train"] == BOTH]
    both = epochs.merge(pd.concat([equal, same]), on=["layer", "n_train", "seed"], suffixes=(" 30 epochs", ""))
    if not set(both["n_train"]) - {BOTH}:
        return markup.note("Equal steps are not recorded yet.")
    cells = both[["layer", "n_train"]].drop_duplicates().itertuples(index=False, name=None)
    paper = {(x, n): EXPERIMENT.published.get(((x, str(n)), "test_accuracy")) for x, n in cells}
    rows = []
    for (layer, n), printed in sorted(paper.items(), key=lambda cell: (cell[0][1], [*LAYERS].index(cell[0][0]))):
        if n != BOTH:
            found = select(both, {"layer": layer, "n_train": n})
            numbers = [f"{_mean(found, column):.1f}" for column in ("value 30 epochs", "value")]
            told = "—" if printed is None else f"{printed:.1f}"
            rows.append([f"{LAYERS[layer].title}, {n:,} images", *numbers, told, str(len(found))])
    table = markup.table(["", "30 epochs", "equal steps", "paper", "seeds"], rows)
    return table + markup.note(f"Percent, means over the seeds that both have. {_nearer(both, paper)}")


def _nearer(both: pd.DataFrame, paper: Mapping[tuple[str, int], float | None]) -> str:
    """Which budget's differences from the paper depend less on n, over the layers that all n have."""
    sizes = sorted(set(both["n_train"]))
    layers = [x for x in LAYERS if all(paper.get((x, n)) is not None for n in sizes)]
    if len(sizes) < 2 or not layers:
        return ""
    gaps = {
        name: [
            fmean(_mean(select(both, {"layer": x, "n_train": n}), column) - (paper[x, n] or 0.0) for x in layers)
            for n in sizes
        ]
        for name, column in (("30 epochs", "value 30 epochs"), ("equal steps", "value"))
    }
    told = "; ".join(f"{name} {', '.join(map(signed, found))}" for name, found in gaps.items())
    nearer = min(gaps, key=lambda name: max(gaps[name]) - min(gaps[name]))
    return (
        f"Ours minus the paper's, mean over {', '.join(LAYERS[x].title for x in layers)}, at"
        f" {', '.join(f'{n:,}' for n in sizes)} images: {told}. Nearer to the paper: {nearer}."
    )


def _mean(trials: pd.DataFrame, column: str) -> float:
    return fmean(trials[column].tolist())


def machine(committed: Path | None = None) -> Markup:
    """HTML: what another machine does; for each two that ran the same trials the paired difference by cell.

    Parameters
    ----------
    committed : folder of the record, by default found where there is one; beside it the folder ``machines`` has a
        folder for each machine with trials that fill no cell
    """
    folder = committed or committed_record()
    datasets = Table1Trial.datasets[:1]
    others = sorted(folder.with_name("machines").glob("*")) if folder else []
    runs = [record for other in others for record in load_records(other, PROFILE, EXPERIMENT.name, datasets)]
    for record in load_records(folder, PROFILE, EXPERIMENT.name, datasets) if folder else []:
        if any(all(record[part] == run[part] for part in ("trial", "hyperparameters")) for run in runs):
            runs.append(record)
    trials = per_trial(runs, EXPERIMENT)
    cells = sorted({(r["trial"]["n_train"], r["trial"]["layer"], r["trial"]["network"]) for r in runs})
    tables = []
    for one, other in combinations(sorted(set(trials["machine"])), 2):
        pairs = []
        for n, layer, network in cells:
            selector = {"layer": layer, "n_train": n, "network": network, "metric": "test_accuracy"}
            index = ["dataset", "profile", "precision", "network", "seed"]
            blocks = select(trials, selector).pivot(index=index, columns="machine", values="value")
            if found := estimate(blocks, one, other):
                noise = _deviation(trials, {**selector, "machine": other})
                pairs.append(Pair(_named(layer, n, network), found, noise))
        if pairs:
            tables.append(_render(pairs, one, other))
    return Markup("\n").join(tables) or markup.note("No trial has been run on two machines.")


def _named(layer: str, n: int, network: str) -> str:
    other = "" if network == Table1Trial.networks[0] else f"{network}, "
    return f"{LAYERS[layer].title}, {other}{n:,} images"


def _render(pairs: list[Pair], one: str, other: str) -> Markup:
    """A row per pair: the difference, the noise of seeds beside it, and the verdict."""
    rows = [
        [
            pair.cell,
            "—" if pair.found is None else estimate_in_words(pair.found),
            "—" if np.isnan(pair.noise) else f"{pair.noise:.1f}",
            "—" if pair.found is None else str(pair.found.difference.blocks),
            "; ".join(filter(None, [verdict(pair.found, pair.noise), pair.pending])),
        ]
        for pair in pairs
    ]
    table = markup.table(["", f"{one} − {other}", "seeds differ by", "seeds", ""], rows)
    return table + markup.note(
        f"Percentage points, the same seeds both times, with the 95 % interval; beside it the standard deviation of the"
        f" {other} runs over seeds. They agree if the interval holds 0 and the mean difference is below that"
        f" deviation, they differ if the interval excludes 0; fewer than {MIN_SEEDS} seeds say nothing."
    )


def verdict(found: Estimate | None, noise: float) -> str:
    """Whether two ways of running a cell agree within the noise of seeds."""
    if found is None or found.difference.blocks < MIN_SEEDS:
        return "undecided"
    low, high = found.difference.interval
    if not low <= 0 <= high:
        return "differ"
    return "agree" if abs(found.difference.mean) < noise else "undecided"


def _deviation(trials: pd.DataFrame, selector: Selector) -> float:
    """Standard deviation over seeds, NaN for fewer than two."""
    values = select(trials, selector)["value"].to_numpy(float)
    return float(values.std(ddof=1)) if len(values) > 1 else np.nan
