"""The table and the curves of scale generalisation, by invented records."""

from typing import Any

import numpy as np
import pytest
from invented import FULL, Page, resized, save

from gdlayer.experiments.scale import page
from gdlayer.experiments.scale.layers import LAYERS
from gdlayer.report.loaded import Loaded, load

pytestmark = pytest.mark.usefixtures("figures")


def records(seeds: int = 3, **fields: Any) -> list[dict[str, Any]]:
    return [
        resized(
            layer,
            {size: 0.8 - abs(size - 28) / 100 + seed / 100 + i / 1000 for size in page.SIZES},
            seed=seed,
            **fields,
        )
        for i, layer in enumerate(LAYERS)
        for seed in range(seeds)
    ]


def loaded_from(folder: Any, *made: dict[str, Any], profile: str = "paper") -> Loaded:
    save(folder, *made)
    return load(folder, profile, "scale", FULL, folder)


def test_the_table_has_a_column_per_size(tmp_path):
    shown = Page(page.table(loaded_from(tmp_path, *records())))
    assert shown.rows[0] == [
        *("network", "14 px, 0.50 ×", "20 px, 0.71 ×", "24 px, 0.86 ×", "28 px, 1.00 ×"),
        *("34 px, 1.21 ×", "40 px, 1.43 ×", "56 px, 2.00 ×"),
    ]
    assert [row[0] for row in shown.rows[1:]] == [layer.title for layer in LAYERS.values()]
    assert shown.rows[1][1:] == [f"{81 - abs(size - 28):.1f}|± 2.5" for size in page.SIZES]
    assert shown.text.strip().startswith("Percent. ± half")


def test_without_records_the_page_says_so(tmp_path):
    loaded = loaded_from(tmp_path)
    assert page.curves(loaded) is None
    assert page.panels(loaded) == []
    shown = Page(page.table(loaded))
    assert {cell.split("|")[0] for row in shown.rows[1:] for cell in row[1:]} == {"not run"}
    assert "No trial has been run yet." in page.durations(loaded)


def test_curves(tmp_path):
    made = [*records(), *records(1, precision="bf16")[:1]]
    made[-1]["trial"]["seed"] = 3
    figure = page.curves(loaded_from(tmp_path, *made))
    assert figure is not None
    (axis,) = figure.axes
    assert axis.get_title() == "5,000 training images"
    legend = axis.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [layer.title for layer in LAYERS.values()]
    for i, container in enumerate(axis.containers):
        line, _, (bars,) = container
        expected = [81 - abs(size - 28) + i / 10 for size in page.SIZES]
        np.testing.assert_allclose(line.get_xydata(), np.column_stack((np.array(page.SIZES) / 28, expected)))
        for segment, value in zip(bars.get_segments(), expected, strict=True):
            np.testing.assert_allclose(segment[:, 1], [value - 2.484, value + 2.484], atol=1e-3)
    figure.canvas.draw()


def test_curves_of_one_seed_have_no_intervals(tmp_path):
    figure = page.curves(loaded_from(tmp_path, *records(1, profile="quick", n=5000), profile="quick"))
    assert figure is not None
    for _, _, (bars,) in figure.axes[0].containers:
        assert all(segment[0, 1] == segment[1, 1] for segment in bars.get_segments())
