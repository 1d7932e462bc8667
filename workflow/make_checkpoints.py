"""Trains the networks that the book looks into: ``python workflow/make_checkpoints.py [FOLDER]``.

Their records and weights go to ``data/checkpoints`` unless told otherwise; what is there is not made again. Those of
Table 1 are trials of the full protocol. The depthwise network belongs to no table, so its recipe stands here.
"""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gdlayer.datasets import fashion_mnist
from gdlayer.experiments.table1.prepare import PIXEL_MEAN, PIXEL_STD
from gdlayer.experiments.table1.trial import Table1Trial
from gdlayer.networks.depthwise import DepthwiseNet
from gdlayer.trials.files import checksum
from gdlayer.trials.provenance import provenance
from gdlayer.trials.record import write_beside
from gdlayer.trials.training import Recipe, Standardise, accuracy, train
from gdlayer.trials.weights import save_weights, weights_path

FOLDER = Path(__file__).parents[1] / "data" / "checkpoints"
SHOWN = (
    *("ours", "free-form", "free-form-same-support", "rfnn"),
    *("n-jet", "ours-separated", "ours-few", "dau"),
)
"""Layers of Table 1."""
RECIPE = Recipe(
    steps=1500,
    batch_size=64,
    learning_rate=0.01,
    alpha=0.0,
    schedule="cosine",
    precision="fp32",
    evaluations=1,
    seed=0,
)
WIDTHS = (24, 48, 48, 96)


def trials() -> list[Table1Trial]:
    """The checkpoints of Table 1: its unpooled network, 5,000 images, the first seed."""
    return [
        Table1Trial(layer=layer, dataset=fashion_mnist.FULL, n_train=5000, seed=0, profile="paper") for layer in SHOWN
    ]


def depthwise_network() -> nn.Sequential:
    """The depthwise network as its training starts: uint8 images (b, 1, 28, 28) -> logits (b, 10)."""
    torch.manual_seed(RECIPE.seed)
    return nn.Sequential(Standardise([PIXEL_MEAN], [PIXEL_STD]), DepthwiseNet(WIDTHS))


def make_depthwise(path: Path, recipe: Recipe = RECIPE, dataset: str = fashion_mnist.FULL) -> None:
    """Trains it on all training images, and writes its record and its weights."""
    started = datetime.now(UTC)
    data = fashion_mnist.load(dataset)
    images, labels, test_images, test_labels = map(
        torch.from_numpy, (data.train_images[:, None], data.train_labels, data.test_images[:, None], data.test_labels)
    )
    model = depthwise_network()

    def measure() -> dict[str, float]:
        return {"test_accuracy": accuracy(model, test_images, test_labels, recipe.precision)}

    training = train(model, images, labels, measure, recipe)
    record: dict[str, Any] = {
        "network": "depthwise",
        "hyperparameters": vars(recipe) | {"widths": list(WIDTHS)},
        "metrics": {"test_accuracy": training.curve[-1]["test_accuracy"]},
        "curve": training.curve,
        "parameters": sum(p.numel() for p in model.parameters()),
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(training.seconds, 3),
        "data": {"name": data.name, "source": data.source, "sha256": data.sha256, "n_train": len(labels)},
        **provenance("cpu", torch.get_num_threads()),
        "weights_sha256": save_weights(model, weights_path(path)),
    }
    write_beside(path, (json.dumps(record | {"sha256": checksum(record)}, indent=1) + "\n").encode())


def main(folder: Path = FOLDER) -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    folder.mkdir(parents=True, exist_ok=True)
    depthwise = folder / "depthwise.json"
    if not depthwise.exists():
        make_depthwise(depthwise)
    for trial in trials():
        subprocess.run([sys.executable, *trial.command(folder), "--keep-weights"], check=True)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
