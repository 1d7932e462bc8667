"""Table 1: the published numbers, and the figures of its page."""

import math
from typing import Any

import numpy as np
import pytest
from invented import FULL, Page, loaded_of, record
from matplotlib.colors import to_hex
from scipy import stats

from gdlayer.experiments.table1 import EXPERIMENT as TABLE1
from gdlayer.experiments.table1 import LAYERS as ROWS
from gdlayer.experiments.table1 import page as page1
from gdlayer.report.cells import select, summarise
from gdlayer.report.plans import planned
from gdlayer.trials.experiment import LayerType

pytestmark = pytest.mark.usefixtures("figures")

SIZES = (1000, 5000, 10000, 30000, 60000)
LAYERS = tuple(ROWS)
PAPER_LAYERS = LAYERS[:6]


def published_accuracies() -> dict[tuple[str, int], float]:
    """The paper's Table 1: {(layer, n_train): percent}."""
    return {(layer, int(n)): value for ((layer, n), _), value in TABLE1.published.items()}


def test_published_numbers():
    assert {metric for _, metric in TABLE1.published} == {"test_accuracy"}
    paper = published_accuracies()
    assert set(paper) == {(layer, n) for layer in PAPER_LAYERS for n in SIZES}
    assert len(paper) == 30
    bold = {1000: ("ours", 80.5), 5000: ("ours-separated", 88.7), 10000: ("ours", 90.5)}
    bold |= {30000: ("ours-few", 92.4), 60000: ("ours", 93.1)}
    for n, (layer, accuracy) in bold.items():
        assert paper[layer, n] == accuracy
        assert all(paper[other, n] < accuracy for other in PAPER_LAYERS if other != layer)
    rows = [sum(paper[layer, n] for layer in PAPER_LAYERS) for n in SIZES]
    assert rows == pytest.approx([477.2, 522.3, 533.8, 545.0, 549.9])
    columns = [sum(paper[layer, n] for n in SIZES) for layer in PAPER_LAYERS]
    assert columns == pytest.approx([426.5, 435.6, 438.4, 444.6, 443.4, 439.7])
    # three cells of which the text says otherwise
    assert paper["ours-separated", 1000] < paper["rfnn", 1000] < paper["dau", 1000]
    assert paper["ours-few", 1000] < paper["dau", 1000]
    assert paper["ours-separated", 60000] < paper["dau", 60000]


def test_rows_are_the_papers_columns_and_then_the_controls():
    assert [name for name, row in ROWS.items() if row.in_paper] == list(PAPER_LAYERS)
    assert list(ROWS)[: len(PAPER_LAYERS)] == list(PAPER_LAYERS)
    for look in ("title", "colour", "marker"):
        assert len({getattr(row, look) for row in ROWS.values()}) == len(LAYERS)


def legend(figure: Any) -> list[str]:
    (names,) = figure.legends
    return [text.get_text() for text in names.get_texts()]


def test_learning_curves():
    records = [
        record("ours", 1000, 0, losses=[2.0, 1.0, 0.5]),
        record("ours", 1000, 1, losses=[4.0, 3.0, 1.5]),
        record("dau", 1000, losses=[3.0, None, 1.0]),
        record("ours", 5000, losses=[2.5, 1.25]),
        record("n-jet", 5000, losses=[2.25, 1.125]),
        *(record("rfnn", n) for n in (10000, 30000, 60000)),
    ]
    figure = page1.learning_curves([*records, record("ours", 1000, losses=[9.0, 9.0, 9.0], network="pooled")])
    assert figure is not None
    panels = [axis for axis in figure.axes if axis.axison]
    assert [axis.get_title() for axis in panels] == [f"{n:,} images" for n in SIZES]
    assert [len(axis.lines) for axis in panels] == [2, 2, 1, 1, 1]
    data = {
        (i, line.get_label()): np.asarray(line.get_xydata(), float)
        for i, axis in enumerate(panels)
        for line in axis.lines
    }
    np.testing.assert_allclose(data[0, "Ours"], [(10, 3), (20, 2), (30, 1)])
    np.testing.assert_allclose(data[0, "DAU"], [(10, 3), (20, np.nan), (30, 1)])
    np.testing.assert_allclose(data[1, "Ours"], [(10, 2.5), (20, 1.25)])
    np.testing.assert_allclose(data[1, "N-Jet"], [(10, 2.25), (20, 1.125)])
    assert all(axis.get_yscale() == "log" and axis.get_xlabel() == "training step" for axis in panels)
    assert panels[0].get_ylabel() == "training loss"
    assert len({axis.get_ylim() for axis in panels[:2]}) == 2  # each has its own
    # one legend for all, with the layers of every panel
    assert legend(figure) == ["RFNN", "DAU", "Ours", "N-Jet"]
    colours = {(line.get_label(), to_hex(line.get_color())) for axis in panels for line in axis.lines}
    assert len(colours) == 4
    figure.canvas.draw()


