"""Tables and figures of the benchmark's record. Needs no torch."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gdlayer._plumbing.extras import extra
from gdlayer.benchmarks.goals import FIRST_LAYER, GOALS, HELD_OUT_SHAPES, INFERENCE, SHAPES, TRAINING, Goal, Shape
from gdlayer.benchmarks.measurements import Row, describe, read
from gdlayer.trials.provenance import committed_data

with extra("report"):
    import matplotlib.pyplot as plt
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLES = {
    "conv2d": ("#000000", "o", "nn.Conv2d"),
    "full": ("#D55E00", "s", "full"),
    "separated": ("#0072B2", "D", "separated"),
    "synthesis": ("#E69F00", "^", "synthesis of the filters"),
}
_WIDTH = 5
"""Of figures, in inches: a phone shows them at nearly this size."""
_VARIED = {
    "bases": "bases $B$",
    "kernels": "kernels per basis $N$",
    "kernel_size": "kernel size $k$",
    "in_channels": "input maps $f_{in}$",
    "out_channels": "output maps $f_{out}$",
}


def load(path: Path | str | None = None) -> list[Row]:
    """The rows of a record, by default the committed one of a CPU; each row has its "part" and how it was "made".

    Raises
    ------
    ResultsError
        If there is no record.
    """
    record = read(committed_data() / "bench" / "cpu.json" if path is None else Path(path))
    return [{"part": name, "made": part["made"], **row} for name, part in record.items() for row in part["rows"]]


def select(records: Iterable[Row], **fields: Any) -> list[Row]:
    """The rows with these values."""
    return [row for row in records if all(row.get(name) == value for name, value in fields.items())]


def shape_of(row: Row) -> Shape | None:
    """The shape that a row was measured on; None for a row without one."""
    return Shape(*(row[field] for field in Shape._fields)) if "batch" in row else None


def check_goals(records: Sequence[Row]) -> list[tuple[Goal, Row | None, bool | None]]:
    """Each goal with the row that has its ratio and whether it holds; (goal, None, None) if it was not measured."""
    judged = []
    for goal in GOALS:
        row = next(iter(select(records, **goal.row)), None)
        holds = None if row is None else (row["ratio"] >= goal.limit if goal.at_least else row["ratio"] <= goal.limit)
        judged.append((goal, row, holds))
    return judged


def goals_table(records: Sequence[Row], kept: Sequence[Row] | None = None) -> pd.DataFrame:
    """One line per goal: limit, median ratio, quartiles, whether it holds; and the ratio in the record ``kept``."""
    table = pd.DataFrame(
        {
            "goal": goal.text,
            "shape": str(Shape(*(goal.row[f] for f in Shape._fields))) if "batch" in goal.row else "",
            "limit": f"{'≥' if goal.at_least else '≤'} {goal.limit:.2f}",
            "measured": _ratio(row),
            "quartiles": _quartiles(row),
            "holds": {True: "yes", False: "no", None: "—"}[holds],
        }
        for goal, row, holds in check_goals(records)
    )
    if kept is not None:
        table["on record"] = [_ratio(row) for _, row, _ in check_goals(kept)]
    return table


def ratio_figure(records: Sequence[Row]) -> Figure:
    """Ratio of a training step to nn.Conv2d's, one line per shape: median, quartiles, and the goal as a bar."""
    lines = [(shape, TRAINING) for shape in SHAPES]
    lines.insert(1, (SHAPES[0], FIRST_LAYER))
    figure, axis = plt.subplots(figsize=(_WIDTH, 0.48 * len(lines) + 1.3), layout="constrained")
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
                    axis.plot([goal.limit] * 2, [y + offset - 0.15, y + offset + 0.15], color=colour, lw=1.5)
    labels = [f"{shape}{', first' * (run == FIRST_LAYER)}" for shape, run in reversed(lines)]
    axis.set(yticks=range(len(lines)), yticklabels=labels, xlabel="time / time of nn.Conv2d")
    axis.grid(axis="x", alpha=0.3)
    _legend_above(figure, axis)
    return figure


