"""Table 3: the published numbers, its table, and Figure 2."""

import re
from pathlib import Path

import numpy as np
import pytest
from invented import half, net, page

from gdlayer.experiments.table3 import page as page3
from gdlayer.experiments.table3.trial import Table3Trial
from gdlayer.report.cells import summarise
from gdlayer.trials.registry import experiments

pytestmark = pytest.mark.usefixtures("figures")

TABLE1, TABLE2, TABLE3, *_ = experiments().values()


def test_published_numbers():
    """As the paper prints them, and nothing else."""
    assert TABLE3.published == {
        (("unet", "tile"), "pixel_accuracy"): 94.7,
        (("gaussian-unet", "tile"), "pixel_accuracy"): 94.4,
    }
    assert {cell[0] for cell, _ in TABLE3.published} == {row.name for row in TABLE3.layers.values() if row.in_paper}
    assert tuple(page3.SPLITS) == Table3Trial.splits


def test_table_3():
    cells = summarise(
        [
            *(net("unet", 0.9 + s / 50, seed=s, parameters=97202) for s in range(3)),
            net("unet", 0.85, "group", 0.88, parameters=97202),
            net("gaussian-unet", 0.7, "group", 0.88, profile="quick", parameters=25298),
            net("gaussian-unet", 0.3, dataset="monuseg-crops", parameters=25298),
        ],
        TABLE3,
    )
    shown = page(cells, experiment=TABLE3, columns=9, dataset="tnbc-derived")
    single = ("85.0¶|n = 1", "75.0¶|n = 1", "65.0¶|n = 1", "42.5¶|n = 1")
    f1 = f"46.0¶|{half(45, 46, 47)}|n = 3"
    assert shown.rows == [
        [
            "TNBC, resolution-degraded copy",
            *(f"{metric}|{split}" for split in ("by tile", "by patient or image") for metric in page3.METRICS.values()),
        ],
        [
            "U-net",
            *(f"{v}.0¶|{half(90, 92, 94)}|n = 3{p}" for v, p in ((92, "|(94.7)"), (82, ""), (72, ""))),
            f1,
            *single,
        ],
        ["Gaussian U-net", "—|(94.4)", *["—"] * 3, *(f"{v}.0‡¶^a|n = 1" for v in (70, 60, 50, 35))],
        ["U-net with BN (control)", *["—"] * 8],
        ["U-net, small", *["—"] * 8],
        ["everything background", "87.5", *["0.0"] * 3, "88.0", *["0.0"] * 3],
    ]
    other = page(cells, experiment=TABLE3, columns=9, dataset="monuseg-crops")
    assert other.rows[0][0] == "MoNuSeg crops (50)"
    assert other.rows[2][1] == "30.0"  # the paper's numbers are of TNBC
    assert other.rows[1][1] == "—"
    assert cells.loc[cells["dataset"] == "monuseg-crops", "paper"].isna().all()
    assert other.rows[5] == ["everything background", "87.5", *["0.0"] * 3, "—", *["0.0"] * 3]
    assert page3.F1 in shown.text
    assert page3.BEFORE_F1 not in shown.text


def test_tables_2_and_3_without_records_and_beside_the_record():
    empty = summarise([], TABLE3)
    shown = page(empty, experiment=TABLE3, columns=9, dataset="tnbc")
    assert [row[1] for row in shown.rows[1:]] == ["—|(94.7)", "—|(94.4)", "—", "—", "—"]
    kept = summarise([net("unet", 0.5, profile="quick")], TABLE3)
    shown = page(empty, kept, experiment=TABLE3, columns=9, dataset="tnbc-derived")
    assert shown.rows[1][1:6] == ["—|[50.0‡¶]|(94.7)", "—|[40.0‡¶]", "—|[30.0‡¶]", "—|[25.0‡¶]", "—|[—]"]
    assert "In brackets: the run kept in the repository, fp32 on a CPU, tnbc-derived, profile quick." in shown.text
    assert page(summarise([], TABLE2), experiment=TABLE2, columns=1).rows[0] == ["first layer"]


def test_records_made_before_f1_was_measured_have_a_dash():
    """Told under the table, also of the record beside a user's own run."""
    made = [net("unet", 0.9, seed=s) for s in range(3)]
    before = [made[0] | {"metrics": {k: v for k, v in made[0]["metrics"].items() if k != "nucleus_f1"}}]
    old, mixed = (summarise(records, TABLE3) for records in (before, before + made[1:]))
    for cells, shown in ((old, "—"), (mixed, f"45.0¶|{half(45, 45)}|n = 2")):
        table = page(cells, experiment=TABLE3, columns=9, dataset="tnbc-derived")
        assert table.rows[1][4] == shown
        assert page3.BEFORE_F1 in table.text
    new = summarise(made, TABLE3)
    assert page3.BEFORE_F1 in page(new, old, experiment=TABLE3, columns=9, dataset="tnbc-derived").text
    assert page3.BEFORE_F1 not in page(new, new, experiment=TABLE3, columns=9, dataset="tnbc-derived").text


