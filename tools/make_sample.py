"""Draw the embedded sample from the published files: `python tools/make_sample.py [directory]`."""

import hashlib
import sys
from pathlib import Path

import numpy as np

from gdlayer.datasets import balanced_subset
from gdlayer.datasets.fashion_mnist import load
from gdlayer.datasets.idx import write_idx

SEED = 0
N_TRAIN, N_TEST = 5000, 1000


def make_sample(directory: Path) -> None:
    """Write the four files of the Fashion-MNIST sample below `directory`."""
    full = load("fashion-mnist")
    folder = directory / "fashion-mnist"
    folder.mkdir(parents=True, exist_ok=True)
    for split, images, labels, n in (
        ("train", full.train_images, full.train_labels, N_TRAIN),
        ("t10k", full.test_images, full.test_labels, N_TEST),
    ):
        chosen = balanced_subset(labels, n, SEED)
        write_idx(folder / f"{split}-images-idx3-ubyte.gz", images[chosen])
        write_idx(folder / f"{split}-labels-idx1-ubyte.gz", labels[chosen].astype(np.uint8))


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "gdlayer" / "datasets" / "sample"
    make_sample(target)
    for path in sorted(target.glob("fashion-mnist/*.gz")):
        print(hashlib.sha256(path.read_bytes()).hexdigest(), path.relative_to(target))