def scaling_figure(records: Sequence[Row]) -> Figure:
    """Milliseconds of a training step against each size that varies, the others as in ``GROWTH``."""
    figure, axes = plt.subplots(3, 2, figsize=(_WIDTH, 7.5), sharey=True, layout="constrained")
    *panels, spare = axes.flat
    spare.remove()
    for axis, (field, title) in zip(panels, _VARIED.items(), strict=True):
        rows = select(records, part="growth", varied="order" if field == "kernels" else field)
        for layer, (colour, marker, label) in _STYLES.items():
            own = select(rows, layer=layer)
            milliseconds = [1000 * row["seconds"] for row in own]
            axis.plot([row[field] for row in own], milliseconds, marker + "-", color=colour, ms=4, lw=1.2, label=label)
        values = sorted({row[field] for row in rows})
        axis.set(xlabel=title)
        if values:
            axis.set(xscale="log", yscale="log")
            axis.set_xticks(values, [str(value) for value in values])
            axis.minorticks_off()
            axis.yaxis.set_major_formatter("{x:g}")
        axis.grid(alpha=0.3)
    for axis in axes[:, 0]:
        axis.set_ylabel("ms")
    _legend_above(figure, panels[0])
    return figure


def roofline_table(records: Sequence[Row]) -> pd.DataFrame:
    """Forward passes in float32: operations, bytes, speed, and the speed as a fraction of the roof."""
    peaks = _peaks(records)
    lines = []
    for row in (row for rows in _forward(records).values() for row in rows):
        intensity, speed = _position(row)
        lines.append(
            {
                "shape": str(shape_of(row)),
                "layer": describe(row),
                "million multiply-adds": f"{row['multiply_adds'] / 1e6:.1f}",
                "MB": f"{row['bytes'] / 1e6:.1f}",
                "operations per byte": f"{intensity:.0f}",
                "billion operations per second": f"{speed:.1f}",
                "of the roof": f"{speed / min(peaks[0], intensity * peaks[1]):.0%}" if peaks else "—",
            }
        )
    return pd.DataFrame(lines)


