import hashlib
import io
import os
import re
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import attack
from PIL import Image

from gdlayer.datasets import DataCorruptError, DataError, DataFile, DataNotFoundError, cats_dogs, pictures
from gdlayer.datasets.cache import cached
from gdlayer.datasets.pictures import decode, open_archive, read_member

GIVEN_DATA = os.environ.get("GDLAYER_DATA", "")
real_data = pytest.mark.skipif(
    not any((Path(root).expanduser() / "cats-vs-dogs").exists() for root in GIVEN_DATA.split(os.pathsep) if root),
    reason="GDLAYER_DATA has no cats-vs-dogs",
)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """Run every test with an empty cache, a data directory, and no network."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("GDLAYER_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("GDLAYER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GDLAYER_OFFLINE", "1")
    return tmp_path / "cache"


def tree(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def picture(seed: int, mode: str = "RGB", size: tuple[int, int] = (50, 40)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 4, 4), np.uint8)
    return Image.fromarray(pixels, "RGBA").convert("RGB").convert(mode).resize(size)


def jpeg(seed: int, mode: str = "RGB", size: tuple[int, int] = (50, 40)) -> bytes:
    stream = io.BytesIO()
    picture(seed, mode, size).save(stream, "JPEG")
    return stream.getvalue()


def put_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def pin(file: DataFile, root: Path) -> DataFile:
    return replace(file, sha256=hashlib.sha256((root / file.path).read_bytes()).hexdigest())


@pytest.fixture
def full(monkeypatch, tmp_path):
    """A small archive in the layout of Microsoft's: 8 + 4 + 4 files of each class, some of them no good."""
    members = {"PetImages/Cat/Thumbs.db": b"no picture", "readme[1].txt": b"text", "PetImages/": b""}
    ids = [*range(8), *range(8750, 8754), *range(10000, 10004)]
    for label, animal in enumerate(("Cat", "Dog")):
        members |= {f"PetImages/{animal}/{i}.jpg": jpeg(2 * i + label) for i in ids}
    members["PetImages/Cat/3.jpg"] = b""
    members["PetImages/Dog/8751.jpg"] = b"GIF89a" + bytes(50)
    members["PetImages/Cat/10002.jpg"] = jpeg(1)[:-150]
    members["PetImages/Dog/10002.jpg"] = jpeg(1)[:300]
    members["PetImages/Dog/5.jpg"] = jpeg(11, "L")
    members["PetImages/Dog/6.jpg"] = jpeg(13, "CMYK")

    def put(changed: dict[str, bytes] | None = None) -> Path:
        path = put_zip(tmp_path / "data" / cats_dogs.FULL_FILE.path, members | (changed or {}))
        monkeypatch.setattr(cats_dogs, "FULL_FILE", pin(cats_dogs.FULL_FILE, tmp_path / "data"))
        return path

    put()
    return put


