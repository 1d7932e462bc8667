"""Whether bf16 may fill cells: the same trials in fp32, seed by seed."""

from pathlib import Path

import numpy as np
import pandas as pd

from gdlayer.experiments.trial import Table1Precision, Table1Trial, load_profile
from gdlayer.report import markup
from gdlayer.report.cells import find, per_trial, rows_of
from gdlayer.report.claims import MIN_SEEDS, Estimate, in_words, paired
from gdlayer.report.missing import duration, planned
from gdlayer.report.records import COMMITTED, every_record, load_records, recorded_datasets
from gdlayer.report.table1 import TITLES

PROFILE = "paper"
ALIKE = ("dataset", "profile", "device")
"""What the two runs of a pair share."""


def render(committed: Path = COMMITTED) -> str:
    """HTML: by layer and training set size both means, the paired difference, and the noise of seeds beside it."""
    check = Table1Precision.experiment
    datasets = recorded_datasets(committed, PROFILE, check) or (Table1Trial.datasets[0],)
    own, other = load_records(committed, PROFILE, check, datasets), load_records(committed, PROFILE, "table1", datasets)
    trials = pd.concat([per_trial(own, "table1"), per_trial(other, "table1")])
    plan = planned(PROFILE, check, datasets, own, (record for _, record in every_record(committed)))
    used = load_profile(PROFILE)["table1"]["precision"]
    (checked,) = set(plan["precision"])
    rows = []
    for cell in rows_of(plan):
        selector = {"layer": cell.layer, "n_train": cell.n_train, "network": cell.network, "metric": "test_accuracy"}
        estimate = paired(trials, {**selector, "precision": used}, {**selector, "precision": checked}, ALIKE)
        noise = _deviation(trials, {**selector, "precision": checked})
        pending = f"{cell.missing} to run, {duration(cell.missing, cell.seconds)}" if cell.missing else ""
        rows.append(
            [
                f"{TITLES[cell.layer]}, {cell.n_train:,} images",
                "—" if estimate is None else in_words(estimate),
                "—" if np.isnan(noise) else f"{noise:.1f}",
                "—" if estimate is None else str(estimate.seeds),
                "; ".join(filter(None, [verdict(estimate, noise), pending])),
            ]
        )
    table = markup.table(["", f"{used} − {checked}", "seeds differ by", "seeds", ""], rows)
    return table + markup.note(
        "Percentage points, the same seeds in both precisions, with the 95 % interval; beside it the standard deviation"
        f" of the {checked} runs over seeds. They agree if the interval holds 0 and the mean difference is below that"
        f" deviation, they differ if the interval excludes 0; fewer than {MIN_SEEDS} seeds say nothing."
    )


def verdict(estimate: Estimate | None, noise: float) -> str:
    """Whether two precisions agree within the noise of seeds."""
    if estimate is None or estimate.seeds < MIN_SEEDS:
        return "undecided"
    if not estimate.low <= 0 <= estimate.high:
        return "differ"
    return "agree" if abs(estimate.mean) < noise else "undecided"


def _deviation(trials: pd.DataFrame, selector: dict[str, object]) -> float:
    """Standard deviation over seeds, NaN for fewer than two."""
    values = find(trials, selector)["value"].to_numpy(float)
    return float(values.std(ddof=1)) if len(values) > 1 else np.nan
