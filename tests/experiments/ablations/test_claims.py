"""The paper's claims that the ablations test, by invented records."""

import pytest
from invented import ablation, judged_of

from gdlayer.report.claims import FAILS, HOLDS, TOO_FEW


def made_of(layer: str, percent: float, seeds: int = 4) -> list[dict[str, object]]:
    return [ablation(layer, (percent + seed) / 100 + 1e-5 * (seed * seed % 3), seed=seed) for seed in range(seeds)]


@pytest.mark.parametrize(("sigma", "verdict"), [(84.0, HOLDS), (86.0, FAILS)])
def test_training_all_is_held_against_fixed_and_against_each_alone(tmp_path, sigma, verdict):
    layers = {"ours": 85.0, "trains-none": 83.0, "trains-sigma": sigma, "trains-mu": 83.0, "trains-theta": 82.0}
    records = [record for layer, percent in layers.items() for record in made_of(layer, percent)]
    rows = judged_of(tmp_path, *records, experiment="ablations")["fully-trained"]
    assert [(row.case, row.verdict) for row in rows] == [
        ("against all fixed, 1,000 images", HOLDS),
        ("against all fixed, 5,000 images", TOO_FEW),
        ("against each alone, 1,000 images", verdict),
        ("against each alone, 5,000 images", TOO_FEW),
    ]
    assert {row.paper for row in rows} == {"—"}
    assert rows[0].here.startswith("+2.0 [")
    assert rows[2].here.endswith(" (only σ trained)")


def test_the_separated_combination_is_held_against_as_many_parameters(tmp_path):
    records = [*made_of("ours", 90), *made_of("separated", 84), *made_of("narrow", 83)]
    first, second = judged_of(tmp_path, *records, experiment="ablations")["separated"]
    assert (first.case, first.verdict) == ("narrower network, 1,000 images", HOLDS)
    assert first.here.startswith("+1.0 [")
    assert (second.verdict, second.why.split("; ")[0]) == (TOO_FEW, "not run yet")
