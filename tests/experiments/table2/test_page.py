"""Table 2: the published numbers, its table, and what a fitted start misses."""

from invented import Page, half, loaded_of, page, vgg

from gdlayer.experiments.table2 import EXPERIMENT as TABLE2
from gdlayer.experiments.table2 import LAYERS
from gdlayer.experiments.table2 import page as page2
from gdlayer.experiments.table2.sources import SOURCES
from gdlayer.experiments.table2.trial import Table2Trial
from gdlayer.report.cells import summarise


def test_published_numbers():
    """As the paper prints them, and nothing else."""
    assert TABLE2.published == {
        (("source",), "test_accuracy"): 92.8,
        (("free-form",), "val_accuracy"): 97,
        (("free-form",), "test_accuracy"): 96.4,
        (("ours",), "val_accuracy"): 98.1,
        (("ours",), "test_accuracy"): 97.2,
    }
    assert {cell[0] for cell, _ in TABLE2.published} == {layer.family for layer in LAYERS.values() if layer.in_paper}
    assert tuple(SOURCES) == Table2Trial.sources


def test_table_2():
    cells = summarise(
        [
            *(vgg("source", 0.9, 0.8 + s / 50, seed=s) for s in range(3)),
            vgg("free-form", 0.7, 0.6, profile="quick"),
            vgg("ours-7x7-fitted", 0.5, 0.4, profile="quick", dataset="textures-synthetic"),
        ],
        TABLE2,
    )
    shown = page(cells, experiment=TABLE2, columns=3)
    head, *rows = shown.rows
    assert head == ["first layer", "val|small VGG16, trained here", "test|small VGG16, trained here"]
    assert rows == [
        ["the network before", "90.0§¶|± 0.0|n = 3", f"82.0§¶|{half(80, 82, 84)}|n = 3|(92.8)"],
        ["Free-form 3×3, random start", "70.0‡§¶^a|n = 1|(97.0)", "60.0‡§¶^a|n = 1|(96.4)"],
        ["Free-form 3×3, trained on", "—|(97.0)", "—|(96.4)"],
        ["Ours 7×7, random start", "—|(98.1)", "—|(97.2)"],
        ["Ours 7×7, fitted start", "50.0†‡§^b|n = 1|(98.1)", "40.0†‡§^b|n = 1|(97.2)"],
        ["Ours 3×3, random start", "—|(98.1)", "—|(97.2)"],
        ["Ours 3×3, fitted start", "—|(98.1)", "—|(97.2)"],
        *([layer.title, "—", "—"] for layer in LAYERS.values() if layer.family == "control"),
    ]
    for note in (
        "n: seeds.",
        "† Trained and tested on the stand-in",
        "‡ Reduced budget",
        "§ Another network than the paper's.",
        "¶ A copy of the paper's data set",
        "— No record",
    ):
        assert note in shown.text


def test_table_2_keeps_the_sources_apart():
    records = [
        vgg("free-form", 0.7, 0.6),
        vgg("free-form", 0.9, 0.8, "vgg16-flatten"),
        vgg("source", 0.55, 0.5, "vgg16-flatten"),
    ]
    cells = summarise(records, TABLE2)
    shown = page(cells, experiment=TABLE2, columns=5)
    assert shown.rows[0][1:] == [
        *("val|small VGG16, trained here", "test|small VGG16, trained here"),
        *("val|VGG16, hidden layer", "test|VGG16, hidden layer"),
    ]
    assert shown.rows[1][1:] == ["—", "—|(92.8)", "55.0¶", "50.0¶|(92.8)"]
    assert shown.rows[2][1:] == ["70.0§¶|(97.0)", "60.0§¶|(96.4)", "90.0¶|(97.0)", "80.0¶|(96.4)"]
    only = page(summarise(records[1:], TABLE2), experiment=TABLE2, columns=3)
    assert only.rows[0][1:] == ["val|VGG16, hidden layer", "test|VGG16, hidden layer"]
    beside = page(summarise(records[:1], TABLE2), cells, experiment=TABLE2, columns=3)
    assert beside.rows[2][1:] == ["70.0§¶|[70.0§¶]|(97.0)", "60.0§¶|[60.0§¶]|(96.4)"]


def test_residuals_of_fitted_starts():
    """From the least to the most over seeds, never an average of different devices."""
    records = [
        *(vgg("ours-3x3-fitted", 0.5, 0.5, seed=s, fit_residual=0.01 + 0.1 * s) for s in range(3)),
        vgg("ours-7x7-fitted", 0.5, 0.5, "vgg16-flatten", fit_residual=0.5),
        vgg("source", 0.5, 0.5),
    ]
    assert Page(page2.residuals(records)).rows == [
        ["first layer", "small VGG16, trained here", "VGG16, hidden layer"],
        ["Ours 7×7, fitted start", "—", "0.500"],
        ["Ours 3×3, fitted start", "0.010 to 0.210", "—"],
    ]
    assert Page(page2.residuals(records[-1:])).rows == [["first layer"]]


def test_costs_of_first_layers_keep_devices_and_sources_apart():
    records = [
        *(vgg("ours-3x3", 0.5, 0.5, seed=s, seconds=10.0 + s, parameters=696) for s in range(3)),
        vgg("ours-3x3", 0.5, 0.5, seed=3, seconds=1.0, parameters=696, device="cuda"),
        vgg("ours-3x3", 0.5, 0.5, "vgg16-flatten", seconds=3600.0, parameters=2784),
    ]
    shown = Page(page2.durations(loaded_of(summarise(records, TABLE2), experiment=TABLE2)))
    assert shown.rows[0] == ["", "parameters", "small VGG16, trained here", "VGG16, hidden layer"]
    assert shown.rows[6] == ["Ours 3×3, random start", "696 or 2,784", "11|1^a", "3,600"]
