"""From records to tables: the published numbers, averages, HTML, CSV and the data in the figures."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from invented import FULL, SAMPLE, Page, net, of_plan, record, save, trial_of, vgg
from matplotlib.colors import to_hex
from scipy import stats

from gdlayer.datasets.weights import VGG16_IMAGENET
from gdlayer.experiments.progress import STARTUP_SECONDS
from gdlayer.experiments.record import REQUIRED, ResultsError
from gdlayer.experiments.trial import (
    EXPERIMENTS,
    Table1Trial,
    Table2Trial,
    Table3Trial,
    hyperparameters,
    load_choices,
    load_profile,
)
from gdlayer.report import __main__ as cli
from gdlayer.report import table1, table2, table3
from gdlayer.report.cells import find, grid, marks, published, published_at, summarise, write_csv
from gdlayer.report.chapter import choices_table, costs, load, outdated, runs
from gdlayer.report.missing import planned
from gdlayer.report.records import choose_profile, load_records, recorded_datasets

SIZES = (1000, 5000, 10000, 30000, 60000)
LAYERS = Table1Trial.layers
PAPER_LAYERS = LAYERS[:6]


@pytest.fixture(autouse=True)
def figures() -> Iterator[None]:
    """Draws nothing on a screen and leaves no figure open."""
    with mpl.rc_context({"backend": "agg"}):
        yield
        plt.close("all")


# The paper


def published_accuracies() -> dict[tuple[str, int], float]:
    """The paper's Table 1: {(layer, n_train): percent}."""
    return {(layer, int(n)): value for ((layer, n), _), value in published("table1").items()}


def test_published_numbers():
    assert {metric for _, metric in published("table1")} == {"test_accuracy"}
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


def test_published_numbers_of_tables_2_and_3():
    """As the paper prints them, and nothing else."""
    assert published("table2") == {
        (("source",), "test_accuracy"): 92.8,
        (("free-form",), "val_accuracy"): 97,
        (("free-form",), "test_accuracy"): 96.4,
        (("ours",), "val_accuracy"): 98.1,
        (("ours",), "test_accuracy"): 97.2,
    }
    assert published("table3") == {
        (("unet", "tile"), "pixel_accuracy"): 94.7,
        (("gaussian-unet", "tile"), "pixel_accuracy"): 94.4,
    }


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_published_number_belongs_to_a_cell(experiment):
    cls = EXPERIMENTS[experiment]
    columns = {
        "table1": [(n,) for n in SIZES],
        "table2": [(source,) for source in Table2Trial.sources],
        "table3": [(split,) for split in Table3Trial.splits],
    }[experiment]
    ours = {cls.paper_cell(layer, *column) for layer in cls.layers for column in columns}
    assert {cell for cell, _ in published(experiment)} <= ours


def test_titles_of_tables_2_and_3():
    assert tuple(table2.TITLES) == Table2Trial.layers
    assert tuple(table2.SOURCES) == Table2Trial.sources
    assert tuple(table3.TITLES) == Table3Trial.layers
    assert tuple(table3.SPLITS) == Table3Trial.splits


def test_titles_and_controls():
    assert tuple(table1.TITLES) == LAYERS
    assert LAYERS[6:] == table1.CONTROLS
    assert len(set(table1.TITLES.values())) == 8


# Averages


def test_mean_deviation_and_interval_by_hand():
    accuracies = [0.80, 0.83, 0.84, 0.80, 0.83]
    records = (record(seed=s, accuracy=a, seconds=10.0 + s) for s, a in enumerate(accuracies))
    cells = summarise(records, "table1")
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
    cell = summarise((record(seed=s, accuracy=a) for s, a in enumerate(accuracies)), "table1").iloc[0]
    percent = 100 * np.array(accuracies)
    assert cell["mean"] == pytest.approx(percent.mean(), abs=1e-9)
    assert cell["std"] == pytest.approx(percent.std(ddof=1), abs=1e-9)
    half = stats.t.ppf(0.975, len(percent) - 1) * percent.std(ddof=1) / math.sqrt(len(percent))
    assert cell["high"] - cell["mean"] == pytest.approx(half, abs=1e-9)
    assert cell["mean"] - cell["low"] == pytest.approx(half, abs=1e-9)


def test_one_seed_has_no_interval():
    cell = summarise([record()], "table1").iloc[0]
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
    cells = summarise([one[0], two[0], one[1], two[1]], "table1")
    assert sorted(cells["mean"]) == pytest.approx([71, 81])
    assert set(cells["seeds"]) == {2}
    assert set(cells["n_train" if name == "n" else name]) == set(values)


def test_cells_are_in_the_order_of_the_table():
    records = [record(layer, n) for n in (5000, 1000) for layer in reversed(LAYERS)]
    cells = summarise(records, "table1")
    assert list(zip(cells["n_train"], cells["layer"], strict=True)) == [
        (n, layer) for n in (1000, 5000) for layer in LAYERS
    ]
    assert list(cells.index) == list(range(16))
    paper = dict(zip(zip(cells["layer"], cells["n_train"], strict=True), cells["paper"], strict=True))
    assert {cell: value for cell, value in paper.items() if not math.isnan(value)} == {
        cell: value for cell, value in published_accuracies().items() if cell[1] <= 5000
    }


def test_a_row_for_each_metric():
    cells = summarise([vgg("ours-7x7", 0.9, 0.8), vgg("ours-7x7", 0.94, 0.86, seed=1)], "table2")
    rows = cells[["layer", "source", "metric", "seeds", "mean", "paper"]].to_numpy().tolist()
    assert rows == [
        ["ours-7x7", "scratch", "val_accuracy", 2, pytest.approx(92), 98.1],
        ["ours-7x7", "scratch", "test_accuracy", 2, pytest.approx(83), 97.2],
    ]
    assert list(cells.columns[:2]) == ["layer", "source"]


