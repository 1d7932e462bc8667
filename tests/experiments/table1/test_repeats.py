"""What precision and machine do to Table 1."""

import math

import numpy as np
import pytest
from invented import FULL, Page, record, save
from scipy import stats

from gdlayer.experiments.table1 import EXPERIMENT, repeats
from gdlayer.experiments.table1.trial import Table1Precision, Table1Trial
from gdlayer.report.blocks import Estimate
from gdlayer.report.claims import signed
from gdlayer.report.differences import Difference
from gdlayer.trials.plan import plan
from gdlayer.trials.settings import hyperparameters


def made(low: float, high: float, seeds: int = 5) -> Estimate:
    error = (high - low) / 2 / 2.776445  # t of 4 degrees of freedom, from a printed table
    return Estimate(Difference((low + high) / 2, error, 4, seeds, 1.0), (FULL, "paper", "cpu"), 0)


@pytest.mark.parametrize(
    ("estimate", "noise", "expected"),
    [
        (made(-0.2, 0.3), 0.5, "agree"),
        (made(0.1, 0.3), 0.5, "differ"),
        (made(-0.3, -0.1), 0.5, "differ"),
        (made(-1, 3), 0.5, "undecided"),
        (made(-0.2, 0.3, seeds=2), 0.5, "undecided"),
        (None, 0.5, "undecided"),
        (made(-0.2, 0.3), math.nan, "undecided"),
    ],
)
def test_whether_two_ways_agree(estimate, noise, expected):
    assert repeats.verdict(estimate, noise) == expected


def test_two_budgets_beside_the_paper(tmp_path):
    """Over the seeds in common, and the layers that all sizes have: 30 epochs are 4 points lower at 1,000 images."""
    assert "not recorded yet" in repeats.budgets(tmp_path)
    paper = {(layer, n): p for ((layer, n), _), p in EXPERIMENT.published.items()}
    for layer in ("ours", "free-form", "rfnn"):
        for seed in range(3):
            for n, epochs, equal in ((1000, -5.0, -1.0), (10000, -2.0, None)):
                percent = paper[layer, str(n)] + seed - 1
                save(tmp_path, record(layer, n, seed, (percent + epochs) / 100))
                if equal is not None and (layer, seed) not in {("rfnn", 0), ("rfnn", 1), ("rfnn", 2)}:
                    again_ = record(layer, n, seed, (percent + equal) / 100)
                    save(tmp_path, again_ | {"trial": again_["trial"] | {"experiment": "table1-equal-steps"}})
    shown = Page(repeats.budgets(tmp_path))
    assert shown.rows[0] == ["", "30 epochs", "equal steps", "paper", "seeds"]
    printed = paper["ours", "1000"]
    assert ["Ours, 1,000 images", f"{printed - 5:.1f}", f"{printed - 1:.1f}", f"{printed:.1f}", "3"] in shown.rows
    assert len(shown.rows) == 3
    told = "Free-form 3×3, Ours, at 1,000, 10,000 images: 30 epochs −5.0, −2.0; equal steps −1.0, −2.0."
    assert told in shown.text
    assert "Nearer to the paper: equal steps." in shown.text


def test_the_check_of_precision_is_shown(tmp_path):
    checked = set()
    for trial in plan("paper", "table1-precision", (FULL,)):
        assert isinstance(trial, Table1Precision)
        checked.add((trial.layer, trial.n_train))
        if trial.n_train == 1000:
            shift = (trial.seed - 2) / 1000
            for made_up, accuracy in (
                (trial, 0.8 + trial.seed / 100),
                (_without_precision(trial), 0.8 + trial.seed / 100 + shift),
            ):
                save(
                    tmp_path,
                    record(accuracy=accuracy, seconds=3600.0)
                    | {"trial": made_up.describe(), "hyperparameters": hyperparameters(made_up)},
                )
    shown = Page(repeats.precision(tmp_path))
    assert shown.rows[0] == ["", "bf16 − fp32", "seeds differ by", "seeds", ""]
    half = float(stats.t.ppf(0.975, 4) * np.std([-0.2, -0.1, 0, 0.1, 0.2], ddof=1) / math.sqrt(5))
    interval = f"0.0 [{signed(-half)}, {signed(half)}]"
    assert shown.rows[1] == ["Free-form 3×3, 1,000 images", interval, "1.6", "5", "agree"]
    assert shown.rows[3][:4] == ["Free-form 3×3, 5,000 images", "—", "—", "—"]
    assert shown.rows[3][4].startswith("undecided; 5 to run, ")
    assert len(shown.rows) == 1 + len(checked)
    assert [row[1] for row in Page(repeats.precision(tmp_path / "nowhere")).rows[1:]] == ["—"] * len(checked)


def _without_precision(trial: Table1Precision) -> Table1Trial:
    names = ("layer", "dataset", "seed", "profile", "n_train", "network")
    return Table1Trial(**{name: getattr(trial, name) for name in names})


def test_what_another_machine_does_is_shown(tmp_path):
    """The second two are compared by the record's own trials, as far as their settings are the same."""
    differences = [-0.2, -0.1, 0, 0.1, 0.2]
    for seed, difference in enumerate(differences):
        for network, folder, name, accuracy in (
            ("unpooled", "machines/amd", "amd", 0.8 + seed / 100 + difference / 100),
            ("unpooled", "machines/intel", "intel", 0.8 + seed / 100),
            ("unpooled", "results", "h100", 0.7),  # with other settings
            ("batch-norm", "machines/h100", "h100", 0.9 + seed / 100),
            ("batch-norm", "results", "amd", 0.89 + seed / 100),
        ):
            trial = Table1Trial(layer="ours", n_train=1000, seed=seed, profile="paper", dataset=FULL, network=network)
            settings = hyperparameters(trial) | ({"steps": 1} if accuracy == 0.7 else {})
            own = {"trial": trial.describe(), "hyperparameters": settings}
            own["machine"] = record()["machine"] | {"name": name, "device": "cuda" if name == "h100" else "cpu"}
            save(tmp_path / folder, record(accuracy=accuracy) | own)
    shown = Page(repeats.machine(tmp_path / "results"))
    half = float(stats.t.ppf(0.975, 4) * np.std(differences, ddof=1) / math.sqrt(5))
    assert shown.rows == [
        ["", "amd − h100", "seeds differ by", "seeds", ""],
        ["Ours, batch-norm, 1,000 images", "−1.0 [−1.0, −1.0]", "1.6", "5", "differ"],
        ["", "amd − intel", "seeds differ by", "seeds", ""],
        ["Ours, 1,000 images", f"0.0 [{signed(-half)}, {signed(half)}]", "1.6", "5", "agree"],
    ]


def test_one_machine_tells_nothing(tmp_path):
    assert "No trial has been run on two machines." in repeats.machine(tmp_path / "nowhere")
