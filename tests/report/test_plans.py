"""What a profile asks for and is not run yet."""

from gdlayer.report.plans import planned


def test_a_plan_leaves_out_data_sets_that_an_experiment_lacks():
    assert set(planned("paper", "table3-search", ["tnbc", "monuseg-crops"], [])["dataset"]) == {"monuseg-crops"}
