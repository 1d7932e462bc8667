"""Photographs of cats and dogs (Elson et al., "Asirra", ACM CCS 2007), and synthetic textures in their place.

Three data sets of two classes:

- `"cats-dogs"`: the archive that Microsoft publishes, 25,000 photographs. It has no splits; here they go by the ids
  of each class: train 0-8749, val 8750-9999, test 10000-12499. About ten of its files are broken or not JPEG, which
  is known; they are skipped and listed.
- `"cats-vs-dogs-200"`: 11,200 of them, squashed to 200 x 200 by their source, with the splits in their manifest.
  It may not be republished, so there is no download; it must be in `$GDLAYER_DATA` or the cache.
- `"textures-synthetic"`: procedural, see `gdlayer.datasets.synthetic.textures`.

Photographs are squashed to a square with Pillow's antialiased bilinear filter. Grey and CMYK ones are converted to
RGB and listed. The decoded arrays are kept in the cache.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gdlayer._plumbing.checks import integer_between, one_of
from gdlayer.datasets import synthetic
from gdlayer.datasets.cache import cached
from gdlayer.datasets.files import DataCorruptError, DataFile, DataNotFoundError, find, locate
from gdlayer.datasets.manifest import read_manifest
from gdlayer.datasets.pictures import decode, import_pillow, open_archive, read_member
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

_MANIFEST_HEAD = "archive,file,class,label,source_id,split,bytes,sha256"
_MANIFEST_LINE = (
    r"(?P<archive>(?:train-[0-3]|val|test)\.zip),"
    r"(?P<picture>(?P<split>train|val|test)/(?P<name>(?P<animal>cat|(?P<dog>dog))\.[0-9]{1,5})\.jpg),"
    r"(?P=animal),(?(dog)1|0),(?P=name),(?P=split),[0-9]{1,7},[0-9a-f]{64}"
)
_FULL_MEMBER = re.compile(r"PetImages/(Cat|Dog)/(0|[1-9][0-9]{0,4})\.jpg")
_FULL_ENDS = {"train": 8750, "val": 10_000, "test": 12_500}


@dataclass(frozen=True, eq=False)
class PhotoSet:
    """Labelled colour images of two classes, equally many of both in each split.

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
        Size of a balanced subset of the split, drawn by `balanced_subset`: smaller subsets are the beginning of
        larger ones. By default the largest balanced subset.
    seed : int
        Seed of the subsets, not negative.

    Returns
    -------
    PhotoSet

    Raises
    ------
    TypeError, ValueError
        A parameter is not as above.
    DataError
        A file is missing or wrong, Pillow is missing, or the cache cannot be written.
    """
    one_of("name", name, LABELS)
    integer_between("resolution", resolution, *RESOLUTIONS)
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
            f"decoded/{name}-{sha256[:16]}-{resolution}-pillow-{_pillow_version()}.arrays",
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

    The whole archive is preferred, then the pack; if neither is on this machine, the archive is downloaded (0.8 GB).
    Call it once per run, so that all its trials agree.

    Parameters
    ----------
    on_fallback : callable, optional
        Called with one line that says why, if textures are chosen.

    Returns
    -------
    str
        A name for `load`.

    Raises
    ------
    DataError
        A file is there but wrong, or `$GDLAYER_DATA` names no directory: the user must repair that.
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
    """Versions of Pillow and its JPEG library: both affect the pixels."""
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
    for row in read_manifest(by_name["manifest.csv"], _MANIFEST_HEAD, _MANIFEST_LINE):
        yield _Photo(by_name[row["archive"]], row["picture"], CLASSES.index(row["animal"]), row["split"])


def _decode(photos: list[_Photo], resolution: int, skip: bool) -> dict[str, np.ndarray]:
    """Decode all photographs in order; if `skip`, broken ones are left out, else they are an error."""
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
    """Indices of a balanced subset of `n`; if `n` is None, of the largest one, in rising order."""
    available = len(CLASSES) * int(np.bincount(labels, minlength=len(CLASSES)).min())
    if n is None:
        return np.sort(balanced_subset(labels, available, seed)) if available else np.arange(0)
    return balanced_subset(labels, integer_between(name, n, 1, available), seed)