@pytest.fixture
def pack(monkeypatch, tmp_path):
    """A small pack in the layout of cats-vs-dogs: 6 images of each class in train, 2 in val, 4 in test."""
    folder = tmp_path / "data" / "cats-vs-dogs"
    archives = {
        "train-0.zip": {},
        "train-1.zip": {},
        "train-2.zip": {},
        "train-3.zip": {},
        "val.zip": {},
        "test.zip": {},
    }
    rows = ["archive,file,class,label,source_id,split,bytes,sha256"]
    for split, ids in {"train": range(6), "val": range(20, 22), "test": range(10, 14)}.items():
        for i in ids:
            for label, animal in enumerate(("cat", "dog")):
                archive = f"train-{i % 4}.zip" if split == "train" else f"{split}.zip"
                archives[archive][f"{split}/{animal}.{i}.jpg"] = jpeg(2 * i + label, size=(20, 20))
                rows.append(
                    f"{archive},{split}/{animal}.{i}.jpg,{animal},{label},{animal}.{i},{split},6000,{label:064x}"
                )

    def put(archive: str = "", change=lambda members: members) -> Path:
        for name, members in archives.items():
            put_zip(folder / name, change(members) if name == archive else members)
        (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
        files = tuple(pin(file, tmp_path / "data") for file in cats_dogs.PACK_FILES)
        monkeypatch.setattr(cats_dogs, "PACK_FILES", files)
        return folder / archive

    put()
    return put


# --- the published archive -----------------------------------------------------------------------------------------


def test_full_splits_by_id_balances_skips_and_converts(full, cache, tmp_path):
    before = {path: path.read_bytes() for path in tree(tmp_path / "data")}
    data = cats_dogs.load("cats-dogs", 32)
    # train: cat 3 is broken, so 7 of each; val: dog 8751 is, so 3 of each; test: 10002 is broken in both
    for split, n in (("train", 14), ("val", 6), ("test", 6)):
        images, labels = getattr(data, f"{split}_images"), getattr(data, f"{split}_labels")
        assert (images.shape, images.dtype) == ((n, 32, 32, 3), np.uint8)
        assert labels.dtype == np.int64
        assert np.bincount(labels).tolist() == [n // 2, n // 2]
    assert sorted(data.skipped) == [
        "PetImages/Cat/10002.jpg",
        "PetImages/Cat/3.jpg",
        "PetImages/Dog/10002.jpg",
        "PetImages/Dog/8751.jpg",
    ]
    assert data.converted == ("PetImages/Dog/5.jpg", "PetImages/Dog/6.jpg")
    assert (data.name, data.label, data.source) == ("cats-dogs", "cats and dogs", "GDLAYER_DATA")
    assert data.sha256 == cats_dogs.FULL_FILE.sha256
    expected = [
        np.asarray(Image.open(io.BytesIO(jpeg(2 * i + k))).resize((32, 32), Image.Resampling.BILINEAR))
        for i in (10000, 10001, 10003)
        for k in (0, 1)
    ]
    np.testing.assert_array_equal(data.test_images, expected)
    assert data.test_labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert {path: path.read_bytes() for path in tree(tmp_path / "data")} == before
    assert len(tree(cache)) == 1


def test_full_refuses_an_id_beyond_the_last(full):
    path = full({"PetImages/Dog/12500.jpg": jpeg(0)})
    with pytest.raises(DataCorruptError) as caught:
        cats_dogs.load("cats-dogs", 32)
    assert str(caught.value) == f"{path} has a member named 'PetImages/Dog/12500.jpg', ids go to 12499"


def test_full_is_the_published_file():
    assert cats_dogs.FULL_FILE.url is not None
    assert cats_dogs.FULL_FILE.url.endswith("/" + Path(cats_dogs.FULL_FILE.path).name)
    with pytest.raises(DataNotFoundError, match=r"cats-dogs/kagglecatsanddogs_5340\.zip is neither in GDLAYER_DATA="):
        cats_dogs.load()


# --- the pack ------------------------------------------------------------------------------------------------------


def test_pack_follows_its_manifest(pack, cache):
    data = cats_dogs.load("cats-vs-dogs-200", 40)
    assert data.train_images.shape == (12, 40, 40, 3)
    assert (len(data.val_labels), len(data.test_labels)) == (4, 8)
    assert data.val_labels.tolist() == [0, 1, 0, 1]
    for k, i in enumerate((20, 20, 21, 21)):
        expected = Image.open(io.BytesIO(jpeg(2 * i + k % 2, size=(20, 20))))
        np.testing.assert_array_equal(data.val_images[k], expected.resize((40, 40), Image.Resampling.BILINEAR))
    assert (data.skipped, data.converted, data.source) == ((), (), "GDLAYER_DATA")
    assert "11,200" in data.label
    assert len(data.sha256) == 64
    assert len(tree(cache)) == 1


def test_pack_that_is_nowhere_says_what_to_do():
    with pytest.raises(DataNotFoundError) as caught:
        cats_dogs.load("cats-vs-dogs-200")
    message = str(caught.value)
    for part in ("cats-vs-dogs/manifest.csv", "published nowhere", "let GDLAYER_DATA name the directory", "original"):
        assert part in message
    assert "\n" not in message


def test_pack_of_other_bytes_is_an_error(pack, tmp_path):
    path = tmp_path / "data" / "cats-vs-dogs" / "val.zip"
    path.write_bytes(path.read_bytes()[:-1])
    for call in (lambda: cats_dogs.load("cats-vs-dogs-200"), cats_dogs.resolve):
        with pytest.raises(DataCorruptError, match=r"val\.zip is not the published file: .* an undamaged copy"):
            call()


@pytest.mark.parametrize("keep", [0, 1, 2, 100, 300, -100, -20])
def test_pack_names_archive_and_member_of_a_truncated_picture(pack, cache, keep):
    path = pack("val.zip", lambda members: members | {"val/dog.20.jpg": members["val/dog.20.jpg"][:keep]})
    with pytest.raises(DataCorruptError) as caught:
        cats_dogs.load("cats-vs-dogs-200", 32)
    assert f"{path}, member 'val/dog.20.jpg' (" in str(caught.value)
    assert "is not a whole JPEG picture: " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert tree(cache) == []


@pytest.mark.parametrize("checked", [True, False], ids=["hash checked", "hash of the damaged file"])
def test_mutations_of_the_manifest(pack, monkeypatch, tmp_path, checked):
    path = tmp_path / "data" / "cats-vs-dogs" / "manifest.csv"
    good = cats_dogs.load("cats-vs-dogs-200", 32)

    def read() -> cats_dogs.PhotoSet:
        if not checked:
            files = tuple(pin(file, tmp_path / "data") for file in cats_dogs.PACK_FILES)
            monkeypatch.setattr(cats_dogs, "PACK_FILES", files)
        return cats_dogs.load("cats-vs-dogs-200", 32)

    def same(found: cats_dogs.PhotoSet) -> bool:
        return np.array_equal(found.train_images, good.train_images)

    label = f"manifest of cats-vs-dogs-200, {'hash' if checked else 'form alone'}"
    counts = attack(label, path, read, same, DataError, path.parent, may_change=not checked)
    assert counts["refused"] > counts.total() / 2
    if checked:
        assert counts.keys() == {"refused"}


def test_pack_names_a_missing_member(pack):
    path = pack("test.zip", lambda members: {k: v for k, v in members.items() if "cat.11" not in k})
    with pytest.raises(DataCorruptError) as caught:
        cats_dogs.load("cats-vs-dogs-200", 32)
    assert str(caught.value) == f"{path} has no member 'test/cat.11.jpg'"


# --- subsets and arguments -----------------------------------------------------------------------------------------


def test_subsets_are_balanced_and_nested(pack):
    everything = cats_dogs.load("cats-vs-dogs-200", 32)
    small = cats_dogs.load("cats-vs-dogs-200", 32, n_train=4, n_val=2, seed=3)
    large = cats_dogs.load("cats-vs-dogs-200", 32, n_train=10, seed=3)
    other = cats_dogs.load("cats-vs-dogs-200", 32, n_train=10, seed=4)
    assert np.bincount(small.train_labels).tolist() == [2, 2]
    np.testing.assert_array_equal(small.train_images, large.train_images[:4])
    np.testing.assert_array_equal(small.test_images, everything.test_images)
    assert len(small.val_labels) == 2
    assert not np.array_equal(large.train_images, other.train_images)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "cats"}, "name must be one of 'cats-dogs', 'cats-vs-dogs-200', 'textures-synthetic', got 'cats'"),
        ({"resolution": 31}, "resolution must be an integer from 32 to 512, got 31"),
        ({"resolution": 513}, "resolution must be an integer from 32 to 512, got 513"),
        ({"resolution": 64.0}, "resolution must be an integer from 32 to 512, got 64.0"),
        ({"n_train": 13}, "n_train must be an integer from 1 to 12, got 13"),
        ({"n_test": 0}, "n_test must be an integer from 1 to 8, got 0"),
        ({"n_val": 2.0}, "n_val must be an integer from 1 to 4, got 2.0"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
    ],
)
def test_load_refuses(pack, arguments, message):
    error = TypeError if message.endswith(".0") else ValueError
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        cats_dogs.load(**{"name": "cats-vs-dogs-200"} | arguments)


