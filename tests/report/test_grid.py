"""Tables as HTML: every cell says what it is, and what is not run yet says how long it takes."""

import re
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pytest
from invented import FULL, SAMPLE, Page, half, loaded_of, net, of_plan, page, record, trial_of

from gdlayer.report.cells import as_csv, select, summarise
from gdlayer.report.grid import grid
from gdlayer.report.plans import planned
from gdlayer.trials.progress import STARTUP_SECONDS
from gdlayer.trials.registry import experiments
from gdlayer.trials.settings import hyperparameters

TABLE1, TABLE2, TABLE3, *_ = experiments().values()
LAYERS = TABLE1.trial.layers
PAPER_LAYERS = LAYERS[:6]
COLUMN = {layer: 1 + i for i, layer in enumerate(LAYERS)}
"""Of each layer in a row of the table, after the heading."""
SIZES = (1000, 5000, 10000, 30000, 60000)


def test_render():
    cells = summarise(
        [
            *(record("ours", 1000, seed, accuracy) for seed, accuracy in enumerate([0.80, 0.82, 0.84])),
            record("dau", 1000, accuracy=0.7, parameters=42010, profile="quick", dataset=SAMPLE),
            record("n-jet", 5000, accuracy=0.8768, parameters=10814),
            record("free-form", 5000, accuracy=0.5, parameters=9770, profile="smoke"),
        ],
        TABLE1,
    )
    shown = page(cells)
    head, *rows = shown.rows
    assert head == [
        "training images",
        *("Free-form 3×3", "RFNN", "DAU", "Ours", "Ours-few", "Ours-separated"),
        "N-Jet|(control)",  # of the controls the one that has a record
    ]
    by_size = {row[0]: row[1:] for row in rows}
    assert list(by_size) == ["1,000", "5,000", "10,000", "30,000", "60,000", "parameters"]
    ours = f"82.0|{half(80, 82, 84)}|n = 3|(80.5)"
    assert by_size["1,000"] == [
        *("—|(78.8)", "—|(79.4)", "70.0†‡^a|n = 1|(79.9)", ours, "—|(79.7)", "—|(78.9)"),
        "—",
    ]
    assert half(80, 82, 84) == "± 5.0"
    assert by_size["5,000"] == [
        *("50.0‡^b|n = 1|(84.3)", "—|(86.2)", "—|(86.4)", "—|(88.3)", "—|(88.4)", "—|(88.7)"),
        "87.7|n = 1",
    ]
    assert by_size["60,000"] == [
        *("—|(89.3)", "—|(91.2)", "—|(92.1)", "—|(93.1)", "—|(92.8)", "—|(91.4)"),
        "—",
    ]
    assert by_size["parameters"] == ["9,770", "—", "42,010", "12,810", "—", "—", "10,814"]
    for note in (
        "Percent; in parentheses the paper's. ± half of the 95 % interval over seeds (Student's t). n: seeds.",
        "Made in fp32 on a CPU, fashion-mnist, profile paper.",
        "Otherwise: ^a fp32 on a CPU, fashion-mnist-sample, profile quick; "
        "^b fp32 on a CPU, fashion-mnist, profile smoke.",
        "† Trained and tested on the stand-in embedded in the repository, not on the data set.",
        "‡ Reduced budget: cannot be held against the paper's number.",
        "— No record",
    ):
        assert note in shown.text
    assert "brackets" not in shown.text


def test_a_number_of_the_run_leads_to_its_records_and_that_of_the_record_does_not():
    own = summarise([record("ours", 1000, 0, 0.75), record("ours", 1000, 0, 0.8, device="cuda")], TABLE1)
    kept = summarise([record("dau", 5000, accuracy=0.9)], TABLE1)
    html = TABLE1.page.table(loaded_of(own, kept))
    link = '<a href="records.html#table1-fashion-mnist-ours-n1000">{}</a>'
    assert re.findall(r"<a href=.*?</a>", html) == [link.format("75.0"), link.format("80.0")]
    assert "Each number leads to its records." in html


