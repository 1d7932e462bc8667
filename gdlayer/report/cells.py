"""From records to cells: averages over seeds beside the paper's numbers."""

import csv
import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from gdlayer.experiments.progress import in_words
from gdlayer.experiments.trial import EXPERIMENTS
from gdlayer.report import markup
from gdlayer.report.records import ROOT

KIND = ("dataset", "profile", "precision", "device")
"""What is never averaged together, and never stands side by side unmarked."""
DEVICES = {"cpu": "CPU", "cuda": "GPU"}

Selector = Mapping[str, Any]
"""Values of some columns: which rows of the summary a row or column of a table shows."""


def published(experiment: str, folder: Path = ROOT / "data" / "paper") -> dict[tuple[tuple[str, ...], str], float]:
    """The paper's numbers of a table: {(cell, metric): percent}, a cell as the trials' ``paper_cell`` names it."""
    with (folder / f"{experiment}.csv").open(encoding="utf-8", newline="") as stream:
        return {
            (tuple(v for k, v in row.items() if k not in ("metric", "percent")), row["metric"]): float(row["percent"])
            for row in csv.DictReader(stream)
        }


def published_at(experiment: str, selector: Selector) -> float | None:
    """The paper's number of the cell and metric that a selector names; None where the paper has none."""
    cls = EXPERIMENTS[experiment]
    if selector.get("dataset") in cls.not_in_paper:
        return None
    full = {**cls.cell_defaults(), **selector}
    cell = cls.paper_cell(*(full[name] for name in ("layer", *cls.cell_fields())))
    return published(experiment).get((cell, full["metric"]))


def per_trial(records: Iterable[dict[str, Any]], experiment: str) -> pd.DataFrame:
    """One row a record and metric, in percent: what names the cell, its :data:`KIND`, parameters, seed and seconds.

    Parameters
    ----------
    records : of a table, or of the searches and checks that belong to it
    experiment : "table1", "table2" or "table3"
    """
    names = ("layer", *EXPERIMENTS[experiment].cell_fields())
    rows = [
        {name: r["trial"][name] for name in (*names, "dataset", "profile")}
        | {
            "precision": r["hyperparameters"]["precision"],
            "device": r["machine"]["device"],
            "parameters": r["parameters"],
            "metric": metric,
            "seed": r["trial"]["seed"],
            "value": 100 * value,
            "seconds": r["seconds"],
        }
        for r in records
        for metric, value in r["metrics"].items()
    ]
    return pd.DataFrame(rows, columns=[*names, *KIND, "parameters", "metric", "seed", "value", "seconds"])


def summarise(records: Iterable[dict[str, Any]], experiment: str) -> pd.DataFrame:
    """One row a cell and metric: mean, deviation and 95 % interval over seeds, in percent, beside the paper's number.

    Rows differ by layer and what else names a cell, and also by data set, profile, precision and device: those are
    never averaged together. ``low`` and ``high`` bound the mean by Student's t, and are empty for one seed.
    """
    cls = EXPERIMENTS[experiment]
    names = ("layer", *cls.cell_fields())
    keys = [*names, *KIND, "parameters", "metric"]
    cells = (
        per_trial(records, experiment)
        .groupby(keys, sort=False, as_index=False)
        .agg(seeds=("value", "size"), mean=("value", "mean"), std=("value", "std"), seconds=("seconds", "sum"))
    )
    half = half_width(cells["std"].to_numpy(), cells["seeds"].to_numpy())  # NaN for one seed
    cells["low"], cells["high"] = cells["mean"] - half, cells["mean"] + half
    paper = published(experiment)
    cells["paper"] = [
        paper.get((cls.paper_cell(*cell), metric), np.nan) if dataset not in cls.not_in_paper else np.nan
        for *cell, dataset, metric in cells[[*names, "dataset", "metric"]].itertuples(index=False)
    ]
    order = {layer: i for i, layer in enumerate(cls.layers)}
    by = [*cls.cell_fields(), "dataset", "layer", "profile"]
    cells = cells.sort_values(by, key=lambda c: c.map(order) if c.name == "layer" else c, kind="stable")
    return cells.reset_index(drop=True)


