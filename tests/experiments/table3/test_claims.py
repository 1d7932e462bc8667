"""The paper's claims of Table 3, by invented records."""

import numpy as np
import pytest
from invented import nets, rows_by_claim, save

from gdlayer.report import judgements
from gdlayer.report.claims import ABOVE, BELOW, EQUAL, FAILS, HOLDS, TOO_FEW, UNDECIDED, signed
from gdlayer.report.loaded import load


@pytest.mark.parametrize(("gaussian", "verdict"), [(-0.2, BELOW), (0.0, EQUAL), (1.0, ABOVE)])
def test_table_3(tmp_path, gaussian, verdict):
    records = [*nets(gaussian, 0.5, -0.1), *nets(-1.0, -2.0, -3.0, dataset="monuseg-crops")]
    rows = rows_by_claim(tmp_path, *records, experiment="table3", datasets="tnbc-derived,monuseg-crops")
    tile, group, *others = rows["compete"]
    assert (tile.paper, tile.verdict, group.paper, group.verdict) == ("−0.3", verdict, "—", verdict)
    assert "tiles of one image on both sides" in tile.why
    assert "both sides" not in group.why
    above = "above" if gaussian > 0.5 else "below"
    assert f"U-net with BN (control) {signed(gaussian - 0.5)}" in tile.why
    assert f", {above}<br>Dice: U-net {signed(gaussian)}" in tile.why
    assert f"<br>F1 by nucleus: U-net {signed(gaussian / 2)}" in tile.why
    assert [(row.paper, row.verdict) for row in others] == [("—", BELOW)] * 2
    (quarter,) = rows["quarter"]
    assert quarter[:4] == ("Gaussian U-net of U-net", "25 %", "26.0 %", HOLDS)
    reason, *controls = quarter.why.split("<br>")
    assert reason == "counted"
    assert [control.partition(" [")[0] for control in controls] == [
        f"on {data}, {split}: U-net, small {signed(difference)}"
        for data, difference in (
            ("TNBC, resolution-degraded copy", gaussian + 0.1),
            ("MoNuSeg crops (50)", 2.0),
        )
        for split in ("by tile", "by patient or image")
    ]
    assert controls[-1].endswith("], above")
    (counted,) = rows["count-gaussian-unet"]
    assert (counted.paper, counted.here, counted.verdict) == ("25,298", "25,298", HOLDS)
    assert [row.why for row in rows["similar"]] == ["no predictions are kept"] * 2


def test_without_the_small_net_and_without_f1(tmp_path):
    """As the first records are."""
    records = [r for r in nets(0.1, 0.5) if r["trial"]["layer"] != "unet-small"]
    for made_up in records:
        del made_up["metrics"]["nucleus_f1"]
    rows = rows_by_claim(tmp_path, *records, experiment="table3", datasets="tnbc-derived")
    assert {row.verdict for row in rows["compete"]} == {ABOVE}
    assert all("<br>F1 by nucleus: not run yet" in row.why for row in rows["compete"])
    (quarter,) = rows["quarter"]
    assert quarter.verdict == HOLDS
    assert quarter.why.count("on TNBC, resolution-degraded copy, by ") == 2
    assert quarter.why.count(": not run yet") == 2


def test_another_count_than_the_papers_fails(tmp_path):
    records = [r | {"parameters": 90000} for r in nets(0, 0) if r["trial"]["layer"] == "unet"]
    rows = rows_by_claim(tmp_path, *records, experiment="table3", datasets="tnbc-derived")
    (counted,) = rows["count-unet"]
    assert (counted.paper, counted.here, counted.verdict) == ("97,202", "90,000", FAILS)
    assert rows["count-gaussian-unet"][0].verdict == rows["quarter"][0].verdict == TOO_FEW


@pytest.mark.parametrize(("own", "verdict"), [(0, UNDECIDED), (6, BELOW)])
def test_predictions_are_as_similar_as_those_of_two_classical_nets(tmp_path, own, verdict):
    """Dice of 100 pixels each, of which some lie apart."""
    for made_up in nets(0, 0):
        layer, seed = made_up["trial"]["layer"], made_up["trial"]["seed"]
        predicted = np.zeros((1, 20, 20), bool)
        apart = {"unet": 0, "gaussian-unet": 3 + own + seed // 4, "unet-bn": 3, "unet-small": 9}[layer]
        predicted.reshape(-1)[apart : 100 + apart] = True
        if made_up["trial"]["split"] == "tile":
            (path,) = save(tmp_path, made_up)
            np.savez(path.with_suffix(".npz"), predicted=predicted)
    loaded = load(tmp_path, "paper", "table3", "tnbc-derived", tmp_path)
    (row,) = next(claim.rows for claim in judgements.judgements(loaded) if claim.name == "similar")
    assert row.verdict == verdict
    assert row.why.endswith(f"Dice {97 - own - 0.2:.1f}, with BN 97.0")
    assert row.here.startswith(signed(-own - 0.2))
