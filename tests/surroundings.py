"""What the tests of trials and experiments share: an empty place, little data, and a look into the training."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gdlayer.datasets import fashion_mnist
from gdlayer.experiments import __main__ as cli
from gdlayer.trials import run as runner


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path) -> Iterator[None]:
    """An empty working directory, no data but the embedded, of Fashion-MNIST 50 test images; torch left as it was.

    No committed record either, for what the command line tells of durations.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GDLAYER_DATA", raising=False)
    monkeypatch.setenv("GDLAYER_OFFLINE", "1")
    monkeypatch.setenv("GDLAYER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cli, "committed_record", lambda: None)
    whole = fashion_mnist.load

    def load(name: str) -> fashion_mnist.ImageSet:
        data = whole(name)
        return dataclasses.replace(data, test_images=data.test_images[:50], test_labels=data.test_labels[:50])

    monkeypatch.setattr(fashion_mnist, "load", load)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # set by the command line, undone here
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture
def results(tmp_path) -> Path:
    """The folder of the records."""
    return tmp_path / "results"


@pytest.fixture
def trained(monkeypatch) -> list[dict[str, Any]]:
    """What each call of the training loop got, and its network's tensors before and after."""
    calls: list[dict[str, Any]] = []
    train = runner.train

    def recorded(model, images, labels, measure, recipe, **options):
        calls.append({"model": model, "images": images, "labels": labels, "recipe": recipe, **options})
        calls[-1]["before"] = _tensors(model[1])
        training = train(model, images, labels, measure, recipe, **options)
        calls[-1]["after"] = _tensors(model[1])
        return training

    monkeypatch.setattr(runner, "train", recorded)
    return calls


def _tensors(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}
