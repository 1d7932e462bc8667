"""The schematic of Figure 1 shows the numbers, kernels and weights of the layer."""

import xml.etree.ElementTree as ET
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text
from torch import nn

from gdlayer import GaussianDerivativeConv2d
from gdlayer.plot.schematic import draw, elide, svg

LAYERS = {
    "eq 2": {"in_channels": 3, "out_channels": 8},
    "eq 3": {"in_channels": 3, "out_channels": 8, "bases": 2},
    "eq 4": {"in_channels": 3, "out_channels": 8, "separated": True},
    "eq 4, bases": {"in_channels": 3, "out_channels": 8, "bases": 2, "separated": True},
    "wide": {"in_channels": 16, "out_channels": 32, "bases": 16, "kernel_size": (5, 9)},
    "wide, separated": {"in_channels": 64, "out_channels": 64, "bases": 8, "separated": True, "order": 4},
    "three bases": {"in_channels": 2, "out_channels": 3, "bases": 3, "order": 1, "separated": True},
    "own basis each": {"in_channels": 1, "out_channels": 5, "bases": 5, "order": [(1, 0), (0, 1)]},
    "least": {"in_channels": 1, "out_channels": 1, "order": 0},
    "least, separated": {"in_channels": 1, "out_channels": 1, "order": 0, "separated": True},
    "half precision": {"in_channels": 2, "out_channels": 2, "dtype": torch.bfloat16},
}


def make(**arguments: Any) -> GaussianDerivativeConv2d:
    options: dict[str, Any] = {"kernel_size": 7}
    return GaussianDerivativeConv2d(**options | arguments)


@pytest.fixture(scope="module", params=LAYERS)
def layer(request: pytest.FixtureRequest) -> GaussianDerivativeConv2d:
    torch.manual_seed(0)
    return make(**LAYERS[request.param])


@pytest.fixture(scope="module")
def figure(layer: GaussianDerivativeConv2d) -> Figure:
    return draw(layer)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]


def gids(figure: Figure, kind: str) -> dict[tuple[int, ...], Any]:
    """The artists of one kind, by the numbers in their gids."""
    named = [(gid, artist) for artist in figure.findobj() if (gid := artist.get_gid())]
    assert len({gid for gid, _ in named}) == len(named), "a gid twice"
    parts = [(gid.split("-"), artist) for gid, artist in named]
    return {tuple(map(int, numbers)): artist for (name, *numbers), artist in parts if name == kind}


def shown(count: int, slots: int) -> list[int]:
    """The numbers, starting at one, that dots do not replace."""
    return [i + 1 for i in elide(count, slots) if i is not None]


def test_the_numbers_are_the_layers(layer: GaussianDerivativeConv2d, figure: Figure):
    B, N, f_in, f_out = layer.bases, len(layer.orders), layer.in_channels, layer.out_channels
    found = texts(figure)
    assert f"$I$: $f_{{in}} = {f_in}$ map{'s' * (f_in > 1)}" in found
    outputs = [text for text in found if text.startswith(f"$J$: $f_{{out}} = {f_out}$ map{'s' * (f_out > 1)}")]
    assert len(outputs) == 1
    assert any(f"$N = {N}$" in text for text in found)
    if B > 1:
        assert any(f"$f_{{out}}/B = {f_out // B}$" in text for text in found)
    mixing = ("beta", "lam") if layer.separated else ("omega",)
    count = sum(getattr(layer, name).numel() for name in mixing)
    (last,) = (text for text in found if text.startswith("eq. "))
    assert last.startswith("eq. (4): " if layer.separated else "eq. (2): " if B == 1 else "eq. (3): ")
    assert f"= {count}$ weights" in last
    assert (f"$B = {B}$ bases" in last) == (B > 1)
    product = last.split(" = ")[-2].replace(r"\cdot", "*")  # the formula with numbers
    assert eval(product) == count
    if layer.separated:
        total = f"$B\\,N = {B * N}$" if B > 1 else f"$N = {N}$"
        assert f"intermediate\ntensor:\n{total} map{'s' * (B * N > 1)}" in found


