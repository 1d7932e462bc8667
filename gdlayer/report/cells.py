"""From records to cells: averages over seeds beside the paper's numbers."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gdlayer._plumbing.extras import extra
from gdlayer.trials.experiment import Experiment
from gdlayer.trials.record import write_beside

with extra("report"):
    import pandas as pd
    from scipy import stats

KIND = ("dataset", "profile", "precision", "device")
"""What is never averaged together, and never stands side by side unmarked."""
DEVICES = {"cpu": "CPU", "cuda": "GPU"}

Selector = Mapping[str, Any]
"""Values of some columns: which rows of the summary a row or column of a table shows."""


def published_at(experiment: Experiment, selector: Selector) -> float | None:
    """The paper's number of the cell and metric that a selector names; None where the paper has none."""
    cls = experiment.trial
    if selector.get("dataset") in cls.not_in_paper:
        return None
    full = {**cls.cell_defaults(), **selector}
    cell = cls.paper_cell(*(full[name] for name in ("layer", *cls.cell_fields())))
    return experiment.published.get((cell, full["metric"]))


def per_trial(records: Iterable[dict[str, Any]], experiment: Experiment) -> pd.DataFrame:
    """One row per record and metric, in percent: what names the cell, its :data:`KIND`, parameters, seed and seconds.

    Parameters
    ----------
    records : of an experiment, or of the searches and checks that belong to it
    experiment : Experiment
    """
    names = ("layer", *experiment.trial.cell_fields())
    rows = [
        {name: r["trial"][name] for name in (*names, "dataset", "profile")}
        | {
            "precision": r["hyperparameters"]["precision"],
            "device": r["machine"]["device"],
            "machine": r["machine"].get("name", ""),
            "parameters": r["parameters"],
            "metric": metric,
            "seed": r["trial"]["seed"],
            "value": 100 * value,
            "seconds": r["seconds"],
        }
        for r in records
        for metric, value in r["metrics"].items()
    ]
    return pd.DataFrame(rows, columns=[*names, *KIND, "machine", "parameters", "metric", "seed", "value", "seconds"])


def summarise(records: Iterable[dict[str, Any]], experiment: Experiment) -> pd.DataFrame:
    """One row per cell and metric: mean, deviation and 95 % interval over seeds, in percent, beside the paper's number.

    Rows differ by layer and what else names a cell, and also by data set, profile, precision and device: those are
    never averaged together. ``low`` and ``high`` bound the mean by Student's t, and are empty for one seed.
    """
    cls = experiment.trial
    names = ("layer", *cls.cell_fields())
    keys = [*names, *KIND, "parameters", "metric"]
    cells = (
        per_trial(records, experiment)
        .groupby(keys, sort=False, as_index=False)
        .agg(seeds=("value", "size"), mean=("value", "mean"), std=("value", "std"), seconds=("seconds", "sum"))
    )
    low, high = interval(*(cells[name].to_numpy(float) for name in ("mean", "std", "seeds")))
    cells["low"], cells["high"] = low, high
    paper = experiment.published
    cells["paper"] = [
        paper.get((cls.paper_cell(*cell), metric), np.nan) if dataset not in cls.not_in_paper else np.nan
        for *cell, dataset, metric in cells[[*names, "dataset", "metric"]].itertuples(index=False)
    ]
    order = {layer: i for i, layer in enumerate(cls.layers)}
    by = [*cls.cell_fields(), "dataset", "layer", "profile"]
    cells = cells.sort_values(by, key=lambda c: c.map(order) if c.name == "layer" else c, kind="stable")
    return cells.reset_index(drop=True)


def interval(mean: np.ndarray, std: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of a mean by Student's t, NaN for one value; the mean itself where all values are equal."""
    error = std / np.sqrt(count)
    low, high = stats.t.interval(0.95, count - 1, loc=mean, scale=np.where(error > 0, error, 1))
    return np.where(error == 0, mean, low), np.where(error == 0, mean, high)


def as_csv(cells: pd.DataFrame) -> str:
    """The cells as CSV, three decimals."""
    return cells.to_csv(index=False, float_format="%.3f", lineterminator="\n")


def write_csv(cells: pd.DataFrame, path: Path) -> None:
    """:func:`as_csv` as a file; whole or not at all."""
    write_beside(path, as_csv(cells).encode())


def select(cells: pd.DataFrame, selector: Selector) -> pd.DataFrame:
    """The rows with just these values."""
    chosen = np.ones(len(cells), bool)
    for name, value in selector.items():
        chosen &= (cells[name] == value).to_numpy()
    return cells.loc[chosen]


def rows_of(frame: pd.DataFrame) -> Iterator[Any]:
    """The rows, each with its columns as attributes."""
    return iter(frame.itertuples(index=False))


def still_to_run(plan: pd.DataFrame, selector: Selector) -> tuple[int, float]:
    """Trials without a record among those that a selector names, and about how many seconds they take."""
    chosen = select(plan, {name: value for name, value in selector.items() if name in plan})
    return sum(chosen["missing"].tolist()), sum(chosen["seconds"].tolist())


MARKS = {
    "†": "Trained and tested on the stand-in embedded in the repository, not on the data set.",
    "‡": "Reduced budget: cannot be held against the paper's number.",
    "§": "Another network than the paper's.",
    "¶": "A copy of the paper's data set with less detail or fewer images.",
    "*": "Fewer seeds than the profile asks for.",
}


def marks(experiment: Experiment, row: Mapping[str, Any]) -> str:
    """What a run departs in from the full protocol on the paper's data and network, as signs of :data:`MARKS`.

    Parameters
    ----------
    experiment : Experiment
    row : data set, profile and what names the cell, by column
    """
    trial, dataset = experiment.trial, row["dataset"]
    departures = {
        "†": dataset == experiment.embedded,
        "‡": row["profile"] != "paper",
        "§": not trial.network_of_paper(*(row[name] for name in ("layer", *trial.cell_fields()))),
        "¶": dataset in trial.copies,
    }
    return "".join(sign for sign, departs in departures.items() if departs)


def kind_of(row: Any) -> tuple[str, ...]:
    return tuple(getattr(row, name) for name in KIND)


def main_kind(cells: pd.DataFrame) -> tuple[str, ...] | None:
    """The kind of most of the cells, the first of several; None without cells."""
    kinds = [kind_of(row) for row in rows_of(cells)]
    return max(dict.fromkeys(kinds), key=kinds.count, default=None)


def kind_letters(*frames: pd.DataFrame | None) -> list[dict[tuple[str, ...], str]]:
    """For each frame a letter for every kind but its main one; a kind has the same letter everywhere."""
    minor: list[list[tuple[str, ...]]] = []
    for frame in (f for f in frames if f is not None):
        kinds = dict.fromkeys(kind_of(row) for row in rows_of(frame))
        minor.append([kind for kind in kinds if kind != main_kind(frame)])
    letters = {
        kind: chr(ord("a") + i) for i, kind in enumerate(dict.fromkeys(kind for kinds in minor for kind in kinds))
    }
    found = iter(minor)
    return [{} if frame is None else {kind: letters[kind] for kind in next(found)} for frame in frames]


def kind_in_words(kind: tuple[str, ...]) -> str:
    """ "bf16 on a CPU, fashion-mnist, profile paper"."""
    dataset, profile, precision, device = kind
    return f"{precision} on a {DEVICES.get(device, device)}, {dataset}, profile {profile}"
