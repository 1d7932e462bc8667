"""What a chapter shows: an experiment's records under one profile, and beside a user's own run the record."""

import pytest
from invented import net, save

from gdlayer.experiments.table3.trial import Table3Trial
from gdlayer.report import overview
from gdlayer.report.cells import select
from gdlayer.report.loaded import choose_profile, load
from gdlayer.trials.provenance import committed_data
from gdlayer.trials.record import ResultsError, recorded_datasets


def test_load_brings_the_record_beside_a_users_own_run(tmp_path):
    """Of the same profile and seeds; further seeds tell its spread."""
    kept, own = tmp_path / "kept", tmp_path / "own"
    save(kept, net("unet", 0.5, profile="quick"), net("unet", 0.4, profile="quick", dataset="monuseg-crops"))
    save(kept, net("unet", 0.7, profile="quick", seed=1), net("unet", 0.9))
    save(own, net("unet", 0.8, profile="quick"))
    loaded = load(str(own), "quick", "table3", "tnbc-derived,monuseg-crops", kept)
    assert (len(loaded.records), len(loaded.kept)) == (1, 3)
    assert (loaded.folder, loaded.profile) == (own, "quick")
    assert loaded.datasets == ("tnbc-derived", "monuseg-crops")
    assert select(loaded.cells, {"metric": "pixel_accuracy"})["mean"].tolist() == pytest.approx([80])
    assert loaded.beside is not None
    assert select(loaded.beside, {"metric": "pixel_accuracy"})["mean"].tolist() == pytest.approx([40, 50])
    assert (loaded.plan["planned"].sum(), loaded.plan["missing"].sum()) == (16, 15)
    alone = load(str(kept), "quick", "table3", "tnbc-derived", kept)
    assert (len(alone.records), alone.beside) == (2, None)
    assert load(str(own), "quick", "table3", "tnbc", kept).beside is None
    assert load(str(own), "smoke", "table3", "tnbc-derived", kept).beside is None


def test_the_full_protocol_is_shown_as_soon_as_it_has_a_record(tmp_path):
    """Without any of the quick record's cells in it."""
    kept = tmp_path / "kept"
    quick = [net(layer, 0.5, profile="quick") for layer in Table3Trial.layers]
    save(kept, *quick)
    before = load(kept, "fullest", "table3", "tnbc-derived", kept)
    assert (before.profile, len(before.records)) == ("quick", 4)
    save(kept, net("unet", 0.9))
    loaded = load(kept, "fullest", "table3", "tnbc-derived", kept)
    assert (loaded.profile, len(loaded.records)) == ("paper", 1)
    assert set(loaded.cells["profile"]) == {"paper"}
    assert load(kept, "fullest", "table3", "monuseg-crops", kept).profile == "quick"


def test_a_folder_that_is_not_there_is_no_empty_record(tmp_path, monkeypatch):
    """A chapter would say that nothing was run, and what that means for the paper."""
    monkeypatch.chdir(tmp_path)
    missing = r"there is no folder of records '\.\./data/results', seen from " + str(tmp_path)
    with pytest.raises(ResultsError, match=f"^{missing}$"):
        load("../data/results", "paper", "table1")
    with pytest.raises(ResultsError, match=f"^{missing}$"):
        overview.load_all("../data/results", "paper")


def test_the_record_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = load(None, "paper", "table1")
    assert (found.folder, found.beside) == (committed_data() / "results", None)
    assert found.records


def test_choosing_a_profile(tmp_path):
    assert choose_profile(tmp_path, "smoke", "table3", ["tnbc"]) == "smoke"
    assert choose_profile(tmp_path, "fullest", "table3", ["tnbc"]) == "quick"
    save(tmp_path, net("unet", 0.9, dataset="tnbc"))
    assert recorded_datasets(tmp_path, "paper", "table3") == ("tnbc",)
    assert recorded_datasets(tmp_path, "quick", "table3") == ()
    assert choose_profile(tmp_path, "fullest", "table3", ["tnbc", "monuseg-crops"]) == "paper"
    assert choose_profile(tmp_path, "fullest", "table3", ["monuseg-crops"]) == "quick"
