"""The networks that the book will look into: which they are, and that one is made and found again."""

import json
from dataclasses import replace

import make_checkpoints
import torch
from make_checkpoints import RECIPE, depthwise_network, make_depthwise, trials

from gdlayer.datasets import fashion_mnist
from gdlayer.trials.files import checksum
from gdlayer.trials.plan import plan
from gdlayer.trials.training import accuracy
from gdlayer.trials.weights import load_kept


def test_the_networks_of_table_1_are_trials_of_the_full_protocol():
    planned = plan("paper", "table1", (fashion_mnist.FULL,))
    assert set(trials()) <= set(planned)
    assert len(set(trials())) == 8


def test_the_depthwise_network_is_trained_and_found_again(tmp_path):
    """In two steps, on the sample."""
    path = tmp_path / "depthwise.json"
    make_depthwise(path, replace(RECIPE, steps=2), fashion_mnist.SAMPLE)
    before, model = depthwise_network(), depthwise_network()
    record = load_kept(model, path)
    after, start = (network.get_parameter("1.classifier.weight") for network in (model, before))
    assert not torch.equal(after, start)
    data = fashion_mnist.load(fashion_mnist.SAMPLE)
    images, labels = torch.from_numpy(data.test_images[:, None]), torch.from_numpy(data.test_labels)
    assert accuracy(model, images, labels, "fp32") == record["metrics"]["test_accuracy"]
    assert record["hyperparameters"] == vars(RECIPE) | {"steps": 2, "widths": list(make_checkpoints.WIDTHS)}
    assert record["parameters"] == sum(p.numel() for p in model.parameters())
    assert record["data"]["sha256"] == data.sha256
    assert record.pop("sha256") == checksum(record)
    assert json.loads(path.read_text()).keys() == {*record, "sha256"}
