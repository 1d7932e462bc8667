"""What a profile asks for and is not run yet."""

import pandas as pd

from gdlayer.datasets.weights import VGG16_IMAGENET
from gdlayer.experiments.table2.sources import SOURCES
from gdlayer.report.missing import planned


def test_the_plan_of_a_record_does_not_depend_on_what_lies_on_this_machine(tmp_path, monkeypatch):
    """Weights from elsewhere that this machine has or lacks."""
    monkeypatch.setenv("GDLAYER_DATA", str(tmp_path))
    without = planned("paper", "table2", ["cats-dogs"], [])
    weights = tmp_path / VGG16_IMAGENET.path
    weights.parent.mkdir(parents=True, exist_ok=True)
    weights.touch()
    pd.testing.assert_frame_equal(planned("paper", "table2", ["cats-dogs"], []), without)
    assert set(without["source"]) == {name for name, source in SOURCES.items() if not source.optional}


def test_a_plan_leaves_out_data_sets_that_an_experiment_lacks():
    assert set(planned("paper", "table3-search", ["tnbc", "monuseg-crops"], [])["dataset"]) == {"monuseg-crops"}