def test_sources_and_splits_are_not_averaged():
    cells = summarise([vgg("source", 0.5, 0.6), vgg("source", 0.9, 0.8, "imagenet")], "table2")
    assert find(cells, {"metric": "test_accuracy"})[["source", "mean"]].to_numpy().tolist() == [
        ["imagenet", pytest.approx(80)],
        ["scratch", pytest.approx(60)],
    ]
    cells = summarise([net("unet", 0.9), net("unet", 0.8, "group")], "table3")
    found = find(cells, {"metric": "pixel_accuracy"})
    assert found[["split", "mean"]].to_numpy().tolist() == [["group", pytest.approx(80)], ["tile", pytest.approx(90)]]
    assert found["paper"].fillna(0).tolist() == [0, 94.7]
    assert np.isnan(find(cells, {"metric": "dice"})["paper"].to_numpy()).all()


# HTML


def page(*arguments: Any, table: Any = table1, columns: int = 9, **options: Any) -> Page:
    parsed = Page(table.render(*arguments, **options))
    assert parsed.tags <= {"table", "thead", "tbody", "tr", "th", "td", "br", "small", "sup", "p"}
    assert [len(row) for row in parsed.rows] == [columns] * len(parsed.rows)
    return parsed


def half(*percent: float) -> str:
    """Half of the 95 % interval of a mean, as a table shows it."""
    width = stats.t.ppf(0.975, len(percent) - 1) * np.std(percent, ddof=1) / math.sqrt(len(percent))
    return f"± {width:.1f}"


def test_render():
    cells = summarise(
        [
            *(record("ours", 1000, seed, accuracy) for seed, accuracy in enumerate([0.80, 0.82, 0.84])),
            record("dau", 1000, accuracy=0.7, parameters=42010, profile="quick", dataset=SAMPLE),
            record("n-jet", 5000, accuracy=0.8768, parameters=10814),
            record("free-form", 5000, accuracy=0.5, parameters=9770, profile="smoke"),
        ],
        "table1",
    )
    shown = page(cells)
    head, *rows = shown.rows
    assert head == [
        "training images",
        *("Free-form 3×3", "RFNN", "DAU", "Ours", "Ours-few", "Ours-separated"),
        *("Free-form 7×7|(control)", "N-Jet|(control)"),
    ]
    by_size = {row[0]: row[1:] for row in rows}
    assert list(by_size) == ["1,000", "5,000", "10,000", "30,000", "60,000", "parameters"]
    ours = f"82.0|{half(80, 82, 84)}|n = 3|(80.5)"
    assert by_size["1,000"] == [
        *("—|(78.8)", "—|(79.4)", "70.0†‡^a|n = 1|(79.9)", ours, "—|(79.7)", "—|(78.9)"),
        *("—", "—"),
    ]
    assert half(80, 82, 84) == "± 5.0"
    assert by_size["5,000"] == [
        *("50.0‡^b|n = 1|(84.3)", "—|(86.2)", "—|(86.4)", "—|(88.3)", "—|(88.4)", "—|(88.7)"),
        *("—", "87.7|n = 1"),
    ]
    assert by_size["60,000"] == ["—|(89.3)", "—|(91.2)", "—|(92.1)", "—|(93.1)", "—|(92.8)", "—|(91.4)", "—", "—"]
    assert by_size["parameters"] == ["9,770", "—", "42,010", "12,810", "—", "—", "—", "10,814"]
    for note in (
        "Percent; in parentheses the paper's. ± half of the 95 % interval over seeds (Student's t). n: seeds.",
        "Made in fp32 on a CPU, fashion-mnist, profile paper.",
        "Otherwise: ^a fp32 on a CPU, fashion-mnist-sample, profile quick; "
        "^b fp32 on a CPU, fashion-mnist, profile smoke.",
        "† Trained and tested on the stand-in embedded in the repository, not on the data set.",
        "‡ Reduced budget (profile quick, smoke): cannot be held against the paper's number.",
        "— No record",
    ):
        assert note in shown.text
    assert "brackets" not in shown.text


def complete(profile: str = "paper", seeds: int = 2, accuracy: float = 0.8) -> pd.DataFrame:
    return summarise(
        (record(layer, n, seed, accuracy, profile=profile) for layer in LAYERS for n in SIZES for seed in range(seeds)),
        "table1",
    )


def test_a_complete_table_of_the_full_protocol_needs_no_signs():
    shown = page(complete())
    assert "2 seeds a cell. Made in fp32 on a CPU, fashion-mnist, profile paper." in shown.text
    assert not set("†‡—^") & set(shown.text + str(shown.rows))
    assert all(cell.startswith("80.0|± 0.0") for row in shown.rows[1:6] for cell in row[1:])
    single = page(complete(seeds=1))
    assert "1 seed a cell" in single.text
    assert "±" not in single.text


def test_a_missing_control_is_explained_too():
    cells = complete()
    shown = page(cells[cells["layer"] != "n-jet"])
    assert shown.rows[1][8] == "—"
    assert "— No record" in shown.text