def test_the_parts_are_the_layers(layer: GaussianDerivativeConv2d, figure: Figure):
    B, N, group = layer.bases, len(layer.orders), layer.out_channels // layer.bases
    slots = 4 if B == 1 else 3
    inputs, bases = shown(layer.in_channels, 4), shown(B, 3)
    outputs = [((b - 1) * group + j, b) for b in bases for j in shown(group, slots)]
    kernels = [(b, n) for b in bases for n in shown(N, slots if layer.separated else 4)]
    assert sorted(gids(figure, "I")) == [(i,) for i in inputs]
    assert sorted(gids(figure, "J")) == [(j,) for j, _ in outputs]
    assert sorted(gids(figure, "phi")) == kernels
    between = kernels if layer.separated else []
    assert sorted(gids(figure, "between")) == between
    assert sorted(gids(figure, "beta")) == [(b, n, i) for b, n in between for i in inputs]
    lambdas = [(b, n, j) for b, n in between for j, group_of in outputs if group_of == b]
    assert sorted(gids(figure, "lambda")) == lambdas
    filters = [] if layer.separated else [(j, i) for j, _ in outputs for i in inputs]
    assert sorted(gids(figure, "filter")) == filters
    found = texts(figure)
    for i in inputs:
        assert f"$I_{{{i}}}$" in found
    for j, _ in outputs:
        assert f"$J_{{{j}}}$" in found
    for b, n in kernels:
        assert rf"$\phi^{{{n if B == 1 else f'{b},{n}'}}}$" in found
    complete = len(outputs) == layer.out_channels and len(inputs) == layer.in_channels and len(kernels) == B * N
    dots = [text for text in found if text in (r"$\cdots$", r"$\vdots$")]
    assert complete == (not dots)


def test_images_are_the_kernels_and_filters(layer: GaussianDerivativeConv2d, figure: Figure):
    with torch.no_grad():
        kernels, filters = layer.kernels().double().numpy(), layer.filters().double().numpy()
    for (b, n), image in gids(figure, "phi").items():
        assert isinstance(image, AxesImage)
        np.testing.assert_array_equal(image.get_array(), kernels[b - 1, n - 1])
    for (j, i), image in gids(figure, "filter").items():
        tolerance = 1e-2 if layer.omega.dtype == torch.bfloat16 else 1e-6
        np.testing.assert_allclose(image.get_array(), filters[j - 1, i - 1], rtol=0, atol=tolerance)


def test_orders_stand_below_the_kernels_of_the_full_layer():
    found = texts(draw(make(in_channels=1, out_channels=2, order=[(2, 1), (0, 4)])))
    assert [text for text in found if text.startswith("$G")] == ["$G_{2,1}$", "$G_{0,4}$"]


def test_each_basis_has_its_own_colour_and_maps():
    for separated in (False, True):
        figure = draw(make(in_channels=3, out_channels=6, bases=3, separated=separated))
        colours = [artist.get_facecolor() for _, artist in sorted(gids(figure, "J").items())]
        assert colours[::2] == colours[1::2]
        assert len(set(colours)) == 3
    figure = draw(make(in_channels=1, out_channels=5, bases=5, order=1))
    assert len({artist.get_facecolor() for artist in gids(figure, "J").values()}) == 2  # the first and the last


@pytest.mark.parametrize("separated", [False, True])
def test_weights_and_kernels_of_zero_are_white(separated: bool):
    layer = make(in_channels=1, out_channels=1, order=0, separated=separated)
    with torch.no_grad():
        for name in ("beta", "lam") if separated else ("omega",):
            getattr(layer, name).zero_()
    figure = draw(layer)
    for kind in ("beta", "lambda"):
        for cell in gids(figure, kind).values():
            assert min(cell.get_facecolor()) > 0.96
    assert "NaN" not in svg(figure)


def test_everything_lies_within_the_figure(figure: Figure):
    figure.draw_without_rendering()
    width, height = figure.bbox.max
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert box.x0 >= 0, text.get_text()
        assert box.y0 >= 0, text.get_text()
        assert box.x1 <= width, text.get_text()
        assert box.y1 <= height, text.get_text()


@pytest.mark.parametrize("name", ["eq 3", "eq 4", "wide"])
def test_svg_is_deterministic_and_self_contained(name: str):
    layer = make(**LAYERS[name])
    figure = draw(layer)
    first = svg(figure)
    with mpl.rc_context({"font.size": 20, "svg.hashsalt": "other", "svg.fonttype": "none", "lines.linewidth": 9}):
        assert svg(draw(layer)) == first
    root = ET.fromstring(first)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "<text" not in first  # glyphs are paths: no font needed
    assert "date" not in first
    assert "matplotlib.org" not in first
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(set(ids)) == len(ids)
    assert {f"J-{j}" for (j,) in gids(figure, "J")} <= set(ids)


def test_other_layers_cannot_be_drawn():
    with pytest.raises(TypeError, match=r"^layer must be a GaussianDerivativeConv2d, got Conv2d$"):
        draw(nn.Conv2d(1, 1, 3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^layer must have no groups, got 2$"):
        draw(GaussianDerivativeConv2d(2, 2, 3, groups=2))


def test_elide():
    assert elide(1, 3) == [0]
    assert elide(3, 3) == [0, 1, 2]
    assert elide(4, 3) == [0, None, 3]
    assert elide(10, 4) == [0, 1, None, 9]
    for count in range(1, 30):
        for slots in (3, 4):
            row = elide(count, slots)
            assert len(row) == min(count, slots)
            assert count - (len(row) - row.count(None)) != 1, "dots for a single one"
