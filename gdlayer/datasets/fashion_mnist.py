"""Fashion-MNIST (Xiao, Rasul and Vollgraf, arXiv:1708.07747), and the sample of it in this package."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gdlayer._plumbing.checks import one_of
from gdlayer.datasets.files import DataFile, DataNotFoundError, find, find_embedded
from gdlayer.datasets.idx import read_idx

FULL = "fashion-mnist"
SAMPLE = "fashion-mnist-sample"
TRAIN_SIZE = {FULL: 60_000, SAMPLE: 5_000}

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

_SHA256 = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
_SAMPLE_SHA256 = {
    "train-images-idx3-ubyte.gz": "ee4b73c1c562a7ef51084358354285b82d4e43bda56e9217172c479bc66923ee",
    "train-labels-idx1-ubyte.gz": "df0cac95ff0b1abecee3cf2cd21ea3093db0219b80bbb7f6650f9384f3fe26c6",
    "t10k-images-idx3-ubyte.gz": "9a6907958d9ca44a2b7674731aee22cd4e040c22da125131034376ee4e3a52a0",
    "t10k-labels-idx1-ubyte.gz": "f370d7bfc07edfd4f30f9657ec734e67837eb041044872a87b011920c901b165",
}
_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"

FILES = tuple(DataFile(f"fashion-mnist/{name}", f"{_URL}/{name}", sha256) for name, sha256 in _SHA256.items())
SAMPLE_FILES = tuple(DataFile(f"sample/fashion-mnist/{name}", None, sha256) for name, sha256 in _SAMPLE_SHA256.items())


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled grey images, split in train and test.

    Attributes
    ----------
    name : str
        Name it was loaded by.
    train_images, test_images : ndarray of uint8, shape (n, 28, 28)
        Rows, columns; 0 is background.
    train_labels, test_labels : ndarray of int64, shape (n,)
        Indices into `CLASSES`.
    source : str
        Where the files were found: `"GDLAYER_DATA"`, `"cache"`, `"download"`, several of them joined by `+`,
        or `"sample"`.
    sha256 : str
        One digest over the SHA256s of the four files.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    source: str
    sha256: str


def load(name: str = FULL) -> ImageSet:
    """Load exactly the data set named; there is no fallback.

    Parameters
    ----------
    name : {"fashion-mnist", "fashion-mnist-sample"}
        The published 60,000 + 10,000 images, or the 5,000 + 1,000 of them embedded in the package.

    Returns
    -------
    ImageSet

    Raises
    ------
    ValueError
        Another name.
    DataError
        A file is missing or wrong; see `gdlayer.datasets.find`.
    """
    if one_of("name", name, TRAIN_SIZE) == FULL:
        files, found = FILES, [find(file) for file in FILES]
    else:
        files, found = SAMPLE_FILES, [(find_embedded(file), "sample") for file in SAMPLE_FILES]
    train_images, train_labels, test_images, test_labels = (read_idx(path) for path, _ in found)
    return ImageSet(
        name=name,
        train_images=train_images,
        train_labels=train_labels.astype(np.int64),
        test_images=test_images,
        test_labels=test_labels.astype(np.int64),
        source="+".join(sorted({source for _, source in found})),
        sha256=hashlib.sha256("".join(file.sha256 for file in files).encode()).hexdigest(),
    )


def resolve(on_fallback: Callable[[str], object] | None = None) -> str:
    """Choose the data set for a run: the published one if it can be had, else the embedded sample.

    Files that are not on this machine are downloaded. Call it once per run, so that all its trials agree.

    Parameters
    ----------
    on_fallback : callable, optional
        Called with one line that says why, if the sample is chosen.

    Returns
    -------
    str
        A name for `load`.

    Raises
    ------
    DataError
        A file is there but wrong, or `$GDLAYER_DATA` names no directory: the user must repair that.
    """
    try:
        for file in FILES:
            find(file)
    except DataNotFoundError as error:
        if on_fallback is not None:
            on_fallback(f"{SAMPLE} instead of {FULL}: {error}")
        return SAMPLE
    return FULL
