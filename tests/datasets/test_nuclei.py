import hashlib
import io
import itertools
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import attack
from PIL import Image

from gdlayer.datasets import DataCorruptError, DataError, DataNotFoundError, nuclei
from gdlayer.datasets.manifest import read_manifest

GIVEN_DATA = os.environ.get("GDLAYER_DATA", "")
real_data = pytest.mark.skipif(
    not any((Path(root).expanduser() / "tnbc-derived").exists() for root in GIVEN_DATA.split(os.pathsep) if root),
    reason="GDLAYER_DATA has no tnbc-derived",
)
SIZE = 24


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """Run every test with an empty cache, a data directory, no network, and small images."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("GDLAYER_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("GDLAYER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GDLAYER_OFFLINE", "1")
    monkeypatch.setattr(nuclei, "SIZE", SIZE)
    return tmp_path / "cache"


def pixels(seed: int, channels: int = 3, size: int = SIZE) -> np.ndarray:
    shape = (size, size, channels) if channels > 1 else (size, size)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def shape_of(seed: int, size: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).random((size, size)) < 0.2


def png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def mask(seed: int, size: int = SIZE) -> bytes:
    return png(np.uint8(255) * shape_of(seed, size))


def digest(contents: list[bytes]) -> str:
    return hashlib.sha256("".join(hashlib.sha256(content).hexdigest() for content in contents).encode()).hexdigest()


@pytest.fixture
def archive(monkeypatch, tmp_path):
    """Put an archive in the layout of the one published with brain tissue: patients 01, 02, 11 and brain 12."""
    members = {"T/readme.txt": b"text", "T/Slide_01/": b"", "__MACOSX/T/Slide_01/._01_1.png": b"rubbish"}
    for seed, name in enumerate(("01_1", "01_2", "02_1", "11_1", "12_1", "12_2")):
        members[f"T/Slide_{name[:2]}/{name}.png"] = png(pixels(seed, 4 if seed < 3 else 3))
        members[f"T/GT_{name[:2]}/{name}.png"] = mask(seed)

    def put(changed: dict[str, bytes | None] | None = None, which: int = 0) -> Path:
        path = tmp_path / "data" / nuclei.TNBC_FILES[which].path
        path.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(path, "w") as stream:
            for name, content in (members | (changed or {})).items():
                if content is not None:
                    stream.writestr(name, content)
        files = list(nuclei.TNBC_FILES)
        files[which] = replace(files[which], sha256=hashlib.sha256(path.read_bytes()).hexdigest())
        monkeypatch.setattr(nuclei, "TNBC_FILES", tuple(files))
        return path

    return put


@pytest.fixture
def pack(monkeypatch, tmp_path):
    """Put a pack of three images in the layout of `name`, and give its folder."""

    def put(name: str, changed: dict[str, bytes | None] | None = None) -> Path:
        folder = tmp_path / "data" / name
        if name == "tnbc-derived":
            pairs = [
                (f"Slide_{k}/{k}_{i}.png", f"GT_{k}/{k}_{i}.png", str(int(k)))
                for k, i in (("01", 1), ("01", 2), ("10", 1))
            ]
            rows = [f"{a},{b},{k},1,0.2" for a, b, k in pairs]
            head = "image,mask,slide,n_components_4conn,foreground_fraction"
        else:
            pairs = [
                (f"images/TCGA-{k}.png", f"masks/TCGA-{k}.png", "TCGA-" + k[0]) for k in ("A_a", "A_b", "B_a", "C_a")
            ]
            rows = [f"{a},{b},{k},0,0,{int(k != 'TCGA-C')},0.2" for a, b, k in pairs]
            pairs.pop()
            head = "image,mask,source_image,top,left,in_50,foreground_fraction"
        files = {}
        for seed, (a, b, _) in enumerate(pairs):
            files |= {a: png(pixels(seed)), b: mask(seed)}
        files |= changed or {}
        for file, content in files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            if content is not None:
                (folder / file).write_bytes(content)
        (folder / "manifest.csv").write_text("\n".join([head, *rows]) + "\n")
        sha256 = hashlib.sha256((folder / "manifest.csv").read_bytes()).hexdigest()
        monkeypatch.setitem(nuclei.MANIFESTS, name, replace(nuclei.MANIFESTS[name], sha256=sha256))
        monkeypatch.setitem(nuclei.PACK_SHA256, name, digest([content or b"" for content in files.values()]))
        return folder

    return put


# --- the published archive -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1])
def test_archive_drops_alpha_and_brain_and_counts_both(archive, cache, which):
    path = archive(which=which)
    before = path.read_bytes()
    data = nuclei.load("tnbc")
    assert data.names == ("01_1", "01_2", "02_1", "11_1")
    assert data.groups.tolist() == ["01", "01", "02", "11"]
    assert (data.alpha_dropped, data.excluded, data.source) == (3, 2, "GDLAYER_DATA")
    assert (data.name, data.label) == ("tnbc", "TNBC")
    assert data.sha256 == hashlib.sha256(before).hexdigest()
    np.testing.assert_array_equal(data.images, [pixels(s, 4 if s < 3 else 3)[..., :3] for s in range(4)], strict=True)
    np.testing.assert_array_equal(data.masks, [shape_of(s) for s in range(4)], strict=True)
    assert path.read_bytes() == before
    assert not cache.exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"T/GT_02/02_1.png": None}, "member 'T/Slide_02/02_1.png': its partner GT_02/02_1.png is missing"),
        ({"T/Slide_01/01_2.png": None}, "member 'T/GT_01/01_2.png': its partner Slide_01/01_2.png is missing"),
        (
            {"T/GT_11/11_1.png": mask(3, 16)},
            "member 'T/GT_11/11_1.png' has size (16, 16), its image has (24, 24)",
        ),
        (
            {"T/Slide_11/11_1.png": png(pixels(3, 3, 16))},
            "member 'T/Slide_11/11_1.png' has size (16, 16), allowed is (24, 24)",
        ),
        (
            {"T/Slide_01/01_1.png": png(pixels(0, 1))},
            "member 'T/Slide_01/01_1.png' has mode L, allowed are RGB and RGBA",
        ),
    ],
)
def test_archive_names_the_member(archive, changed, message):
    path = archive(changed)
    with pytest.raises(DataCorruptError) as caught:
        nuclei.load("tnbc")
    assert str(caught.value) == f"{path}, {message}"


@pytest.mark.parametrize("keep", [0, 7, 30, 60, 500, -1, -12, -40])
@pytest.mark.parametrize("member", ["T/Slide_02/02_1.png", "T/GT_02/02_1.png"])
def test_archive_names_a_truncated_picture(archive, member, keep):
    good = png(pixels(2)) if "Slide" in member else mask(2)
    path = archive({member: good[: min(keep, len(good) - 1)]})
    with pytest.raises(DataCorruptError) as caught:
        nuclei.load("tnbc")
    assert str(caught.value).startswith(f"{path}, member {member!r} (")
    assert "is not a whole PNG picture: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_archive_with_a_hostile_member_or_truncated(archive, monkeypatch):
    path = archive({"../Slide_01/01_9.png": b""})
    with pytest.raises(DataCorruptError, match=r"has a member named '\.\./Slide_01/01_9\.png', which points outside"):
        nuclei.load("tnbc")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataCorruptError, match="is not the published file: SHA256"):
        nuclei.load("tnbc")


def test_archive_of_other_tissue_alone_is_an_error(archive):
    path = archive({f"T/{k}_{n[:2]}/{n}.png": None for k in ("Slide", "GT") for n in ("01_1", "01_2", "02_1", "11_1")})
    with pytest.raises(DataCorruptError) as caught:
        nuclei.load("tnbc")
    assert str(caught.value) == f"{path} has no image of slides 1 to 11"


def test_archive_that_is_nowhere():
    with pytest.raises(DataNotFoundError) as caught:
        nuclei.load()
    for part in ("tnbc/TNBC_NucleiSegmentation.zip", "https://zenodo.org/records/1175282/", "GDLAYER_OFFLINE=1"):
        assert part in str(caught.value)


# --- masks ---------------------------------------------------------------------------------------------------------

MASK = shape_of(2)


@pytest.mark.parametrize(
    "content",
    [
        png(np.uint8(1) * MASK),
        png(MASK),
        png(np.repeat(np.uint8(255) * MASK[..., None], 3, axis=-1)),
        png(
            np.concatenate(
                [np.repeat(np.uint8(255) * MASK[..., None], 3, -1), np.full((SIZE, SIZE, 1), 255, np.uint8)], -1
            )
        ),
    ],
    ids=["0 and 1", "1 bit", "grey as RGB", "grey as RGBA"],
)
def test_mask_may_be_written_in_several_ways(archive, content):
    archive({"T/GT_02/02_1.png": content})
    np.testing.assert_array_equal(nuclei.load("tnbc").masks[2], MASK)


@pytest.mark.parametrize("fill", [0, 255])
def test_mask_may_be_of_one_value(archive, fill):
    archive({"T/GT_02/02_1.png": png(np.full((SIZE, SIZE), fill, np.uint8))})
    assert (nuclei.load("tnbc").masks[2] == (fill > 0)).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (png(np.where(MASK, 255, np.eye(SIZE)).astype(np.uint8)), "is no mask: .* found [0, 1, 255]"),
        (
            png(np.repeat(np.uint8(255) * MASK[..., None], 3, -1) * np.array([1, 1, 0], np.uint8)),
            "is no mask: .* found [0, 255]",
        ),
        (png(MASK.astype(np.uint16) * 700), "has mode I;16, a mask of 8 bits is needed"),
    ],
)
def test_mask_of_other_values_is_an_error(archive, content, message):
    path = archive({"T/GT_02/02_1.png": content})
    with pytest.raises(DataCorruptError) as caught:
        nuclei.load("tnbc")
    start, _, end = message.partition(".*")
    assert str(caught.value).startswith(f"{path}, member 'T/GT_02/02_1.png' {start}")
    assert str(caught.value).endswith(end)


# --- packs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "label", "names", "groups"),
    [
        ("tnbc-derived", "TNBC, resolution-degraded copy", ("01_1", "01_2", "10_1"), ["01", "01", "10"]),
        ("monuseg-crops", "MoNuSeg crops (50)", ("TCGA-A_a", "TCGA-A_b", "TCGA-B_a"), ["TCGA-A", "TCGA-A", "TCGA-B"]),
    ],
)
def test_pack(pack, cache, name, label, names, groups):
    pack(name)
    data = nuclei.load(name)
    assert (data.name, data.label, data.names, data.groups.tolist()) == (name, label, names, groups)
    assert (data.alpha_dropped, data.excluded, data.source) == (0, 0, "GDLAYER_DATA")
    assert data.sha256 == nuclei.PACK_SHA256[name]
    np.testing.assert_array_equal(data.images, [pixels(s) for s in range(3)], strict=True)
    np.testing.assert_array_equal(data.masks, [shape_of(s) for s in range(3)], strict=True)
    assert not cache.exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"GT_01/01_2.png": None}, "Slide_01/01_2.png: its partner GT_01/01_2.png is missing"),
        ({"Slide_10/10_1.png": None}, "GT_10/10_1.png: its partner Slide_10/10_1.png is missing"),
        ({"GT_01/01_2.png": mask(1, 16)}, "GT_01/01_2.png has size (16, 16), its image has (24, 24)"),
        ({"Slide_01/01_1.png": png(pixels(0, 1))}, "Slide_01/01_1.png has mode L, allowed are RGB and RGBA"),
        (
            {"GT_01/01_1.png": png(pixels(0, 1))},
            "GT_01/01_1.png is no mask: allowed are 0 and one other value, found [",
        ),
        ({"Slide_01/01_1.png": png(pixels(0))[:-1]}, "Slide_01/01_1.png ("),
        ({"Slide_01/01_1.png": png(pixels(0))[:700]}, "Slide_01/01_1.png (700 bytes) is not a whole PNG picture: "),
    ],
)
def test_pack_names_the_file(pack, changed, message):
    folder = pack("tnbc-derived", changed)
    with pytest.raises(DataCorruptError) as caught:
        nuclei.load("tnbc-derived")
    assert str(caught.value).startswith(f"{folder}/{message}")
    assert "\n" not in str(caught.value)


def test_pack_of_other_pictures_is_an_error(pack):
    folder = pack("monuseg-crops")
    (folder / "images" / "TCGA-A_a.png").write_bytes(png(pixels(99)))
    with pytest.raises(DataCorruptError) as caught:
        nuclei.load("monuseg-crops")
    assert str(caught.value).startswith(f"{folder} is not the pack monuseg-crops: one digest over its 6 pictures is ")
    assert nuclei.PACK_SHA256["monuseg-crops"] in str(caught.value)


def test_spare_crops_are_those_that_the_fifty_leave_out(pack, monkeypatch):
    folder = pack("monuseg-crops")
    with pytest.raises(DataCorruptError, match=r"images/TCGA-C_a\.png: its partner masks/TCGA-C_a\.png is missing$"):
        nuclei.load_spare()
    files = {"images/TCGA-C_a.png": png(pixels(7)), "masks/TCGA-C_a.png": mask(7)}
    for file, content in files.items():
        (folder / file).write_bytes(content)
    with pytest.raises(DataCorruptError, match=rf"expected {nuclei.SPARE_SHA256['monuseg-crops']}; replace it"):
        nuclei.load_spare()
    monkeypatch.setitem(nuclei.SPARE_SHA256, "monuseg-crops", digest(list(files.values())))
    spare = nuclei.load_spare()
    assert (spare.name, spare.label) == ("monuseg-crops", "MoNuSeg crops (the other 10)")
    assert (spare.names, spare.groups.tolist()) == (("TCGA-C_a",), ["TCGA-C"])
    np.testing.assert_array_equal(spare.images, [pixels(7)], strict=True)
    np.testing.assert_array_equal(spare.masks, [shape_of(7)], strict=True)
    assert nuclei.load("monuseg-crops").names == ("TCGA-A_a", "TCGA-A_b", "TCGA-B_a")
    with pytest.raises(ValueError, match=r"^name must be one of 'monuseg-crops', 'nuclei-synthetic', got 'tnbc'$"):
        nuclei.load_spare("tnbc")


def test_pack_counts_alpha_too(pack):
    pack("monuseg-crops", {"images/TCGA-A_b.png": png(pixels(1, 4))})
    data = nuclei.load("monuseg-crops")
    assert data.alpha_dropped == 1
    np.testing.assert_array_equal(data.images[1], pixels(1, 4)[..., :3])


def test_what_cannot_be_read_is_an_error(pack):
    folder = pack("tnbc-derived")
    (folder / "GT_01" / "01_1.png").unlink()
    (folder / "GT_01" / "01_1.png").mkdir()
    with pytest.raises(DataError, match=r"01_1\.png cannot be read: "):
        nuclei.load("tnbc-derived")


@pytest.mark.parametrize("name", list(nuclei.MANIFESTS))
@pytest.mark.parametrize("checked", [True, False], ids=["hash checked", "hash of the damaged file"])
def test_mutations_of_a_manifest(pack, monkeypatch, name, checked):
    path = pack(name) / "manifest.csv"
    good = nuclei.load(name)

    def read() -> nuclei.NucleusSet:
        if not checked:
            sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
            monkeypatch.setitem(nuclei.MANIFESTS, name, replace(nuclei.MANIFESTS[name], sha256=sha256))
        return nuclei.load(name)

    def same(found: nuclei.NucleusSet) -> bool:
        return found.names == good.names and np.array_equal(found.images, good.images)

    label = f"manifest of {name}, {'hash' if checked else 'form alone'}"
    counts = attack(label, path, read, same, DataError, path.parent)
    assert counts.keys() <= ({"refused"} if checked else {"refused", "same"})
    assert counts["refused"] > counts.total() / 2


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda lines: ["image,mask,slide", *lines[1:]],
            "its first line is 'image,mask,slide', expected 'im",
        ),
        (lambda lines: lines[:1], "it is truncated"),
        (lambda lines: [*lines[:1], ""], "line 2 is '', expected values of image,mask,"),
        (lambda lines: [*lines[:2], lines[1]], "line 3 names Slide_01/01_1.png again"),
        (
            lambda lines: [*lines[:2], lines[2].replace("GT_01/01_2", "GT_01/01_1")],
            "line 3 is 'Slide_01/01_2.png,GT",
        ),
        (lambda lines: [*lines[:2], lines[2].replace("Slide_01", "../Slide_01")], "line 3 is '../Slide_01/01_2.png,"),
        (lambda lines: [*lines, "x" * 5000], f"line 5 is '{'x' * 200}...', expected values"),
        (lambda lines: [*lines, "\ud800"], r"line 5 is '\\xed\\xa0\\x80', expected values"),
    ],
)
def test_manifest_is_refused_as_a_whole(pack, change, problem):
    path = pack("tnbc-derived") / "manifest.csv"
    lines = change(path.read_text().splitlines())
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass"))
    with pytest.raises(DataCorruptError) as caught:
        read_manifest(path, *nuclei._MANIFEST_LINES["tnbc-derived"])
    message = str(caught.value)
    assert message.startswith(f"{path} is not the manifest of this pack: {problem}")
    assert message.endswith("; replace it by an undamaged copy")


def test_load_never_falls_back():
    with pytest.raises(DataNotFoundError, match=r"tnbc-derived/manifest\.csv is neither .* published nowhere"):
        nuclei.load("tnbc-derived")
    with pytest.raises(ValueError, match=r"name must be one of 'tnbc', 'tnbc-derived', 'monuseg-crops', .*got 'cells'"):
        nuclei.load("cells")


def test_synthetic_is_loaded_alike(monkeypatch, cache):
    monkeypatch.setattr(nuclei.synthetic.nuclei, "__defaults__", (0, (2, 1), 64))
    data = nuclei.load("nuclei-synthetic")
    assert (data.images.shape, data.masks.shape) == ((3, 64, 64, 3), (3, 64, 64))
    assert data.groups.tolist() == ["01", "01", "02"]
    assert data.names == ("01_0", "01_1", "02_2")
    assert (data.label, data.source, data.alpha_dropped, data.excluded) == ("synthetic nuclei", "synthetic", 0, 0)
    assert data.sha256 == nuclei.load("nuclei-synthetic").sha256
    assert not cache.exists()


# --- resolve -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "names"),
    [
        ({"tnbc", "tnbc-derived", "monuseg-crops"}, ("tnbc", "monuseg-crops")),
        ({"tnbc", "tnbc-derived"}, ("tnbc",)),
        ({"tnbc-derived", "monuseg-crops"}, ("tnbc-derived", "monuseg-crops")),
        ({"tnbc-derived"}, ("tnbc-derived",)),
        ({"monuseg-crops"}, ("monuseg-crops",)),
        (set(), ("nuclei-synthetic",)),
    ],
)
def test_resolve(archive, pack, there, names):
    for name in there:
        archive() if name == "tnbc" else pack(name)
    lines = []
    assert nuclei.resolve(lines.append) == nuclei.resolve() == names
    if any(name.startswith("tnbc") for name in names):
        assert lines == []
    else:
        [line] = lines
        assert line.startswith(f"{names[0]} instead of tnbc: tnbc/TNBC_NucleiSegmentation.zip is neither in")
        assert "\n" not in line


def test_resolve_never_works_around_errors(pack, archive, monkeypatch, tmp_path):
    folder = pack("monuseg-crops")
    path = archive()
    path.write_bytes(b"wrong")
    with pytest.raises(DataCorruptError, match=r"TNBC_NucleiSegmentation\.zip is not the published file"):
        nuclei.resolve()
    (folder / "manifest.csv").write_text("wrong")
    with pytest.raises(DataCorruptError, match=r"manifest\.csv is not the published file: .* an undamaged copy"):
        nuclei.resolve()
    monkeypatch.setenv("GDLAYER_DATA", str(tmp_path / "typo"))
    with pytest.raises(DataError, match="typo', which is not a directory"):
        nuclei.resolve()


# --- tiles and splits ----------------------------------------------------------------------------------------------


def test_tiles_are_cut_row_by_row_and_keep_their_group(archive):
    archive()
    data = nuclei.load("tnbc")
    tiles = nuclei.tiles(data, 6)
    assert (tiles.images.shape, tiles.masks.shape) == ((64, 6, 6, 3), (64, 6, 6))
    assert tiles.masks.dtype == bool
    assert tiles.groups.tolist() == [group for group in data.groups for _ in range(16)]
    assert tiles.names[:6] == ("01_1:0,0", "01_1:0,6", "01_1:0,12", "01_1:0,18", "01_1:6,0", "01_1:6,6")
    for k, name in enumerate(tiles.names):
        image, corner = name.split(":")
        row, column = map(int, corner.split(","))
        source = data.names.index(image)
        np.testing.assert_array_equal(tiles.images[k], data.images[source, row : row + 6, column : column + 6])
        np.testing.assert_array_equal(tiles.masks[k], data.masks[source, row : row + 6, column : column + 6])
    assert (tiles.label, tiles.sha256, tiles.alpha_dropped) == (data.label, data.sha256, data.alpha_dropped)


@pytest.mark.parametrize(
    ("size", "error", "allowed"),
    [
        (0, ValueError, "an integer >= 1"),
        (-6, ValueError, "an integer >= 1"),
        (5, ValueError, "a divisor of 24 and 24"),
        (25, ValueError, "a divisor of 24 and 24"),
        (6.0, TypeError, "an integer >= 1"),
    ],
)
def test_tiles_refuses(archive, size, error, allowed):
    archive()
    with pytest.raises(error, match=rf"^size must be {allowed}, got {size!r}$"):
        nuclei.tiles(nuclei.load("tnbc"), size)


def test_tile_split_is_random_and_leaks():
    train, test = nuclei.tile_split(800, seed=0)
    assert (len(train), len(test)) == (600, 200)
    assert sorted([*train, *test]) == list(range(800))
    assert (np.diff(train) > 0).all()
    assert (np.diff(test) > 0).all()
    assert len(set(train // 16) & set(test // 16)) > 40  # of 50 images
    assert test[:8].tolist() == [4, 5, 9, 10, 12, 16, 26, 27]  # never changes
    assert not np.array_equal(test, nuclei.tile_split(800, seed=1)[1])


@pytest.mark.parametrize("n_train", [0, 10, -1])
def test_tile_split_refuses(n_train):
    with pytest.raises(ValueError, match=rf"^n_train must be an integer from 1 to 9, got {n_train}$"):
        nuclei.tile_split(10, n_train)


@given(st.lists(st.integers(0, 6), min_size=2, max_size=40), st.floats(0.01, 0.99), st.integers(0, 99))
def test_group_split_is_the_nearest_without_a_leak(groups, fraction, seed):
    names = sorted(set(groups))
    if len(names) < 2:
        with pytest.raises(ValueError, match="groups must be two or more, got "):
            nuclei.group_split(groups, fraction, seed)
        return
    train, test = nuclei.group_split(groups, fraction, seed)
    assert sorted([*train, *test]) == list(range(len(groups)))
    labels = np.array(groups)
    assert not set(labels[train]) & set(labels[test])
    sizes = {
        sum(groups.count(name) for name in chosen)
        for count in range(1, len(names))
        for chosen in itertools.combinations(names, count)
    }
    target = fraction * len(groups)
    assert len(test) == min(sizes, key=lambda size: (abs(size - target), size))


def test_group_split_depends_on_the_seed_only_in_which_groups():
    groups = np.repeat([f"{k:02d}" for k in range(11)], np.array(nuclei.synthetic.PATIENTS) * 16)
    tests = [nuclei.group_split(groups, seed=seed)[1] for seed in range(10)]
    assert {len(test) for test in tests} == {192}
    assert len({tuple(test) for test in tests}) > 5
    np.testing.assert_array_equal(nuclei.group_split(groups, seed=3)[1], tests[3])


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 2])
def test_group_split_refuses(fraction):
    with pytest.raises(ValueError, match=rf"^test_fraction must be a number between 0 and 1, got {fraction}$"):
        nuclei.group_split(["a", "b"], fraction)


@given(st.lists(st.integers(0, 6), min_size=2, max_size=40), st.integers(2, 7))
def test_group_folds_hold_out_every_group_once(groups, folds):
    labels, names = np.array(groups), sorted(set(groups))
    if folds > len(names):
        with pytest.raises(ValueError, match=rf"^folds must be an integer from 2 to {len(names)}, got {folds}$"):
            nuclei.group_fold(groups, folds, 0)
        return
    splits = [nuclei.group_fold(groups, folds, fold) for fold in range(folds)]
    assert all(sorted([*train, *test]) == list(range(len(groups))) for train, test in splits)
    held_out = [sorted(set(labels[test].tolist())) for _, test in splits]
    assert sorted(itertools.chain(*held_out)) == names
    assert all(held_out)
    sizes = [len(test) for _, test in splits]
    assert max(sizes) - min(sizes) <= max(map(groups.count, names))


def test_group_folds_of_the_papers_patients():
    groups = np.repeat([f"{k:02d}" for k in range(11)], np.array(nuclei.synthetic.PATIENTS) * 16)
    assert [len(nuclei.group_fold(groups, 5, fold)[1]) for fold in range(5)] == [176, 160, 144, 144, 176]
    for fold in (-1, 5):
        with pytest.raises(ValueError, match=rf"^fold must be an integer from 0 to 4, got {fold}$"):
            nuclei.group_fold(groups, 5, fold)


# --- the real packs ------------------------------------------------------------------------------------------------


@real_data
@pytest.mark.parametrize(
    ("name", "patients", "fraction"), [("tnbc-derived", 11, 0.1245), ("monuseg-crops", 25, 0.2335)]
)
def test_real_packs(monkeypatch, cache, name, patients, fraction):
    monkeypatch.setenv("GDLAYER_DATA", GIVEN_DATA)
    monkeypatch.setattr(nuclei, "SIZE", 512)
    assert name in nuclei.resolve(pytest.fail)
    data = nuclei.load(name)
    assert (data.images.shape, data.masks.shape) == ((50, 512, 512, 3), (50, 512, 512))
    assert len(set(data.groups)) == patients
    assert data.masks.mean() == pytest.approx(fraction, abs=1e-3)
    inside, outside = (data.images[:5][masks].mean() for masks in (data.masks[:5], ~data.masks[:5]))
    assert inside < outside - 20
    tiles = nuclei.tiles(data)
    assert tiles.images.shape == (800, 128, 128, 3)
    sizes = [len(nuclei.group_fold(tiles.groups, 5, fold)[1]) for fold in range(5)]
    assert (sum(sizes), max(sizes) - min(sizes) <= 32) == (800, True)
    assert not cache.exists()


@real_data
def test_real_spare_crops_are_of_patients_that_no_data_set_has(monkeypatch):
    """TCGA names a patient by the first twelve characters."""
    monkeypatch.setenv("GDLAYER_DATA", GIVEN_DATA)
    monkeypatch.setattr(nuclei, "SIZE", 512)
    spare, data = nuclei.load_spare(), nuclei.load("monuseg-crops")
    assert spare.images.shape == (10, 512, 512, 3)
    assert spare.masks.mean() == pytest.approx(0.3232, abs=1e-3)
    spare_patients, patients = ({group[:12] for group in found.groups} for found in (spare, data))
    assert (len(spare_patients), len(patients)) == (5, 25)
    assert not spare_patients & patients