def _forward(records: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows that count operations, by layer."""
    rows = [row for row in select(records, part="algorithms", run=INFERENCE) if shape_of(row) in SHAPES]
    drawn = {"conv2d": {}, "full": {"algorithm": "dense"}, "separated": {"algorithm": "factorised"}}
    return {layer: found for layer, fields in drawn.items() if (found := select(rows, layer=layer, **fields))}


def _position(row: Row) -> tuple[float, float]:
    """Operations per byte, and billions of operations per second; a multiply-add is two operations."""
    return 2 * row["multiply_adds"] / row["bytes"], 2e-9 * row["multiply_adds"] / row["seconds"]


def _peaks(records: Sequence[Row]) -> tuple[float, float] | None:
    """The machine's peaks: billions of operations and of bytes per second."""
    arithmetic = select(records, part="roofline", precision="fp32")
    copy = select(records, part="roofline", layer="copy")
    if not (arithmetic and copy):
        return None
    return 2e-9 * max(row["multiply_adds_a_second"] for row in arithmetic), 1e-9 * copy[0]["bytes_a_second"]


def algorithms_table(records: Sequence[Row]) -> pd.DataFrame:
    """Ratio to nn.Conv2d's time per shape, run and algorithm; * marks the choice of the cost model."""
    rows = [row for row in select(records, part="algorithms") if "algorithm" in row]
    cells = {}
    for row in rows:
        line = cells.setdefault((str(shape_of(row)), row["run"]), {})
        line[(row["layer"], row["algorithm"])] = f"{row['ratio']:.2f}" + "*" * row["chosen"]
    return _frame(cells, ["shape", "run"])


def auto_times(records: Sequence[Row]) -> dict[tuple[Any, ...], float]:
    """Time of what "auto" takes over that of the fastest algorithm, in the part "choice".

    By (shape, layer, precision, run, whether the images are in channels_last memory).
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in select(records, part="choice"):
        if "algorithm" in row:
            case = shape_of(row), row["layer"], row["precision"], row["run"], row["images_last"]
            groups.setdefault(case, []).append(row)
    return {
        case: next(row["seconds"] for row in rows if row["chosen"]) / min(row["seconds"] for row in rows)
        for case, rows in groups.items()
    }


def choice_table(records: Sequence[Row]) -> pd.DataFrame:
    """Time of what "auto" takes over that of the fastest algorithm: of all runs and memory formats the largest."""
    cells = {}
    for (shape, layer, precision, *_), slower in auto_times(records).items():
        line = cells.setdefault((str(shape), "held out" if shape in HELD_OUT_SHAPES else "fitted"), {})
        line[(layer, precision)] = max(line.get((layer, precision), 0.0), slower)
    shown = {key: {column: f"{slower:.2f}" for column, slower in line.items()} for key, line in cells.items()}
    return _frame(shown, ["shape", ""]).sort_index(axis=1, level=0, sort_remaining=False, kind="stable")


def growth_table(records: Sequence[Row]) -> pd.DataFrame:
    """Milliseconds of a training step where one size varies."""
    cells = {}
    for row in select(records, part="growth"):
        field = "kernels" if row["varied"] == "order" else row["varied"]
        cells.setdefault((field.replace("_", " "), str(row[field])), {})[(row["layer"], "ms")] = _milliseconds(row)
    return _frame(cells, ["varied", "value"])


def precision_table(records: Sequence[Row]) -> pd.DataFrame:
    """In channels_last memory: time beside nn.Conv2d in the same precision, errors against float32."""
    return pd.DataFrame(
        {
            "shape": str(shape_of(row)),
            "precision": row["precision"],
            "layer": describe(row),
            **_times(row),
            "output error": f"{row['output_error']:.1e}",
            "gradient error": f"{row['gradient_error']:.1e}",
        }
        for row in select(records, part="precision")
    )


def compiled_table(records: Sequence[Row]) -> pd.DataFrame:
    """torch.compile: a step beside those of nn.Conv2d and the same layer uncompiled, and the seconds to compile."""
    return pd.DataFrame(
        {
            "shape": str(shape_of(row)),
            "layer": row["layer"],
            **_times(row),
            "compiling, s": f"{row['compile_seconds']:.0f}" if "compile_seconds" in row else "",
            "": row.get("unavailable", ""),
        }
        for row in select(records, part="compiled")
    )


def depthwise_table(records: Sequence[Row]) -> pd.DataFrame:
    """Training steps of depthwise layers: milliseconds, and ratio to a depthwise nn.Conv2d."""
    return pd.DataFrame(
        {"shape": str(shape_of(row)), "layer": row["layer"], **_times(row)} for row in select(records, part="depthwise")
    )


def sampling_table(records: Sequence[Row]) -> pd.DataFrame:
    """Training steps by sampling: ratios of the layer to nn.Conv2d, and of the synthesis to that by points."""
    cells = {}
    for row in select(records, part="sampling"):
        layer, _, sampling = row["layer"].partition(", ")
        if sampling:
            line = cells.setdefault((str(shape_of(row)), sampling), {})
            line |= {(layer, "ms"): _milliseconds(row), (layer, "ratio"): _ratio(row)}
    return _frame(cells, ["shape", "sampling"])


def grid_table(records: Sequence[Row]) -> pd.DataFrame:
    """Ratio to nn.Conv2d's time by kernel size, image size and run; depthwise layers to a depthwise nn.Conv2d's."""
    cells = {}
    for row in select(records, part="grid"):
        line = cells.setdefault((str(row["kernel_size"]), str(row["size"]), row["run"]), {})
        if "ratio" in row:
            line[(row["layer"], "")] = _ratio(row)
        else:
            line[(row["layer"], "ms")] = _milliseconds(row)
    return _frame(cells, ["k", "pixels", "run"])


def memory_table(records: Sequence[Row]) -> pd.DataFrame:
    """Peak memory of a training step: megabytes of nn.Conv2d, and the ratio of each algorithm to it."""
    cells = {}
    for row in select(records, part="memory"):
        line = cells.setdefault((str(shape_of(row)),), {})
        if "ratio" in row:
            line[(row["layer"], row["algorithm"])] = _ratio(row)
        else:
            line[("nn.Conv2d", "MB")] = f"{row['peak_bytes'] / 1e6:.1f}"
    return _frame(cells, ["shape"])


def peers_table(records: Sequence[Row]) -> pd.DataFrame:
    """Training steps including the optimiser's: milliseconds, ratio to nn.Conv2d, parameters."""
    return pd.DataFrame(
        {
            "layer": row["layer"],
            **_times(row),
            "parameters": f"{row['parameters']:,}" if "parameters" in row else "",
            "": row.get("unavailable", ""),
        }
        for row in select(records, part="peers")
    )


def step_table(records: Sequence[Row]) -> pd.DataFrame:
    """A training step of the Table 1 network: milliseconds, and ratio to the free-form network with 7 x 7 filters."""
    return pd.DataFrame(
        {"network": row["layer"], "precision": row["precision"], **_times(row)} for row in select(records, part="step")
    )


def runs(records: Sequence[Row]) -> pd.DataFrame:
    """Machine, versions, commit and time of each part."""
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
    "choice": choice_table,
    "growth": growth_table,
    "roofline": roofline_table,
    "precision": precision_table,
    "memory": memory_table,
    "compiled": compiled_table,
    "depthwise": depthwise_table,
    "sampling": sampling_table,
    "grid": grid_table,
    "peers": peers_table,
    "step": step_table,
}


