"""Nuclei in H&E-stained tissue, images of 512 x 512 pixels with a mask each, and synthetic ones in their place.

Four data sets, never to be mixed in one number:

- `"tnbc"`: breast tissue of eleven patients (Naylor et al., ISBI 2017 and IEEE TMI 2019), the original pixels, from
  the archive of Zenodo record 1175282 or 3552674. The latter adds brain tissue from slide 12 on; only slides 1 to 11
  are used, the other images are counted.
- `"tnbc-derived"`: the same images at about half of their detail, enlarged again.
- `"monuseg-crops"`: two crops of each of 25 images of the MoNuSeg challenge (Kumar et al., IEEE TMI 2017 and 2020).
  Those of five more images are spare.
- `"nuclei-synthetic"`: procedural, see `gdlayer.datasets.synthetic.nuclei`; ten more are spare.

Spare images are of patients that no data set has: what is chosen on them knows nothing of what is tested.

An alpha channel is dropped and counted; an image that is neither RGB nor RGBA is an error. In a mask 0 is background
and one other value, usually 255, is nucleus; a third value is an error.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from gdlayer._plumbing.checks import integer_between, one_of, positive_int
from gdlayer.datasets import synthetic
from gdlayer.datasets.files import DataCorruptError, DataError, DataFile, DataNotFoundError, find, locate
from gdlayer.datasets.manifest import read_manifest
from gdlayer.datasets.pictures import MAX_BYTES, decode, open_archive, read_member

TNBC = "tnbc"
TNBC_DERIVED = "tnbc-derived"
MONUSEG = "monuseg-crops"
SYNTHETIC = "nuclei-synthetic"
LABELS = {
    TNBC: "TNBC",
    TNBC_DERIVED: "TNBC, resolution-degraded copy",
    MONUSEG: "MoNuSeg crops (50)",
    SYNTHETIC: "synthetic nuclei",
}
SPARE_LABELS = {MONUSEG: "MoNuSeg crops (the other 10)", SYNTHETIC: "synthetic nuclei, spare"}
"""Of the data sets of which `load_spare` has more images."""
SIZE = 512

# The SHA256s are those that torch-em checks.
TNBC_FILES = (
    DataFile(
        "tnbc/TNBC_NucleiSegmentation.zip",
        "https://zenodo.org/records/1175282/files/TNBC_NucleiSegmentation.zip",
        "da708c3a988f4ad4b9bbb9283b387faf703f0bc0e5e689927306bd27ea13a57f",
    ),
    DataFile(
        "tnbc/TNBC_and_Brain_dataset.zip",
        "https://zenodo.org/records/3552674/files/TNBC_and_Brain_dataset.zip",
        "fa8a71748e04f5e6b8c9b5cdb79bb44c0096b6c0fd899c4b963e2e16fc521cf3",
    ),
)
MANIFESTS = {
    TNBC_DERIVED: DataFile(
        "tnbc-derived/manifest.csv", None, "77cc82bcca19cc9e9a1981b6543fd0a7fd2c91e174a8e83b4e7fc5e4f5d330eb"
    ),
    MONUSEG: DataFile(
        "monuseg-crops/manifest.csv", None, "89ad5bd86ad526fc073c5d74d7c2e7a044a76001af9b4ef5a080d5ee04e187df"
    ),
}
PACK_SHA256 = {
    TNBC_DERIVED: "eb869bf46c7ddf52b2a3ccc4176f0d792e89ee04898fc10592c490e6017ca004",
    MONUSEG: "08a6daecc87995d790602ca195b265413c7061b0df4281d00244909c85013f18",
}
"""One digest over the SHA256s of every image and mask that is read, in the order of the manifest."""
SPARE_SHA256 = {MONUSEG: "0fca36ae2910ed1681d8348bdfaf1b200d652a3d87d2cb59331180c824f7a528"}
"""The same, over the spare ones."""
_SYNTHETIC_SPARE = (2, 2, 2, 2, 2)

_MANIFEST_LINES = {
    TNBC_DERIVED: (
        "image,mask,slide,n_components_4conn,foreground_fraction",
        r"(?P<picture>Slide_(?P<group>[0-9]{2})/(?P<name>(?P=group)_[0-9]+)\.png),"
        r"(?P<mask>GT_(?P=group)/(?P=name)\.png),[0-9]{1,2},[0-9]+,0\.[0-9]+",
    ),
    MONUSEG: (
        "image,mask,source_image,top,left,in_50,foreground_fraction",
        r"(?P<picture>images/(?P<name>(?P<group>TCGA-[0-9A-Z-]+)_[ab])\.png),"
        r"(?P<mask>masks/(?P=name)\.png),(?P=group),[0-9]{1,3},[0-9]{1,3},(?P<in_50>[01]),0\.[0-9]+",
    ),
}
_TNBC_MEMBER = re.compile(r"[^/]+/(Slide|GT)_([0-9]{2})/([^/]+\.png)")
_TNBC_PATIENTS = range(1, 12)


@dataclass(frozen=True, eq=False)
class NucleusSet:
    """Images of tissue, or tiles of them, with the mask of their nuclei.

    Attributes
    ----------
    name : str
        Name it was loaded by.
    label : str
        What to call it beside every number obtained on it.
    images : ndarray of uint8, shape (n, rows, columns, 3)
        Red-green-blue.
    masks : ndarray of bool, shape (n, rows, columns)
        True in nuclei.
    groups : ndarray of str, shape (n,)
        The patient, or the image that a crop was cut from; an honest split keeps each group on one side.
    names : tuple of str
        Name of each image.
    alpha_dropped : int
        How many images had an alpha channel.
    excluded : int
        How many images of the archive show other tissue and are left out.
    source : str
        Where the files were found, as in `gdlayer.datasets.fashion_mnist.ImageSet`, or `"synthetic"`.
    sha256 : str
        Of the archive, one digest over those of the pack's files, or of the synthetic images and masks.
    """

    name: str
    label: str
    images: np.ndarray
    masks: np.ndarray
    groups: np.ndarray
    names: tuple[str, ...]
    alpha_dropped: int
    excluded: int
    source: str
    sha256: str


class _Pair(NamedTuple):
    name: str
    group: str
    image: str
    mask: str


def load(name: str = TNBC) -> NucleusSet:
    """Load exactly the data set named; there is no fallback.

    Parameters
    ----------
    name : {"tnbc", "tnbc-derived", "monuseg-crops", "nuclei-synthetic"}
        See the module.

    Returns
    -------
    NucleusSet
        50 images of 512 x 512 pixels.

    Raises
    ------
    ValueError
        Another name.
    DataError
        A file is missing or wrong, an image has no mask or a mask no image, sizes differ, or Pillow is missing.
    """
    if one_of("name", name, LABELS) == TNBC:
        return _load_archive()
    if name in MANIFESTS:
        return _load_pack(name, spare=False)
    return _synthetic(LABELS[name], *synthetic.nuclei())


def load_spare(name: str = MONUSEG) -> NucleusSet:
    """Load the spare images of a data set: ten, of five patients none of which any data set has.

    Parameters
    ----------
    name : {"monuseg-crops", "nuclei-synthetic"}

    Returns
    -------
    NucleusSet
        Its name is that of the data set, its label tells that they are the spare ones.

    Raises
    ------
    ValueError
        Another name.
    DataError
        As `load`.
    """
    if one_of("name", name, SPARE_LABELS) == MONUSEG:
        return _load_pack(name, spare=True)
    images, masks, patients = synthetic.nuclei(seed=1, patients=_SYNTHETIC_SPARE)
    return _synthetic(SPARE_LABELS[name], images, masks, np.char.add("spare-", patients))


def _synthetic(label: str, images: np.ndarray, masks: np.ndarray, patients: np.ndarray) -> NucleusSet:
    return NucleusSet(
        name=SYNTHETIC,
        label=label,
        images=images,
        masks=masks,
        groups=patients,
        names=tuple(f"{patient}_{index}" for index, patient in enumerate(patients)),
        alpha_dropped=0,
        excluded=0,
        source="synthetic",
        sha256=hashlib.sha256(images.tobytes() + masks.tobytes()).hexdigest(),
    )


def resolve(on_fallback: Callable[[str], object] | None = None) -> tuple[str, ...]:
    """Choose the data sets for a run, each to be reported separately; synthetic nuclei if there is no other.

    For TNBC, the original on this machine is preferred, then the derived copy, then a download of the original
    (25 MB). Call it once per run, so that all its trials agree.

    Parameters
    ----------
    on_fallback : callable, optional
        Called with one line that says why, if neither form of TNBC is available.

    Returns
    -------
    tuple of str
        Names for `load`.

    Raises
    ------
    DataError
        A file is there but wrong, or `$GDLAYER_DATA` names no directory: the user must repair that.
    """
    packs = [name for name, manifest in MANIFESTS.items() if locate(manifest) is not None]
    for name in packs:
        find(MANIFESTS[name])
    archive = _tnbc_file()
    if TNBC_DERIVED in packs and locate(archive) is None:
        return tuple(packs)
    packs = [name for name in packs if name != TNBC_DERIVED]
    try:
        find(archive)
    except DataNotFoundError as error:
        names = tuple(packs) or (SYNTHETIC,)
        if on_fallback is not None:
            on_fallback(f"{names[0]} instead of {TNBC}: {error}")
        return names
    return (TNBC, *packs)


def tiles(data: NucleusSet, size: int = 128) -> NucleusSet:
    """Cut every image into tiles, row by row; each keeps its group.

    Parameters
    ----------
    data : NucleusSet
        Images and masks.
    size : int
        Side of a tile; it must divide the sides of the images. The default cuts 512 x 512 pixels into 16 tiles.

    Returns
    -------
    NucleusSet
        The tiles of the first image, then those of the second, ...; named `image:row,column` by their corner.

    Raises
    ------
    ValueError
        `size` does not divide the sides.
    """
    n, rows, columns = data.masks.shape
    if rows % positive_int("size", size) or columns % size:
        raise ValueError(f"size must be a divisor of {rows} and {columns}, got {size}")

    def cut(array: np.ndarray) -> np.ndarray:
        blocks = array.reshape(n, rows // size, size, columns // size, size, -1).swapaxes(2, 3)
        return np.ascontiguousarray(blocks).reshape(-1, size, size, *array.shape[3:])

    corners = [f"{row},{column}" for row in range(0, rows, size) for column in range(0, columns, size)]
    return replace(
        data,
        images=cut(data.images),
        masks=cut(data.masks),
        groups=np.repeat(data.groups, len(corners)),
        names=tuple(f"{name}:{corner}" for name in data.names for corner in corners),
    )


def tile_split(n_tiles: int, n_train: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Split tiles at random. The paper must have done so: its 600 of 800 tiles are 37.5 images of 16 tiles.

    **It leaks**: tiles of one image, and images of one patient, fall on both sides. Compare with `group_fold`.

    Parameters
    ----------
    n_tiles, n_train : int
        All tiles, and how many of them are for training.
    seed : int
        Not negative. The random bits are those of PCG64 itself, which NumPy guarantees not to change.

    Returns
    -------
    train, test : ndarray of int64
        Indices in rising order, together each of `n_tiles` once.

    Raises
    ------
    ValueError
        One side would be empty.
    """
    integer_between("n_train", n_train, 1, n_tiles - 1)
    order = np.argsort(np.random.PCG64(seed).random_raw(n_tiles), kind="stable")
    return np.sort(order[:n_train]), np.sort(order[n_train:])


