"""The paper's claims as a picture."""

import numpy as np
import pytest
from invented import FULL, as_in_the_paper, nets, save
from matplotlib.colors import to_hex

from gdlayer.report import dots
from gdlayer.report.claims import ABOVE, BELOW, HOLDS, Row
from gdlayer.report.loaded import load

pytestmark = pytest.mark.usefixtures("figures")


def everything(folder):
    names = {"table1": FULL, "table2": "cats-vs-dogs-200", "table3": "tnbc-derived"}
    return {name: load(folder, "paper", name, datasets, folder) for name, datasets in names.items()}


def test_a_point_per_case_in_the_colour_of_its_verdict(tmp_path):
    save(tmp_path, *as_in_the_paper(), *nets(-0.2, 0.5))
    tables = everything(tmp_path)
    figure = dots.dot_plot(tables)
    (axis,) = figure.axes
    rows = [row for _, found in dots.claims_of(tables) for claim in found for row in dots.drawn(claim)]
    ours = [line for line in axis.lines if line.get_marker() in dots.MARKERS.values()]
    assert [line.get_color() for line in ours] == [dots.COLOURS[row.verdict] for row in rows]
    measured = [row.measured for row in rows if row.measured is not None]
    assert len(measured) == len(rows)
    assert [np.asarray(line.get_xdata()).item() for line in ours] == [one.mean for one in measured]
    papers = [np.asarray(line.get_xdata()).item() for line in axis.lines if line.get_marker() == dots.PAPER["marker"]]
    assert papers == [one.paper for one in measured if one.paper is not None]
    assert {ABOVE, BELOW} <= {row.verdict for row in rows}
    texts = [text.get_text() for text in axis.texts]
    assert "Table 2" in texts
    assert "above 41, below 4" in texts
    assert "holds 1, too few seeds 1 (by construction)" in texts
    assert len({to_hex(colour) for colour in dots.COLOURS.values()}) == len(dots.COLOURS)
    figure.canvas.draw()
    heights = [one.get_window_extent().y0 for one in axis.texts]
    assert heights == sorted(heights, reverse=True)


def test_the_picture_in_words_changes_with_the_record(tmp_path):
    save(tmp_path, *nets(-0.2, 0.5))
    told = dots.in_words(everything(tmp_path), first=True)
    assert "Table 3, compete, TNBC, resolution-degraded copy, by tile: −0.2 [" in told
    save(tmp_path, *nets(-0.4, 0.5))
    assert dots.in_words(everything(tmp_path), first=True) != told


def test_without_a_record_there_are_words_alone(tmp_path):
    figure = dots.dot_plot(everything(tmp_path), first=True)
    (axis,) = figure.axes
    assert len(axis.lines) == 1  # of 0
    assert "too few seeds 45" in [text.get_text() for text in axis.texts]
    figure.canvas.draw()


def test_what_cannot_be_tested_has_no_point():
    assert dots.drawn(dots.Judgement("x", "", [Row("", "", "", HOLDS, "")], ())) == []