@pytest.mark.parametrize(
    ("experiment", "options", "name"),
    [
        (TABLE1, {}, "table1"),
        (TABLE1, {"network": "pooled"}, "table1-pooled"),
        (TABLE3, {"dataset": "tnbc-derived"}, "table3-tnbc-derived"),
    ],
)
def test_a_table_can_be_saved(experiment, options, name):
    """Its own cells, as in the CSV of the experiment."""
    cell = [("ours", 5000), ("dau", 1000)]
    made = [record(layer, n, network=network) for layer, n in cell for network in ("unpooled", "pooled")]
    made = made if experiment is TABLE1 else [net("unet", 0.9, dataset=d) for d in ("tnbc-derived", "monuseg-crops")]
    cells = summarise(made, experiment)
    html = experiment.page.table(loaded_of(cells, experiment=experiment), **options)
    (saved,) = re.findall(r'<a download="(.+?)\.csv" href="data:text/csv;charset=utf-8,(.+?)">\1\.csv</a>', html)
    assert saved[0] == name
    head, *lines = as_csv(cells).splitlines()
    chosen = {"network": "unpooled"} | options if experiment is TABLE1 else options
    found = [line for line in lines if {*chosen.values()} <= {*line.split(",")} and "background" not in line]
    assert unquote(saved[1]).splitlines() == [head, *found]
    assert len(found) == (2 if experiment is TABLE1 else 4)


def test_a_table_without_a_number_cannot_be_saved():
    html = TABLE1.page.table(loaded_of(summarise([], TABLE1)))
    assert "<a" not in html
    assert "save" not in html


def complete(profile: str = "paper", seeds: int = 2, accuracy: float = 0.8) -> pd.DataFrame:
    return summarise(
        (record(layer, n, seed, accuracy, profile=profile) for layer in LAYERS for n in SIZES for seed in range(seeds)),
        TABLE1,
    )


def test_a_complete_table_of_the_full_protocol_needs_no_signs():
    shown = page(complete())
    assert "2 seeds per cell. Made in fp32 on a CPU, fashion-mnist, profile paper." in shown.text
    assert not set("†‡—^") & set(shown.text + str(shown.rows))
    assert all(cell.startswith("80.0|± 0.0") for row in shown.rows[1:6] for cell in row[1:])
    single = page(complete(seeds=1))
    assert "1 seed per cell" in single.text
    assert "±" not in single.text


def test_a_layer_of_the_paper_that_is_missing_is_explained_and_a_control_is_left_out():
    cells = complete()
    shown = page(cells.loc[~cells["layer"].isin(["dau", "n-jet"])])
    assert shown.rows[1][COLUMN["dau"]] == "—|(79.9)"
    assert "— No record" in shown.text
    assert "N-Jet|(control)" not in shown.rows[0]


def test_the_record_stands_in_brackets():
    own = summarise([record("ours", 1000, accuracy=0.75, profile="quick", dataset=SAMPLE)], TABLE1)
    shown = page(own, complete(accuracy=0.9))
    assert shown.rows[1][4] == "75.0†‡|[90.0|± 0.0]|(80.5)"
    assert shown.rows[1][COLUMN["n-jet"]] == "—|[90.0|± 0.0]"
    assert "Made in fp32 on a CPU, fashion-mnist-sample, profile quick." in shown.text
    kept = "In brackets: the run kept in the repository, fp32 on a CPU, fashion-mnist, profile paper."
    assert kept in shown.text
    shown = page(complete(), summarise([record("ours", 1000, accuracy=0.75, profile="quick")], TABLE1))
    assert shown.rows[1][4] == "80.0|± 0.0|[75.0‡]|(80.5)"
    assert shown.rows[1][1] == "80.0|± 0.0|[—]|(78.8)"
    assert "fashion-mnist, profile quick." in shown.text
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
    cells = summarise(records, TABLE1)
    shown = page(cells)
    sign = {"dataset": "†", "profile": "‡"}.get(name, "")
    assert shown.rows[1][4] == f"70.0|± 0.0|n = 2|80.0{sign}^a|n = 1|(80.5)"
    assert shown.rows[1][3] == "60.0|n = 1|(79.9)"
    assert f"Made in fp32 on a CPU, fashion-mnist, profile paper. Otherwise: ^a {words}." in shown.text
    beside = page(summarise(records[:2], TABLE1), cells)
    assert beside.rows[1][4] == f"70.0|± 0.0|[70.0|± 0.0|80.0{sign}^a]|(80.5)"
    assert f"Otherwise: ^a {words}." in beside.text


