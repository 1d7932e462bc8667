"""From records to cells: averages over seeds, kinds kept apart, the paper's numbers beside them, and the CSV."""

import math
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from invented import FULL, SAMPLE, net, record, save, vgg
from scipy import stats

from gdlayer.report import __main__ as cli
from gdlayer.report.cells import MARKS, marks, published_at, select, summarise, write_csv
from gdlayer.trials.registry import experiments

TABLE1, TABLE2, TABLE3, *_ = experiments().values()
LAYERS = TABLE1.trial.layers


def test_mean_deviation_and_interval_by_hand():
    accuracies = [0.80, 0.83, 0.84, 0.80, 0.83]
    records = (record(seed=s, accuracy=a, seconds=10.0 + s) for s, a in enumerate(accuracies))
    cells = summarise(records, TABLE1)
    assert len(cells) == 1
    cell = cells.iloc[0]
    assert (cell["layer"], cell["n_train"], cell["dataset"], cell["profile"]) == ("ours", 1000, FULL, "paper")
    assert (cell["precision"], cell["device"], cell["parameters"]) == ("fp32", "cpu", 12810)
    assert cell["metric"] == "test_accuracy"
    assert cell["seeds"] == 5
    assert cell["mean"] == pytest.approx(82.0)
    assert cell["std"] == pytest.approx(math.sqrt((4 + 1 + 4 + 4 + 1) / 4))
    half = 2.776445 * math.sqrt(14 / 4) / math.sqrt(5)  # t of 4 degrees of freedom, from a printed table
    assert cell["low"] == pytest.approx(82 - half, abs=1e-5)
    assert cell["high"] == pytest.approx(82 + half, abs=1e-5)
    assert cell["seconds"] == 60
    assert cell["paper"] == 80.5


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_interval_is_scipys(accuracies):
    cell = summarise((record(seed=s, accuracy=a) for s, a in enumerate(accuracies)), TABLE1).iloc[0]
    percent = 100 * np.array(accuracies)
    assert cell["mean"] == pytest.approx(percent.mean(), abs=1e-9)
    assert cell["std"] == pytest.approx(percent.std(ddof=1), abs=1e-9)
    half = stats.t.ppf(0.975, len(percent) - 1) * percent.std(ddof=1) / math.sqrt(len(percent))
    assert cell["high"] - cell["mean"] == pytest.approx(half, abs=1e-9)
    assert cell["mean"] - cell["low"] == pytest.approx(half, abs=1e-9)


def test_one_seed_has_no_interval():
    cell = summarise([record()], TABLE1).iloc[0]
    assert (cell["seeds"], cell["mean"]) == (1, 80)
    assert cell[["std", "low", "high"]].isna().all()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("layer", ("ours", "dau")),
        ("n", (1000, 5000)),
        ("dataset", (FULL, SAMPLE)),
        ("profile", ("paper", "quick")),
        ("precision", ("fp32", "bf16")),
        ("device", ("cpu", "cuda")),
        ("parameters", (12810, 11242)),
    ],
)
def test_what_differs_is_not_averaged(name, values):
    one = [record(seed=s, accuracy=0.7 + 0.02 * s, **{name: values[0]}) for s in range(2)]
    two = [record(seed=s, accuracy=0.8 + 0.02 * s, **{name: values[1]}) for s in range(2)]
    cells = summarise([one[0], two[0], one[1], two[1]], TABLE1)
    assert sorted(cells["mean"]) == pytest.approx([71, 81])
    assert set(cells["seeds"]) == {2}
    assert set(cells["n_train" if name == "n" else name]) == set(values)