def test_the_record_stands_in_brackets():
    own = summarise([record("ours", 1000, accuracy=0.75, profile="quick", dataset=SAMPLE)], "table1")
    shown = page(own, complete(accuracy=0.9))
    assert shown.rows[1][4] == "75.0†‡|[90.0|± 0.0]|(80.5)"
    assert shown.rows[1][8] == "—|[90.0|± 0.0]"
    assert "Made in fp32 on a CPU, fashion-mnist-sample, profile quick." in shown.text
    kept = "In brackets: the run kept in the repository, fp32 on a CPU, fashion-mnist, profile paper."
    assert kept in shown.text
    shown = page(complete(), summarise([record("ours", 1000, accuracy=0.75, profile="quick")], "table1"))
    assert shown.rows[1][4] == "80.0|± 0.0|[75.0‡]|(80.5)"
    assert shown.rows[1][1] == "80.0|± 0.0|[—]|(78.8)"
    assert "(profile quick)" in shown.text
    assert not set("†^") & set(shown.text)
    assert "— No record" in shown.text


@pytest.mark.parametrize(
    ("name", "other", "words"),
    [
        ("device", "cuda", "fp32 on a GPU, fashion-mnist, profile paper"),
        ("precision", "bf16", "bf16 on a CPU, fashion-mnist, profile paper"),
        ("profile", "quick", "fp32 on a CPU, fashion-mnist, profile quick"),
        ("dataset", SAMPLE, "fp32 on a CPU, fashion-mnist-sample, profile paper"),
    ],
)
def test_what_differs_stands_side_by_side_and_marked(name, other, words):
    """Not averaged, and never unmarked: in the own run as in the record."""
    records = [*(record(accuracy=0.7, seed=s) for s in range(2)), record(accuracy=0.8, **{name: other})]
    records.append(record("dau", accuracy=0.6))
    cells = summarise(records, "table1")
    shown = page(cells)
    sign = marks(other if name == "dataset" else FULL, other if name == "profile" else "paper")
    assert shown.rows[1][4] == f"70.0|± 0.0|n = 2|80.0{sign}^a|n = 1|(80.5)"
    assert shown.rows[1][3] == "60.0|n = 1|(79.9)"
    assert f"Made in fp32 on a CPU, fashion-mnist, profile paper. Otherwise: ^a {words}." in shown.text
    beside = page(summarise(records[:2], "table1"), cells)
    assert beside.rows[1][4] == f"70.0|± 0.0|[70.0|± 0.0|80.0{sign}^a]|(80.5)"
    assert f"Otherwise: ^a {words}." in beside.text


def test_a_kind_has_the_same_letter_in_the_run_and_in_the_record():
    gpu, cpu = record("ours", device="cuda"), record("dau", device="cpu")
    own = summarise([cpu, record("rfnn"), gpu], "table1")
    kept = summarise([gpu, record("n-jet", device="cuda"), cpu], "table1")
    shown = page(own, kept)
    assert shown.rows[1][3:5] == ["80.0|[80.0^b]|(79.9)", "80.0^a|[80.0]|(80.5)"]
    assert "^a fp32 on a GPU, fashion-mnist, profile paper; ^b fp32 on a CPU" in shown.text


def test_parameters_that_differ_stand_side_by_side():
    cells = summarise([record(accuracy=0.7), record(seed=1, accuracy=0.8, parameters=7)], "table1")
    shown = page(cells)
    assert shown.rows[1][4] == "70.0|80.0|(80.5)"
    assert shown.rows[6][4] == "7, 12,810"


def test_each_network_has_a_table_of_its_own():
    cells = summarise([record(accuracy=0.8), record(accuracy=0.9, network="pooled", parameters=7)], "table1")
    assert dict(zip(cells["network"], cells["mean"], strict=True)) == pytest.approx({"unpooled": 80, "pooled": 90})
    shown = page(cells)
    assert (shown.rows[1][4], shown.rows[6][4]) == ("80.0|(80.5)", "12,810")
    pooled = page(cells, network="pooled")
    assert [row[4] for row in pooled.rows[1:]] == ["90.0|(80.5)", "7"]
    assert [row[0] for row in pooled.rows[1:]] == ["1,000", "parameters"]
    none = Page(table1.render(summarise([record()], "table1"), network="pooled"))
    assert (none.rows, none.text.strip()) == ([], "The pooled network is not part of this profile.")


def test_without_records():
    empty = summarise([], "table1")
    shown = page(empty)
    assert [row[1:7] for row in shown.rows[1:6]] == [
        [f"—|({published_accuracies()[layer, n]})" for layer in PAPER_LAYERS] for n in SIZES
    ]
    assert shown.text.strip().startswith("Percent; in parentheses the paper's. — No record")
    assert page(complete(), empty).rows[1][4] == "80.0|± 0.0|[—]|(80.5)"


# What is not run yet


def plan_of(*records: dict[str, Any], profile: str = "paper", judged_by: list[dict[str, Any]] | None = None) -> Any:
    return planned(profile, "table1", [FULL], records, judged_by or [])


def test_what_is_missing_says_so_and_how_long_it_takes():
    steps = load_profile("paper")["table1"]["steps"]
    done = [of_plan("ours", 1000, s, seconds=2.0 * steps["1000"]) for s in range(5)]
    some = [of_plan("ours", 5000, s, seconds=2.0 * steps["5000"]) for s in range(2)]
    records = [*done, *some]
    shown = page(summarise(records, "table1"), None, plan_of(*records))
    column = {row[0]: row[4] for row in shown.rows[1:]}
    assert column["1,000"] == "80.0|± 0.0|n = 5|(80.5)"
    assert column["5,000"] == "80.0|± 0.0|n = 2 of 5|(88.3)"
    seconds = 5 * (2 * steps["10000"] + STARTUP_SECONDS)
    assert column["10,000"] == f"not run|{seconds / 3600:.1f} h|(90.5)"
    assert "Not run yet: with about how long that takes on one core, " in shown.text
    assert "—" not in "".join(shown.rows[1] + shown.rows[2] + shown.rows[3])


