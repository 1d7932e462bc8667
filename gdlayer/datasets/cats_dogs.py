"""Photographs of cats and dogs (Elson et al., "Asirra", ACM CCS 2007), and synthetic textures in their place.

Three data sets of two classes:

- `"cats-dogs"`: the archive that Microsoft publishes, 25,000 photographs. It has no splits; here the ids of each
  class are cut into train 0-8749, val 8750-9999 and test 10000-12499. About ten of its files are no JPEG or
  broken, which is known: they are skipped and listed.
- `"cats-vs-dogs-200"`: 11,200 of them, squashed to 200 x 200 by their source, with the splits of their manifest.
  It may not be republished, so it is used where it lies and never downloaded.
- `"textures-synthetic"`: procedural, see `gdlayer.datasets.synthetic.textures`.

Photographs are squashed to a square with Pillow's antialiased bilinear filter. Grey and CMYK ones are converted to
RGB and listed. The decoded arrays are kept in the cache.
"""

import csv
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gdlayer.datasets import synthetic
from gdlayer.datasets.files import DataCorruptError, DataFile, DataNotFoundError, find, locate
from gdlayer.datasets.pictures import cached, decode, import_pillow, open_archive, read_member
from gdlayer.datasets.subsets import balanced_subset

FULL = "cats-dogs"
PACK = "cats-vs-dogs-200"
SYNTHETIC = "textures-synthetic"
LABELS = {
    FULL: "cats and dogs",
    PACK: "cats and dogs (11,200 of 200 x 200 pixels)",
    SYNTHETIC: "synthetic textures",
}
CLASSES = ("cat", "dog")
SPLITS = ("train", "val", "test")
RESOLUTIONS = (32, 512)

# The SHA256 is the one that Hugging Face's datasets and GoMLX check, each on its own.
FULL_FILE = DataFile(
    "cats-dogs/kagglecatsanddogs_5340.zip",
    "https://download.microsoft.com/download/3/E/1/3E1C3F21-ECDB-4869-8368-6DEBA77B919F/kagglecatsanddogs_5340.zip",
    "b7974bd00a84a99921f36ee4403f089853777b5ae8d151c76a86e64900334af9",
)
_PACK_SHA256 = {
    "manifest.csv": "61e39cceff8efc4829037d8e7aa7c09996820e343961fc62941041126c897edd",
    "train-0.zip": "39d9f379b7a468668223c814a54d177e47d470e0ab552764548faf7fa2d53d77",
    "train-1.zip": "79268d86d5c4dafbec6a65cb115a9f160c1064c45cb475a97a73f975145dddc1",
    "train-2.zip": "271cce1db7759acbeb074207e5432e8bcca1565200bee9eaac817f8290575a69",
    "train-3.zip": "e0b21df80a3b873393cc9d03e6daaf050e1fc58bde36ec3eba7ee2b6e3b39647",
    "val.zip": "bb34c0885ba54f1ced20a13f7d24d0c98367ddb06ecfe9ff2ed8f6dae574ace9",
    "test.zip": "517be6330b11a38b6ecf732a89bc59bf0fab7f271e542061e9d3181280279bfb",
}
PACK_FILES = tuple(DataFile(f"cats-vs-dogs/{name}", None, sha256) for name, sha256 in _PACK_SHA256.items())

_FULL_MEMBER = re.compile(r"PetImages/(Cat|Dog)/(0|[1-9][0-9]{0,4})\.jpg")
_FULL_ENDS = {"train": 8750, "val": 10_000, "test": 12_500}