def test_textures_are_loaded_alike(cache):
    data = cats_dogs.load("textures-synthetic", 32, n_train=10)
    assert data.train_images.shape == (10, 32, 32, 3)
    assert (len(data.val_labels), len(data.test_labels)) == (500, 500)
    assert np.bincount(data.test_labels).tolist() == [250, 250]
    assert (data.label, data.source, data.skipped) == ("synthetic textures", "synthetic", ())
    assert data.sha256 == cats_dogs.load("textures-synthetic", 32).sha256
    assert not cache.exists()


# --- resolve -------------------------------------------------------------------------------------------------------


def test_resolve_prefers_the_archive_then_the_pack(pack, full, tmp_path):
    assert cats_dogs.resolve(pytest.fail) == "cats-dogs"
    (tmp_path / "data" / cats_dogs.FULL_FILE.path).unlink()
    assert cats_dogs.resolve(pytest.fail) == "cats-vs-dogs-200"


def test_resolve_falls_back_with_a_reason(pack, tmp_path):
    (tmp_path / "data" / "cats-vs-dogs" / "train-2.zip").unlink()
    lines = []
    assert cats_dogs.resolve(lines.append) == cats_dogs.resolve() == "textures-synthetic"
    [line] = lines
    assert line.startswith("textures-synthetic instead of cats-dogs: cats-dogs/kagglecatsanddogs_5340.zip is neither")
    assert "\n" not in line