def test_how_long_it_takes_is_judged_by_the_cpu_and_by_other_records_where_there_are_none():
    steps = load_profile("paper")["table1"]["steps"]
    gpu = [of_plan("ours", 1000, 0, seconds=0.1, device="cuda")]
    shown = page(summarise(gpu, "table1"), None, plan_of(*gpu))
    assert shown.rows[2][4] == "not run|an unknown time|(88.3)"
    kept = of_plan("ours", 5000, 0, seconds=3.0 * steps["5000"])
    plan = plan_of(*gpu, judged_by=[kept])
    found = find(plan, {"layer": "ours", "n_train": 5000, "network": "unpooled"})
    assert found["seconds"].tolist() == pytest.approx([5 * (3 * steps["5000"] + STARTUP_SECONDS)])
    assert found[["planned", "missing"]].to_numpy().tolist() == [[5, 5]]


def test_metrics_of_the_same_trials_are_not_waited_for_twice():
    made = net("unet", 0.9)
    made["hyperparameters"] = hyperparameters(trial_of(made))
    made["seconds"] = 7.2 * made["hyperparameters"]["steps"]
    plan = planned("paper", "table3", ["tnbc-derived"], [made])
    shown = page(summarise([made], "table3"), None, plan, table=table3, columns=7, dataset="tnbc-derived")
    each = (made["seconds"] + STARTUP_SECONDS) / 3600
    assert shown.rows[1][1].endswith("n = 1 of 5|(94.7)")
    assert shown.rows[2][1:5] == [f"not run|{5 * each:.1f} h|(94.4)", *[f"not run|{5 * each:.1f} h"] * 3]
    assert f"on one core, {29 * each:.1f} h in all." in shown.text


def test_the_plan_of_a_record_does_not_depend_on_what_lies_on_this_machine(tmp_path, monkeypatch):
    """Weights from elsewhere that this machine has or lacks."""
    monkeypatch.setenv("GDLAYER_DATA", str(tmp_path))
    without = planned("paper", "table2", ["cats-dogs"], [])
    weights = tmp_path / VGG16_IMAGENET.path
    weights.parent.mkdir(parents=True, exist_ok=True)
    weights.touch()
    pd.testing.assert_frame_equal(planned("paper", "table2", ["cats-dogs"], []), without)
    assert set(without["source"]) == {"scratch"}


def test_a_plan_leaves_out_data_sets_that_an_experiment_lacks():
    assert set(planned("paper", "table3-search", ["tnbc", "monuseg-crops"], [])["dataset"]) == {"tnbc"}


def test_a_size_that_the_paper_lacks_has_a_row():
    shown = page(summarise([record("ours", 2000, accuracy=0.7)], "table1"))
    assert [row[0] for row in shown.rows[1:]] == ["1,000", "2,000", "5,000", "10,000", "30,000", "60,000", "parameters"]
    assert shown.rows[2][4] == "70.0"


def test_what_comes_from_a_record_is_escaped():
    cells = summarise([record(profile="<b>escaped & sound</b>")], "table1")
    assert "(profile <b>escaped & sound</b>)" in page(cells).text


@pytest.mark.parametrize(
    ("dataset", "profile", "expected"),
    [
        ("fashion-mnist", "paper", ""),
        ("fashion-mnist", "quick", "‡"),
        ("fashion-mnist-sample", "paper", "†"),
        ("textures-synthetic", "smoke", "†‡"),
        ("nuclei-synthetic", "quick", "†‡"),
        *((name, "paper", "") for name in ("cats-dogs", "cats-vs-dogs-200", "tnbc", "tnbc-derived", "monuseg-crops")),
    ],
)
def test_marks(dataset, profile, expected):
    assert marks(dataset, profile) == expected


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_embedded_data_set_is_marked(experiment):
    embedded = {"table1": SAMPLE, "table2": "textures-synthetic", "table3": "nuclei-synthetic"}[experiment]
    marked = {dataset for dataset in EXPERIMENTS[experiment].datasets if "†" in marks(dataset, "paper")}
    assert marked == {embedded}


def test_a_grid_finds_cells_by_its_selectors():
    cells = summarise([net("unet", 0.9), net("gaussian-unet", 0.8, profile="quick")], "table3")
    rows = {"one & <b>escaped</b>": {"layer": "unet"}, "two": {"layer": "gaussian-unet"}}
    columns = {"a": {"split": "tile", "metric": "pixel_accuracy"}, "b": {"split": "tile", "metric": "iou"}}
    shown = Page(grid("table3", rows, columns, cells, corner="corner", foot={"below": ["x", "y"]}))
    assert shown.rows == [
        ["corner", "a", "b"],
        ["one & escaped", "90.0|(94.7)", "70.0"],
        ["two", "80.0‡^a|(94.4)", "60.0‡^a"],
        ["below", "x", "y"],
    ]
    assert "‡ Reduced budget (profile quick)" in shown.text
    assert not set("†—") & set(shown.text)


def test_published_at():
    cell = {"layer": "ours", "n_train": 1000, "metric": "test_accuracy"}
    assert published_at("table1", cell) == published_at("table1", {**cell, "network": "pooled"}) == 80.5
    assert published_at("table1", {**cell, "layer": "n-jet"}) is None
    tile = {"layer": "unet", "split": "tile", "metric": "pixel_accuracy"}
    assert published_at("table3", tile) == 94.7
    assert published_at("table3", {**tile, "dataset": "monuseg-crops"}) is None
    assert published_at("table3", {**tile, "split": "group"}) is None