def test_cells_are_in_the_order_of_the_table():
    records = [record(layer, n) for n in (5000, 1000) for layer in reversed(LAYERS)]
    cells = summarise(records, TABLE1)
    assert list(zip(cells["n_train"], cells["layer"], strict=True)) == [
        (n, layer) for n in (1000, 5000) for layer in LAYERS
    ]
    assert list(cells.index) == list(range(2 * len(LAYERS)))
    paper = dict(zip(zip(cells["layer"], cells["n_train"], strict=True), cells["paper"], strict=True))
    published = {(layer, int(n)): value for ((layer, n), _), value in TABLE1.published.items()}
    assert {cell: value for cell, value in paper.items() if not math.isnan(value)} == {
        cell: value for cell, value in published.items() if cell[1] <= 5000
    }


def test_a_row_for_each_metric():
    cells = summarise([vgg("ours-7x7", 0.9, 0.8), vgg("ours-7x7", 0.94, 0.86, seed=1)], TABLE2)
    rows = cells[["layer", "source", "metric", "seeds", "mean", "paper"]].to_numpy().tolist()
    assert rows == [
        ["ours-7x7", "scratch", "val_accuracy", 2, pytest.approx(92), 98.1],
        ["ours-7x7", "scratch", "test_accuracy", 2, pytest.approx(83), 97.2],
    ]
    assert list(cells.columns[:2]) == ["layer", "source"]


def test_sources_and_splits_are_not_averaged():
    cells = summarise([vgg("source", 0.5, 0.6), vgg("source", 0.9, 0.8, "vgg16-flatten")], TABLE2)
    assert select(cells, {"metric": "test_accuracy"})[["source", "mean"]].to_numpy().tolist() == [
        ["scratch", pytest.approx(60)],
        ["vgg16-flatten", pytest.approx(80)],
    ]
    cells = summarise([net("unet", 0.9), net("unet", 0.8, "group")], TABLE3)
    found = select(cells, {"metric": "pixel_accuracy"})
    assert found[["split", "mean"]].to_numpy().tolist() == [["group", pytest.approx(80)], ["tile", pytest.approx(90)]]
    assert found["paper"].fillna(0).tolist() == [0, 94.7]
    assert np.isnan(select(cells, {"metric": "dice"})["paper"].to_numpy()).all()


@pytest.mark.parametrize(
    ("experiment", "departs", "expected"),
    [
        (TABLE1, {}, ""),
        (TABLE1, {"profile": "quick"}, "‡"),
        (TABLE1, {"dataset": SAMPLE}, "†"),
        (TABLE1, {"network": "pooled"}, ""),
        (TABLE2, {}, ""),
        (TABLE2, {"source": "scratch"}, "§"),
        (TABLE2, {"source": "squeezenet", "dataset": "cats-vs-dogs-200"}, "§¶"),
        (TABLE2, {"source": "scratch", "dataset": "textures-synthetic", "profile": "smoke"}, "†‡§"),
        (TABLE3, {}, ""),
        (TABLE3, {"dataset": "tnbc-derived"}, "¶"),
        (TABLE3, {"dataset": "monuseg-crops"}, ""),  # the paper's numbers do not stand beside it
        (TABLE3, {"dataset": "nuclei-synthetic", "profile": "quick"}, "†‡"),
    ],
)
def test_marks(experiment, departs, expected):
    layer = next(iter(experiment.layers))
    full = {
        TABLE1: {"dataset": FULL, "n_train": 1000, "network": "unpooled"},
        TABLE2: {"dataset": "cats-dogs", "source": "vgg16-flatten"},
        TABLE3: {"dataset": "tnbc", "split": "tile"},
    }
    assert marks(experiment, {"layer": layer, "profile": "paper", **full[experiment], **departs}) == expected
    assert {*expected} <= {*MARKS}


def test_published_at():
    cell = {"layer": "ours", "n_train": 1000, "metric": "test_accuracy"}
    assert published_at(TABLE1, cell) == published_at(TABLE1, {**cell, "network": "pooled"}) == 80.5
    assert published_at(TABLE1, {**cell, "layer": "n-jet"}) is None
    tile = {"layer": "unet", "split": "tile", "metric": "pixel_accuracy"}
    assert published_at(TABLE3, tile) == 94.7
    assert published_at(TABLE3, {**tile, "dataset": "monuseg-crops"}) is None
    assert published_at(TABLE3, {**tile, "split": "group"}) is None