def half_width(std: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Half of the 95 % interval of a mean by Student's t: t_{0.975, n-1} s / sqrt(n)."""
    return student_t.ppf(0.975, count - 1) * std / np.sqrt(count)


def write_csv(cells: pd.DataFrame, path: Path) -> None:
    """The cells as a CSV file, three decimals."""
    cells.to_csv(path, index=False, float_format="%.3f", lineterminator="\n")


def find(cells: pd.DataFrame, selector: Selector) -> pd.DataFrame:
    """The rows with just these values."""
    chosen = np.ones(len(cells), bool)
    for name, value in selector.items():
        chosen &= (cells[name] == value).to_numpy()
    return cells.loc[chosen]


def rows_of(frame: pd.DataFrame) -> Iterator[Any]:
    """The rows, each with its columns as attributes."""
    return iter(frame.itertuples(index=False))


def grid(
    experiment: str,
    rows: Mapping[str, Selector],
    columns: Mapping[str, Selector],
    cells: pd.DataFrame,
    record: pd.DataFrame | None = None,
    plan: pd.DataFrame | None = None,
    *,
    corner: str = "",
    foot: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """HTML of a table: our values with their 95 % intervals, under them the paper's number in parentheses.

    Every cell says what it is: † embedded stand-in instead of the data set, ‡ smaller budget than the full protocol;
    a letter marks what was made with another data set, profile, precision or device than most. What is planned but
    not run yet says so, and how long it takes; a dash where nothing is planned. With ``record``, another line shows
    the committed record in brackets.

    Parameters
    ----------
    experiment : "table1", "table2" or "table3"
    rows, columns : {heading: selector}
        A row's and a column's selector together name a cell and a metric; what they leave open is as by default.
        Headings are HTML.
    cells, record : as :func:`summarise` gives them
    plan : as :func:`gdlayer.report.missing.planned` gives it
    corner : HTML of the first heading
    foot : {heading: one text a column}, optional
    """
    defaults = EXPERIMENTS[experiment].cell_defaults()
    selectors = [[{**defaults, **row, **column} for column in columns.values()] for row in rows.values()]
    every = [selector for line in selectors for selector in line]
    own = _shown(cells, every)
    kept = None if record is None else _shown(record, every)
    own_letters, kept_letters = kind_letters(own, kept)
    same = len(set(own["seeds"])) <= 1
    left: dict[tuple[Any, ...], float] = {}
    """Seconds by cell: its metrics come from the same trials."""

    def entry(selector: Selector) -> str:
        pending, seconds = (0, 0.0) if plan is None else still_to_run(plan, selector)
        left[tuple(value for name, value in sorted(selector.items()) if name != "metric")] = seconds
        lines = values(find(cells, selector), own_letters, pending, counted=not same or pending > 0)
        if pending and not lines:
            lines = [f"<small>not run<br>{in_words(seconds or None)}</small>"]
        lines = lines or ["—"]
        if record is not None:
            lines.append(f"<small>[{'<br>'.join(values(find(record, selector), kept_letters)) or '—'}]</small>")
        if (number := published_at(experiment, selector)) is not None:
            lines.append(f"<small>({number:.1f})</small>")
        return "<br>".join(lines)

    body = {heading: [entry(s) for s in line] for heading, line in zip(rows, selectors, strict=True)}
    table = markup.table([corner, *columns], body | dict(foot or {}))
    return table + markup.note(legend(table, own, kept, sum(left.values())))


def _shown(cells: pd.DataFrame, selectors: Iterable[Selector]) -> pd.DataFrame:
    """The rows that any of the selectors finds."""
    found = [index for selector in selectors for index in find(cells, selector).index]
    return cells.loc[found]


def still_to_run(plan: pd.DataFrame, selector: Selector) -> tuple[int, float]:
    """Trials without a record among those that a selector names, and about how many seconds they take."""
    chosen = find(plan, {name: value for name, value in selector.items() if name in plan})
    return sum(chosen["missing"].tolist()), sum(chosen["seconds"].tolist())


def marks(dataset: str, profile: str) -> str:
    """† for the embedded stand-in of a data set, ‡ for a smaller budget than the full protocol."""
    embedded = dataset.endswith(("-sample", "-synthetic"))
    return ("†" if embedded else "") + ("‡" if profile != "paper" else "")


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


def values(
    cells: pd.DataFrame, letters: Mapping[tuple[str, ...], str], pending: int = 0, *, counted: bool = False
) -> list[str]:
    """The cells as texts: mean, :func:`marks` and letter, below half of the interval and, if ``counted``, seeds."""
    total = pending + sum(cells["seeds"].tolist())
    lines = []
    for row in rows_of(cells):
        letter = letters.get(kind_of(row), "")
        below = [f"± {row.high - row.mean:.1f}"] if row.seeds > 1 else []
        if counted:
            below.append(f"n = {row.seeds}{f' of {total}' if pending else ''}")
        lines.append(f"{row.mean:.1f}{marks(row.dataset, row.profile)}{f'<sup>{letter}</sup>' if letter else ''}")
        lines += [f"<small>{line}</small>" for line in below]
    return lines


def kinds_in_words(letters: Mapping[tuple[str, ...], str]) -> str:
    """What the letters stand for."""
    return "; ".join(f"<sup>{letter}</sup> {kind_in_words(kind)}" for kind, letter in letters.items())


def kind_in_words(kind: tuple[str, ...]) -> str:
    """ "bf16 on a CPU, fashion-mnist, profile paper"."""
    dataset, profile, precision, device = kind
    return html.escape(f"{precision} on a {DEVICES.get(device, device)}, {dataset}, profile {profile}")


def legend(table: str, own: pd.DataFrame, kept: pd.DataFrame | None = None, left: float = 0.0) -> str:
    """What the signs in a rendered table mean, those that are there; and what it was made with."""
    counts = sorted(set(own["seeds"]))
    notes = ["Percent; in parentheses the paper's."]
    if "±" in table:
        notes.append("± half of the 95 % interval over seeds (Student's t).")
    if "n =" in table:
        notes.append("n: seeds.")
    elif counts:
        notes.append(f"{markup.seeds(counts[0]).capitalize()} a cell.")
    if (kind := main_kind(own)) is not None:
        notes.append(f"Made in {kind_in_words(kind)}.")
    if kept is not None:
        made = main_kind(kept)
        notes.append(
            f"In brackets: the run kept in the repository{'' if made is None else f', {kind_in_words(made)}'}."
        )
    letters = {kind: letter for found in kind_letters(own, kept) for kind, letter in found.items()}
    notes += [f"Otherwise: {kinds_in_words(letters)}."] if letters else []
    if "†" in table:
        notes.append("† Trained and tested on the stand-in embedded in the repository, not on the data set.")
    if "‡" in table:
        every = own if kept is None else pd.concat([own, kept])
        reduced = html.escape(", ".join(sorted({p for p in every["profile"] if p != "paper"})))
        notes.append(f"‡ Reduced budget (profile {reduced}): cannot be held against the paper's number.")
    if left:
        notes.append(f"Not run yet: with about how long that takes on one core, {in_words(left)} in all.")
    if "—" in table:
        notes.append("— No record: not part of this run, or the embedded stand-in is too small for it.")
    return " ".join(notes)
