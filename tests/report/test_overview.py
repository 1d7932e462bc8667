"""All tables at a glance: the heat map, the verdicts, and what made the record."""

from pathlib import Path

import pytest
from invented import FULL, Page, as_in_the_paper, net, nets, record, save, vgg
from matplotlib.colors import to_hex

from gdlayer.experiments.table2 import LAYERS as FIRST_LAYERS
from gdlayer.report import overview
from gdlayer.report.claims import ABOVE, BELOW, HOLDS, TOO_FEW, UNTESTABLE, signed
from gdlayer.report.loaded import Loaded, load
from gdlayer.trials.plan import plan
from gdlayer.trials.registry import trial_types

pytestmark = pytest.mark.usefixtures("figures")


def everything(folder: Path) -> dict[str, Loaded]:
    return {
        experiment: load(folder, "fullest", experiment, datasets, folder)
        for experiment, datasets in (
            ("table1", FULL),
            ("table2", "cats-vs-dogs-200"),
            ("table3", "tnbc-derived,monuseg-crops"),
        )
    }


def test_the_heat_map_has_every_cell_that_the_paper_has(tmp_path):
    """Ours minus the paper's and the seeds, or hatched and how long it takes."""
    save(tmp_path, *(record("ours", 1000, s, (81.5 + s / 2) / 100) for s in range(3)))
    save(tmp_path, record("ours", 1000, 3, 0.9, device="cuda"), record("n-jet", 1000))
    save(tmp_path, record("rfnn", 1000, accuracy=0.5, network="pooled"))
    save(tmp_path, vgg("ours-7x7", 0.9, 0.972, profile="quick"))
    save(tmp_path, net("unet", 0.957), net("unet", 0.9, "group"), net("unet", 0.2, dataset="monuseg-crops"))
    tables = everything(tmp_path)
    panels = [panel for _, panel in overview.panels(tables)]
    titles = [
        "Table 1, unpooled network (profile paper)",
        "Table 1, pooled network (profile paper)",
        "Table 2, small VGG16, trained here (profile quick)",
        "Table 3, TNBC, resolution-degraded copy (profile paper)",
    ]
    sizes = [(5, 6), (3, 6), (len(FIRST_LAYERS), 2), (2, 1)]
    assert [(len(panel.rows), len(panel.columns)) for panel in panels] == sizes
    figure = overview.heat_map(tables)
    assert [axis.get_title("left") for axis in figure.axes[:4]] == titles
    texts = [sorted(text.get_text() for text in axis.texts) for axis in figure.axes[:4]]
    hatched = [sum(bool(patch.get_hatch()) for patch in axis.patches) for axis in figure.axes[:4]]
    assert hatched == [29, 17, 11, 1]
    assert "+1.5*‖\nn = 3" in texts[0]
    assert f"{signed(50 - 79.4)}*\nn = 1" in texts[1]
    assert {"0.0‡§¶\nn = 1", f"{signed(90 - 98.1)}‡§¶\nn = 1"} <= set(texts[2])
    assert "+1.0¶*\nn = 1" in texts[3]
    assert [len(found) for found in texts] == [30, 18, 13, 2]  # not the validation of the network before
    missing = [text for text in texts[0] if "n =" not in text]
    assert len(missing) == 29
    assert all(text.endswith((" s", " min", " h")) for text in missing)
    colours = {
        axis.texts[i].get_text(): to_hex(axis.texts[i].get_color()) for axis in figure.axes[:4] for i in range(2)
    }
    assert len(colours) > 1
    figure.canvas.draw()


def test_the_heat_map_without_a_record(tmp_path):
    figure = overview.heat_map(everything(tmp_path))
    assert all(text.get_text() == "an unknown time" for axis in figure.axes for text in axis.texts)
    figure.canvas.draw()


def test_verdicts_at_a_glance(tmp_path):
    save(tmp_path, *as_in_the_paper(), *nets(-0.2, 0.5))
    rows = Page(overview.verdicts(everything(tmp_path))).rows
    assert rows[0] == ["claim", "", ABOVE, HOLDS, BELOW, TOO_FEW, UNTESTABLE]
    assert rows[1][1:] == ["Table 1", "41", "", "4", "", ""]
    assert [row[1] for row in rows[1:]] == ["Table 1"] * 6 + ["Table 2"] * 2 + ["Table 3"] * 5
    third = next(row for row in rows if "third less" in row[0])
    assert third[2:] == ["", "1|by construction", "", "1|by construction", ""]


def test_provenance(tmp_path):
    whole = {
        "git": {"commit": "abcdef0123456789", "dirty": True},
        "versions": {"gdlayer": "0.1.0", "python": "3.11", "torch": "2.13", "numpy": "2"},
        "machine": {"device": "cpu", "name": "a CPU & co", "cores": 2, "threads": 1, "system": "Linux"},
        "data": {"name": FULL, "source": "cache", "sha256": "0" * 64},
        "started": "2026-11-22T00:00:00+00:00",
        "peak_memory_bytes": 1,
    }
    save(tmp_path, *(record("ours", 1000, s, seconds=1800.0) | whole for s in range(3)))
    incomplete = record("ours", 5000, seconds=1800.0) | whole | {"git": {"commit": None, "dirty": None}}
    save(tmp_path, incomplete, record(profile="quick") | whole)
    chosen = f"table1={FULL} table2=cats-vs-dogs-200 table3=tnbc"
    tables = overview.load_all(tmp_path, "fullest", chosen, tmp_path)
    rows = Page(overview.provenance("fullest", tables)).rows
    by_name = {row[0]: row[1:] for row in rows[1:]}
    total = len(plan("paper", "table1", (FULL,)))
    trials, precision_, machine, versions, commits, hours, left, lacking = by_name["Table 1, paper"]
    assert (trials, precision_, machine) == (f"4 of {total}", "fp32", "CPU: a CPU & co")
    assert (versions, commits, hours, lacking) == ("torch 2.13, gdlayer 0.1.0", "None|abcdef0+", "2.0", "1")
    assert left.endswith(" h")
    assert by_name["Table 2, paper"][:2] == [f"0 of {len(plan('paper', 'table2', ('cats-vs-dogs-200',)))}", "—"]
    assert by_name["Table 1, quick"][0] == f"1 of {len(plan('quick', 'table1', (FULL,)))}"
    assert {"rates of Table 1, paper", "rates of Table 3, paper", "precision, Table 1, paper"} < set(by_name)
    assert "Table 2, quick" not in by_name
    own = Page(overview.provenance("quick", tables)).rows
    assert [row[0] for row in own[1:]] == [
        "Table 1, quick",
        "Table 2, quick",
        "Table 3, quick",
        "Ablations, quick",
        "Scale generalisation, quick",
    ]


def test_every_trial_has_its_title():
    titles = [cls.title for cls in trial_types().values()]
    assert len(set(titles)) == len(titles)


def test_by_default_all_that_is_recorded_is_shown(tmp_path):
    save(tmp_path, net("unet", 0.9), net("unet", 0.8, dataset="monuseg-crops"), net("unet", 0.7, profile="quick"))
    tables = overview.load_all(tmp_path, "fullest", "", tmp_path)
    assert tables["table3"].datasets == ("tnbc-derived", "monuseg-crops")
    assert tables["table1"].datasets == (FULL,)
    assert overview.load_all(tmp_path, "quick", "", tmp_path)["table3"].datasets == ("tnbc-derived",)
