"""All tables at a glance: ours minus the paper's, the verdicts on its claims, and where the records come from."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from gdlayer._plumbing.extras import extra
from gdlayer.report import claims, markup
from gdlayer.report.cells import DEVICES, Selector, marks, published_at, rows_of, select, still_to_run
from gdlayer.report.grid import Panel
from gdlayer.report.judgements import judgements
from gdlayer.report.loaded import FULLEST, Loaded, load
from gdlayer.report.plans import duration, planned
from gdlayer.trials.plan import asked_by
from gdlayer.trials.record import every_record, load_records
from gdlayer.trials.registry import experiments
from gdlayer.trials.trial import PROFILES

with extra("report"):
    import matplotlib.pyplot as plt
    from matplotlib import colormaps
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

PROVENANCE = {
    "git": ("commit", "dirty"),
    "versions": ("gdlayer", "python", "torch", "numpy"),
    "machine": ("device", "name", "cores", "threads", "system"),
    "data": ("name", "source", "sha256"),
    "hyperparameters": ("precision", "steps"),
}
"""What says where, with what, by which code and on which data a record was made, besides its start and duration."""

_COLOURS = colormaps["RdBu"]
_RANGE = Normalize(-5, 5, clip=True)
"""Percentage points at the ends of the colours; what is beyond has the colour of the end."""


def panels(tables: Mapping[str, Loaded]) -> list[tuple[Loaded, Panel]]:
    """What the heat map shows: the tables of each experiment, as its page has them, if they are not empty."""
    return [
        (loaded, panel) for loaded in tables.values() for panel in loaded.experiment.page.panels(loaded) if panel.rows
    ]


class Entry(NamedTuple):
    """A cell of the heat map: ours minus the paper's in percentage points, None where nothing was run; and its text."""

    difference: float | None
    text: str


def entry(loaded: Loaded, selector: Selector) -> Entry | None:
    """The cell's difference, of its kind of run with the most seeds; None where the paper has no number."""
    number = published_at(loaded.experiment, selector)
    if number is None:
        return None
    found = list(rows_of(select(loaded.cells, selector)))
    if not found:
        return Entry(None, duration(*still_to_run(loaded.plan, selector)))
    row = max(found, key=lambda row: row.seeds)
    pending, _ = still_to_run(loaded.plan, selector)
    sign = marks(loaded.experiment, row._asdict()) + "*" * (pending > 0) + "‖" * (len(found) > 1)
    return Entry(row.mean - number, f"{claims.signed(row.mean - number)}{sign}\nn = {row.seeds}")


def heat_map(tables: Mapping[str, Loaded]) -> Figure:
    """Ours minus the paper's in percentage points, cell by cell, with the number of seeds; hatched where not run yet.

    Signs as :data:`gdlayer.report.cells.MARKS`; ``‖``: other runs of the cell, on another device or in another
    precision, are in its chapter.

    Parameters
    ----------
    tables : {experiment: as :func:`gdlayer.report.loaded.load` gives it}
    """
    shown = panels(tables)
    heights = [max(len(panel.rows), 2) for _, panel in shown]
    figure, axes = plt.subplots(
        len(shown),
        1,
        figsize=(8.2, 0.4 * sum(heights) + 0.8 * len(shown)),
        squeeze=False,
        layout="constrained",
        height_ratios=heights,
    )
    for axis, (loaded, panel) in zip(axes.flat, shown, strict=True):
        entries = [
            [entry(loaded, {**row, **column}) for column in panel.columns.values()] for row in panel.rows.values()
        ]
        _draw(axis, panel, entries)
        axis.set_title(f"{panel.title} (profile {loaded.profile})", size=10, loc="left")
    bar = figure.colorbar(ScalarMappable(_RANGE, _COLOURS), ax=axes, shrink=0.5, aspect=30, extend="both")
    bar.set_label("ours minus the paper's, percentage points")
    return figure