def test_table_2():
    cells = summarise(
        [
            *(vgg("source", 0.9, 0.8 + s / 50, seed=s) for s in range(3)),
            vgg("free-form", 0.7, 0.6, profile="quick"),
            vgg("ours-7x7-fitted", 0.5, 0.4, profile="quick", dataset="textures-synthetic"),
        ],
        "table2",
    )
    shown = page(cells, table=table2, columns=3)
    head, *rows = shown.rows
    assert head == ["first layer", "val|trained here, reduced", "test|trained here, reduced"]
    assert rows == [
        ["the network before", "90.0|± 0.0|n = 3", f"82.0|{half(80, 82, 84)}|n = 3|(92.8)"],
        ["Free-form 3×3, random start", "70.0‡^a|n = 1|(97.0)", "60.0‡^a|n = 1|(96.4)"],
        ["Free-form 3×3, trained on", "—|(97.0)", "—|(96.4)"],
        ["Ours 7×7, random start", "—|(98.1)", "—|(97.2)"],
        ["Ours 7×7, fitted start", "50.0†‡^b|n = 1|(98.1)", "40.0†‡^b|n = 1|(97.2)"],
        ["Ours 3×3, random start", "—|(98.1)", "—|(97.2)"],
        ["Ours 3×3, fitted start", "—|(98.1)", "—|(97.2)"],
    ]
    for note in (
        "n: seeds.",
        "No columns for ImageNet weights: not at hand here.",
        "† Trained and tested on the stand-in",
        "‡ Reduced budget",
        "— No record",
    ):
        assert note in shown.text


def test_table_2_keeps_the_sources_apart():
    records = [vgg("free-form", 0.7, 0.6), vgg("free-form", 0.9, 0.8, "imagenet"), vgg("source", 0.55, 0.5, "imagenet")]
    cells = summarise(records, "table2")
    shown = page(cells, table=table2, columns=5)
    assert shown.rows[0][1:] == [
        *("val|trained here, reduced", "test|trained here, reduced"),
        *("val|ImageNet weights", "test|ImageNet weights"),
    ]
    assert shown.rows[1][1:] == ["—", "—|(92.8)", "55.0", "50.0|(92.8)"]
    assert shown.rows[2][1:] == ["70.0|(97.0)", "60.0|(96.4)", "90.0|(97.0)", "80.0|(96.4)"]
    only = page(summarise(records[1:], "table2"), table=table2, columns=3)
    assert only.rows[0][1:] == ["val|ImageNet weights", "test|ImageNet weights"]
    beside = page(summarise(records[:1], "table2"), cells, table=table2, columns=3)
    assert beside.rows[2][1:] == ["70.0|[70.0]|(97.0)", "60.0|[60.0]|(96.4)"]


def test_table_3():
    cells = summarise(
        [
            *(net("unet", 0.9 + s / 50, seed=s, parameters=97202) for s in range(3)),
            net("unet", 0.85, "group", 0.88, parameters=97202),
            net("gaussian-unet", 0.7, "group", 0.88, profile="quick", parameters=25298),
            net("gaussian-unet", 0.3, dataset="monuseg-crops", parameters=25298),
        ],
        "table3",
    )
    shown = page(cells, table=table3, columns=7, dataset="tnbc-derived")
    single = ("85.0|n = 1", "75.0|n = 1", "65.0|n = 1")
    assert shown.rows == [
        [
            "TNBC, resolution-degraded copy",
            *("accuracy|by tile", "Dice|by tile", "IoU|by tile"),
            *(f"{metric}|by patient or image" for metric in ("accuracy", "Dice", "IoU")),
        ],
        ["U-net", *(f"{v}.0|{half(90, 92, 94)}|n = 3{p}" for v, p in ((92, "|(94.7)"), (82, ""), (72, ""))), *single],
        ["Gaussian U-net", "—|(94.4)", "—", "—", "70.0‡^a|n = 1", "60.0‡^a|n = 1", "50.0‡^a|n = 1"],
        ["U-net with BN (control)", *["—"] * 6],
        ["everything background", "87.5", "0.0", "0.0", "88.0", "0.0", "0.0"],
    ]
    other = page(cells, table=table3, columns=7, dataset="monuseg-crops")
    assert other.rows[0][0] == "MoNuSeg crops (50)"
    assert other.rows[2][1] == "30.0"  # the paper's numbers are of TNBC
    assert other.rows[1][1] == "—"
    assert cells.loc[cells["dataset"] == "monuseg-crops", "paper"].isna().all()
    assert other.rows[4] == ["everything background", "87.5", "0.0", "0.0", "—", "0.0", "0.0"]


def test_tables_2_and_3_without_records_and_beside_the_record():
    empty = summarise([], "table3")
    shown = page(empty, table=table3, columns=7, dataset="tnbc")
    assert [row[1] for row in shown.rows[1:]] == ["—|(94.7)", "—|(94.4)", "—", "—"]
    kept = summarise([net("unet", 0.5, profile="quick")], "table3")
    shown = page(empty, kept, table=table3, columns=7, dataset="tnbc-derived")
    assert shown.rows[1][1:5] == ["—|[50.0‡]|(94.7)", "—|[40.0‡]", "—|[30.0‡]", "—|[—]"]
    assert "In brackets: the run kept in the repository, fp32 on a CPU, tnbc-derived, profile quick." in shown.text
    assert page(summarise([], "table2"), table=table2, columns=1).rows[0] == ["first layer"]


# What a chapter shows