@pytest.mark.parametrize("sizes", [SIZES[:1], SIZES[:2], SIZES])
def test_every_layer_has_its_line_in_every_panel(sizes):
    records = [record(layer, n) for layer in LAYERS for n in sizes]
    figure = page1.learning_curves(records)
    assert figure is not None
    assert [len(axis.lines) for axis in figure.axes if axis.axison] == [len(LAYERS)] * len(sizes)
    assert legend(figure) == [row.title for row in ROWS.values()]
    assert len({to_hex(line.get_color()) for line in figure.axes[0].lines}) == len(LAYERS)
    figure.canvas.draw()


def test_learning_curves_average_one_kind_of_run_and_one_network():
    records = [
        *(record(seed=s, losses=[2.0, 1.0], device="cuda") for s in range(2)),
        record(seed=2, losses=[4.0, 3.0]),
        record(losses=[8.0, 6.0], network="pooled"),
    ]
    figure = page1.learning_curves(records)
    assert figure is not None
    (line,) = figure.axes[0].lines
    np.testing.assert_allclose(np.asarray(line.get_xydata(), float), [(10, 2), (20, 1)])
    pooled = page1.learning_curves(records, network="pooled")
    assert pooled is not None
    np.testing.assert_allclose(np.asarray(pooled.axes[0].lines[0].get_xydata(), float), [(10, 8), (20, 6)])
    assert page1.learning_curves(records[:3], network="pooled") is None
    assert page1.accuracy_against_parameters(summarise([], TABLE1)) is None


def with_ends(n: int, *ends: tuple[float, float], **fields: Any) -> list[dict[str, Any]]:
    """A record per layer, of these losses at the end and accuracies."""
    return [
        record(layer, n, accuracy=accuracy, losses=[9.0, loss], **fields)
        for layer, (loss, accuracy) in zip(LAYERS, ends, strict=False)
    ]


FITTED = [(0.1 * i, 0.9 - 0.01 * i) for i in range(6)]
"""The lower the loss, the higher the accuracy."""


def test_the_lesson_of_the_learning_curves():
    clear, reverse = FITTED, [(loss, 1 - accuracy) for loss, accuracy in FITTED]
    mixed = [(loss, 0.8 + 0.01 * (i % 3)) for i, (loss, _) in enumerate(FITTED)]
    records = [*with_ends(1000, *clear), *with_ends(5000, *clear), *with_ends(10000, *reverse)]
    records += [*with_ends(30000, *mixed), *with_ends(60000, *clear[:2]), *with_ends(1000, *reverse, network="pooled")]
    assert page1.lesson(records) == (
        f"<p>With 1,000 and 5,000 images {page1.UNDERFIT} (rank correlation −1.00, −1.00)."
        f" With 10,000 images {page1.OVERFIT} (rank correlation +1.00)."
        f" With 30,000 images {page1.MAY_BE_CHANCE} (rank correlation +0.48).</p>"
    )
    assert page1.lesson(records, network="pooled").startswith(f"<p>With 1,000 images {page1.OVERFIT} (")
    assert page1.lesson(records, network="batch-norm") == ""


def test_the_lesson_is_of_means_over_seeds():
    """Two seeds whose means are as the other layers' trend has it, though neither is."""
    ends = FITTED[:5]
    records = with_ends(1000, *ends)
    apart = [
        record(LAYERS[5], 1000, seed, 0.85 + shift, losses=[9.0, 0.5 + shift]) for seed, shift in ((0, 0.4), (1, -0.4))
    ]
    assert "−1.00" in page1.lesson([*records, *apart])
    assert "−1.00" not in page1.lesson([*records, apart[0]])


def test_equal_ends_teach_nothing():
    assert page1.lesson(with_ends(1000, *[(0.5, 0.8)] * 6)) == ""
    assert page1.lesson(with_ends(1000, *[(0.1 * i, 0.8) for i in range(6)])) == ""