def group_split(groups: ArrayLike, test_fraction: float = 0.25, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Split with every group on one side only; the test part is as near to `test_fraction` as whole groups allow.

    Parameters
    ----------
    groups : array_like of str or int, shape (n,)
        Group of each item.
    test_fraction : float
        Share of the items for testing; of two sizes equally near the smaller is taken.
    seed : int
        Not negative. It decides which groups are for testing, not how many items.

    Returns
    -------
    train, test : ndarray of int64
        Indices in rising order.

    Raises
    ------
    ValueError
        Fewer than two groups, or a fraction outside of (0, 1).
    """
    names, inverse, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise ValueError(f"groups must be two or more, got {names.tolist()}")
    if not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction must be a number between 0 and 1, got {test_fraction!r}")
    order = np.argsort(np.random.PCG64(seed).random_raw(len(names)), kind="stable")
    reachable = [{0}]  # sums of the last 0, 1, 2, ... groups of the order
    for group in order[::-1]:
        reachable.append(reachable[-1] | {total + int(sizes[group]) for total in reachable[-1]})
    target = test_fraction * len(inverse)
    rest = min(reachable[-1] - {0, len(inverse)}, key=lambda total: (abs(total - target), total))
    test = np.zeros(len(names), bool)
    for group, later in zip(order, reachable[-2::-1], strict=True):
        if rest - sizes[group] in later:
            test[group] = True
            rest -= int(sizes[group])
    return np.flatnonzero(~test[inverse]), np.flatnonzero(test[inverse])


def group_fold(groups: ArrayLike, folds: int, fold: int) -> tuple[np.ndarray, np.ndarray]:
    """Split for cross-validation by groups: each group is held out in one fold and trains in the others.

    The groups, sorted by falling size and then by name, each go to the fold that is smallest so far.

    Parameters
    ----------
    groups : array_like of str or int, shape (n,)
        Group of each item.
    folds, fold : int
        Number of folds, and which of them (from 0 on) is for testing.

    Returns
    -------
    train, test : ndarray of int64
        Indices in rising order.

    Raises
    ------
    ValueError
        Fewer than two folds or fewer groups than folds, or no such fold.
    """
    names, inverse, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    integer_between("folds", folds, 2, len(names))
    integer_between("fold", fold, 0, folds - 1)
    filled, fold_of = np.zeros(folds, np.int64), np.empty(len(names), np.int64)
    for group in np.argsort(-sizes, kind="stable"):
        fold_of[group] = filled.argmin()
        filled[fold_of[group]] += sizes[group]
    test = fold_of[inverse] == fold
    return np.flatnonzero(~test), np.flatnonzero(test)


def _tnbc_file() -> DataFile:
    """The first of the two archives that is on this machine, or else the first."""
    return next((file for file in TNBC_FILES if locate(file) is not None), TNBC_FILES[0])


def _load_archive() -> NucleusSet:
    file = _tnbc_file()
    path, source = find(file)
    with open_archive(path) as archive:
        members: dict[tuple[str, str, str], str] = {}
        for name in archive.namelist():
            if (match := _TNBC_MEMBER.fullmatch(name)) and not name.startswith("__MACOSX/"):
                key = match[2], match[3], match[1]
                if key in members:
                    raise DataCorruptError(f"{path} has one picture twice, {members[key]!r} and {name!r}")
                members[key] = name
        keys = sorted({(slide, picture) for slide, picture, _ in members})
        used = [key for key in keys if int(key[0]) in _TNBC_PATIENTS]
        if not used:
            raise DataCorruptError(f"{path} has no image of slides 1 to 11")
        pairs = []
        for slide, picture in used:
            for kind, other in (("Slide", "GT"), ("GT", "Slide")):
                if (slide, picture, kind) not in members:
                    raise DataCorruptError(
                        f"{path}, member {members[slide, picture, other]!r}: "
                        f"its partner {kind}_{slide}/{picture} is missing"
                    )
            image, mask = members[slide, picture, "Slide"], members[slide, picture, "GT"]
            pairs.append(_Pair(picture.removesuffix(".png"), slide, image, mask))
        images, masks, alpha_dropped = _read(
            pairs, lambda name: (read_member(archive, name), f"{path}, member {name!r}")
        )
    return NucleusSet(
        name=TNBC,
        label=LABELS[TNBC],
        images=images,
        masks=masks,
        groups=np.array([pair.group for pair in pairs]),
        names=tuple(pair.name for pair in pairs),
        alpha_dropped=alpha_dropped,
        excluded=len(keys) - len(used),
        source=source,
        sha256=file.sha256,
    )


def _load_pack(name: str, *, spare: bool) -> NucleusSet:
    manifest, source = find(MANIFESTS[name])
    folder = manifest.parent
    rows = read_manifest(manifest, *_MANIFEST_LINES[name])
    chosen = [row for row in rows if (row.get("in_50") == "0") == spare]
    pairs = [_Pair(row["name"], row["group"], row["picture"], row["mask"]) for row in chosen]
    for pair in pairs:
        for this, other in ((pair.image, pair.mask), (pair.mask, pair.image)):
            if not (folder / other).exists():
                raise DataCorruptError(f"{folder / this}: its partner {other} is missing")
    hashes = []

    def read(file: str) -> tuple[bytes, str]:
        try:
            with (folder / file).open("rb") as stream:
                content = stream.read(MAX_BYTES + 1)
        except OSError as error:
            raise DataError(f"{folder / file} cannot be read: {error.strerror}") from error
        if len(content) > MAX_BYTES:
            raise DataCorruptError(f"{folder / file} has more than the {MAX_BYTES} bytes allowed")
        hashes.append(hashlib.sha256(content).hexdigest())
        return content, str(folder / file)

    images, masks, alpha_dropped = _read(pairs, read)
    sha256 = hashlib.sha256("".join(hashes).encode()).hexdigest()
    expected = (SPARE_SHA256 if spare else PACK_SHA256)[name]
    if sha256 != expected:
        raise DataCorruptError(
            f"{folder} is not the pack {name}: one digest over its {len(hashes)} pictures is {sha256}, "
            f"expected {expected}; replace it by an undamaged copy"
        )
    return NucleusSet(
        name=name,
        label=(SPARE_LABELS if spare else LABELS)[name],
        images=images,
        masks=masks,
        groups=np.array([pair.group for pair in pairs]),
        names=tuple(pair.name for pair in pairs),
        alpha_dropped=alpha_dropped,
        excluded=0,
        source=source,
        sha256=sha256,
    )


def _read(pairs: list[_Pair], read: Callable[[str], tuple[bytes, str]]) -> tuple[np.ndarray, np.ndarray, int]:
    """Images, masks, and how many images had an alpha channel; `read` returns content and name of a file."""
    images = np.empty((len(pairs), SIZE, SIZE, 3), np.uint8)
    masks = np.empty((len(pairs), SIZE, SIZE), bool)
    alpha_dropped = 0
    for index, pair in enumerate(pairs):
        content, name = read(pair.image)
        image = decode(content, name, "PNG")
        if image.mode not in ("RGB", "RGBA"):
            raise DataCorruptError(f"{name} has mode {image.mode}, allowed are RGB and RGBA")
        if image.size != (SIZE, SIZE):
            raise DataCorruptError(f"{name} has size {image.size}, allowed is {(SIZE, SIZE)}")
        alpha_dropped += image.mode == "RGBA"
        images[index] = np.asarray(image)[..., :3]
        content, name = read(pair.mask)
        mask = decode(content, name, "PNG")
        if mask.size != image.size:
            raise DataCorruptError(f"{name} has size {mask.size}, its image has {image.size}")
        if mask.mode not in ("1", "L", "P", "RGB", "RGBA"):
            raise DataCorruptError(f"{name} has mode {mask.mode}, a mask of 8 bits is needed")
        mask = np.asarray(mask.convert("RGB"))
        values = np.flatnonzero(np.bincount(mask.ravel())).tolist()
        if np.ptp(mask, axis=-1).any() or len({0, *values}) > 2:
            raise DataCorruptError(f"{name} is no mask: allowed are 0 and one other value, found {values[:8]}")
        masks[index] = mask.any(axis=-1)
    return images, masks, alpha_dropped
