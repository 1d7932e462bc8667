"""The benchmark's record as tables and figures: time and memory of our layer beside nn.Conv2d and others."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from gdlayer.benchmarks.goals import FIRST_LAYER, GOALS, INFERENCE, SHAPES, TRAINING, Goal, Shape
from gdlayer.experiments.record import ResultsError
from gdlayer.report.records import ROOT

COMMITTED = ROOT / "data" / "bench"
"""The record in the repository, a file for each kind of device."""

Row = dict[str, Any]

_STYLES = {
    "conv2d": ("#000000", "o", "nn.Conv2d"),
    "full": ("#D55E00", "s", "full"),
    "separated": ("#0072B2", "D", "separated"),
    "synthesis": ("#E69F00", "^", "synthesis of the filters"),
}
_VARIED = {
    "bases": "bases $B$",
    "kernels": "kernels a basis $N$",
    "kernel_size": "kernel size $k$",
    "in_channels": "input maps $f_{in}$",
    "out_channels": "output maps $f_{out}$",
}


def read(path: Path) -> dict[str, Any]:
    """A record by part: "made" says when, where, with what and by which code, "rows" what was measured.

    Raises
    ------
    ResultsError
        If there is no record at ``path``.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if all({"made", "rows"} <= part.keys() for part in record.values()):
            return record
    except FileNotFoundError:
        raise ResultsError(f"{path} is not there; `make bench` makes results/bench/cpu.json") from None
    except (OSError, ValueError, AttributeError) as error:
        raise ResultsError(f"{path} is not a record of the benchmark ({error}); move it away") from error
    raise ResultsError(f"{path} is not a record of the benchmark; move it away")


def load(path: Path | str | None = None) -> list[Row]:
    """The rows of a record, the committed one of a CPU by default; each has its "part" and how it was "made".

    Raises
    ------
    ResultsError
        If there is no record.
    """
    record = read(COMMITTED / "cpu.json" if path is None else Path(path))
    return [{"part": name, "made": part["made"], **row} for name, part in record.items() for row in part["rows"]]


def select(records: Iterable[Row], **fields: Any) -> list[Row]:
    """The rows with these values."""
    return [row for row in records if all(row.get(name) == value for name, value in fields.items())]


def name(row: Row) -> str:
    """Layer and algorithm."""
    return " ".join(row[field] for field in ("layer", "algorithm") if field in row)


def shape_of(row: Row) -> Shape | None:
    """The shape that a row is about."""
    return Shape(*(row[field] for field in Shape._fields)) if "batch" in row else None


def judge(records: Sequence[Row]) -> list[tuple[Goal, Row | None, bool | None]]:
    """Every goal, the row with its ratio and whether it holds; None and None where it was not measured."""
    judged = []
    for goal in GOALS:
        row = next(iter(select(records, **goal.row)), None)
        holds = None if row is None else (row["ratio"] >= goal.limit if goal.at_least else row["ratio"] <= goal.limit)
        judged.append((goal, row, holds))
    return judged


def goals_table(records: Sequence[Row], kept: Sequence[Row] | None = None) -> pd.DataFrame:
    """A row a goal: limit, median ratio, its quartiles, whether it holds; and what ``kept`` measured."""
    table = pd.DataFrame(
        {
            "goal": goal.text,
            "shape": str(Shape(*(goal.row[f] for f in Shape._fields))) if "batch" in goal.row else "",
            "limit": f"{'≥' if goal.at_least else '≤'} {goal.limit:.2f}",
            "measured": _ratio(row),
            "quartiles": _quartiles(row),
            "holds": {True: "yes", False: "no", None: "—"}[holds],
        }
        for goal, row, holds in judge(records)
    )
    if kept is not None:
        table["on record"] = [_ratio(row) for _, row, _ in judge(kept)]
    return table


