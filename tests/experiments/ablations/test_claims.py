"""The paper's claims that the ablations test, by invented records."""

import pytest
from invented import ablation, rows_by_claim

from gdlayer.report.claims import ABOVE, BELOW, TOO_FEW


def made_of(layer: str, percent: float, seeds: int = 4) -> list[dict[str, object]]:
    return [ablation(layer, (percent + seed) / 100 + 1e-5 * (seed * seed % 3), seed=seed) for seed in range(seeds)]


@pytest.mark.parametrize(("sigma", "verdict"), [(84.0, ABOVE), (86.0, BELOW)])
def test_training_all_is_held_against_fixed_and_against_each_alone(tmp_path, sigma, verdict):
    layers = {"ours": 85.0, "trains-none": 83.0, "trains-sigma": sigma, "trains-mu": 83.0, "trains-theta": 82.0}
    records = [record for layer, percent in layers.items() for record in made_of(layer, percent)]
    rows = rows_by_claim(tmp_path, *records, experiment="ablations")["fully-trained"]
    names = ("all fixed", "only σ trained", "only μ trained", "only θ trained")
    assert [row.case for row in rows[::2]] == [f"against {name}, 1,000 images" for name in names]
    assert [row.verdict for row in rows[::2]] == [ABOVE, verdict, ABOVE, ABOVE]
    assert {row.verdict for row in rows[1::2]} == {TOO_FEW}
    assert {row.paper for row in rows} == {"—"}
    assert rows[0].here.startswith("+2.0 [")


def test_the_separated_combination_is_held_against_as_many_parameters(tmp_path):
    records = [*made_of("ours", 90), *made_of("separated", 84), *made_of("narrow", 83)]
    first, second = rows_by_claim(tmp_path, *records, experiment="ablations")["separated"]
    assert first.case.endswith("narrower full network, 1,000 images")
    assert first.verdict == ABOVE
    assert first.here.startswith("+1.0 [")
    assert (second.verdict, second.why.split("; ")[0]) == (TOO_FEW, "not run yet")