def test_resolve_never_works_around_errors(full, tmp_path, monkeypatch):
    (tmp_path / "data" / cats_dogs.FULL_FILE.path).write_bytes(b"wrong")
    with pytest.raises(DataCorruptError, match=r"\(5 bytes\), expected"):
        cats_dogs.resolve()
    monkeypatch.setenv("GDLAYER_DATA", str(tmp_path / "typo"))
    with pytest.raises(DataError, match="typo', which is not a directory"):
        cats_dogs.resolve()


# --- the cache of decoded arrays -----------------------------------------------------------------------------------


def test_decoded_once_for_each_resolution(pack, cache, monkeypatch):
    first = cats_dogs.load("cats-vs-dogs-200", 32)
    monkeypatch.setattr(cats_dogs, "decode", lambda *_: pytest.fail("decoded again"))
    again = cats_dogs.load("cats-vs-dogs-200", 32)
    np.testing.assert_array_equal(again.train_images, first.train_images)


def test_cache_depends_on_data_resolution_and_pillow(pack, cache, monkeypatch):
    cats_dogs.load("cats-vs-dogs-200", 32)
    cats_dogs.load("cats-vs-dogs-200", 33)
    monkeypatch.setattr("PIL.__version__", "0.0")
    cats_dogs.load("cats-vs-dogs-200", 33)
    pack("val.zip", lambda members: members | {"more": b""})
    cats_dogs.load("cats-vs-dogs-200", 33)
    assert len(tree(cache)) == 4


@pytest.mark.parametrize("damage", ["empty", "half", "without end", "flipped", "other", "directory"])
def test_damaged_cache_is_made_anew(cache, damage):
    arrays = {"images": np.arange(3000, dtype=np.uint8), "names": np.array(["a", "bc"])}
    made = []

    def make():
        made.append(1)
        return arrays

    cached("decoded/some.arrays", make)
    [path] = tree(cache)
    good = path.read_bytes()
    middle = len(good) // 2
    if damage == "directory":
        path.unlink()
        path.mkdir()
        with pytest.raises(DataError, match=r"the cache cannot be written \(.*\), GDLAYER_CACHE can name another"):
            cached("decoded/some.arrays", make)
        assert tree(cache) == []
        return
    path.write_bytes(
        {
            "empty": b"",
            "half": good[:middle],
            "without end": good[:-1],
            "flipped": good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :],
            "other": b"<html>",
        }[damage]
    )
    again = cached("decoded/some.arrays", make)
    assert len(made) == 2
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array, strict=True)
    assert path.read_bytes() == good
    assert tree(cache) == [path]


