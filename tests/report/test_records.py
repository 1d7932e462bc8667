"""The records behind the numbers: a place per cell, its runs in rows, and the command that makes them again."""

import re
from typing import Any

import pytest
from invented import SAMPLE, Page, loaded_of, net, record, trial_of, vgg

from gdlayer.report import records
from gdlayer.report.cells import rows_of, summarise
from gdlayer.report.loaded import Loaded
from gdlayer.trials.experiment import Experiment
from gdlayer.trials.registry import experiments

TABLE1, TABLE2, TABLE3, *_ = experiments().values()


def loaded(experiment: Experiment, *made: dict[str, Any]) -> Loaded:
    return loaded_of(summarise(made, experiment), experiment=experiment)._replace(records=list(made))


def render(own: Loaded) -> str:
    return records.render({own.experiment.name: own})


def test_a_cell_has_its_command_and_its_records():
    html = render(
        loaded(
            TABLE1,
            record("ours", 5000, 1, 0.87654, seconds=1234.5, git={"commit": "0123456789abcdef", "dirty": True}),
            record("ours", 5000, 0, 0.85, precision="bf16", device="cuda", machine={"threads": 2}),
            record("free-form", 5000, 0, 0.5, network="pooled", dataset=SAMPLE),
        )
    )
    shown = Page(html)
    versions = "torch 2.4.0, numpy 2.0.0, python 3.12.0, gdlayer 0.1.0"
    assert shown.rows == [
        ["", "percent", "seconds", "commit", "machine", "versions"],
        [
            "Ours, n train 5000, network unpooled, fashion-mnist"
            "python -m gdlayer.experiments cell table1 --layer=ours --dataset=fashion-mnist --profile=paper"
            " --n-train=5000 --network=unpooled"
        ],
        [
            *("seed 0", "test accuracy 85.00", "60", "0000000000"),
            *("GPU: a CPU, 2 threads, bf16", versions),
        ],
        [
            *("seed 1", "test accuracy 87.65", "1,234", "0123456789 with changes"),
            *("CPU: a CPU, 1 thread, fp32", versions),
        ],
        [
            "Free-form 3×3, n train 5000, network pooled, fashion-mnist-sample"
            "python -m gdlayer.experiments cell table1 --layer=free-form --dataset=fashion-mnist-sample"
            " --profile=paper --n-train=5000 --network=pooled"
        ],
        [
            *("seed 0", "test accuracy 50.00", "60", "0000000000"),
            *("CPU: a CPU, 1 thread, fp32", versions),
        ],
    ]
    assert re.findall('id="([^"]+)"', html) == [
        "records-table1",
        "table1-fashion-mnist-ours-n5000",
        "table1-fashion-mnist-sample-free-form-n5000-pooled",
    ]


def test_cells_stand_as_in_the_tables():
    """By what else names a cell, then by layer."""
    made = [record(layer, n) for n in (5000, 1000) for layer in ("n-jet", "ours", "free-form")]
    found = re.findall('id="table1-fashion-mnist-([^"]+)"', render(loaded(TABLE1, *made)))
    assert found == [f"{layer}-n{n}" for n in (1000, 5000) for layer in ("free-form", "ours", "n-jet")]


def test_all_metrics_of_a_record_are_there():
    row = Page(render(loaded(TABLE3, net("unet", 0.9)))).rows[2]
    assert row[1] == "pixel accuracy 90.00|dice 80.00|iou 70.00|nucleus f1 45.00|background accuracy 87.50"


@pytest.mark.parametrize(
    ("experiment", "made"),
    [
        (TABLE1, record("ours", 60000, network="batch-norm")),
        (TABLE2, vgg("source", 0.5, 0.5)),
        (TABLE3, net("gaussian-unet", 0.9, "group", dataset="monuseg-crops")),
    ],
)
def test_a_number_leads_to_the_place_of_its_cell(experiment, made):
    own = loaded(experiment, made)
    links = {records.link_to(experiment, cell, "50.0") for cell in rows_of(own.cells)}
    _, place = re.findall('id="([^"]+)"', render(own))
    assert links == {f'<a href="records.html#{place}">50.0</a>'}
    assert place == records.place(trial_of(made["trial"]))


def test_every_experiment_has_its_section():
    html = records.render({"table1": loaded(TABLE1), "table3": loaded(TABLE3, net("unet", 0.9))})
    head, *sections = html.split("<h2 ")
    assert head == '<p><a href="#records-table1">Table 1</a>; <a href="#records-table3">Table 3</a></p>\n'
    assert sections[0] == 'id="records-table1">Table 1</h2><p>No trial has been run yet.</p>\n'
    assert sections[1].startswith('id="records-table3">Table 3</h2><table')