def test_load_brings_the_record_beside_a_users_own_run(tmp_path):
    kept, own = tmp_path / "kept", tmp_path / "own"
    save(kept, net("unet", 0.5, profile="quick"), net("unet", 0.4, profile="quick", dataset="monuseg-crops"))
    save(own, net("unet", 0.8, profile="smoke"))
    loaded = load(str(own), "smoke", "table3", "tnbc-derived,monuseg-crops", kept)
    assert len(loaded.records) == 1
    assert (loaded.folder, loaded.profile) == (own, "smoke")
    assert loaded.datasets == ("tnbc-derived", "monuseg-crops")
    assert find(loaded.cells, {"metric": "pixel_accuracy"})["mean"].tolist() == pytest.approx([80])
    assert loaded.record is not None
    assert find(loaded.record, {"metric": "pixel_accuracy"})["mean"].tolist() == pytest.approx([40, 50])
    assert (loaded.plan["planned"].sum(), loaded.plan["missing"].sum()) == (12, 11)
    alone = load(str(kept), "quick", "table3", "tnbc-derived", kept)
    assert (len(alone.records), alone.record) == (1, None)
    assert load(str(own), "smoke", "table3", "tnbc", kept).record is None


def test_the_full_protocol_is_shown_as_soon_as_it_has_a_record(tmp_path):
    """Without any of the quick record's cells in it; and so is the record beside a user's own run."""
    kept, own = tmp_path / "kept", tmp_path / "own"
    quick = [net(layer, 0.5, profile="quick") for layer in Table3Trial.layers]
    save(kept, *quick)
    save(own, net("unet", 0.6, profile="quick"))
    before = load(kept, "fullest", "table3", "tnbc-derived", kept)
    assert (before.profile, len(before.records)) == ("quick", 3)
    save(kept, net("unet", 0.9))
    loaded = load(kept, "fullest", "table3", "tnbc-derived", kept)
    assert (loaded.profile, len(loaded.records)) == ("paper", 1)
    assert set(loaded.cells["profile"]) == {"paper"}
    assert load(kept, "fullest", "table3", "monuseg-crops", kept).profile == "quick"
    beside = load(own, "quick", "table3", "tnbc-derived", kept).record
    assert beside is not None
    assert set(beside["profile"]) == {"paper"}


def test_choosing_a_profile(tmp_path):
    assert choose_profile(tmp_path, "smoke", "table3", ["tnbc"]) == "smoke"
    assert choose_profile(tmp_path, "fullest", "table3", ["tnbc"]) == "quick"
    save(tmp_path, net("unet", 0.9, dataset="tnbc"))
    assert recorded_datasets(tmp_path, "paper", "table3") == ("tnbc",)
    assert recorded_datasets(tmp_path, "quick", "table3") == ()
    assert choose_profile(tmp_path, "fullest", "table3", ["tnbc", "monuseg-crops"]) == "paper"
    assert choose_profile(tmp_path, "fullest", "table3", ["monuseg-crops"]) == "quick"


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_choices_table(experiment):
    head, rule, *rows = choices_table(experiment, "smoke").splitlines()
    assert (head, rule) == ("| choice | value | reason |", "|---|---|---|")
    choices = load_choices(experiment)
    for (name, choice), row in zip(choices.items(), rows, strict=True):
        first, value, reason = row.removeprefix("| ").removesuffix(" |").split(" | ")
        assert first == name.replace("_", " ")
        assert reason == choice["reason"]
        assert not set("{}[]'") & set(value)
        numbers = re.findall(r"(?<![\w.])\d+\.?\d*(?![\w.])", str(choice["value"]))
        assert all(number in value for number in numbers), row


def test_choices_of_layers_and_sources_in_words():
    text = choices_table("table2", "smoke")
    assert "| widths | scratch 16, 32, 64, 128, 128; imagenet 64, 128, 256, 512, 512 |" in text
    rate = load_choices("table2")["learning_rate"]["value"]
    scratch = rate["source"]["scratch"]
    assert f"| learning rate | source scratch {scratch}; imagenet {rate['source']['imagenet']}; free-form " in text


def test_a_choice_of_the_profile_comes_first(monkeypatch):
    monkeypatch.setitem(load_profile("quick")["table3"], "batch_size", 77)
    assert "| batch size | 77 | Not printed. |" in choices_table("table3", "quick")
    assert "| batch size | 8 | Not printed. |" in choices_table("table3", "smoke")


def test_runs_have_a_row_a_kind(tmp_path):
    def made(seed: int, **changes: Any) -> dict[str, Any]:
        return (
            net("unet", 0.5, seconds=1800.0, seed=seed)
            | {
                "data": {"name": "tnbc", "label": "TNBC & co"},
                "git": {"commit": "0123456789abcdef", "dirty": False},
                "versions": {"torch": "2.9"},
                "machine": {"device": "cpu", "name": "a CPU", "threads": 1},
            }
            | changes
        )

    other = made(2, git={"commit": None, "dirty": True}, data={"name": "tnbc"})
    save(tmp_path, made(0), made(1, git={"commit": "f" * 40, "dirty": False}), other)
    shown = Page(runs(load(tmp_path, "paper", "table3", "tnbc-derived", tmp_path)))
    assert shown.rows == [
        ["data", "profile", "machine", "precision", "torch", "commits", "trials", "hours"],
        ["TNBC & co", "paper", "a CPU, 1 thread", "fp32", "2.9", "0123456, fffffff", "2", "1.00"],
        ["tnbc", "paper", "a CPU, 1 thread", "fp32", "2.9", "None with changes", "1", "0.50"],
    ]
    steps = load_profile("paper")["table3"]["steps"]
    assert "Profile paper: 3 of 30 trials have been run; the rest takes about " in shown.text
    assert f"of one core. Steps of training: {steps:,}." in shown.text
    empty = Page(runs(load(tmp_path, "quick", "table3", "tnbc-derived", tmp_path)))
    assert empty.rows == []
    assert "Profile quick: 0 of 6 trials have been run; the rest takes about " in empty.text