def test_a_kind_has_the_same_letter_in_the_run_and_in_the_record():
    gpu, cpu = record("ours", device="cuda"), record("dau", device="cpu")
    own = summarise([cpu, record("rfnn"), gpu], TABLE1)
    kept = summarise([gpu, record("n-jet", device="cuda"), cpu], TABLE1)
    shown = page(own, kept)
    assert shown.rows[1][3:5] == ["80.0|[80.0^b]|(79.9)", "80.0^a|[80.0]|(80.5)"]
    assert "^a fp32 on a GPU, fashion-mnist, profile paper; ^b fp32 on a CPU" in shown.text


def test_parameters_that_differ_stand_side_by_side():
    cells = summarise([record(accuracy=0.7), record(seed=1, accuracy=0.8, parameters=7)], TABLE1)
    shown = page(cells)
    assert shown.rows[1][4] == "70.0|80.0|(80.5)"
    assert shown.rows[6][4] == "7, 12,810"


def test_each_network_has_a_table_of_its_own():
    cells = summarise([record(accuracy=0.8), record(accuracy=0.9, network="pooled", parameters=7)], TABLE1)
    assert dict(zip(cells["network"], cells["mean"], strict=True)) == pytest.approx({"unpooled": 80, "pooled": 90})
    shown = page(cells)
    assert (shown.rows[1][4], shown.rows[6][4]) == ("80.0|(80.5)", "12,810")
    pooled = page(cells, network="pooled", columns=2)  # the layers that have records
    assert pooled.rows == [["training images", "Ours"], ["1,000", "90.0|(80.5)"], ["parameters", "7"]]
    none = Page(TABLE1.page.table(loaded_of(summarise([record()], TABLE1)), network="pooled"))
    assert (none.rows, none.text.strip()) == ([], "The pooled network is not part of this profile.")


def test_a_network_that_is_planned_for_some_layers_shows_these_and_has_no_numbers_of_the_paper():
    plan = plan_of()
    layers = [layer for layer in LAYERS if layer in {*select(plan, {"network": "batch-norm"})["layer"]}]
    assert 1 < len(layers) < len(LAYERS)
    made = record("ours", network="batch-norm", parameters=7)
    for records in ([], [made]):
        cells = summarise(records, TABLE1)
        shown = page(cells, None, plan, network="batch-norm", columns=1 + len(layers))
        titles = [TABLE1.layers[layer].title for layer in layers]
        assert [heading.split("|")[0] for heading in shown.rows[0][1:]] == titles
        assert [row[0] for row in shown.rows[1:]] == ["1,000", "5,000", "parameters"]
        assert not any("(8" in cell or "(9" in cell for row in shown.rows[1:] for cell in row)
        own = [row[1 + layers.index("ours")] for row in shown.rows[1:]]
        assert own[0].startswith("80.0" if records else "not run|")
        assert own[1].startswith("not run|")
        assert own[-1] == ("7" if records else "—")
        durations = Page(TABLE1.page.durations(loaded_of(cells, None, plan), network="batch-norm"))
        assert [row[0] for row in durations.rows[1:]] == titles


def test_without_records():
    empty = summarise([], TABLE1)
    shown = page(empty)
    assert [row[1:7] for row in shown.rows[1:6]] == [
        [f"—|({TABLE1.published[(layer, str(n)), 'test_accuracy']})" for layer in PAPER_LAYERS] for n in SIZES
    ]
    assert shown.text.strip().startswith("Percent; in parentheses the paper's. — No record")
    assert page(complete(), empty).rows[1][4] == "80.0|± 0.0|[—]|(80.5)"


def test_a_size_that_the_paper_lacks_has_a_row():
    shown = page(summarise([record("ours", 2000, accuracy=0.7)], TABLE1))
    assert [row[0] for row in shown.rows[1:]] == ["1,000", "2,000", "5,000", "10,000", "30,000", "60,000", "parameters"]
    assert shown.rows[2][4] == "70.0"


