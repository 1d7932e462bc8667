"""Figure 1 of the paper: a schematic of eqs (2), (3) and (4), drawn from the values of a given layer."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
from torch import Tensor

from gdlayer._plumbing.extras import extra
from gdlayer.conv import GaussianDerivativeConv2d

with extra("report"):
    from matplotlib import colormaps, rc_context, style
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch, Polygon, Rectangle

_INK, _LINE, _PAPER = "#222222", "#777777", "#eeeeee"
_COLOURS = (("#00795A", "#DDF1EA"), ("#A85C00", "#FBEBD3"), ("#5B4BB3", "#E8E5F8"))  # (line, background) per basis
_KERNEL, _CELL, _MAP = 0.46, 0.28, 0.46  # sides in inches
_GAP = 0.34  # width in inches of the dots that stand for all items left out


def draw(layer: GaussianDerivativeConv2d) -> Figure:
    """Draws the schematic of a layer with its present kernels, filters and weights.

    In a full layer, the basis on the left makes one filter for each pair of input map (column) and output map (row).
    In a separated layer, each row mixes the input maps by beta and convolves once, and each column on the right mixes
    the results by lambda. Each basis has its own colour and its own output maps. In long lists, dots replace the
    middle; the printed counts include everything. The bias is not drawn, as the equations have none.

    Red is positive, blue negative, white zero. Each kernel and filter has its own colour range, symmetric about zero.
    Each row of beta has its own as well, since its values depend on the size of the kernel; lambda has one range.

    Each drawn map, kernel and weight has a gid with the indices of the paper, starting at one: ``I-1``, ``phi-1-10``
    (b, n), ``filter-8-3`` (output map, i), ``J-8``, ``beta-1-10-3`` (b, n, i), ``between-1-10`` (b, n),
    ``lambda-1-10-8`` (b, n, output map).

    Raises
    ------
    TypeError
        If ``layer`` is not a Gaussian derivative layer.
    ValueError
        If it has groups.
    """
    if not isinstance(layer, GaussianDerivativeConv2d):
        raise TypeError(f"layer must be a GaussianDerivativeConv2d, got {type(layer).__name__}")
    if layer.groups > 1:
        raise ValueError(f"layer must have no groups, got {layer.groups}")
    with _own_style():
        canvas = _Canvas()
        (_separated if layer.separated else _full)(canvas, layer)
        return canvas.finish()


def svg(figure: Figure) -> str:
    """The figure as SVG. It holds no date or version, and glyphs are paths, so the same figure gives the same text."""
    stream = io.StringIO()
    with _own_style():
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def elide(count: int, slots: int) -> list[int | None]:
    """Indices 0, ..., count - 1 in at most ``slots`` places; None replaces two or more indices before the last one."""
    if count <= slots:
        return list(range(count))
    return [*range(slots - 2), None, count - 1]


@contextmanager
def _own_style() -> Iterator[None]:
    """Uses Matplotlib's default settings instead of the caller's."""
    with style.context("default"), rc_context({"svg.hashsalt": "gdlayer", "svg.fonttype": "path"}):
        yield


def _array(values: Tensor) -> np.ndarray:
    """A tensor as an array in float64."""
    return values.detach().cpu().double().numpy()


def _place(
    groups: Sequence[Sequence[int | None]], pitch: float, start: float, apart: float = 0.0
) -> tuple[list[list[float]], float]:
    """Centres of the items of consecutive groups, where dots (None) are narrower; and the end of the last group."""
    places, edge = [], start
    for group in groups:
        row = []
        for item in group:
            room = _GAP if item is None else pitch
            row.append(edge + room / 2)
            edge += room
        places.append(row)
        edge += apart
    return places, edge - apart


def _relative(weights: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """Weights divided by their largest absolute value along the axis."""
    limit = np.abs(weights).max(axis, keepdims=True)
    return weights / np.where(limit > 0, limit, 1)


class _Canvas:
    """A figure with one pair of axes, whose units are inches and whose y axis points down."""

    def __init__(self) -> None:
        self.figure = Figure(facecolor="white")
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self.width = self.height = 0.0

    def finish(self) -> Figure:
        """The figure, made wide enough for the drawing and all its texts."""
        self._fit(0, self.width)
        self.figure.draw_without_rendering()
        inches = self.axes.transData.inverted()
        extents = [text.get_window_extent().transformed(inches) for text in self.axes.texts]
        left, right = min(box.x0 for box in extents), max(box.x1 for box in extents)
        self._fit(min(0.0, left - 0.08), max(self.width, right + 0.08))
        return self.figure

    def _fit(self, left: float, right: float) -> None:
        self.axes.set(xlim=(left, right), ylim=(self.height, 0))
        self.figure.set_size_inches(right - left, self.height)

    def text(self, x: float, y: float, text: str, size: float = 9.5, colour: str = _INK, **options: Any) -> None:
        options = {"ha": "center", "va": "center", "zorder": 6, "math_fontfamily": "cm"} | options
        self.axes.text(x, y, text, fontsize=size, color=colour, **options)

    def sign(self, x: float, y: float, sign: str, ground: str = "white") -> None:
        """An operator, drawn on top of a line."""
        box = {"boxstyle": "circle,pad=0.08", "facecolor": ground, "edgecolor": "none"}
        self.text(x, y, f"${sign}$", size=10, bbox=box)

    def line(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        colour: str = _LINE,
        arrow: bool = False,
        width: float = 1.0,
    ) -> None:
        self.axes.plot(
            *zip(start, end, strict=True), color=colour, linewidth=width, zorder=2, solid_capstyle="butt", clip_on=False
        )
        if arrow:
            tip, along = np.array(end), np.subtract(end, start)
            along = 0.09 * along / np.hypot(*along)
            across = 0.4 * np.array((-along[1], along[0]))
            head = Polygon([tip, tip - along + across, tip - along - across], facecolor=colour, edgecolor="none")
            head.set(zorder=2, clip_on=False)
            self.axes.add_patch(head)

    def box(self, left: float, top: float, right: float, bottom: float, fill: str) -> None:
        """A coloured background for things that belong together."""
        rounded = "round,pad=0,rounding_size=0.07"
        shape = FancyBboxPatch((left, top), right - left, bottom - top, boxstyle=rounded, zorder=1)
        shape.set(facecolor=fill, edgecolor="none", clip_on=False)
        self.axes.add_patch(shape)

    def map(self, x: float, y: float, gid: str, label: str = "", fill: str = _PAPER, edge: str = _INK) -> None:
        """A feature map: a square with its name on it."""
        sheet = Rectangle((x - _MAP / 2, y - _MAP / 2), _MAP, _MAP, facecolor=fill, edgecolor=edge, lw=1.1, zorder=4)
        sheet.set(gid=gid, clip_on=False)
        self.axes.add_patch(sheet)
        if label:
            self.text(x, y, f"${label}$")

    def dots(self, x: float, y: float, vertical: bool = False, ground: str = "white") -> None:
        """Dots for what is left out, on a line or between lines."""
        box = {"boxstyle": "square,pad=0.1", "facecolor": ground, "edgecolor": "none"}
        self.text(x, y, r"$\vdots$" if vertical else r"$\cdots$", size=11, bbox=box)

    def image(self, x: float, y: float, gid: str, values: np.ndarray, edge: str) -> None:
        """An array as an image in a frame, with its aspect ratio; white is zero."""
        height, width = (_KERNEL * n / max(values.shape) for n in values.shape)
        limit = float(np.abs(values).max()) or 1.0
        extent = (x - width / 2, x + width / 2, y + height / 2, y - height / 2)
        options = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit, "interpolation": "none", "aspect": "auto"}
        self.axes.imshow(values, extent=extent, zorder=4, clip_on=False, gid=gid, **options)
        frame = Rectangle((extent[0], extent[3]), width, height, fill=False, edgecolor=edge, lw=1.1, zorder=5)
        self.axes.add_patch(frame).set_clip_on(False)

    def cell(self, x: float, y: float, gid: str, value: float, edge: str) -> None:
        """A weight: a small square, coloured by its value between -1 and 1."""
        colour = colormaps["RdBu_r"](0.5 + 0.5 * value)
        square = Rectangle((x - _CELL / 2, y - _CELL / 2), _CELL, _CELL, facecolor=colour, edgecolor=edge, lw=0.9)
        square.set(gid=gid, zorder=4, clip_on=False)
        self.axes.add_patch(square)


class _Plan:
    """Which parts of a layer are drawn, and their labels; these have an index b only if there are several bases."""

    def __init__(self, layer: GaussianDerivativeConv2d) -> None:
        self.f_in, self.f_out, self.bases = layer.in_channels, layer.out_channels, layer.bases
        self.orders = layer.orders
        self.kernels = _array(layer.kernels())  # (B, N, kh, kw)
        self.n, self.group = len(self.orders), self.f_out // self.bases
        self.inputs = elide(self.f_in, 4)
        self.shown = elide(self.bases, 3)
        slots = 4 if self.bases == 1 else 3
        self.outputs, self.terms = elide(self.group, slots), elide(self.n, slots)

    def colours(self, b: int) -> tuple[str, str]:
        return _COLOURS[self.shown.index(b)]

    def upper(self, b: int, *others: object) -> str:
        """A superscript: the number of the basis, if there are several, and the other indices."""
        return ",".join(str(part) for part in ([] if self.bases == 1 else [b + 1]) + list(others))

    def basis(self, b: int) -> str:
        name = "basis" if self.bases == 1 else f"basis {b + 1}"
        return f"{name}: $N = {self.n}$ {_plural('kernel', self.n)}"

    @staticmethod
    def maps(symbol: str, name: str, count: int) -> str:
        return f"${symbol}$: ${name} = {count}$ {_plural('map', count)}"

    def weights(self, formula: str, factors: str, count: int, symbols: str) -> str:
        """The last line: the number of weights."""
        equation = "(4)" if "beta" in symbols else "(2)" if self.bases == 1 else "(3)"
        several = "" if self.bases == 1 else f"$B = {self.bases}$ bases, "
        return f"eq. {equation}: {several}${formula} = {factors} = {count}$ weights ${symbols}$"


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else f"{noun}s"


def _inputs(canvas: _Canvas, plan: _Plan, columns: Sequence[float], y: float) -> None:
    for x, i in zip(columns, plan.inputs, strict=True):
        if i is None:
            canvas.dots(x, y)
        else:
            canvas.map(x, y, f"I-{i + 1}", f"I_{{{i + 1}}}")
    middle = (columns[0] + columns[-1]) / 2
    canvas.text(middle, y - 0.4, plan.maps("I", "f_{in}", plan.f_in))


def _kernel(canvas: _Canvas, plan: _Plan, b: int, n: int, x: float, y: float) -> None:
    edge, _ = plan.colours(b)
    canvas.image(x, y, f"phi-{b + 1}-{n + 1}", plan.kernels[b, n], edge)
    canvas.text(x, y - 0.36, rf"$\phi^{{{plan.upper(b, n + 1)}}}$", colour=edge)


def _full(canvas: _Canvas, layer: GaussianDerivativeConv2d) -> None:
    plan = _Plan(layer)
    omega = _array(layer.omega)  # (B, f_out/B, f_in, N)
    filters = np.einsum("bjin,bnyx->bjiyx", omega, plan.kernels)

    row, least, apart, sheets = 0.68, 1.45, 0.28, 0.62
    bank = elide(plan.n, 4)
    (kernels,), bank_right = _place([bank], 0.56, 0.12)
    left = bank_right + 0.85
    (columns,), right = _place([plan.inputs], 0.72, left)
    out = right + 0.5
    canvas.width = out + 0.6
    _inputs(canvas, plan, columns, sheets)

    top = sheets + 0.5
    blocks: list[tuple[int, list[float], float, float]] = []
    for b in plan.shown:
        if b is None:
            for x in (bank_right / 2, *columns, out):
                canvas.dots(x, top + 0.1, vertical=True)
            top += 0.2 + apart
            continue
        (rows,), bottom = _place([plan.outputs], row, top)
        spare = max(0.0, least - (bottom - top)) / 2
        blocks.append((b, [y + spare for y in rows], top, bottom + 2 * spare))
        top = bottom + 2 * spare + apart
    for x, i in zip(columns, plan.inputs, strict=True):
        if i is not None:
            canvas.line((x, sheets + _MAP / 2), (x, blocks[-1][1][-1]))

    for b, rows, upper, lower in blocks:
        edge, tint = plan.colours(b)
        middle = (upper + lower) / 2
        canvas.box(left - 0.04, upper - 0.1, right + 0.04, lower, tint)
        canvas.box(0.08, middle - 0.55, bank_right + 0.04, middle + 0.55, tint)
        canvas.text((0.12 + bank_right) / 2, middle - 0.7, plan.basis(b), colour=edge)
        for x, n in zip(kernels, bank, strict=True):
            if n is None:
                canvas.dots(x, middle, ground=tint)
                continue
            _kernel(canvas, plan, b, n, x, middle)
            p, q = plan.orders[n]
            canvas.text(x, middle + 0.37, f"$G_{{{p},{q}}}$", size=8.5, colour=edge)
        canvas.line((bank_right + 0.08, middle), (left - 0.08, middle), colour=edge, arrow=True, width=1.6)
        symbol = rf"$\omega^{{{plan.upper(b, 'i')}}}_{{j,n}}$"
        canvas.text((bank_right + left) / 2, middle - 0.2, symbol, size=12, colour=edge)
        for y, j in zip(rows, plan.outputs, strict=True):
            if j is None:
                for x in (*columns, out):
                    canvas.dots(x, y, vertical=True, ground="white" if x == out else tint)
                continue
            output = b * plan.group + j + 1
            canvas.line((columns[0], y), (out - _MAP / 2, y), colour=edge, arrow=True)
            canvas.map(out, y, f"J-{output}", f"J_{{{output}}}", tint, edge)
            for x, i in zip(columns, plan.inputs, strict=True):
                if i is None:
                    canvas.dots(x, y, ground=tint)
                else:
                    canvas.image(x, y, f"filter-{output}-{i + 1}", filters[b, j, i], edge)
                    canvas.sign(x, y - row / 2, "*", tint)
            for before, after in pairwise(columns):
                canvas.sign((before + after) / 2, y, "+", tint)
        if plan.bases > 1:
            canvas.text(out + 0.42, middle, f"$f_{{out}}/B = {plan.group}$", colour=edge, rotation=90)

    canvas.text(right + 0.12, blocks[0][1][0] - 0.42, plan.maps("J", "f_{out}", plan.f_out), ha="left")
    factors = rf"{plan.n} \cdot {plan.f_in} \cdot {plan.f_out}"
    canvas.text(0.08, top + 0.05, plan.weights(r"N\,f_{in}\,f_{out}", factors, omega.size, r"\omega"), ha="left")
    canvas.height = top + 0.22


def _separated(canvas: _Canvas, layer: GaussianDerivativeConv2d) -> None:
    plan = _Plan(layer)
    beta, lam = _array(layer.beta), _array(layer.lam)  # (B, N, f_in), (B, f_out/B, N)
    shades = [_relative(beta, 2), _relative(lam, (0, 1, 2))]

    row, apart, sheets = 0.7, 0.2, 0.62
    (columns,), right = _place([plan.inputs], 0.52, 0.5)
    kernel, between = right + 0.75, right + 1.75
    blocks = [plan.outputs if b is not None else [None] for b in plan.shown]
    places, end = _place(blocks, 0.52, between + 0.75, 0.1)
    tops, bottom = _place([plan.terms if b is not None else [None] for b in plan.shown], row, sheets + 0.42, apart)
    canvas.width = end + 0.12
    canvas.height = bottom + 0.42
    _inputs(canvas, plan, columns, sheets)
    for x, i in zip(columns, plan.inputs, strict=True):
        if i is not None:
            canvas.line((x, sheets + _MAP / 2), (x, tops[-1][-1]))

    for b, outputs, rows in zip(plan.shown, places, tops, strict=True):
        if b is None:
            for x in (columns[0], columns[-1], kernel, between):
                canvas.dots(x, rows[0], vertical=True)
            canvas.dots(outputs[0], sheets)
            continue
        edge, tint = plan.colours(b)
        upper, lower = rows[0] - row / 2, rows[-1] + row / 2
        canvas.box(columns[0] - 0.3, upper, right + 0.04, lower, tint)
        canvas.text(0.22, (upper + lower) / 2, rf"$\beta^{{{plan.upper(b, 'i')}}}_n$", size=12, colour=edge)
        symbol = r"$\lambda_{j,n}$" if plan.bases == 1 else rf"$\lambda^{{{b + 1}}}_{{j,n}}$"
        canvas.text(outputs[0] - 0.49, rows[0] - 0.2, symbol, size=12, colour=edge)
        canvas.box(outputs[0] - 0.26, upper, outputs[-1] + 0.26, lower, tint)
        for x, j in zip(outputs, plan.outputs, strict=True):
            if j is None:
                canvas.dots(x, sheets)
                continue
            output = b * plan.group + j + 1
            canvas.line((x, rows[-1]), (x, sheets + _MAP / 2), colour=edge, arrow=True)
            canvas.map(x, sheets, f"J-{output}", f"J_{{{output}}}", tint, edge)
        for y, n in zip(rows, plan.terms, strict=True):
            if n is None:
                for x in (*columns, kernel, between, *outputs):
                    canvas.dots(x, y, vertical=True, ground="white" if x in (kernel, between) else tint)
                continue
            canvas.line((columns[0], y), (kernel - _KERNEL / 2 - 0.02, y), colour=edge, arrow=True)
            canvas.sign(right + 0.2, y, "*")
            _kernel(canvas, plan, b, n, kernel, y)
            canvas.line((kernel + _KERNEL / 2, y), (between - _MAP / 2, y), colour=edge, arrow=True)
            canvas.line((between, y), (outputs[-1], y), colour=edge)
            canvas.map(between, y, f"between-{b + 1}-{n + 1}", "", tint, edge)
            for x, i in zip(columns, plan.inputs, strict=True):
                if i is None:
                    canvas.dots(x, y, ground=tint)
                else:
                    canvas.cell(x, y, f"beta-{b + 1}-{n + 1}-{i + 1}", shades[0][b, n, i], edge)
            for x, j in zip(outputs, plan.outputs, strict=True):
                if j is None:
                    canvas.dots(x, y, ground=tint)
                else:
                    gid = f"lambda-{b + 1}-{n + 1}-{b * plan.group + j + 1}"
                    canvas.cell(x, y, gid, shades[1][b, j, n], edge)

    bases, count = ("basis", "N") if plan.bases == 1 else (f"$B = {plan.bases}$ bases", r"B\,N")
    canvas.text(kernel, sheets, f"{bases}:\n$N = {plan.n}$\n{_plural('kernel', plan.n)}", linespacing=1.3)
    total = plan.bases * plan.n
    text = f"intermediate\ntensor:\n${count} = {total}$ {_plural('map', total)}"
    canvas.text(between, sheets, text, linespacing=1.3)
    each = "" if plan.bases == 1 else f", $f_{{out}}/B = {plan.group}$ from each basis"
    canvas.text((places[0][0] + places[-1][-1]) / 2, sheets - 0.4, plan.maps("J", "f_{out}", plan.f_out) + each)
    several, times = ("", "") if plan.bases == 1 else (r"B\,", rf"{plan.bases} \cdot ")
    factors = rf"{plan.n} \cdot ({times}{plan.f_in} + {plan.f_out})"
    line = plan.weights(rf"N\,({several}f_{{in}} + f_{{out}})", factors, beta.size + lam.size, r"\beta, \lambda")
    canvas.text(0.08, bottom + 0.22, line, ha="left")