def test_settings_that_have_changed_since_are_told():
    current = of_plan("ours", 1000, 0)
    assert outdated([current]) == ""
    old = of_plan("ours", 1000, 1)
    old["hyperparameters"] = old["hyperparameters"] | {"learning_rate": 7.0}
    rate = current["hyperparameters"]["learning_rate"]
    told = Page(outdated([current, old, old | {}])).text.strip()
    expected = f"learning rate of ours was 7.0, is {rate} (2 trials)."
    assert told == f"Made with other settings than the present ones: {expected}"


def test_costs():
    records = [
        *(record("ours", 1000, s, seconds=10.0 + 2 * s) for s in range(2)),
        record("ours", 5000, seconds=1234.0),
        record("ours", 5000, 1, seconds=3.0, device="cuda"),
        record("dau", 1000, seconds=5.0, parameters=42010),
    ]
    rows = {name: {"layer": name} for name in ("ours", "dau", "rfnn")}
    shown = Page(costs(summarise(records, "table1"), rows, {f"{n}": {"n_train": n} for n in (1000, 5000)}))
    assert shown.rows == [
        ["", "parameters", "1000", "5000"],
        ["ours", "12,810", "11", "1,234|3^a"],
        ["dau", "42,010", "5", "—"],
        ["rfnn", "—", "—", "—"],
    ]
    assert "made in fp32 on a CPU, fashion-mnist, profile paper. Otherwise: ^a fp32 on a GPU" in shown.text
    # once for all metrics
    cells = summarise([net("unet", 0.5, seconds=7.0)], "table3")
    shown = Page(table3.durations(cells, "tnbc-derived"))
    assert shown.rows[1] == ["U-net", "12,810", "7", "—"]
    assert "No trial has been run yet." in Page(table3.durations(cells, "tnbc")).text


def test_residuals_of_fitted_starts():
    """From the least to the most over seeds, never an average of different devices."""
    records = [
        *(vgg("ours-3x3-fitted", 0.5, 0.5, seed=s, fit_residual=0.01 + 0.1 * s) for s in range(3)),
        vgg("ours-7x7-fitted", 0.5, 0.5, "imagenet", fit_residual=0.5),
        vgg("source", 0.5, 0.5),
    ]
    assert Page(table2.residuals(records)).rows == [
        ["first layer", "trained here, reduced", "ImageNet weights"],
        ["Ours 7×7, fitted start", "—", "0.500"],
        ["Ours 3×3, fitted start", "0.010 to 0.210", "—"],
    ]
    assert Page(table2.residuals(records[-1:])).rows == [["first layer"]]


def test_costs_of_first_layers_keep_devices_and_sources_apart():
    records = [
        *(vgg("ours-3x3", 0.5, 0.5, seed=s, seconds=10.0 + s, parameters=696) for s in range(3)),
        vgg("ours-3x3", 0.5, 0.5, seed=3, seconds=1.0, parameters=696, device="cuda"),
        vgg("ours-3x3", 0.5, 0.5, "imagenet", seconds=3600.0, parameters=2784),
    ]
    shown = Page(table2.durations(summarise(records, "table2")))
    assert shown.rows[0] == ["", "parameters", "trained here, reduced", "ImageNet weights"]
    assert shown.rows[6] == ["Ours 3×3, random start", "696 or 2,784", "11|1^a", "3,600"]


# CSV


