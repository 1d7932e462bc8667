"""All tables at a glance: ours minus the paper's, the verdicts on its claims, and where the records come from."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from gdlayer.datasets import nuclei
from gdlayer.experiments.trial import EXPERIMENTS, PROFILES, TRIALS, Table1Trial, Table2Trial, Table3Trial, load_profile
from gdlayer.report import claims, markup, table1, table2, table3
from gdlayer.report.cells import DEVICES, Selector, find, marks, published_at, rows_of, still_to_run
from gdlayer.report.chapter import Loaded, load
from gdlayer.report.judgements import PAPER_LAYERS, judged_claims
from gdlayer.report.missing import duration, planned
from gdlayer.report.records import COMMITTED, FULLEST, every_record, load_records, missing_provenance

_COLOURS = colormaps["RdBu"]
_RANGE = Normalize(-5, 5, clip=True)
"""Percentage points at the ends of the colours; what is beyond has the colour of the end."""


class Panel(NamedTuple):
    """One table of the heat map: selectors of rows and columns that together name a cell and a metric."""

    experiment: str
    title: str
    rows: Mapping[str, Selector]
    columns: Mapping[str, Selector]


def panels(tables: Mapping[str, Loaded]) -> list[Panel]:
    """What the heat map shows: every cell that the paper has a number for, by network, source network and data set."""
    accuracy = {"metric": "test_accuracy"}
    made = []

    def profile(experiment: str) -> str:
        return f" (profile {tables[experiment].profile})"

    for network in Table1Trial.networks:
        sizes = _asked(tables["table1"], "n_train", {"network": network})
        rows = {f"{n:,}": {"n_train": n, "network": network, **accuracy} for n in table1.SIZES if n in sizes}
        columns = {table1.TITLES[layer]: {"layer": layer} for layer in PAPER_LAYERS}
        made.append(Panel("table1", f"Table 1, {network} network{profile('table1')}", rows, columns))
    for source in Table2Trial.sources:
        if source in _asked(tables["table2"], "source", {}):
            rows = {table2.TITLES[layer]: {"layer": layer, "source": source} for layer in Table2Trial.layers}
            columns = {part: {"metric": f"{part}_accuracy"} for part in ("val", "test")}
            made.append(Panel("table2", f"Table 2, {table2.SOURCES[source]}{profile('table2')}", rows, columns))
    for dataset in tables["table3"].datasets:
        if dataset not in Table3Trial.not_in_paper:
            rows = {table3.TITLES[layer]: {"layer": layer, "dataset": dataset} for layer in ("unet", "gaussian-unet")}
            columns = {"accuracy, by tile": {"split": "tile", "metric": "pixel_accuracy"}}
            made.append(Panel("table3", f"Table 3, {nuclei.LABELS[dataset]}{profile('table3')}", rows, columns))
    return [panel for panel in made if panel.rows]


def _asked(loaded: Loaded, name: str, selector: Selector) -> set[Any]:
    """Values of a cell's field that are planned or have records."""
    return {*find(loaded.plan, selector)[name], *find(loaded.cells, selector)[name]}


class Entry(NamedTuple):
    """A cell of the heat map: ours minus the paper's in percentage points, None where nothing was run; and its text."""

    difference: float | None
    text: str


def entry(loaded: Loaded, selector: Selector) -> Entry | None:
    """The cell's difference, of its kind of run with the most seeds; None where the paper has no number."""
    number = published_at(loaded.experiment, selector)
    if number is None:
        return None
    found = list(rows_of(find(loaded.cells, selector)))
    if not found:
        return Entry(None, duration(*still_to_run(loaded.plan, selector)))
    row = max(found, key=lambda row: row.seeds)
    sign = marks(row.dataset, row.profile) + "*" * (len(found) > 1)
    return Entry(row.mean - number, f"{claims.signed(row.mean - number)}{sign}\nn = {row.seeds}")


def heat_map(tables: Mapping[str, Loaded]) -> Figure:
    """Ours minus the paper's in percentage points, cell by cell, with the number of seeds; hatched where not run yet.

    ``*``: other runs of the cell, on another device or in another precision, are in its chapter.

    Parameters
    ----------
    tables : {experiment: as :func:`gdlayer.report.chapter.load` gives it}
    """
    shown = panels(tables)
    entries = [
        [[entry(tables[p.experiment], {**row, **column}) for column in p.columns.values()] for row in p.rows.values()]
        for p in shown
    ]
    heights = [max(len(p.rows), 2) for p in shown]
    figure, axes = plt.subplots(
        len(shown),
        1,
        figsize=(8.2, 0.4 * sum(heights) + 0.8 * len(shown)),
        squeeze=False,
        layout="constrained",
        height_ratios=heights,
    )
    for axis, panel, grid in zip(axes.flat, shown, entries, strict=True):
        _draw(axis, panel, grid)
    bar = figure.colorbar(ScalarMappable(_RANGE, _COLOURS), ax=axes, shrink=0.5, aspect=30, extend="both")
    bar.set_label("ours minus the paper's, percentage points")
    return figure


