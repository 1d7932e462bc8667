"""The wheel as a stranger gets it: what is in it, what it needs, and README's example run with that alone."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import gdlayer

REPOSITORY = Path(__file__).parents[1]
SEMANTIC = r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?"
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"


def build(kind: str, source: Path, target: Path) -> Path:
    """What `python -m build` calls, in this environment and without a network."""
    command = [sys.executable, "-c", BUILD, f"build_{kind}", str(target)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "deprecat" not in done.stderr.lower()
    return target / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of what is in a clone."""
    source = tmp_path_factory.mktemp("source")
    files = ["pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"]
    for name in [*files, "gdlayer", "tests", "workflow", "data/paper"]:
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(REPOSITORY / name, source / name)
    return source


@pytest.fixture(scope="module")
def sdist(source, tmp_path_factory) -> Path:
    return build("sdist", source, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory) -> Path:
    """Made of the unpacked sdist, as by `python -m build`."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    [source] = folder.iterdir()
    return build("wheel", source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    """The wheel unpacked, which is how pip installs it."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def metadata(site) -> Message:
    [path] = site.glob("*.dist-info/METADATA")
    return Parser().parsestr(path.read_text(encoding="utf-8"))


def foreign_modules() -> list[str]:
    """All that could be imported here but comes neither with Python, torch or NumPy, nor with what torch needs."""
    wanted, needed = ["torch", "numpy"], set()
    while wanted:
        if (name := canonicalize_name(wanted.pop())) in needed:
            continue
        needed.add(name)
        requirements = map(Requirement, importlib.metadata.requires(name) or [])
        wanted += [r.name for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    return sorted(
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if module != "gdlayer" and not needed & set(map(canonicalize_name, owners))
    )


def run(site: Path, code: str) -> str:
    """Run code on the unpacked wheel, as if nothing but torch and NumPy were installed beside it."""
    block = "import sys, json; sys.modules.update(dict.fromkeys(json.loads(sys.argv[1])))\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block + code, json.dumps(foreign_modules())],
        cwd=site.parent,
        env=os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "GDLAYER_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# --- contents ------------------------------------------------------------------------------------------------------


def test_wheel_holds_the_whole_package_and_nothing_else(source, wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    package = {path.relative_to(source).as_posix() for path in (source / "gdlayer").rglob("*") if path.is_file()}
    info = f"gdlayer-{gdlayer.__version__}.dist-info"
    beside = {"METADATA", "WHEEL", "RECORD", "top_level.txt", "licenses/LICENSE"}
    assert names == package | {f"{info}/{name}" for name in beside}
    assert "gdlayer/py.typed" in names
    assert wheel.name == f"gdlayer-{gdlayer.__version__}-py3-none-any.whl"
    assert wheel.stat().st_size < 5e6


def test_sdist_holds_what_the_wheel_is_made_of(sdist):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "gdlayer/conv.py"} <= names
    assert {name.split("/")[0] for name in names if "/" in name} == {"gdlayer", "gdlayer.egg-info"}


def test_licences_of_embedded_data_go_with_them(site):
    sample, squeezenet = (
        (site / "gdlayer" / "datasets" / folder / "README.md").read_text(encoding="utf-8")
        for folder in ("sample", "squeezenet")
    )
    assert "The MIT License (MIT) Copyright © 2017 Zalando SE" in sample
    assert "BSD LICENSE." in squeezenet
    assert "MIT License\n>\n> Copyright (c) 2019 Primoz Godec" in squeezenet
    for text in (sample, squeezenet):
        assert "The above copyright notice and this permission notice shall be included" in text


# --- metadata ------------------------------------------------------------------------------------------------------


def test_torch_and_numpy_are_all_it_requires(metadata):
    requirements = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    always = {str(r) for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})}
    assert always == {"torch>=2.4", "numpy>=1.26"}
    assert set(metadata.get_all("Provides-Extra", [])) == {"experiments", "report", "book", "dev"}
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])


def test_version_is_semantic_and_the_same_everywhere(metadata):
    version = gdlayer.__version__
    assert re.fullmatch(SEMANTIC, version)
    assert metadata["Version"] == version
    assert f"\nversion: {version}\n" in (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\nTo be released as {version}.\n" in changelog or f"\n## [{version}] - 2" in changelog


# --- what it imports -----------------------------------------------------------------------------------------------

IMPORTED = """
before = set(sys.modules)
import gdlayer
first = set(sys.modules) - before
import torch, numpy
before = set(sys.modules)
for name in gdlayer.__all__:
    getattr(gdlayer, name)
def foreign(modules):
    return sorted({name.split(".")[0] for name in modules} - {"gdlayer", "torch", "numpy"} - sys.stdlib_module_names)
print(json.dumps([gdlayer.__file__, "torch" in first, foreign(first), foreign(set(sys.modules) - before)]))
"""


def test_public_names_import_torch_and_numpy_alone_and_no_sooner_than_used(site):
    file, torch_at_once, at_once, when_used = json.loads(run(site, IMPORTED))
    assert Path(file).is_relative_to(site)
    assert (torch_at_once, at_once, when_used) == (False, [], [])


EVERY_MODULE = """
import gdlayer, importlib, pkgutil
names = [module.name for module in pkgutil.walk_packages(gdlayer.__path__, "gdlayer.")]
names = [name for name in names if not name.startswith(("gdlayer.experiments", "gdlayer.benchmarks", "gdlayer.report"))]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def test_every_module_of_the_library_works_without_the_extras(site):
    assert {"PIL", "matplotlib", "pandas", "pooch", "scipy", "tqdm"} <= set(foreign_modules())
    assert not {"torch", "numpy", "gdlayer"} & set(foreign_modules())
    assert int(run(site, EVERY_MODULE)) > 20


# --- README's example ----------------------------------------------------------------------------------------------


def test_example_of_the_readme_trains_the_layer_on_the_embedded_sample(site):
    blocks = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    [example] = [block for block in blocks if "fashion-mnist-sample" in block]
    lines = [line for line in example.splitlines() if line and not line.startswith(("import ", "from "))]
    assert len(lines) <= 10
    printed = run(site, example)
    assert (found := re.fullmatch(r"(\d+)% of 1,000 test images\n", printed))
    assert int(found[1]) >= 70  # chance is 10


# --- types ---------------------------------------------------------------------------------------------------------

USER = """
from typing import assert_type

import torch
from torch import nn

from gdlayer import ConvBlock, GaussianDerivativeConv2d, gaussian_derivative_kernels

layer = GaussianDerivativeConv2d(3, 8, 5, order=[(0, 0), (1, 0)], bases=4, separated=True, trainable=["mu"])
assert_type(layer.sigma, torch.Tensor)
assert_type(layer.filters(), torch.Tensor)
assert_type(layer.theta, nn.Parameter)
block = ConvBlock(layer, norm="beta", activation=nn.ReLU())
GaussianDerivativeConv2d(3, 8, "5")  # pyright: ignore[reportArgumentType]
GaussianDerivativeConv2d(3, 8)  # pyright: ignore[reportCallIssue]
gaussian_derivative_kernels(3)  # pyright: ignore
"""


def test_pyright_knows_the_types_of_the_installed_package(site, tmp_path):
    (tmp_path / "user.py").write_text(USER)
    settings = {"extraPaths": [str(site)], "typeCheckingMode": "strict", "reportUnnecessaryTypeIgnoreComment": True}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "-p", str(tmp_path), "--outputjson"],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    result = json.loads(done.stdout)
    assert [(entry["rule"], entry["message"]) for entry in result["generalDiagnostics"]] == []
    assert result["summary"]["filesAnalyzed"] == 1