@dataclass(frozen=True, eq=False)
class PhotoSet:
    """Labelled colour images of two classes, as many of the one as of the other in each split.

    Attributes
    ----------
    name : str
        Name it was loaded by.
    label : str
        What to call it beside every number obtained on it.
    train_images, val_images, test_images : ndarray of uint8, shape (n, resolution, resolution, 3)
        Rows, columns, red-green-blue.
    train_labels, val_labels, test_labels : ndarray of int64, shape (n,)
        Indices into `CLASSES` (cat 0, dog 1), or of the two kinds of texture.
    skipped : tuple of str
        Files left out because they are no JPEG or broken; only `"cats-dogs"` may have such.
    converted : tuple of str
        Files that were grey or CMYK and are converted to RGB.
    source : str
        Where the files were found, as in `gdlayer.datasets.fashion_mnist.ImageSet`, or `"synthetic"`.
    sha256 : str
        Of the archive, one digest over those of the pack's files, or of the synthetic images.
    """

    name: str
    label: str
    train_images: np.ndarray
    train_labels: np.ndarray
    val_images: np.ndarray
    val_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    skipped: tuple[str, ...]
    converted: tuple[str, ...]
    source: str
    sha256: str


class _Photo(NamedTuple):
    archive: Path
    member: str
    label: int
    split: str


def load(
    name: str = FULL,
    resolution: int = 64,
    *,
    n_train: int | None = None,
    n_val: int | None = None,
    n_test: int | None = None,
    seed: int = 0,
) -> PhotoSet:
    """Load exactly the data set named; there is no fallback.

    Parameters
    ----------
    name : {"cats-dogs", "cats-vs-dogs-200", "textures-synthetic"}
        See the module.
    resolution : int
        Side of the images in pixels, 32 to 512.
    n_train, n_val, n_test : int, optional
        Size of a balanced subset of the split, drawn by `balanced_subset`: smaller ones are the beginning of
        larger ones. By default all, cut to as many of each class.
    seed : int
        Of the subsets.

    Returns
    -------
    PhotoSet

    Raises
    ------
    ValueError
        A parameter is not as above.
    DataError
        A file is missing or wrong, Pillow is missing, or the cache cannot be written.
    """
    if name not in LABELS:
        raise ValueError(f"data set is {name!r}, allowed are {', '.join(map(repr, LABELS))}")
    low, high = RESOLUTIONS
    if not isinstance(resolution, int) or not low <= resolution <= high:
        raise ValueError(f"resolution is {resolution!r}, allowed are integers from {low} to {high}")

    if name == SYNTHETIC:
        images, labels, splits = synthetic.textures(resolution)
        arrays = {"images": images, "labels": labels, "splits": splits, "skipped": [], "converted": []}
        source, sha256 = "synthetic", hashlib.sha256(images.tobytes()).hexdigest()
    else:
        files = (FULL_FILE,) if name == FULL else PACK_FILES
        found = [find(file) for file in files]
        source = "+".join(sorted({source for _, source in found}))
        sha256 = _digest(files)
        paths = [path for path, _ in found]
        photos = _full_photos if name == FULL else _pack_photos
        arrays = cached(
            f"decoded/{name}-{sha256[:16]}-{resolution}-pillow-{_pillow_version()}.npz",
            lambda: _decode(list(photos(paths)), resolution, skip=name == FULL),
        )

    chosen = {}
    for split, n in zip(SPLITS, (n_train, n_val, n_test), strict=True):
        indices = np.flatnonzero(arrays["splits"] == split)
        indices = indices[_choose(arrays["labels"][indices], n, seed, f"n_{split}")]
        chosen[f"{split}_images"], chosen[f"{split}_labels"] = (
            arrays["images"][indices],
            arrays["labels"][indices],
        )
    return PhotoSet(
        name=name,
        label=LABELS[name],
        skipped=tuple(map(str, arrays["skipped"])),
        converted=tuple(map(str, arrays["converted"])),
        source=source,
        sha256=sha256,
        **chosen,
    )


