"""Fits of trained filters: what each basis can hold, and what the table of them says."""

import csv
import hashlib
import json
import math
from pathlib import Path

import fit_learned
import make_checkpoints
import pytest
import torch
from fit_learned import approximations, cosines, fitted_jet, members, plain_jet, principal, projected, random_basis
from torch import nn

from gdlayer import gaussian_derivative_kernels
from gdlayer.basis import jet_orders
from gdlayer.datasets.weights import squeezenet_weights
from gdlayer.trials.weights import load_kept

FITS = Path(fit_learned.__file__).parents[1] / "data" / "fits"


def table(part: str) -> list[dict[str, str]]:
    with (FITS / f"{part}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def jet_filters(f_out: int, sigma: float = 1.2, K: int = 2, size: int = 7) -> torch.Tensor:
    """Random combinations of round, centred derivatives: (f_out, 1, size, size)."""
    generator = torch.Generator().manual_seed(7)
    N = members(K)
    zero = torch.zeros(N, 2, dtype=torch.float64)
    kernels = gaussian_derivative_kernels(zero + sigma, zero, zero[:, 0], jet_orders(K), (size, size))
    weights = torch.randn(f_out, N, generator=generator, dtype=torch.float64)
    return (weights @ kernels.flatten(1)).view(f_out, 1, size, size)


def missed(filters: torch.Tensor, approximate: fit_learned.Approximate) -> float:
    return fit_learned.residual(filters, approximate(filters))


def test_a_projection_is_the_nearest_point_of_the_span():
    rows = torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0], [2, 1, 0, 0]], dtype=torch.float64)
    filters = torch.tensor([1.0, 2, 3, 4], dtype=torch.float64).view(1, 1, 2, 2)
    assert projected(filters, rows).flatten().tolist() == pytest.approx([1, 2, 0, 0])
    assert fit_learned.residual(filters, projected(filters, rows)) == pytest.approx(math.sqrt(25 / 30))


def test_a_plain_jet_holds_filters_of_its_own_kind():
    filters = jet_filters(8)
    assert missed(filters, plain_jet(2)) < 1e-9
    assert missed(filters, plain_jet(1)) > 0.1
    assert missed(filters, plain_jet(3)) < 1e-9


def test_each_basis_has_its_members_and_the_principal_one_holds_most():
    filters = fit_learned.noise(torch.empty(40, 1, 7, 7, dtype=torch.float64), 3)
    for K in range(4):
        ours = [missed(filters, make(K)) for make in (plain_jet, cosines, lambda K: random_basis(K, 0))]
        best = missed(filters, principal(K))
        assert best < min(ours)
        assert ours == pytest.approx([math.sqrt(1 - members(K) / 49)] * 3, rel=0.06)
    assert missed(filters, principal(1, bases=8)) < missed(filters, principal(1))


def test_a_fitted_jet_holds_more_than_its_start(monkeypatch):
    """Of many kernels and channels, and of one filter to a basis."""
    filters = jet_filters(8) + 0.1 * jet_filters(8, sigma=2)
    for bases in (1, 8, None):
        monkeypatch.setattr(fit_learned, "STEPS", 0)
        start = missed(filters, fitted_jet(1, bases))
        monkeypatch.setattr(fit_learned, "STEPS", 30)
        assert missed(filters, fitted_jet(1, bases)) < start - 0.02
    assert fitted_jet(1, 1)(filters.view(2, 4, 7, 7)).shape == (2, 4, 7, 7)


def test_random_filters_have_the_covariance_of_the_trained_ones():
    filters = jet_filters(4000).view(2000, 2, 7, 7)
    filters[:, 1] = filters[:, 0] + 0.1 * filters[:, 1]
    other = fit_learned.same_covariance(filters, 1)
    assert other.shape == filters.shape
    first, second = filters.flatten(1), other.flatten(1)
    moments = first.T @ first
    assert (second.T @ second - moments).norm() < 0.1 * moments.norm()
    assert missed(other, plain_jet(2)) < 1e-6
    assert not torch.allclose(other, fit_learned.same_covariance(filters, 2))


