"""The answers of the ablations, their figures and their table, by invented records."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from invented import FULL, Page, ablation, save
from matplotlib.colors import to_hex

from gdlayer.experiments.ablations import page
from gdlayer.experiments.ablations.layers import LAYERS, QUESTIONS
from gdlayer.report.loaded import Loaded, load

pytestmark = pytest.mark.usefixtures("figures")

EFFECTS = {"size-3": -4.0, "size-9": 3.0, "size-11": 0.1}


def records(seeds: int = 5, sizes: tuple[int, ...] = (1000, 5000), **fields: Any) -> list[dict[str, Any]]:
    """Every variant; layers and seeds add up but for noise of a fifth of a point."""
    rng = np.random.default_rng(0)
    return [
        ablation(layer, (80 + EFFECTS.get(layer, 0) + seed + 0.2 * rng.normal()) / 100, n, seed=seed, **fields)
        for n in sizes
        for layer in LAYERS
        for seed in range(seeds)
    ]


def loaded_from(folder: Path, *made: dict[str, Any], profile: str = "paper") -> Loaded:
    save(folder, *made)
    return load(folder, profile, "ablations", FULL, folder)


def test_an_answer_is_of_the_record(tmp_path):
    made = records()
    loaded = loaded_from(
        tmp_path, *(r for r in made if (r["trial"]["layer"], r["trial"]["n_train"]) != ("size-5", 5000))
    )
    shown = Page(page.answer(loaded, "kernel-size")).text
    first, second = re.findall(r"With .*?\.(?= With|$)", shown)
    assert shown == f"How large must the kernels be? {first} {second}"
    clear = r"compared to 7×7: below for 3×3 \(−[34]\.\d\); "
    assert re.match(f"With 1,000 images, {clear}", first)
    assert re.search(r"above for 9×9 \(\+", first)
    assert re.search(r"(equal within 0\.5|undecided \(0\.\d points would have shown\)) for 5×5 \([+−]?0\.\d\)", first)
    assert second.endswith("; not run yet for 5×5.")


def test_outcomes_are_to_the_reference_of_the_question(tmp_path):
    loaded = loaded_from(tmp_path, *(ablation("narrow", 0.8 + s / 100, seed=s) for s in range(3)))
    assert page.outcomes(loaded, QUESTIONS["equal-size"], 1000) == {}
    save(tmp_path, *(ablation("separated", 0.81 + (s + s * s / 9) / 100, seed=s) for s in range(3)))
    loaded = load(tmp_path, "paper", "ablations", FULL, tmp_path)
    ((case, _),) = page.outcomes(loaded, QUESTIONS["equal-size"], 1000).values()
    assert case.estimate is not None
    found = case.estimate.difference
    assert (found.mean, found.blocks) == (pytest.approx(1 + (0 + 1 + 4) / 27), 3)
    assert page.outcomes(loaded, QUESTIONS["separated"], 1000) == {}


def test_what_decides_nothing_says_why(tmp_path):
    two = loaded_from(tmp_path / "two", *records(2))
    assert "compared to full: too few seeds for separated (" in page.answer(two, "separated")
    quick = loaded_from(tmp_path / "quick", *records(3, (1000,), profile="quick"), profile="quick")
    assert "compared to full: reduced budget for separated (" in page.answer(quick, "separated")
    (tmp_path / "none").mkdir()
    nothing = load(tmp_path / "none", "paper", "ablations", FULL, tmp_path)
    assert Page(page.answer(nothing, "separated")).text == (
        "What does the separated combination cost? With 1,000 images: not run yet. With 5,000 images: not run yet."
    )
    assert page.effects(nothing, "separated") is None


def test_effects(tmp_path):
    loaded = loaded_from(tmp_path, *records())
    figure = page.effects(loaded, "kernel-size")
    assert figure is not None
    assert [axis.get_title() for axis in figure.axes] == ["1,000 images", "5,000 images"]
    assert figure.get_supxlabel() == "test accuracy minus that of “7×7”, points"
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["3×3", "5×5", "9×9", "11×11"]
    for axis, n in zip(figure.axes, (1000, 5000), strict=True):
        made = page.outcomes(loaded, QUESTIONS["kernel-size"], n)
        for y, (container, (case, _)) in enumerate(zip(axis.containers, made.values(), strict=True)):
            assert case.estimate is not None
            found = case.estimate.difference
            points, _, (bars,) = container
            assert points.get_xydata().tolist() == [[pytest.approx(found.mean), y]]
            np.testing.assert_allclose(bars.get_segments()[0], [(end, y) for end in found.interval])
    filled = [to_hex(container[0].get_markerfacecolor()) != "#ffffff" for container in figure.axes[0].containers]
    assert filled == [True, False, True, False]
    figure.canvas.draw()


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_has_its_figure_even_of_one_seed(tmp_path, name):
    figure = page.effects(loaded_from(tmp_path, *records(1, (1000,), profile="quick"), profile="quick"), name)
    assert figure is not None
    assert len(figure.axes[0].containers) == len(QUESTIONS[name].variants)
    figure.canvas.draw()


def test_the_table_has_no_numbers_of_the_paper(tmp_path):
    shown = Page(page.table(loaded_from(tmp_path, *records(3, (5000,)))))
    assert shown.rows[0] == ["variant", "1,000 images", "5,000 images"]
    assert [row[0] for row in shown.rows[1:]] == [layer.title for layer in LAYERS.values()]
    assert re.fullmatch(r"81\.\d\*\|± \d\.\d\|n = 3 of 10", shown.rows[1][2])
    assert shown.rows[1][1].startswith("not run|")
    assert shown.text.strip().startswith("Percent. ± half")
    assert page.panels(loaded_from(tmp_path)) == []