def as_text(path: Path, kept: Path | None) -> str:
    """All tables of a record as text. The goals stand near the end, beside the record ``kept`` if there is one."""
    records = load(path)
    before = load(kept) if kept and kept.exists() and kept.resolve() != path.resolve() else None
    tables = {part: make(records) for part, make in TABLES.items() if part != "goals" and select(records, part=part)}
    tables["goals"] = goals_table(records, before)
    tables["from"] = runs(records)
    return "\n\n".join(f"{title}\n{_plain(table)}" for title, table in tables.items())


def _plain(table: pd.DataFrame) -> str:
    """A table as aligned text."""
    flat = table.reset_index() if table.index.names[0] else table
    heads = [" ".join(filter(None, head)) if isinstance(head, tuple) else head for head in flat.columns]
    lines = [heads, *flat.to_numpy().tolist()]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _frame(cells: Mapping[tuple[str, ...], Mapping[tuple[str, str], str]], index: list[str]) -> pd.DataFrame:
    table = pd.DataFrame(list(cells.values()), index=pd.MultiIndex.from_tuples(cells, names=index)).fillna("—")
    table.columns = pd.MultiIndex.from_tuples(table.columns)
    return table


def _times(row: Row) -> dict[str, str]:
    return {"ms": _milliseconds(row), "ratio": _ratio(row), "quartiles": _quartiles(row)}


def _ratio(row: Row | None) -> str:
    return f"{row['ratio']:.2f}" if row and "ratio" in row else "—"


def _quartiles(row: Row | None) -> str:
    return "–".join(f"{q:.2f}" for q in row["ratio_quartiles"]) if row and "ratio_quartiles" in row else ""


def _milliseconds(row: Row) -> str:
    return f"{1000 * row['seconds']:.1f}" if "seconds" in row else "—"


def _legend_above(figure: Figure, axis: Axes) -> None:
    """A legend that lists each label once, in two columns."""
    handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    figure.legend(list(handles.values()), list(handles), loc="outside upper center", ncols=2, frameon=False)