def resolve(on_fallback: Callable[[str], object] | None = None) -> str:
    """Choose the data set for a run: photographs if they can be had, else textures.

    What lies on this machine is preferred, the whole archive to the pack; only then is the archive downloaded
    (0.8 GB). To be asked once a run, so that all its trials agree.

    Parameters
    ----------
    on_fallback : callable, optional
        Called with one line that tells why, when it is the textures.

    Returns
    -------
    str
        A name for `load`.

    Raises
    ------
    DataError
        A file is there but wrong, or `$GDLAYER_DATA` names no directory: errors to repair, not to work around.
    """
    pack_is_here = all(locate(file) is not None for file in PACK_FILES)
    name, files = (PACK, PACK_FILES) if pack_is_here and locate(FULL_FILE) is None else (FULL, (FULL_FILE,))
    try:
        for file in files:
            find(file)
    except DataNotFoundError as error:
        if on_fallback is not None:
            on_fallback(f"{SYNTHETIC} instead of {FULL}: {error}")
        return SYNTHETIC
    return name


def _digest(files: tuple[DataFile, ...]) -> str:
    if len(files) == 1:
        return files[0].sha256
    return hashlib.sha256("".join(file.sha256 for file in files).encode()).hexdigest()


def _pillow_version() -> str:
    """Of Pillow and of the JPEG library below it, since both decide pixels."""
    pillow = import_pillow()
    return f"{pillow.__version__}-{pillow.features.version('jpg')}"


def _full_photos(paths: list[Path]) -> Iterator[_Photo]:
    [path] = paths
    with open_archive(path) as archive:
        members = [match for name in archive.namelist() if (match := _FULL_MEMBER.fullmatch(name))]
    for member in sorted(members, key=lambda member: (int(member[2]), member[1])):
        split = next((split for split, end in _FULL_ENDS.items() if int(member[2]) < end), None)
        if split is None:
            raise DataCorruptError(f"{path} has a member named {member[0]!r}, ids go to {_FULL_ENDS['test'] - 1}")
        yield _Photo(path, member[0], CLASSES.index(member[1].lower()), split)


def _pack_photos(paths: list[Path]) -> Iterator[_Photo]:
    by_name = {path.name: path for path in paths}
    with by_name["manifest.csv"].open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            yield _Photo(by_name[row["archive"]], row["file"], int(row["label"]), row["split"])


def _decode(photos: list[_Photo], resolution: int, skip: bool) -> dict[str, np.ndarray]:
    """Decode all photographs in their order; a broken one is skipped or an error."""
    resample = import_pillow().Image.Resampling.BILINEAR
    images = np.empty((len(photos), resolution, resolution, 3), np.uint8)
    whole, skipped, converted = [], [], []
    archives = {path: open_archive(path) for path in {photo.archive for photo in photos}}
    try:
        for photo in photos:
            content = read_member(archives[photo.archive], photo.member)
            try:
                picture = decode(content, f"{photo.archive}, member {photo.member!r}", "JPEG")
            except DataCorruptError:
                if not skip:
                    raise
                skipped.append(photo.member)
                continue
            if picture.mode != "RGB":
                converted.append(photo.member)
                picture = picture.convert("RGB")
            images[len(whole)] = np.asarray(picture.resize((resolution, resolution), resample))
            whole.append(photo)
    finally:
        for archive in archives.values():
            archive.close()
    return {
        "images": images[: len(whole)],
        "labels": np.array([photo.label for photo in whole], np.int64),
        "splits": np.array([photo.split for photo in whole], np.str_),
        "skipped": np.array(skipped, np.str_),
        "converted": np.array(converted, np.str_),
    }


def _choose(labels: np.ndarray, n: int | None, seed: int, name: str) -> np.ndarray:
    """Indices of a balanced subset of `n`, or of all that is balanced, in their order."""
    available = len(CLASSES) * int(np.bincount(labels, minlength=len(CLASSES)).min())
    if n is None:
        return np.sort(balanced_subset(labels, available, seed)) if available else np.arange(0)
    if not isinstance(n, int) or not 1 <= n <= available:
        raise ValueError(f"{name} is {n!r}, allowed are integers from 1 to {available}")
    return balanced_subset(labels, n, seed)