def test_what_is_tried_is_smaller_than_what_it_holds():
    tried = [named for named, _ in approximations(9, draws=2)]
    assert {row["members"] for row in tried} == {1, 3, 6}
    assert sum(row["basis"] == "random" for row in tried) == 2 * 3
    assert {row["order"] for row in tried if row["bases"] == "each"} == {0, 1}
    assert {row["members"] for row, _ in approximations(49, draws=1)} == {1, 3, 6, 10, 15}


def test_rows_of_a_layer_and_of_a_network(monkeypatch):
    for name, value in (("DRAWS", 2), ("FEW_DRAWS", 1), ("STEPS", 1), ("SHARED", (1, 2))):
        monkeypatch.setattr(fit_learned, name, value)
    conv = nn.Conv2d(2, 4, 3)
    rows = list(fit_learned.residuals("net", "conv", conv.weight))
    assert all(row.keys() <= set(fit_learned.FIELDS) for row in rows)
    assert all(0 <= row["residual"] <= 1 for row in rows)
    assert {row["filters"] for row in rows if row["basis"] == "jet"} == {"trained"}
    assert {row["filters"] for row in rows if row["basis"] == "fitted jet"} == {"trained", "noise", "same covariance"}
    unfitted = fit_learned.residuals("net", "conv", conv.weight, fitted=False)
    assert [row for row in rows if row["basis"] != "fitted jet"] == list(unfitted)
    before, seen = conv.weight.detach().clone(), []

    def measure() -> float:
        seen.append(conv.weight.detach().clone())
        return 0.5

    rows = list(fit_learned.accuracies("net", [conv], measure))
    assert len(rows) == len(seen)
    assert rows[0] == {"network": "net", "layer": "all", "filters": "trained", "basis": "none", "accuracy": 0.5}
    assert torch.equal(seen[0], before)
    (jet,) = [w for row, w in zip(rows, seen, strict=True) if (row["basis"], row.get("order")) == ("jet", 2)]
    torch.testing.assert_close(jet, plain_jet(2)(before.double()).float())


def test_a_part_leaves_its_table_and_where_it_comes_from(monkeypatch, tmp_path):
    row = {"network": "net", "layer": "conv", "filters": "trained", "basis": "jet", "residual": 1 / 3}
    monkeypatch.setattr(fit_learned, "PARTS", {"mine": lambda: iter([row]), "other": lambda: pytest.fail("not asked")})
    fit_learned.main(tmp_path / "fits", "mine")
    content = (tmp_path / "fits" / "mine.csv").read_bytes()
    assert content.decode().splitlines()[1:] == ["net,conv,trained,jet,,,,,0.333333,"]
    made = json.loads((tmp_path / "fits" / "mine.json").read_text())
    assert made["table_sha256"] == hashlib.sha256(content).hexdigest()
    assert {"started", "seconds", "git", "versions", "machine"} <= made.keys()
    with pytest.raises(ValueError, match=r"^part must be one of 'mine', 'other', got 'all'$"):
        fit_learned.main(tmp_path, "all")


@pytest.mark.parametrize("part", fit_learned.PARTS)
def test_a_committed_table_is_the_one_that_was_measured(part):
    path = FITS / f"{part}.csv"
    made = json.loads(path.with_suffix(".json").read_text())
    assert made["table_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert made["git"]["dirty"] is False
    assert {row["network"] for row in table(part)} == {"depthwise" if part == "depthwise" else "squeezenet"}


@pytest.mark.parametrize("part", ["squeezenet", "depthwise"])
def test_fits_of_a_committed_table_can_be_measured_again(part):
    if part == "squeezenet":
        layer, weight = "fire4.expand3x3", torch.from_numpy(squeezenet_weights()["fire4.expand3x3.weight"])
    else:
        model = make_checkpoints.depthwise_network()
        load_kept(model, make_checkpoints.FOLDER / "depthwise.json")
        layer, weight = "features.3", model.get_parameter("1.features.3.weight").detach()
    again = {
        "jet": plain_jet(1),
        "cosines": cosines(1),
        "principal": principal(1),
        "random": random_basis(1, 0),
    }
    for basis, approximate in again.items():
        of = {"layer": layer, "basis": basis, "order": "1", "bases": "1"}
        found = next(row["residual"] for row in table(part) if of.items() <= row.items())
        assert missed(weight.double(), approximate) == pytest.approx(float(found), abs=2e-6)
