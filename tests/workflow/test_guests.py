"""The visit of networks of others, with networks of our own."""

import guests
import pytest
import torch
from guests import Guest
from torch import nn


def network(*modules: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 5), nn.ReLU(), nn.Conv2d(8, 8, 1), *modules)


class Broken(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / 0


@pytest.fixture(autouse=True)
def no_torchvision(monkeypatch):
    monkeypatch.setattr(guests, "define_operators_of_torchvision", lambda: None)


def test_a_network_is_replaced_trained_and_deployed(capsys, tmp_path):
    table = tmp_path / "guests.csv"
    ours = {"ours": Guest("torch.nn", lambda nn: network(nn.ReLU()), (3, 16, 16))}
    assert guests.tour("network", ours, [], table) == 0
    assert capsys.readouterr().out.startswith(
        f"ours (torch {torch.__version__}): 1 of 2 convolutions replaced, 680 -> 344 "
    )
    assert table.read_text().startswith(
        "network,version,torch,replaced,convolutions,parameters_before,parameters_after,deviation\n"
        f"ours,{torch.__version__},{torch.__version__},1,2,680,344,"
    )


def test_a_failure_is_told(capsys):
    broken = {"broken": Guest("torch.nn", lambda nn: network(Broken()), (3, 16, 16))}
    assert guests.tour("network", broken, []) == 1
    assert "FAILED: VisitError: a gradient is missing or not finite" in capsys.readouterr().out


def test_a_missing_package_is_skipped_aloud(capsys):
    gone = {"gone": Guest("no_such_package", lambda package: network(), (3, 16, 16))}
    assert guests.tour("network", gone, []) == 0
    assert capsys.readouterr().out == "SKIPPED gone: No module named 'no_such_package'\n"


def test_one_network_by_name(capsys):
    assert guests.tour("network", guests.GUESTS, ["none of them"]) == 0
    assert capsys.readouterr().out == ""
