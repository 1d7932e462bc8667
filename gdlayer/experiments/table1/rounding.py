"""Whether bf16 may fill cells of Table 1: the same trials in fp32, seed by seed."""

from pathlib import Path

import numpy as np
from markupsafe import Markup

from gdlayer.experiments.record import committed_record, every_record, load_records, recorded_datasets
from gdlayer.experiments.table1 import EXPERIMENT, LAYERS
from gdlayer.experiments.table1.trial import Table1Precision, Table1Trial
from gdlayer.extras import extra
from gdlayer.report import markup
from gdlayer.report.blocks import Estimate, blocks_of, estimate
from gdlayer.report.cells import per_trial, rows_of, select
from gdlayer.report.claims import MIN_SEEDS, estimate_in_words
from gdlayer.report.missing import duration, planned

with extra("report"):
    import pandas as pd

PROFILE = "paper"
ALIKE = ("dataset", "profile", "device")
"""What the two runs of a pair share."""


def render(committed: Path | None = None) -> Markup:
    """HTML: by layer and training set size both means, the paired difference, and the noise of seeds beside it."""
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
    rows = []
    for cell in rows_of(plan):
        selector = {"layer": cell.layer, "n_train": cell.n_train, "network": cell.network, "metric": "test_accuracy"}
        found = estimate(blocks_of(trials, selector, "precision", ALIKE), used, checked)
        noise = _deviation(trials, {**selector, "precision": checked})
        pending = f"{cell.missing} to run, {duration(cell.missing, cell.seconds)}" if cell.missing else ""
        rows.append(
            [
                f"{LAYERS[cell.layer].title}, {cell.n_train:,} images",
                "—" if found is None else estimate_in_words(found),
                "—" if np.isnan(noise) else f"{noise:.1f}",
                "—" if found is None else str(found.difference.blocks),
                "; ".join(filter(None, [verdict(found, noise), pending])),
            ]
        )
    table = markup.table(["", f"{used} − {checked}", "seeds differ by", "seeds", ""], rows)
    return table + markup.note(
        "Percentage points, the same seeds in both precisions, with the 95 % interval; beside it the standard deviation"
        f" of the {checked} runs over seeds. They agree if the interval holds 0 and the mean difference is below that"
        f" deviation, they differ if the interval excludes 0; fewer than {MIN_SEEDS} seeds say nothing."
    )


def verdict(found: Estimate | None, noise: float) -> str:
    """Whether two precisions agree within the noise of seeds."""
    if found is None or found.difference.blocks < MIN_SEEDS:
        return "undecided"
    low, high = found.difference.interval
    if not low <= 0 <= high:
        return "differ"
    return "agree" if abs(found.difference.mean) < noise else "undecided"


def _deviation(trials: pd.DataFrame, selector: dict[str, object]) -> float:
    """Standard deviation over seeds, NaN for fewer than two."""
    values = select(trials, selector)["value"].to_numpy(float)
    return float(values.std(ddof=1)) if len(values) > 1 else np.nan