def test_what_comes_from_a_record_is_escaped():
    cells = summarise([record(profile="<b>escaped & sound</b>")], TABLE1)
    assert "profile <b>escaped & sound</b>." in page(cells).text


def test_a_grid_finds_cells_by_its_selectors():
    cells = summarise([net("unet", 0.9), net("gaussian-unet", 0.8, profile="quick")], TABLE3)
    rows = {"one & <b>escaped</b>": {"layer": "unet"}, "two": {"layer": "gaussian-unet"}}
    columns = {"a": {"split": "tile", "metric": "pixel_accuracy"}, "b": {"split": "tile", "metric": "iou"}}
    given = loaded_of(cells, experiment=TABLE3)
    shown = Page(grid(given, rows, columns, corner="corner", foot={"below": ["x", "y"]}))
    assert shown.rows == [
        ["corner", "a", "b"],
        ["one & <b>escaped</b>", "90.0¶|(94.7)", "70.0¶"],
        ["two", "80.0‡¶^a|(94.4)", "60.0‡¶^a"],
        ["below", "x", "y"],
    ]
    assert "‡ Reduced budget" in shown.text
    assert "¶ A copy of the paper's data set" in shown.text
    assert not set("†—") & set(shown.text)


# What is not run yet


def plan_of(*records: dict[str, Any], profile: str = "paper", judged_by: list[dict[str, Any]] | None = None) -> Any:
    return planned(profile, "table1", [FULL], records, judged_by or [])


def test_what_is_missing_says_so_and_how_long_it_takes():
    steps = TABLE1.budget("paper", "table1")["steps"]
    done = [of_plan("ours", 1000, s, seconds=2.0 * steps["1000"]) for s in range(10)]
    some = [of_plan("ours", 5000, s, seconds=2.0 * steps["5000"]) for s in range(2)]
    records = [*done, *some]
    shown = page(summarise(records, TABLE1), None, plan_of(*records))
    column = {row[0]: row[4] for row in shown.rows[1:]}
    assert column["1,000"] == "80.0|± 0.0|n = 10|(80.5)"
    assert column["5,000"] == "80.0*|± 0.0|n = 2 of 10|(88.3)"
    seconds = 5 * (2 * steps["10000"] + STARTUP_SECONDS)
    assert column["10,000"] == f"not run|{seconds / 3600:.1f} h|(90.5)"
    assert "Not run yet: with about how long that takes on one core, " in shown.text
    assert "—" not in "".join(shown.rows[1] + shown.rows[2] + shown.rows[3])


def test_how_long_it_takes_is_judged_by_the_cpu_and_by_other_records_where_there_are_none():
    steps = TABLE1.budget("paper", "table1")["steps"]
    gpu = [of_plan("ours", 1000, 0, seconds=0.1, device="cuda")]
    shown = page(summarise(gpu, TABLE1), None, plan_of(*gpu))
    assert shown.rows[2][4] == "not run|an unknown time|(88.3)"
    kept = of_plan("ours", 5000, 0, seconds=3.0 * steps["5000"])
    plan = plan_of(*gpu, judged_by=[kept])
    found = select(plan, {"layer": "ours", "n_train": 5000, "network": "unpooled"})
    assert found["seconds"].tolist() == pytest.approx([10 * (3 * steps["5000"] + STARTUP_SECONDS)])
    assert found[["planned", "missing"]].to_numpy().tolist() == [[10, 10]]


def test_metrics_of_the_same_trials_are_not_waited_for_twice():
    made = net("unet", 0.9)
    made["hyperparameters"] = hyperparameters(trial_of(made["trial"]))
    made["seconds"] = 7.2 * made["hyperparameters"]["steps"]
    plan = planned("paper", "table3", ["tnbc-derived"], [made])
    shown = page(summarise([made], TABLE3), None, plan, experiment=TABLE3, columns=9, dataset="tnbc-derived")
    each = (made["seconds"] + STARTUP_SECONDS) / 3600
    assert shown.rows[1][1].endswith("n = 1 of 5|(94.7)")
    assert shown.rows[2][1:6] == [f"not run|{5 * each:.1f} h|(94.4)", *[f"not run|{5 * each:.1f} h"] * 4]
    assert f"on one core, {39 * each:.1f} h in all." in shown.text
