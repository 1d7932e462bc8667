"""What Lindeberg claims of scale channels, by invented records."""

import pytest
from invented import FULL, resized, rows_by_claim, save

from gdlayer.experiments.scale.claims import with_changes
from gdlayer.report.claims import ABOVE, BELOW, TOO_FEW
from gdlayer.report.conclusion import answer
from gdlayer.report.judgements import judgements
from gdlayer.report.loaded import load

AT = {14: -30, 20: -8, 24: -2, 28: 0, 34: -3, 40: -12, 56: -40}
"""What a change of size costs a network, in points."""


def made_of(layer: str, percent: float, share: float = 1.0, seeds: int = 4) -> list[dict[str, object]]:
    """A share of the costs; seeds differ by a point, and by a little that is not the same at each size."""
    return [
        resized(
            layer,
            {
                size: (percent + seed + share * cost) / 100 + 1e-5 * (seed * (size + len(layer)) % 7)
                for size, cost in AT.items()
            },
            seed=seed,
        )
        for seed in range(seeds)
    ]


def records(channels: float = 80.0, share: float = 0.5) -> list[dict[str, object]]:
    others = {"free-form": 1.0, "n-jet": 0.9, "ours": 0.8}
    return [r for layer, cost in others.items() for r in made_of(layer, 88, cost)] + made_of(
        "scale-channels", channels, share
    )


@pytest.mark.parametrize(("share", "verdict"), [(0.5, ABOVE), (0.95, BELOW)])
def test_the_cost_of_a_change_of_size_is_compared_and_not_the_accuracy(tmp_path, share, verdict):
    """Scale channels are 8 points lower at the size of training, and still lose less."""
    rows = rows_by_claim(tmp_path, *records(share=share), experiment="scale")["generalises"]
    assert [row.case for row in rows[8:]] == [
        f"at {factor} the size, against Ours" for factor in ("0.50 ×", "0.71 ×", "1.43 ×", "2.00 ×")
    ]
    assert {row.paper for row in rows} == {"—"}
    # of the others Ours loses least: 80 % of 30 and of 40 points
    assert {row.verdict for row in rows[8:]} == {verdict}
    assert rows[8].here.startswith(f"{'+9.0' if verdict == ABOVE else '−4.5'} [")
    assert rows[11].here.startswith(f"{'+12.0' if verdict == ABOVE else '−6.0'} [")


def test_what_scale_channels_cost_and_whether_ours_loses_less(tmp_path):
    save(tmp_path, *records())
    (claim,) = judgements(load(tmp_path, "paper", "scale", FULL, tmp_path))
    told = [answer(question) for question in claim.questions]
    cost = "Does it cost accuracy at the size of training? Scale channels against"
    assert told[:3] == [f"{cost} {name}: below (28 pixels −8.0)." for name in ("Free-form 3×3", "N-Jet", "Ours")]
    assert told[3].startswith(
        "Does a change of size cost Ours less than free filters? Ours against Free-form 3×3: above (at 0.50 × the size "
    )


def test_without_records_nothing_is_decided(tmp_path):
    (claim,) = judgements(load(tmp_path, "paper", "scale", FULL, tmp_path))
    assert [(row.verdict, row.here, row.why.split(";")[0]) for row in claim.rows] == 12 * [
        (TOO_FEW, "—", "not run yet")
    ]


def test_a_record_of_other_sizes_has_no_change(tmp_path):
    save(tmp_path, resized("ours", {17: 0.5, 56: 0.25}), resized("ours", {28: 0.5, 56: 0.25, 99: 0.1}, seed=1))
    first, second = (r["metrics"] for r in with_changes(load(tmp_path, "paper", "scale", FULL, tmp_path)).records)
    assert set(first) == {"test_accuracy_at_17", "test_accuracy_at_56"}
    assert second["change_at_56"] == -0.25
    assert second["change_at_28"] == 0
    assert set(second) - {"change_at_28", "change_at_56"} == {f"test_accuracy_at_{size}" for size in (28, 56, 99)}