def test_accuracy_against_parameters():
    cells = summarise(
        [
            *(record("ours", 1000, seed, accuracy) for seed, accuracy in enumerate([0.80, 0.82, 0.84])),
            record("dau", 1000, accuracy=0.7, parameters=42010),
            record("ours", 5000, accuracy=0.6),
            record("rfnn", 60000, accuracy=0.9, parameters=10810),
        ],
        TABLE1,
    )
    figure = page1.accuracy_against_parameters(cells)
    assert figure is not None
    assert [axis.get_title() for axis in figure.axes] == ["1,000 images", "60,000 images"]
    assert all(axis.get_xscale() == "log" for axis in figure.axes)
    shown = {}
    for i, axis in enumerate(figure.axes):
        for container in axis.containers:
            points, _, (bars,) = container
            shown[i, container.get_label()] = points.get_xydata().tolist(), bars.get_segments()[0].tolist()
    half = float(stats.t.ppf(0.975, 2)) * 2 / math.sqrt(3)
    assert set(shown) == {(0, "Ours"), (0, "DAU"), (1, "RFNN")}
    assert shown[0, "Ours"][0] == [[12810, pytest.approx(82)]]
    np.testing.assert_allclose(shown[0, "Ours"][1], [(12810, 82 - half), (12810, 82 + half)])
    assert shown[0, "DAU"][0] == [[42010, pytest.approx(70)]]
    np.testing.assert_allclose(shown[0, "DAU"][1], [(42010, 70), (42010, 70)])  # one seed, no interval
    assert shown[1, "RFNN"][0] == [[10810, pytest.approx(90)]]
    assert legend(figure) == ["RFNN", "DAU", "Ours"]
    figure.canvas.draw()


def test_accuracy_by_size_stands_beside_the_papers():
    records = [record("ours", n, seed, 0.8 + n / 1e5 + seed / 100) for n in (1000, 5000) for seed in range(3)]
    loaded = loaded_of(summarise([*records, record("n-jet", 1000)], TABLE1))
    figure = page1.accuracy_by_size(loaded)
    assert figure is not None
    paper, here = figure.axes
    printed = {str(line.get_label()): np.asarray(line.get_xydata(), float).tolist() for line in paper.lines}
    assert printed["DAU"] == [[1000, 79.9], [5000, 86.4], [10000, 89.1], [30000, 90.9], [60000, 92.1]]
    assert len(printed) == 6
    (own,) = here.containers  # N-Jet is not the paper's
    np.testing.assert_allclose(own[0].get_xydata(), [(1000, 82), (5000, 86)])
    assert page1.accuracy_by_size(loaded_of(summarise([], TABLE1))) is None


def test_one_size_is_one_panel():
    figure = page1.accuracy_against_parameters(summarise((record(layer) for layer in LAYERS), TABLE1))
    assert figure is not None
    assert len(figure.axes) == 1
    assert len(figure.axes[0].containers) == len(LAYERS)
    figure.canvas.draw()


def test_a_further_layer_has_its_line_and_its_points(monkeypatch):
    row = LayerType(name="further", title="Further", colour="#123456", marker="x")
    monkeypatch.setitem(ROWS, "further", row)
    monkeypatch.setattr(TABLE1.trial, "layers", (*LAYERS, "further"))
    records = [record(layer) for layer in (*LAYERS, "further")]
    curves = page1.learning_curves(records)
    points = page1.accuracy_against_parameters(summarise(records, TABLE1))
    assert curves is not None
    assert points is not None
    assert legend(curves)[-1] == legend(points)[-1] == "Further"
    assert to_hex(curves.axes[0].lines[-1].get_color()) == "#123456"
    assert len(points.axes[0].containers) == len(LAYERS) + 1
    assert page1.table(loaded_of(summarise(records, TABLE1))).count("<th>") == (1 + len(LAYERS) + 1) + len(SIZES) + 1


def test_lengths_are_those_of_the_profile():
    """Steps, and how often 32 images at a time go through the training set in them."""
    plan = planned("paper", "table1", [FULL], [])
    shown = Page(page1.lengths(loaded_of(summarise([], TABLE1), None, plan)))
    steps = TABLE1.budget("paper", "table1")["steps"]
    assert shown.rows[0] == ["steps (epochs)", *(f"{n:,} images" for n in SIZES)]
    by_network = {row[0]: row[1:] for row in shown.rows[1:]}
    for network, entries in by_network.items():
        for n, entry in zip(SIZES, entries, strict=True):
            count = steps[str(n)]
            asked = len(select(plan, {"network": network, "n_train": n}))
            assert entry == (f"{count:,} ({32 * count / n:.0f})" if asked else "—")
    assert {*by_network} == {*plan["network"]}