def ratio_figure(records: Sequence[Row]) -> Figure:
    """Time of a training step as part of nn.Conv2d's, a line a shape: median, quartiles, and the goal as a bar."""
    lines = [(shape, TRAINING) for shape in SHAPES]
    lines.insert(1, (SHAPES[0], FIRST_LAYER))
    figure, axis = plt.subplots(figsize=(7.5, 0.48 * len(lines) + 1), layout="constrained")
    axis.axvline(1, color="#000000", lw=1)
    for layer, offset in (("full", 0.15), ("separated", -0.15)):
        colour, marker, title = _STYLES[layer]
        for y, (shape, run) in enumerate(reversed(lines)):
            fields = {"layer": layer, "run": run, **shape._asdict()}
            for row in select(records, part="goals", **fields):
                low, high = row["ratio_quartiles"]
                axis.plot([low, high], [y + offset] * 2, color=colour, lw=2)
                axis.plot(row["ratio"], y + offset, marker, color=colour, ms=6, label=title)
            for goal in GOALS:
                if goal.row == {"part": "goals", **fields}:
                    axis.plot([goal.limit] * 2, [y + offset - 0.13, y + offset + 0.13], color=colour, lw=1)
    labels = [f"{shape}{' first layer' * (run == FIRST_LAYER)}" for shape, run in reversed(lines)]
    axis.set(yticks=range(len(lines)), yticklabels=labels, xlabel="time of a step / time of nn.Conv2d's; bar: goal")
    axis.set_ylabel("(batch, $f_{in}$, $f_{out}$, h = w, k, B)")
    axis.grid(axis="x", alpha=0.3)
    _legend(axis)
    return figure


def scaling_figure(records: Sequence[Row]) -> Figure:
    """Milliseconds of a training step against each size that varies, others as in the middle of the measurement."""
    figure, axes = plt.subplots(1, len(_VARIED), figsize=(13, 3.2), sharey=True, layout="constrained")
    for axis, (field, title) in zip(axes, _VARIED.items(), strict=True):
        rows = select(records, part="growth", varied="order" if field == "kernels" else field)
        for layer, (colour, marker, label) in _STYLES.items():
            own = select(rows, layer=layer)
            milliseconds = [1000 * row["seconds"] for row in own]
            axis.plot([row[field] for row in own], milliseconds, marker + "-", color=colour, ms=4, lw=1.2, label=label)
        values = sorted({row[field] for row in rows})
        axis.set(xlabel=title, xscale="log", yscale="log")
        axis.set_xticks(values, [str(value) for value in values])
        axis.minorticks_off()
        axis.yaxis.set_major_formatter("{x:g}")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("milliseconds a step")
    _legend(axes[-1])
    return figure


def roofline_figure(records: Sequence[Row]) -> Figure:
    """Forward passes in float32 under what the machine's arithmetic and memory allow."""
    figure, axis = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
    points = select(records, part="algorithms", run=INFERENCE)
    drawn = {"conv2d": {}, "full": {"algorithm": "dense"}, "separated": {"algorithm": "factorised"}}
    every = []
    for layer, fields in drawn.items():
        colour, marker, title = _STYLES[layer]
        rows = select(points, layer=layer, **fields)
        x = [2 * row["multiply_adds"] / row["bytes"] for row in rows]
        y = [2e-9 * row["multiply_adds"] / row["seconds"] for row in rows]
        axis.plot(x, y, marker, color=colour, ms=5, label=f"{title}, {fields['algorithm']}" if fields else title)
        every += x
    peak = select(records, part="roofline", layer="product", precision="fp32")
    copy = select(records, part="roofline", layer="copy")
    if peak and copy and every:
        flops, bytes_a_second = 2 * peak[0]["multiply_adds_a_second"], copy[0]["bytes_a_second"]
        x = np.geomspace(min(*every, flops / bytes_a_second) / 2, 2 * max(every), 200)
        axis.plot(x, 1e-9 * np.minimum(flops, x * bytes_a_second), color="#888888", lw=1.5, label="peak")
    axis.set(xlabel="operations a byte", ylabel="billion operations a second", xscale="log", yscale="log")
    for side in (axis.xaxis, axis.yaxis):
        side.set_major_formatter("{x:g}")
        side.set_minor_formatter(NullFormatter())
    axis.grid(alpha=0.3)
    _legend(axis)
    return figure


def algorithms_table(records: Sequence[Row]) -> pd.DataFrame:
    """Time as part of nn.Conv2d's, a row a shape and run, a column an algorithm; * is what the cost model chooses."""
    rows = [row for row in select(records, part="algorithms") if "algorithm" in row]
    cells = {}
    for row in rows:
        line = cells.setdefault((str(shape_of(row)), row["run"]), {})
        line[(row["layer"], row["algorithm"])] = f"{row['ratio']:.2f}" + "*" * row["chosen"]
    return _frame(cells, ["shape", "run"])


def precision_table(records: Sequence[Row]) -> pd.DataFrame:
    """In channels_last memory: milliseconds, part of nn.Conv2d's time in the same precision, errors against float32."""
    return pd.DataFrame(
        {
            "shape": str(shape_of(row)),
            "precision": row["precision"],
            "layer": name(row),
            "ms": _milliseconds(row),
            "ratio": _ratio(row),
            "output error": f"{row['output_error']:.1e}",
            "gradient error": f"{row['gradient_error']:.1e}",
        }
        for row in select(records, part="precision")
    )