def write_pictures(path: Path, names: str = "abc", seed: int = 0) -> Path:
    """Tiles of 4 x 4 pixels, as experiment 3 keeps them."""
    random, shape = np.random.default_rng(seed), (len(names), 4, 4)
    np.savez_compressed(
        path,
        images=np.random.default_rng(7).integers(0, 256, (*shape, 3), np.uint8),
        masks=np.random.default_rng(8).integers(0, 2, shape).astype(bool),
        predicted=random.integers(0, 2, shape).astype(bool),
        names=np.array(list(names)),
    )
    return path


def test_pictures_of_one_seed(tmp_path):
    """Of the first seed that both networks have."""
    folder = tmp_path / "paper" / "table3" / "tnbc"
    folder.mkdir(parents=True)
    assert page3.kept_pictures(tmp_path, "paper", "tnbc") == {}
    for name in ("unet-tile-s0", "unet-tile-s2", "gaussian-unet-tile-s2", "gaussian-unet-tile-s3", "unet-tile-s3"):
        write_pictures(folder / f"{name}.npz")
    found = {"unet": folder / "unet-tile-s2.npz", "gaussian-unet": folder / "gaussian-unet-tile-s2.npz"}
    assert page3.kept_pictures(tmp_path, "paper", "tnbc") == found
    trial = Table3Trial(layer="unet", split="tile", dataset="tnbc", seed=2, profile="paper")
    assert page3.picture_path(trial, tmp_path) == found["unet"]
    assert page3.kept_pictures(tmp_path, "quick", "tnbc") == {}


ERROR_COLOURS = [(0xFF, 0xFF, 0xFF), (0xD5, 0x5E, 0x00), (0x00, 0x72, 0xB2)]


@pytest.mark.parametrize("names", ["abc", "a"])
def test_figure_2(tmp_path, names):
    pictures = {
        layer: write_pictures(tmp_path / f"{layer}.npz", names, seed)
        for seed, layer in enumerate(["unet", "gaussian-unet"])
    }
    figure = page3.figure2(pictures)
    n = len(names)
    assert len(figure.axes) == 6 * n
    labels = [axis.get_ylabel() for axis in figure.axes]
    assert labels[::n] == ["input", "truth", "U-net", "its errors", "Gaussian U-net", "its errors"]
    assert sum(map(bool, labels)) == 6
    shown = [np.asarray(axis.images[0].get_array()) for axis in figure.axes]
    loaded = {layer: np.load(path) for layer, path in pictures.items()}
    for tile in range(n):
        np.testing.assert_array_equal(shown[tile], loaded["unet"]["images"][tile])
        truth = loaded["unet"]["masks"][tile]
        np.testing.assert_array_equal(shown[n + tile], truth)
        for row, layer in ((2, "unet"), (4, "gaussian-unet")):
            predicted = loaded[layer]["predicted"][tile]
            np.testing.assert_array_equal(shown[row * n + tile], predicted)
            codes = {(False, False): 0, (True, True): 0, (True, False): 1, (False, True): 2}
            expected = [
                [codes[pair] for pair in zip(*line, strict=True)] for line in zip(predicted, truth, strict=True)
            ]
            np.testing.assert_array_equal(shown[(row + 1) * n + tile], expected)
    errors = figure.axes[3 * n].images[0]
    assert (errors.to_rgba(np.array([[0, 1, 2]]), bytes=True)[0, :, :3] == ERROR_COLOURS).all()
    masks = figure.axes[n].images[0]
    assert (masks.to_rgba(np.array([[False, True]]), bytes=True)[0, :, :3] == [[0] * 3, [255] * 3]).all()
    figure.canvas.draw()
    for arrays in loaded.values():
        arrays.close()


def test_figure_2_of_different_tiles_is_refused(tmp_path):
    one, other = write_pictures(tmp_path / "1.npz", "abc"), write_pictures(tmp_path / "2.npz", "abd")
    with pytest.raises(ValueError, match=f"^{re.escape(f'pictures are of different tiles: {one}, {other}')}$"):
        page3.figure2({"unet": one, "gaussian-unet": other})
    assert len(page3.figure2({"unet": one}).axes) == 12
    assert len(page3.figure2({"unet": one, "gaussian-unet": one, "unet-bn": one}).axes) == 24