# CSV


def test_csv_round_trip_and_the_same_bytes_each_time(tmp_path):
    cells = summarise(
        [record(seed=s, accuracy=0.8 + s / 700) for s in range(3)] + [record("n-jet", 5000, accuracy=1 / 3)], TABLE1
    )
    paths = [tmp_path / "1.csv", tmp_path / "2.csv"]
    for path in paths:
        write_csv(cells, path)
    content = paths[0].read_bytes()
    assert content == paths[1].read_bytes()
    assert b"\r" not in content
    assert content.count(b"\n") == 3
    pd.testing.assert_frame_equal(pd.read_csv(paths[0]), cells, rtol=0, atol=5.1e-4, check_dtype=False)
    assert b",33.333," in content


def test_command_writes_the_csv(tmp_path, monkeypatch, capsys):
    records = [record(layer, n, profile="quick") for layer in LAYERS for n in (1000, 5000)]
    save(tmp_path, *records, record(profile="quick", dataset=SAMPLE))
    arguments = ["report", "table1", "--profile", "quick", "--datasets", FULL, "--results", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert cli.main() == 0
    write_csv(summarise(records, TABLE1), tmp_path / "expected.csv")
    written = tmp_path / "quick" / "table1.csv"
    assert written.read_bytes() == (tmp_path / "expected.csv").read_bytes()
    written.unlink()
    written.mkdir()
    assert cli.main() == 2
    path = save(tmp_path, records[0])[0]
    path.write_text("{}")
    assert cli.main() == 2
    out, err = capsys.readouterr()
    assert out == ""
    unwritable, corrupt = err.splitlines()
    assert unwritable == f"error: results cannot be written to {written.parent}: Is a directory"
    assert corrupt.startswith(f"error: {path} is not a record (no trial); ")


@pytest.mark.parametrize("experiment", ["table2", "table3"])
def test_command_writes_the_csv_of_tables_2_and_3(tmp_path, monkeypatch, experiment):
    """Of all data sets named, each in rows of its own."""
    datasets = ["textures-synthetic", "cats-dogs"] if experiment == "table2" else ["tnbc", "monuseg-crops"]
    records = [
        vgg("ours-7x7", 0.5, 0.4, dataset=name) if experiment == "table2" else net("unet", 0.5, dataset=name)
        for name in datasets
    ]
    save(tmp_path, *records)
    options = ["--profile", "paper", "--datasets", *datasets, "--results", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["report", experiment, *options])
    assert cli.main() == 0
    written = pd.read_csv(tmp_path / "paper" / f"{experiment}.csv")
    assert set(written["dataset"]) == set(datasets)
    assert len(written) == 2 * len(records[0]["metrics"])
    expected = summarise(records, experiments()[experiment])
    pd.testing.assert_frame_equal(written, expected, atol=5.1e-4, check_dtype=False)


def test_command_takes_all_data_sets_that_have_records(tmp_path, monkeypatch, capsys):
    save(tmp_path, net("unet", 0.5, dataset="tnbc"), net("unet", 0.6, dataset="monuseg-crops"))
    monkeypatch.setattr(sys, "argv", ["report", "table3", "--profile", "paper", "--results", str(tmp_path)])
    assert cli.main() == 0
    assert set(pd.read_csv(tmp_path / "paper" / "table3.csv")["dataset"]) == {"tnbc", "monuseg-crops"}
    monkeypatch.setattr(sys, "argv", ["report", "table1", "--profile", "paper", "--results", str(tmp_path)])
    assert cli.main() == 2
    assert capsys.readouterr().err == f"error: {tmp_path} has no table1 of profile 'paper'\n"
    assert not (tmp_path / "paper" / "table1.csv").exists()
