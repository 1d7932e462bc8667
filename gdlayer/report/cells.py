"""From records to cells: averages over seeds beside the paper's numbers."""

import csv
import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t as student_t

from gdlayer.experiments.trial import EXPERIMENTS, load_choices
from gdlayer.report.records import ROOT, load_records

COMMITTED = ROOT / "data" / "results"
COMMITTED_PROFILE = "quick"
"""The record in the repository, and the profile it was made with."""


def published(experiment: str, folder: Path = ROOT / "data" / "paper") -> dict[tuple[tuple[str, ...], str], float]:
    """The paper's numbers of a table: {(cell, metric): percent}, a cell as the trials' ``paper_cell`` names it."""
    with (folder / f"{experiment}.csv").open(encoding="utf-8", newline="") as stream:
        return {
            (tuple(v for k, v in row.items() if k not in ("metric", "percent")), row["metric"]): float(row["percent"])
            for row in csv.DictReader(stream)
        }


def summarise(records: Iterable[dict[str, Any]], experiment: str) -> pd.DataFrame:
    """One row a cell and metric: mean, deviation and 95 % interval over seeds, in percent, beside the paper's number.

    Rows differ by layer and what else names a cell, and also by data set, profile, precision and device: those are
    never averaged together. ``low`` and ``high`` bound the mean by Student's t, and are empty for one seed.
    """
    cls = EXPERIMENTS[experiment]
    names = ("layer", *cls.cell_fields())
    rows = [
        {name: r["trial"][name] for name in (*names, "dataset", "profile")}
        | {
            "precision": r["hyperparameters"]["precision"],
            "device": r["machine"]["device"],
            "parameters": r["parameters"],
            "metric": metric,
            "value": 100 * value,
            "seconds": r["seconds"],
        }
        for r in records
        for metric, value in r["metrics"].items()
    ]
    keys = [*names, "dataset", "profile", "precision", "device", "parameters", "metric"]
    table = pd.DataFrame(rows, columns=[*keys, "value", "seconds"])
    cells = table.groupby(keys, sort=False, as_index=False).agg(
        seeds=("value", "size"), mean=("value", "mean"), std=("value", "std"), seconds=("seconds", "sum")
    )
    half = student_t.ppf(0.975, cells["seeds"] - 1) * cells["std"] / np.sqrt(cells["seeds"])  # NaN for one seed
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


class Loaded(NamedTuple):
    """An experiment's records, their cells, and beside a user's own run the cells of the committed record."""

    records: list[dict[str, Any]]
    cells: pd.DataFrame
    record: pd.DataFrame | None


def load(results: str, profile: str, experiment: str, datasets: str) -> Loaded:
    """What a chapter shows.

    Parameters
    ----------
    results : folder of records
    profile, experiment : str
    datasets : str
        Names separated by commas.
    """
    names = datasets.split(",")
    records = load_records(Path(results), profile, experiment, names)
    kept = []
    if Path(results).resolve() != COMMITTED.resolve():
        kept = load_records(COMMITTED, COMMITTED_PROFILE, experiment, names)
    return Loaded(records, summarise(records, experiment), summarise(kept, experiment) if kept else None)