def _draw(axis: Axes, panel: Panel, entries: Sequence[Sequence[Entry | None]]) -> None:
    for y, line in enumerate(entries):
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
    axis.set_xticklabels(panel.columns, size=8)
    axis.set_yticklabels(panel.rows, size=8)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def verdicts(tables: Mapping[str, Loaded]) -> Markup:
    """HTML: a row per claim of the paper, a column per verdict with the number of its cases."""
    judged = [(name, loaded, claim) for name, loaded in tables.items() for claim in judgements(loaded)]
    told = {row.verdict for *_, claim in judged for row in claim.rows}
    columns = [verdict for verdict in claims.VERDICTS if verdict in told]
    rows = []
    for name, loaded, claim in judged:
        quote = loaded.experiment.quotes[claim.name][0]
        counts = [count(claim.rows, verdict) for verdict in columns]
        chapter = markup.link(loaded.experiment.title, f"{name}.html")
        rows.append([claims.quoted(quote.text, quote.where), chapter, *counts])
    table = markup.table(["claim", "", *columns], rows, "results claims")
    return markup.folded("Every claim in full, with the number of cases per verdict", table)


def count(rows: Iterable[claims.Row], verdict: str) -> str:
    """How many cases have a verdict, and whether by construction; "" for none."""
    tags = [row.tag for row in rows if row.verdict == verdict]
    return markup.lines(str(len(tags)), *(markup.small(tag) for tag in sorted({*tags}) if tag)) if tags else ""


def provenance(profile: str, tables: Mapping[str, Loaded]) -> Markup:
    """HTML: a row per experiment, search and check: trials run, and with what, where and by which commits; hours.

    Parameters
    ----------
    profile : str
        Or :data:`gdlayer.report.loaded.FULLEST`: the full protocol and whatever else has records.
    tables : {experiment: as :func:`gdlayer.report.loaded.load` gives it}
    """
    ((folder, committed),) = {(loaded.folder, loaded.committed) for loaded in tables.values()}
    kept = [] if committed is None else [record for _, record in every_record(committed)]
    rows = []
    for name in PROFILES[::-1] if profile == FULLEST else [profile]:
        for kind, cls in asked_by(name).items():
            datasets = [dataset for dataset in tables[cls.belongs_to].datasets if dataset in cls.datasets]
            records = load_records(folder, name, kind, datasets)
            if not records and name != "paper" and profile == FULLEST:
                continue
            plan = planned(name, kind, datasets, records, kept)
            total, missing = (sum(plan[column].tolist()) for column in ("planned", "missing"))
            lacking = sum(bool(missing_provenance(record)) for record in records)
            rows.append(
                [
                    f"{cls.title}, {name}",
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
    table = markup.table(head, rows, "results claims")
    return markup.folded("Trials, machines, versions and commits", table) + markup.note(
        "Commits: + with changes that were not committed. Hours: of training, so far. To run: estimated, on one core."
        " Incomplete: records that do not tell where, with what or on which data they were made."
    )


def _all(values: Iterable[str]) -> str:
    """The different values, in order."""
    return markup.lines(*sorted(set(values))) or "—"


def missing_provenance(record: dict[str, Any]) -> list[str]:
    """What a record does not tell of :data:`PROVENANCE`, as dotted names."""
    flat = [name for name in ("started", "seconds", "peak_memory_bytes", "parameters") if record.get(name) is None]
    return flat + [
        f"{part}.{name}"
        for part, names in PROVENANCE.items()
        for name in names
        if (record.get(part) or {}).get(name) is None
    ]


def load_all(
    results: str | Path | None, profile: str, datasets: str = "", committed: Path | None = None
) -> dict[str, Loaded]:
    """Every experiment that a profile asks for, as its chapter shows it: {experiment: ...}.

    Parameters
    ----------
    results, profile, committed : as for :func:`gdlayer.report.loaded.load`
    datasets : "experiment=name,name experiment=name"
        By default all that have records, or if none has the paper's own.
    """
    chosen = dict(part.split("=") for part in datasets.split())
    return {
        name: load(results, profile, name, chosen.get(name, ""), committed)
        for name, experiment in experiments().items()
        if profile == FULLEST or experiment.has(profile, name)
    }
