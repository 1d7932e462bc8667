"""The visit of training loops of others, with a loop of our own."""

from typing import Any

import guests
import hosts
import pytest
import torch
from hosts import Host


def loop(torch: Any) -> None:
    """three steps"""
    network = hosts.Network()
    optimiser = hosts.optimiser_of(network)
    for x, y in hosts.batches():
        torch.nn.functional.cross_entropy(network(x), y).backward()
        optimiser.step()
    hosts.check_state(network)


def forgetful_loop(torch: Any) -> None:
    """a network that is not what its state says"""
    network = hosts.Network()
    network[2] = torch.nn.Sigmoid()
    hosts.check_state(network)


@pytest.fixture(autouse=True)
def no_torchvision(monkeypatch):
    monkeypatch.setattr(guests, "define_operators_of_torchvision", lambda: None)


def test_what_was_tried_is_told(capsys, tmp_path):
    assert guests.tour("loop", {"ours": Host("torch", loop)}, [], tmp_path / "hosts.csv") == 0
    version = torch.__version__
    assert capsys.readouterr().out == f"ours (torch {version}): three steps\n"
    assert (tmp_path / "hosts.csv").read_text() == f"loop,version,torch,tried\nours,{version},{version},three steps\n"


def test_a_failure_is_told(capsys):
    assert guests.tour("loop", {"ours": Host("torch", forgetful_loop)}, []) == 1
    message = "FAILED: VisitError: loaded from its state dict, the output is another\n"
    assert capsys.readouterr().out == f"ours (torch {torch.__version__}): {message}"


def test_every_host_says_what_it_tries():
    assert all(host.run.__doc__ for host in hosts.HOSTS.values())