def compiled_table(records: Sequence[Row]) -> pd.DataFrame:
    """torch.compile: a step beside the same layer without it and nn.Conv2d, and the seconds of compiling."""
    return pd.DataFrame(
        {
            "shape": str(shape_of(row)),
            "layer": row["layer"],
            "ms": _milliseconds(row),
            "ratio": _ratio(row),
            "compiling, s": f"{row['compile_seconds']:.0f}" if "compile_seconds" in row else "",
            "": row.get("unavailable", ""),
        }
        for row in select(records, part="compiled")
    )


def memory_table(records: Sequence[Row]) -> pd.DataFrame:
    """Peak of a training step: megabytes of nn.Conv2d, and what each algorithm takes as a multiple of it."""
    cells = {}
    for row in select(records, part="memory"):
        line = cells.setdefault((str(shape_of(row)),), {})
        if "ratio" in row:
            line[(row["layer"], row["algorithm"])] = _ratio(row)
        else:
            line[("nn.Conv2d", "MB")] = f"{row['peak_bytes'] / 1e6:.1f}"
    return _frame(cells, ["shape"])


def peers_table(records: Sequence[Row]) -> pd.DataFrame:
    """Training steps with the optimiser's: milliseconds, multiples of nn.Conv2d's time, parameters."""
    return pd.DataFrame(
        {
            "layer": row["layer"],
            "ms": _milliseconds(row),
            "ratio": _ratio(row),
            "quartiles": _quartiles(row),
            "parameters": f"{row['parameters']:,}" if "parameters" in row else "",
            "": row.get("unavailable", ""),
        }
        for row in select(records, part="peers")
    )


def step_table(records: Sequence[Row]) -> pd.DataFrame:
    """A training step of the Table 1 network: milliseconds, and part of the free-form network's with 7 x 7 filters."""
    return pd.DataFrame(
        {
            "network": row["layer"],
            "precision": row["precision"],
            "ms": _milliseconds(row),
            "ratio": _ratio(row),
            "quartiles": _quartiles(row),
        }
        for row in select(records, part="step")
    )


def runs(records: Sequence[Row]) -> pd.DataFrame:
    """Where the parts come from."""
    made = {row["part"]: row["made"] for row in records}
    return pd.DataFrame(
        {
            "part": part,
            "machine": f"{of['machine']['name']}, {of['machine']['threads']} thread",
            "torch": of["versions"]["torch"],
            "commit": str(of["git"]["commit"])[:10] + " with changes" * bool(of["git"]["dirty"]),
            "started": of["started"],
            "seconds": f"{of['seconds']:.0f}",
            "load": f"{of['load']:.1f}",
        }
        for part, of in made.items()
    )


TABLES = {
    "goals": goals_table,
    "algorithms": algorithms_table,
    "precision": precision_table,
    "memory": memory_table,
    "compiled": compiled_table,
    "peers": peers_table,
    "step": step_table,
}


def as_text(path: Path, kept: Path | None = None) -> str:
    """All tables of a record, the goals beside those of the record ``kept`` if it is there; the goals come last."""
    records = load(path)
    before = load(kept) if kept and kept.exists() and kept.resolve() != path.resolve() else None
    tables = {part: make(records) for part, make in TABLES.items() if part != "goals" and select(records, part=part)}
    tables["goals"] = goals_table(records, before)
    tables["from"] = runs(records)
    return "\n\n".join(f"{title}\n{_plain(table)}" for title, table in tables.items())


def _plain(table: pd.DataFrame) -> str:
    return table.to_string(index=table.index.names != [None], justify="left")


def _frame(cells: Mapping[tuple[str, ...], Mapping[tuple[str, str], str]], index: list[str]) -> pd.DataFrame:
    table = pd.DataFrame(list(cells.values()), index=pd.MultiIndex.from_tuples(cells, names=index)).fillna("—")
    table.columns = pd.MultiIndex.from_tuples(table.columns)
    return table


def _ratio(row: Row | None) -> str:
    return f"{row['ratio']:.2f}" if row and "ratio" in row else "—"


def _quartiles(row: Row | None) -> str:
    return "–".join(f"{q:.2f}" for q in row["ratio_quartiles"]) if row and "ratio_quartiles" in row else ""


def _milliseconds(row: Row) -> str:
    return f"{1000 * row['seconds']:.1f}" if "seconds" in row else "—"


def _legend(axis: Axes) -> None:
    """Every label once."""
    handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    axis.legend(list(handles.values()), list(handles), frameon=False, fontsize="small")