def _draw(axis: Axes, panel: Panel, grid: Sequence[Sequence[Entry | None]]) -> None:
    for y, line in enumerate(grid):
        for x, cell in enumerate(line):
            if cell is None:
                continue
            if cell.difference is None:
                axis.add_patch(Rectangle((x, y), 1, 1, facecolor="white", edgecolor="#bbbbbb", hatch="////", lw=0))
                ink, ground = "black", {"facecolor": "white", "edgecolor": "none", "pad": 1}
            else:
                depth = float(_RANGE(cell.difference))
                axis.add_patch(Rectangle((x, y), 1, 1, facecolor=_COLOURS(depth)))
                ink, ground = "white" if abs(depth - 0.5) > 0.3 else "black", None
            axis.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor="white", lw=2))
            axis.text(x + 0.5, y + 0.5, cell.text, ha="center", va="center", size=8, color=ink, bbox=ground)
    axis.set(
        xlim=(0, len(panel.columns)),
        ylim=(len(panel.rows), 0),
        xticks=[x + 0.5 for x in range(len(panel.columns))],
        yticks=[y + 0.5 for y in range(len(panel.rows))],
    )
    axis.set_title(panel.title, size=10, loc="left")
    axis.set_xticklabels(panel.columns, size=8)
    axis.set_yticklabels(panel.rows, size=8)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def verdicts(tables: Mapping[str, Loaded]) -> str:
    """HTML: a row a claim of the paper, how many of its cases hold, fail and are undecided."""
    rows = []
    for experiment, loaded in tables.items():
        said = claims.quotes(experiment)
        for claim in judged_claims(loaded):
            (quote, *_) = said[claim.name]
            rows.append(
                [f"“{escape(quote.text)}” <small>({quote.where})</small>", _link(experiment), claims.tally(claim)]
            )
    return markup.table(["claim", "", "cases"], rows, "results claims")


def _link(experiment: str) -> str:
    return f'<a href="{experiment}.html">{EXPERIMENT_TITLES[experiment]}</a>'


EXPERIMENT_TITLES = {
    "table1": "Table 1",
    "table2": "Table 2",
    "table3": "Table 3",
    "table1-search": "rates of Table 1",
    "table1-search-full": "rates of Table 1, full budget",
    "table2-search": "rates of Table 2",
    "table3-search": "rates of Table 3",
    "table1-precision": "precision, Table 1",
}


def provenance(folder: Path, profile: str, datasets: Mapping[str, Sequence[str]], committed: Path = COMMITTED) -> str:
    """HTML: a row an experiment under a profile: trials run, and with what, where and by which commits; hours.

    Parameters
    ----------
    folder : folder of records
    profile : str
        Or :data:`gdlayer.report.records.FULLEST`: the full protocol and whatever else has records.
    datasets : {table: names}
    committed : folder
        By which is judged how long trials take.
    """
    kept = [record for _, record in every_record(committed)]
    rows = []
    for name in PROFILES[::-1] if profile == FULLEST else [profile]:
        for experiment in (e for e in TRIALS if e in load_profile(name)):
            cls = TRIALS[experiment]
            known = [dataset for dataset in datasets[cls.table] if dataset in cls.datasets]
            records = load_records(folder, name, experiment, known)
            if not records and (name != "paper" and profile == FULLEST):
                continue
            plan = planned(name, experiment, known, records, kept)
            total, missing = (sum(plan[column].tolist()) for column in ("planned", "missing"))
            lacking = sum(bool(missing_provenance(record)) for record in records)
            rows.append(
                [
                    f"{EXPERIMENT_TITLES[experiment]}, {name}",
                    f"{total - missing} of {total}",
                    _all(r["hyperparameters"]["precision"] for r in records),
                    _all(f"{DEVICES.get(r['machine']['device'], '')}: {r['machine']['name']}" for r in records),
                    _all(f"torch {r['versions']['torch']}, gdlayer {r['versions']['gdlayer']}" for r in records),
                    _all(f"{str(r['git']['commit'])[:7]}{'+' * bool(r['git']['dirty'])}" for r in records),
                    f"{sum(r['seconds'] for r in records) / 3600:.1f}",
                    duration(missing, sum(plan["seconds"].tolist())) if missing else "",
                    str(lacking or ""),
                ]
            )
    head = ["", "trials", "precision", "machine", "versions", "commits", "hours", "to run", "incomplete"]
    return markup.table(head, rows, "results claims") + markup.note(
        "Commits: + with changes that were not committed. Hours: of training, so far. To run: estimated, on one core."
        " Incomplete: records that do not tell where, with what or on which data they were made."
    )


def _all(values: Any) -> str:
    """The different values, in order."""
    return "<br>".join(map(escape, sorted(set(values)))) or "—"


def load_all(results: str | Path, profile: str, datasets: Mapping[str, str]) -> dict[str, Loaded]:
    """Every experiment as its chapter shows it: {experiment: ...}; data sets separated by commas."""
    return {experiment: load(results, profile, experiment, datasets[experiment]) for experiment in EXPERIMENTS}