def test_mutations_of_the_cache(cache):
    arrays = {"images": np.arange(300, dtype=np.uint8), "names": np.array(["a", "bc"])}
    cached("decoded/some.arrays", lambda: arrays)
    [path] = tree(cache)
    made = []

    def read() -> dict[str, np.ndarray]:
        return cached("decoded/some.arrays", lambda: made.append(1) or arrays)

    def same(found: dict[str, np.ndarray]) -> bool:
        return found.keys() == arrays.keys() and all(np.array_equal(found[name], arrays[name]) for name in arrays)

    counts = attack("cached arrays", path, read, same, DataError)
    assert counts.keys() == {"same"}
    assert len(made) == counts.total()  # no damaged file was used


def test_cache_made_for_another_path_is_not_used(cache):
    cached("decoded/a-32.arrays", lambda: {"images": np.zeros(3)})
    (cache / "decoded" / "a-32.arrays").rename(cache / "decoded" / "a-64.arrays")
    found = cached("decoded/a-64.arrays", lambda: {"images": np.ones(3)})
    np.testing.assert_array_equal(found["images"], np.ones(3))


def test_interrupted_cache_leaves_nothing(cache, monkeypatch):
    def interrupt(stream, **_):
        stream.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cached("decoded/some.arrays", lambda: {"a": np.zeros(3)})
    assert tree(cache) == []


def test_cache_that_cannot_be_made_is_one_line(cache):
    cache.write_text("a file where the directory should be")
    with pytest.raises(DataError, match=r"the cache cannot be written \(.*\), GDLAYER_CACHE can name another"):
        cached("decoded/some.arrays", lambda: {"a": np.zeros(3)})
    assert cache.read_text() == "a file where the directory should be"


# --- hostile archives ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../evil.jpg", "PetImages/../../evil.jpg", "/etc/evil", "C:/evil", "C:evil", "..\\evil", "\\\\host\\evil", ".."],
)
def test_member_that_points_outside_is_refused(tmp_path, cache, full, name):
    path = full({name: b"evil"})
    before = tree(tmp_path)
    with pytest.raises(DataCorruptError) as caught:
        cats_dogs.load("cats-dogs", 32)
    assert str(caught.value) == f"{path} has a member named {name!r}, which points outside of it"
    assert tree(tmp_path) == before
    assert not cache.exists()


@pytest.mark.parametrize("keep", [0, 1, 30, 500, 5000, -1, -22, -300])
def test_truncated_archive_is_named(full, tmp_path, monkeypatch, keep):
    path = tmp_path / "data" / cats_dogs.FULL_FILE.path
    path.write_bytes(path.read_bytes()[:keep])
    monkeypatch.setattr(cats_dogs, "FULL_FILE", pin(cats_dogs.FULL_FILE, tmp_path / "data"))
    with pytest.raises(DataCorruptError) as caught:
        cats_dogs.load("cats-dogs", 32)
    assert str(caught.value).startswith(f"{path} is not a whole zip archive: ")
    assert "\n" not in str(caught.value)


def test_bomb_is_refused_without_unpacking(tmp_path):
    path = put_zip(tmp_path / "bomb.zip", {"bomb.jpg": bytes(pictures.MAX_BYTES + 1)}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1e5
    tracemalloc.start()
    try:
        with open_archive(path) as archive, pytest.raises(DataCorruptError) as caught:
            read_member(archive, "bomb.jpg")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert str(caught.value) == (
        f"{path}, member 'bomb.jpg': {pictures.MAX_BYTES + 1} bytes when unpacked, allowed are {pictures.MAX_BYTES}"
    )


def test_bomb_that_lies_about_its_size_is_refused(tmp_path):
    path = put_zip(tmp_path / "bomb.zip", {"bomb.jpg": bytes(2**22)}, zipfile.ZIP_DEFLATED)
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 2**22), struct.pack("<I", 100)))
    with (
        open_archive(path) as archive,
        pytest.raises(DataCorruptError, match=r"bomb\.zip, member 'bomb\.jpg': Bad CRC"),
    ):
        read_member(archive, "bomb.jpg")