def in_words(value: Any) -> str:
    """A setting as text; tables as "key value; ..."."""
    if isinstance(value, dict):
        return "; ".join(f"{key} {in_words(item)}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def choices_table(experiment: str) -> str:
    """Markdown of every choice that the paper leaves open: its value and reason."""

    rows = [
        f"| {name.replace('_', ' ')} | {in_words(choice['value'])} | {choice['reason']} |"
        for name, choice in load_choices(experiment).items()
    ]
    return "\n".join(["| choice | value | reason |", "|---|---|---|", *rows])


def runs(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Where the records come from: a column a kind of run, with its trials and hours; empty without records."""
    made = pd.DataFrame(
        {
            "data": r["data"].get("label", r["data"]["name"]),
            "commit": str(r["git"]["commit"])[:10] + " with changes" * bool(r["git"]["dirty"]),
            "torch": r["versions"]["torch"],
            "machine": f"{r['machine']['name']}, {r['machine']['threads']} thread",
            "precision": r["hyperparameters"]["precision"],
            "hours": r["seconds"] / 3600,
        }
        for r in records
    )
    if made.empty:
        return made
    kinds = [name for name in made if name != "hours"]
    table = made.groupby(kinds, as_index=False).agg(trials=("hours", "size"), hours=("hours", "sum"))
    table["hours"] = table["hours"].map("{:.2f}".format)
    return table.T


def write_csv(cells: pd.DataFrame, path: Path) -> None:
    """The cells as a CSV file, three decimals."""
    cells.to_csv(path, index=False, float_format="%.3f", lineterminator="\n")


Selector = Mapping[str, Any]
"""Values of some columns: which rows of the summary a row or column of a table shows."""


def find(cells: pd.DataFrame, selector: Selector) -> pd.DataFrame:
    """The rows with just these values."""
    chosen = np.ones(len(cells), bool)
    for name, value in selector.items():
        chosen &= (cells[name] == value).to_numpy()
    return cells.loc[chosen]


def grid(
    experiment: str,
    rows: Mapping[str, Selector],
    columns: Mapping[str, Selector],
    cells: pd.DataFrame,
    record: pd.DataFrame | None = None,
    *,
    corner: str = "",
    foot: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """HTML of a table: our values, the paper's number in parentheses under them.

    Every cell says what it is: † embedded stand-in instead of the data set, ‡ smaller budget than the full protocol;
    a dash where no record exists. With ``record``, another line shows the committed record in brackets.

    Parameters
    ----------
    experiment : "table1", "table2" or "table3"
    rows, columns : {heading: selector}
        A row's and a column's selector together name a cell and a metric; what they leave open is as by default.
        Headings are HTML.
    cells, record : as :func:`summarise` gives them
    corner : HTML of the first heading
    foot : {heading: one text a column}, optional
    """
    cls, paper = EXPERIMENTS[experiment], published(experiment)

    def entry(selector: Selector) -> str:
        selector = {**cls.cell_defaults(), **selector}
        lines = [values(find(cells, selector))]
        if record is not None:
            lines.append(f"<small>[{values(find(record, selector))}]</small>")
        names = ("layer", *cls.cell_fields())
        number = paper.get((cls.paper_cell(*(selector[name] for name in names)), selector["metric"]))
        if number is not None and selector.get("dataset") not in cls.not_in_paper:
            lines.append(f"<small>({number:.1f})</small>")
        return "<br>".join(lines)

    head = "".join(f"<th>{heading}</th>" for heading in (corner, *columns))
    body = {heading: [entry({**row, **column}) for column in columns.values()] for heading, row in rows.items()} | dict(
        foot or {}
    )
    lines = "".join(
        f"<tr><th>{heading}</th>{''.join(f'<td>{text}</td>' for text in texts)}</tr>" for heading, texts in body.items()
    )
    table = f'<table class="results"><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>'
    return f"{table}\n<p><small>{legend(table, cells, record)}</small></p>"


def marks(dataset: str, profile: str) -> str:
    """† for the embedded stand-in of a data set, ‡ for a smaller budget than the full protocol."""
    embedded = dataset.endswith(("-sample", "-synthetic"))
    return ("†" if embedded else "") + ("‡" if profile != "paper" else "")


def values(cells: pd.DataFrame) -> str:
    """The cells as text, mean ± deviation with :func:`marks`, separated by commas; a dash for none."""
    texts = [
        f"{mean:.1f}{f' ± {std:.1f}' if seeds > 1 else ''}{marks(dataset, profile)}"
        for mean, std, seeds, dataset, profile in cells[["mean", "std", "seeds", "dataset", "profile"]].values
    ]
    return ", ".join(texts) or "—"


def legend(shown: str, cells: pd.DataFrame, record: pd.DataFrame | None = None) -> str:
    """What the signs in a rendered table mean, those that are there."""
    every = cells if record is None else pd.concat([cells, record])
    seeds = sorted(set(cells["seeds"]))
    notes = [
        f"Percent, mean ± standard deviation over seeds ({' or '.join(map(str, seeds)) or 'no'} "
        f"seed{'s' * (seeds != [1])} a cell); in parentheses the paper's."
    ]
    if record is not None:
        notes.append("In brackets: the run kept in the repository.")
    if "†" in shown:
        notes.append("† Trained and tested on the stand-in embedded in the repository, not on the data set.")
    if "‡" in shown:
        reduced = html.escape(", ".join(sorted({p for p in every["profile"] if p != "paper"})))
        notes.append(f"‡ Reduced budget (profile {reduced}): cannot be held against the paper's number.")
    if "—" in shown:
        notes.append("— No record: the trial was not run, or the embedded stand-in is too small for it.")
    return " ".join(notes)
