import hashlib
import os
import pickle
import shutil
import sys
import zipfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import make_squeezenet
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mutations import attack
from torch import Tensor

from gdlayer import MissingExtraError
from gdlayer.datasets import DataCorruptError, DataNotFoundError, cats_dogs
from gdlayer.datasets import files as files_module
from gdlayer.datasets import weights as weights_module
from gdlayer.datasets.files import locate
from gdlayer.datasets.pictures import decode
from gdlayer.datasets.weights import (
    SQUEEZENET_CONVOLUTIONS,
    SQUEEZENET_IMAGENET,
    SQUEEZENET_MEAN,
    VGG16_CONVOLUTIONS,
    VGG16_KERAS,
    squeezenet_weights,
    vgg16_weights,
)
from gdlayer.networks.vgg16 import AdaptedVGG16, load_published

PHOTOGRAPHS = next(file for file in cats_dogs.PACK_FILES if file.path.endswith("val.zip"))
EMBEDDED = Path(files_module.__file__).parent / SQUEEZENET_CONVOLUTIONS.path


def needs(*files):
    missing = [file.path for file in files if locate(file) is None]
    return pytest.mark.skipif(bool(missing), reason=f"no {', '.join(missing)}")


def features(weights: dict[str, np.ndarray], x: Tensor) -> Tensor:
    """SqueezeNet 1.1 up to fire9."""

    def convolve(x: Tensor, name: str, **options) -> Tensor:
        weight, bias = (torch.from_numpy(weights[f"{name}.{kind}"]) for kind in ("weight", "bias"))
        return F.relu(F.conv2d(x, weight, bias, **options))

    x = convolve(x, "conv1", stride=2)
    for i in range(2, 10):
        if i in (2, 4, 6):
            x = F.max_pool2d(x, 3, 2, ceil_mode=True)
        squeezed = convolve(x, f"fire{i}.squeeze1x1")
        expanded = [convolve(squeezed, f"fire{i}.expand{k}x{k}", padding=k // 2) for k in (1, 3)]
        x = torch.cat(expanded, 1)
    return x


def test_embedded_weights_have_the_shapes_of_squeezenet():
    widths = [(16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)]
    expected, f_in = {"conv1": (64, 3, 3, 3)}, 64
    for i, (squeeze, expand) in enumerate(widths, 2):
        expected[f"fire{i}.squeeze1x1"] = (squeeze, f_in, 1, 1)
        expected |= {f"fire{i}.expand{k}x{k}": (expand, squeeze, k, k) for k in (1, 3)}
        f_in = 2 * expand
    weights = squeezenet_weights()
    shapes = {name: array.shape for name, array in weights.items()}
    both = {f"{name}.weight": shape for name, shape in expected.items()}
    assert shapes == both | {f"{name}.bias": shape[:1] for name, shape in expected.items()}
    assert {array.dtype for array in weights.values()} == {np.dtype(np.float32)}
    assert sum(array.size for array in weights.values()) == 722_496
    assert EMBEDDED.stat().st_size < 1.5e6


def test_readme_of_the_embedded_weights_tells_their_hash():
    readme = (EMBEDDED.parent / "README.md").read_text(encoding="utf-8")
    assert f"SHA256: `{SQUEEZENET_CONVOLUTIONS.sha256}`" in readme


def test_changed_embedded_weights_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(files_module, "_EMBEDDED", tmp_path)
    with pytest.raises(DataNotFoundError, match=r"npz is missing, a file of gdlayer itself; install gdlayer anew$"):
        squeezenet_weights()
    changed = tmp_path / SQUEEZENET_CONVOLUTIONS.path
    changed.parent.mkdir()
    shutil.copy(EMBEDDED, changed)
    squeezenet_weights()
    content = bytearray(EMBEDDED.read_bytes())
    content[len(content) // 2] ^= 1
    changed.write_bytes(content)
    with pytest.raises(DataCorruptError, match=r"npz is not the published file: .*; install gdlayer anew$"):
        squeezenet_weights()


@pytest.mark.parametrize("complete", [False, pytest.param(True, marks=needs(SQUEEZENET_IMAGENET))])
def test_mutations_of_squeezenet_weights(monkeypatch, tmp_path, complete):
    file = SQUEEZENET_IMAGENET if complete else SQUEEZENET_CONVOLUTIONS
    original = files_module.find(file)[0] if complete else EMBEDDED
    monkeypatch.setattr(files_module, "_EMBEDDED", tmp_path)
    monkeypatch.setenv("GDLAYER_DATA", str(tmp_path))
    path = tmp_path / file.path
    path.parent.mkdir()
    path.write_bytes(original.read_bytes())

    def read() -> dict[str, np.ndarray]:
        return squeezenet_weights(complete=complete)

    label = f"SqueezeNet's {'complete' if complete else 'embedded'} weights"
    counts = attack(label, path, read, lambda _: False, DataCorruptError)
    assert counts.keys() == {"refused"}


def test_complete_weights_are_never_replaced_by_the_embedded_ones(monkeypatch, tmp_path):
    monkeypatch.setenv("GDLAYER_CACHE", str(tmp_path))
    monkeypatch.setenv("GDLAYER_DATA", "")
    with pytest.raises(DataNotFoundError, match=r"squeezenet1_1\.npz is neither in GDLAYER_DATA='' nor in the cache"):
        squeezenet_weights(complete=True)
    (tmp_path / "squeezenet").mkdir()
    (tmp_path / SQUEEZENET_IMAGENET.path).write_bytes(b"x")
    with pytest.raises(DataCorruptError, match=r"squeezenet1_1.npz is not the published file: .* \(1 bytes\)"):
        squeezenet_weights(complete=True)


@needs(SQUEEZENET_IMAGENET)
def test_embedded_weights_are_the_complete_ones_rounded():
    complete, embedded = squeezenet_weights(complete=True), squeezenet_weights()
    assert sum(array.size for array in complete.values()) == 1_235_496
    assert complete.keys() - embedded.keys() == {"conv10.weight", "conv10.bias"}
    for name, array in embedded.items():
        np.testing.assert_array_equal(array, complete[name].astype(np.float16))


@needs(SQUEEZENET_IMAGENET, PHOTOGRAPHS)
def test_rounding_changes_nothing_measurable():
    """The largest change of a pooled feature is far below the features' spread over photographs."""
    with zipfile.ZipFile(files_module.find(PHOTOGRAPHS)[0]) as archive:
        photos = [decode(archive.read(name), name, "JPEG").convert("RGB") for name in archive.namelist()[::60]]
    x = np.stack([np.asarray(photo, np.float32)[..., ::-1] - SQUEEZENET_MEAN for photo in photos])
    x = torch.from_numpy(x.astype(np.float32)).permute(0, 3, 1, 2)
    exact, rounded = (features(squeezenet_weights(complete=complete), x) for complete in (True, False))
    assert 0 < (rounded - exact).norm() < 2e-3 * exact.norm()
    exact, rounded = exact.mean((2, 3)), rounded.mean((2, 3))
    assert (rounded - exact).abs().max() < 0.02 * exact.std(0).max()


# --- VGG16 -------------------------------------------------------------------------------------------------------


@pytest.fixture
def vgg16(monkeypatch, tmp_path) -> dict[str, np.ndarray]:
    """Small stand-ins for the published arrays, their files known by their hashes."""
    random = np.random.default_rng(0)
    arrays = {f"conv{i}.weight": random.normal(size=(4, 3, 3, 3)).astype(np.float32) for i in ("1_1", "1_2")}
    arrays |= {name.replace("weight", "bias"): array[:, 0, 0, 0] for name, array in arrays.items()}
    monkeypatch.setattr(weights_module, "VGG16_SHA256", weights_module.sha256_of_arrays(arrays))
    monkeypatch.setenv("GDLAYER_DATA", str(tmp_path))
    monkeypatch.setenv("GDLAYER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GDLAYER_OFFLINE", "1")
    (tmp_path / "vgg16").mkdir()
    return arrays


def as_arrays(monkeypatch, folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    """Their NumPy file."""
    path = folder / VGG16_CONVOLUTIONS.path
    np.savez(path, **{name.replace(".", "/"): array for name, array in arrays.items()})  # type: ignore[arg-type]
    known = replace(VGG16_CONVOLUTIONS, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(weights_module, "VGG16_CONVOLUTIONS", known)
    return path


class Layer(dict):
    """A group of an HDF5 file as Keras writes them."""

    def __init__(self, number: str, arrays: dict[str, np.ndarray]) -> None:
        names = [f"block{number.replace('_', '_conv')}_{kind}_1:0".encode() for kind in "Wb"]
        kernel = np.asfortranarray(arrays[f"conv{number}.weight"].transpose(2, 3, 1, 0))
        super().__init__(zip(names, ({(): kernel}, {(): arrays[f"conv{number}.bias"]}), strict=True))
        self.attrs = {"weight_names": names}


def as_keras(monkeypatch, folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """Keras's file, read by a stand-in for h5py."""
    path = folder / VGG16_KERAS.path
    path.write_bytes(b"stands for an HDF5 file")
    known = replace(VGG16_KERAS, md5=hashlib.md5(path.read_bytes()).hexdigest())
    monkeypatch.setattr(weights_module, "VGG16_KERAS", known)
    groups = {"block1_conv2": Layer("1_2", arrays), "block1_pool": {}, "block1_conv1": Layer("1_1", arrays)}
    monkeypatch.setitem(sys.modules, "h5py", SimpleNamespace(File=lambda path, mode: nullcontext(groups)))


@pytest.mark.parametrize("lay", [as_arrays, as_keras])
def test_either_file_gives_the_same_checked_arrays(monkeypatch, tmp_path, vgg16, lay):
    lay(monkeypatch, tmp_path, vgg16)
    found = vgg16_weights()
    assert found.keys() == vgg16.keys()
    for name, array in vgg16.items():
        np.testing.assert_array_equal(found[name], array)
    lay(monkeypatch, tmp_path, vgg16 | {"conv1_2.bias": vgg16["conv1_2.bias"] + 1})
    with pytest.raises(DataCorruptError, match=r"holds other weights: SHA256 \w{64} of its arrays, expected \w{64}$"):
        vgg16_weights()


def test_the_hash_of_arrays_is_of_names_shapes_and_values():
    arrays = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones(2, np.float32)}
    same = {"a": np.ones(2), "b": np.asfortranarray(arrays["b"])}
    other = (
        {**arrays, "a": np.zeros(2)},
        {**arrays, "b": arrays["b"].reshape(3, 2)},
        {"c": arrays["b"], "a": same["a"]},
    )
    digests = [weights_module.sha256_of_arrays(found) for found in (arrays, same, *other)]
    assert digests[0] == digests[1]
    assert len({*digests}) == 4


def test_wrong_or_absent_vgg16_is_one_line(monkeypatch, tmp_path, vgg16):
    monkeypatch.setitem(sys.modules, "h5py", SimpleNamespace())
    with pytest.raises(
        DataNotFoundError, match=r"^vgg16/vgg16_weights_tf_\w+\.h5 is neither in GDLAYER_DATA.*OFFLINE"
    ) as no:
        vgg16_weights()
    assert "\n" not in str(no.value)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r"^h5py is not installed: pip install 'gdlayer\[vgg16\]'$"):
        vgg16_weights()
    path = as_arrays(monkeypatch, tmp_path, vgg16)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataCorruptError, match=r"npz is not the published file: SHA256 "):
        vgg16_weights()
    path.unlink()
    as_keras(monkeypatch, tmp_path, vgg16)
    (tmp_path / VGG16_KERAS.path).write_bytes(b"x")
    with pytest.raises(
        DataCorruptError, match=r"h5 is not the published file: MD5 \w{32} \(1 bytes\), expected \w{32};"
    ):
        vgg16_weights()


def test_a_changed_byte_of_the_arrays_is_refused(monkeypatch, tmp_path, vgg16):
    path = as_arrays(monkeypatch, tmp_path, vgg16)
    counts = attack("VGG16's convolutions", path, vgg16_weights, lambda _: False, DataCorruptError)
    assert counts.keys() == {"refused"}


@needs(VGG16_CONVOLUTIONS)
def test_published_vgg16(monkeypatch):
    weights = vgg16_weights()
    assert sum(array.size for array in weights.values()) == 14_714_688
    assert {array.dtype for array in weights.values()} == {np.dtype(np.float32)}
    load_published(AdaptedVGG16(), weights)


# --- the script that makes them ------------------------------------------------------------------------------------


@needs(make_squeezenet.ARCHIVE)
def test_script_makes_the_same_files(monkeypatch, tmp_path):
    archive, _ = files_module.find(make_squeezenet.ARCHIVE)
    shutil.copytree(archive.parent, tmp_path / "squeezenet", ignore=lambda _, names: {*names} - {archive.name})
    monkeypatch.setenv("GDLAYER_CACHE", str(tmp_path))
    monkeypatch.setenv("GDLAYER_DATA", "")
    complete, embedded = make_squeezenet.make_squeezenet(tmp_path)
    assert files_module.find(SQUEEZENET_IMAGENET)[0] == complete
    assert embedded.read_bytes() == EMBEDDED.read_bytes()


def test_script_unpickles_nothing_but_arrays():
    array = np.arange(3, dtype=np.float32)
    published = pickle.dumps(array, protocol=3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    np.testing.assert_array_equal(make_squeezenet.unpickle_arrays(published), array)
    for evil in (os.getcwd, np.save):
        with pytest.raises(pickle.UnpicklingError, match=f"{evil.__name__} is not allowed, only NumPy arrays are"):
            make_squeezenet.unpickle_arrays(pickle.dumps(evil))