def test_broken_and_encrypted_members_are_named(tmp_path):
    path = put_zip(tmp_path / "a.zip", {"a.jpg": b"content " * 20})
    good = path.read_bytes()
    path.write_bytes(good.replace(b"content content", b"CONTENT content", 1))
    with open_archive(path) as archive, pytest.raises(DataCorruptError, match=r"a\.zip, member 'a\.jpg': Bad CRC"):
        read_member(archive, "a.jpg")
    central = bytearray(good)
    central[good.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(central)
    with open_archive(path) as archive, pytest.raises(DataCorruptError, match=r"member 'a\.jpg': .* is encrypted"):
        read_member(archive, "a.jpg")


# --- decode --------------------------------------------------------------------------------------------------------


def png(mode: str = "RGB", size: tuple[int, int] = (50, 40)) -> bytes:
    stream = io.BytesIO()
    picture(0, mode, size).save(stream, "PNG")
    return stream.getvalue()


def huge_png() -> bytes:
    """A PNG whose header declares 60,000 x 60,000 pixels."""
    import zlib

    header = struct.pack(">II5B", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    good = png()
    return good[:8] + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + good[33:]


def test_decode_gives_the_pixels():
    np.testing.assert_array_equal(np.asarray(decode(png(), "a", "PNG")), np.asarray(picture(0)))
    assert decode(png("L"), "a", "PNG").mode == "L"


def test_decode_refuses_truncated_pictures_at_every_length():
    good = png()
    for keep in [*range(0, 60), *range(60, len(good), 7), *range(len(good) - 12, len(good))]:
        with pytest.raises(DataCorruptError, match=rf"^name \({keep} bytes\) is not a whole PNG picture: ."):
            decode(good[:keep], "name", "PNG")


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (png(), "JPEG", "nothing of that kind"),
        (jpeg(0), "PNG", "nothing of that kind"),
        (b"<html>", "PNG", "nothing of that kind"),
        (png(size=(5000, 5000)), "PNG", r"5000 x 5000 pixels, allowed are 16777216"),
        (huge_png(), "PNG", r".*decompression bomb|60000 x 60000 pixels"),
    ],
)
def test_decode_refuses(content, kind, message):
    with pytest.raises(DataCorruptError, match=rf"is not a whole {kind} picture: (?:{message})"):
        decode(content, "name", kind)


@given(st.sampled_from(["PNG", "JPEG"]), st.data())
def test_decode_of_flipped_bytes_is_a_picture_or_an_error(kind, data):
    content = bytearray(png(size=(9, 8)) if kind == "PNG" else jpeg(0, size=(9, 8)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = decode(bytes(content), "name", kind)
    except DataCorruptError:
        pass
    else:
        assert image.width * image.height <= pictures.MAX_PIXELS


def test_missing_pillow_is_named(full, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match=r"^PIL is not installed: pip install 'gdlayer\[experiments\]'$"):
        cats_dogs.load("cats-dogs")
    assert cats_dogs.resolve(pytest.fail) == "cats-dogs"


def test_import_is_light():
    heavy = "{'torch', 'PIL', 'pooch', 'requests', 'tqdm'}"
    code = f"import gdlayer.datasets.cats_dogs, gdlayer.datasets.nuclei, sys; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- the real pack -------------------------------------------------------------------------------------------------


@real_data
def test_real_pack(monkeypatch, cache):
    monkeypatch.setenv("GDLAYER_DATA", GIVEN_DATA)
    assert cats_dogs.resolve(pytest.fail) in ("cats-dogs", "cats-vs-dogs-200")
    photos = cats_dogs._pack_photos
    seen = []

    def some(paths):  # all would take ten seconds
        seen.extend(photos(paths))
        return seen[::40]

    monkeypatch.setattr(cats_dogs, "_pack_photos", some)
    data = cats_dogs.load("cats-vs-dogs-200", 64)
    counts = {(split, label): 0 for split in cats_dogs.SPLITS for label in (0, 1)}
    for photo in seen:
        counts[photo.split, photo.label] += 1
    assert list(counts.values()) == [4000, 4000, 600, 600, 1000, 1000]
    assert data.train_images.shape == (200, 64, 64, 3)
    assert (len(data.val_labels), len(data.test_labels)) == (30, 50)
    assert (data.skipped, data.converted, data.source) == ((), (), "GDLAYER_DATA")
    assert 100 < data.train_images.mean() < 140
    assert len(tree(cache)) == 1