def test_csv_round_trip_and_the_same_bytes_each_time(tmp_path):
    cells = summarise(
        [record(seed=s, accuracy=0.8 + s / 700) for s in range(3)] + [record("n-jet", 5000, accuracy=1 / 3)], "table1"
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
    write_csv(summarise(records, "table1"), tmp_path / "expected.csv")
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
    assert re.match(r"error: .*table1\.csv", unwritable)
    assert corrupt.startswith(f"error: {path} is not a record (no trial, ")


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
    pd.testing.assert_frame_equal(written, summarise(records, experiment), atol=5.1e-4, check_dtype=False)


def test_command_takes_all_data_sets_that_have_records(tmp_path, monkeypatch, capsys):
    save(tmp_path, net("unet", 0.5, dataset="tnbc"), net("unet", 0.6, dataset="monuseg-crops"))
    monkeypatch.setattr(sys, "argv", ["report", "table3", "--profile", "paper", "--results", str(tmp_path)])
    assert cli.main() == 0
    assert set(pd.read_csv(tmp_path / "paper" / "table3.csv")["dataset"]) == {"tnbc", "monuseg-crops"}
    monkeypatch.setattr(sys, "argv", ["report", "table1", "--profile", "paper", "--results", str(tmp_path)])
    assert cli.main() == 2
    assert capsys.readouterr().err == f"error: {tmp_path} has no table1 of profile 'paper'\n"
    assert not (tmp_path / "paper" / "table1.csv").exists()


# Records


def test_load_records(tmp_path):
    wanted = [record("dau", seed=1), record("ours", seed=0)]
    save(tmp_path, *reversed(wanted))
    save(tmp_path, record(profile="quick"), record(dataset=SAMPLE))
    folder = tmp_path / "paper" / "table1" / FULL
    (folder / ".ours-n1000-s1.json.part").write_bytes(b" " * 100)
    (folder / ".ours-n1000-s1.checkpoint").write_bytes(b"binary")
    assert load_records(tmp_path, "paper", "table1", [FULL]) == wanted
    assert load_records(tmp_path, "smoke", "table1", [FULL]) == []
    assert load_records(tmp_path / "nowhere", "paper", "table1", [FULL]) == []
    assert load_records(tmp_path, "paper", "table1", []) == []
    both = load_records(tmp_path, "paper", "table1", (SAMPLE, FULL))
    assert [r["trial"]["dataset"] for r in both] == [SAMPLE, FULL, FULL]


@pytest.mark.parametrize("missing", REQUIRED)
def test_a_record_that_lacks_a_field(tmp_path, missing):
    incomplete = record()
    (path,) = save(tmp_path, incomplete)
    del incomplete[missing]
    path.write_text(json.dumps(incomplete))
    with pytest.raises(ResultsError, match=rf"^{re.escape(str(path))} is not a record \(no {missing}\); move it away$"):
        load_records(tmp_path, "paper", "table1", [FULL])


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_a_file_that_is_no_record(tmp_path, content):
    (path,) = save(tmp_path, record())
    path.write_text(content)
    with pytest.raises(ResultsError, match=rf"^{re.escape(str(path))} is not a record .*; move it away$"):
        load_records(tmp_path, "paper", "table1", [FULL])


# Figures


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
    figure = table1.learning_curves([*records, record("ours", 1000, losses=[9.0, 9.0, 9.0], network="pooled")])
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
    # one legend for all, with the layers of every panel
    assert legend(figure) == ["RFNN", "DAU", "Ours", "N-Jet"]
    colours = {(line.get_label(), to_hex(line.get_color())) for axis in panels for line in axis.lines}
    assert len(colours) == 4
    figure.canvas.draw()


@pytest.mark.parametrize("sizes", [SIZES[:1], SIZES[:2], SIZES])
def test_every_layer_has_its_line_in_every_panel(sizes):
    records = [record(layer, n) for layer in LAYERS for n in sizes]
    figure = table1.learning_curves(records)
    assert figure is not None
    assert [len(axis.lines) for axis in figure.axes if axis.axison] == [8] * len(sizes)
    assert legend(figure) == list(table1.TITLES.values())
    assert len({to_hex(line.get_color()) for line in figure.axes[0].lines}) == 8
    figure.canvas.draw()


def test_learning_curves_average_one_kind_of_run_and_one_network():
    records = [
        *(record(seed=s, losses=[2.0, 1.0], device="cuda") for s in range(2)),
        record(seed=2, losses=[4.0, 3.0]),
        record(losses=[8.0, 6.0], network="pooled"),
    ]
    figure = table1.learning_curves(records)
    assert figure is not None
    (line,) = figure.axes[0].lines
    np.testing.assert_allclose(np.asarray(line.get_xydata(), float), [(10, 2), (20, 1)])
    pooled = table1.learning_curves(records, network="pooled")
    assert pooled is not None
    np.testing.assert_allclose(np.asarray(pooled.axes[0].lines[0].get_xydata(), float), [(10, 8), (20, 6)])
    assert table1.learning_curves(records[:3], network="pooled") is None
    assert table1.accuracy_against_parameters(summarise([], "table1")) is None


def test_accuracy_against_parameters():
    cells = summarise(
        [
            *(record("ours", 1000, seed, accuracy) for seed, accuracy in enumerate([0.80, 0.82, 0.84])),
            record("dau", 1000, accuracy=0.7, parameters=42010),
            record("ours", 5000, accuracy=0.6),
            record("rfnn", 60000, accuracy=0.9, parameters=10810),
        ],
        "table1",
    )
    figure = table1.accuracy_against_parameters(cells)
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


def test_one_size_is_one_panel():
    figure = table1.accuracy_against_parameters(summarise((record(layer) for layer in LAYERS), "table1"))
    assert figure is not None
    assert len(figure.axes) == 1
    assert len(figure.axes[0].containers) == 8
    figure.canvas.draw()


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
    assert table3.kept_pictures(tmp_path, "paper", "tnbc") == {}
    for name in ("unet-tile-s0", "unet-tile-s2", "gaussian-unet-tile-s2", "gaussian-unet-tile-s3", "unet-tile-s3"):
        write_pictures(folder / f"{name}.npz")
    found = {"unet": folder / "unet-tile-s2.npz", "gaussian-unet": folder / "gaussian-unet-tile-s2.npz"}
    assert table3.kept_pictures(tmp_path, "paper", "tnbc") == found
    trial = Table3Trial(layer="unet", split="tile", dataset="tnbc", seed=2, profile="paper")
    assert table3.picture_path(trial, tmp_path) == found["unet"]
    assert table3.kept_pictures(tmp_path, "quick", "tnbc") == {}


ERROR_COLOURS = [(0xFF, 0xFF, 0xFF), (0xD5, 0x5E, 0x00), (0x00, 0x72, 0xB2)]
"""Right, invented, missed."""


@pytest.mark.parametrize("names", ["abc", "a"])
def test_figure_2(tmp_path, names):
    pictures = {
        layer: write_pictures(tmp_path / f"{layer}.npz", names, seed)
        for seed, layer in enumerate(["unet", "gaussian-unet"])
    }
    figure = table3.figure2(pictures)
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
        table3.figure2({"unet": one, "gaussian-unet": other})
    assert len(table3.figure2({"unet": one}).axes) == 12
    assert len(table3.figure2({"unet": one, "gaussian-unet": one, "unet-bn": one}).axes) == 24


# Imports


@pytest.mark.parametrize(
    "module",
    [
        *("gdlayer.report.table1", "gdlayer.report.table2", "gdlayer.report.table3", "gdlayer.report.__main__"),
        *("gdlayer.report.overview", "gdlayer.report.precision", "gdlayer.report.judgements"),
        *("gdlayer.experiments.trial", "gdlayer.experiments.progress"),
    ],
)
def test_reading_records_does_not_wait_for_torch(module):
    script = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0
