"""The built wheel: its contents, its metadata, its imports with and without the extras, and README's example."""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
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
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "deprecat" not in done.stderr.lower()
    return target / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of what is in a clone."""
    source = tmp_path_factory.mktemp("source")
    files = ["pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"]
    for name in [*files, "gdlayer", "tests", "tools", "workflow"]:
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
        if hasattr(tarfile, "data_filter"):
            archive.extractall(folder, filter="data")
        else:  # before Python 3.11.4
            archive.extractall(folder)
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


def required(lines: Iterable[str], extra: str = "") -> list[Requirement]:
    """Those of the lines `Requires-Dist` that hold here, without or with an extra."""
    requirements = map(Requirement, lines)
    return [r for r in requirements if r.marker is None or r.marker.evaluate({"extra": extra})]


def foreign_modules(metadata: Message, extras: Sequence[str] = ()) -> list[str]:
    """All modules that could be imported here, but would not be there after `pip install gdlayer[extras]`."""
    lines = metadata.get_all("Requires-Dist", [])
    wanted, needed = [r.name for extra in ("", *extras) for r in required(lines, extra)], set()
    while wanted:
        if (name := canonicalize_name(wanted.pop())) not in needed:
            needed.add(name)
            wanted += [r.name for r in required(importlib.metadata.requires(name) or [])]
    return sorted(
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if module != "gdlayer" and not needed & set(map(canonicalize_name, owners))
    )


BLOCK = """
import json, sys
from importlib.machinery import PathFinder

class Installed(PathFinder):
    missing = set(json.loads(sys.argv.pop(1)))

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in cls.missing else super().find_spec(name, path, target)

    @classmethod
    def find_distributions(cls, *context):
        found = super().find_distributions(*context)
        return (one for one in found if one.metadata["Name"].replace("-", "_") not in cls.missing)

sys.meta_path[sys.meta_path.index(PathFinder)] = Installed
"""


@pytest.fixture
def execute(site, metadata, tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs code on the unpacked wheel in an empty directory, as if beside it only its extras were installed."""

    def execute(code: str, *arguments: str, extras: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        blocked = json.dumps(foreign_modules(metadata, extras))
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", BLOCK + code, blocked, *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1", "GDLAYER_OFFLINE": "1"},
            capture_output=True,
            text=True,
            timeout=600,
        )

    return execute


@pytest.fixture
def run(execute) -> Callable[..., str]:
    """What code prints that must run without an error."""

    def run(code: str, *arguments: str, extras: Sequence[str] = ()) -> str:
        done = execute(code, *arguments, extras=extras)
        assert (done.returncode, re.sub(r"  step \d+ of \d+\n", "", done.stderr)) == (0, "")  # on a slow machine
        return done.stdout

    return run


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
    assert {str(r) for r in required(metadata.get_all("Requires-Dist", []))} == {"torch>=2.4", "numpy>=1.26"}
    assert set(metadata.get_all("Provides-Extra", [])) == {
        "experiments",
        "report",
        "book",
        "dev",
        "cluster",
        "lab",
        "vgg16",
    }
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


def test_public_names_import_torch_and_numpy_alone_and_no_sooner_than_used(site, run):
    file, torch_at_once, at_once, when_used = json.loads(run(IMPORTED))
    assert Path(file).is_relative_to(site)
    assert (torch_at_once, at_once, when_used) == (False, [], [])


IMPORT = """
import importlib
errors = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception as error:
        errors[name] = f"{type(error).__name__}: {error}"
print(json.dumps(errors))
"""
EXTRAS = ("experiments", "report")
COMPANION = ("experiments", "trials", "benchmarks", "report", "plot.schematic")  # these modules may need extras


def modules(site: Path) -> list[str]:
    paths = [path.relative_to(site).with_suffix("") for path in sorted(site.glob("gdlayer/**/*.py"))]
    return [".".join(path.parts).removesuffix(".__init__") for path in paths]


def test_extras_are_left_out_as_if_they_were_not_installed(metadata):
    missing = {extras: set(foreign_modules(metadata, extras)) for extras in [(), ("experiments",), EXTRAS]}
    assert {"PIL", "matplotlib", "pandas", "pooch", "scipy", "tqdm", "pytest"} <= missing[()]
    assert not {"torch", "numpy", "gdlayer"} & missing[()]
    assert {"matplotlib", "pandas"} <= missing["experiments",]
    assert not {"PIL", "pooch", "scipy", "torchmetrics", "tqdm"} & missing["experiments",]
    assert not {"PIL", "matplotlib", "pandas", "pooch", "scipy", "tqdm"} & missing[EXTRAS]


def test_every_module_imports_outside_a_checkout(site, run):
    assert len(modules(site)) > 60
    assert json.loads(run(IMPORT, *modules(site), extras=EXTRAS)) == {}


@pytest.mark.parametrize("extras", [(), ("experiments",), ("report",)], ids=["none", "experiments", "report"])
def test_a_module_without_its_extra_fails_in_one_line_that_names_it(site, run, extras):
    errors = json.loads(run(IMPORT, *modules(site), extras=extras))
    names = "|".join(name for name in EXTRAS if name not in extras)
    message = re.compile(rf"MissingExtraError: \w+ is not installed: pip install 'gdlayer\[({names})\]'")
    assert {name: error for name, error in errors.items() if not message.fullmatch(error)} == {}
    assert [name for name in errors if not name.removeprefix("gdlayer.").startswith(COMPANION)] == []
    assert ("gdlayer.plot.schematic" in errors) == ("report" not in extras)


COMMAND = """
import runpy
del sys.argv[0]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def test_a_cell_can_be_run_outside_a_checkout(run):
    command = "gdlayer.experiments cell table1 --layer ours --n-train 1000 --profile smoke --threads 1"
    printed = run(COMMAND, *command.split(), extras=["experiments"])
    assert re.search(r"^  paper +test accuracy \d\d\.\d %$", printed, re.MULTILINE), printed
    assert re.search(r"^  run now, seed 0 +test accuracy \d+\.\d\d %", printed, re.MULTILINE), printed


@pytest.mark.parametrize(
    ("command", "extras", "named"),
    [
        ("gdlayer.experiments run table1 --layer ours --n-train 200 --profile smoke", (), "experiments"),
        ("gdlayer.report table1 --profile smoke", (), "report"),
    ],
    ids=["run", "report"],
)
def test_a_command_without_its_extra_fails_in_one_line_that_names_it(execute, command, extras, named):
    done = execute(COMMAND, *command.split(), extras=extras)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"error: \w+ is not installed: pip install 'gdlayer\[{named}\]'\n", done.stderr), done.stderr


# --- README's example ----------------------------------------------------------------------------------------------


def test_example_of_the_readme_trains_the_layer_on_the_embedded_sample(run):
    blocks = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    [example] = [block for block in blocks if "fashion-mnist-sample" in block]
    lines = [line for line in example.splitlines() if line and not line.startswith(("import ", "from "))]
    assert len(lines) <= 10
    printed = run(example)
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
        timeout=600,
    )
    result = json.loads(done.stdout)
    assert [(entry["rule"], entry["message"]) for entry in result["generalDiagnostics"]] == []
    assert result["summary"]["filesAnalyzed"] == 1
