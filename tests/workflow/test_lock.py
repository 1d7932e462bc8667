"""The lock files: what goes into which, and that pip is bound to their hashes."""

import re
import tomllib
from pathlib import Path

import lock
import pytest

ROOT = Path(lock.__file__).parents[1]
FILES = ("requirements.lock", "requirements-cpu.lock", "requirements-cuda.lock")
ON_DEMAND = tuple(f"requirements-{extra}.lock" for extra in lock.EXTRAS)
COMPILED = """\
cuda-toolkit==1.0 ; sys_platform == 'linux' \\
    --hash=sha256:aa
cudavision==1.0 \\
    --hash=sha256:bb \\
    --hash=sha256:cc
nvidia-cublas==1.0 \\
    --hash=sha256:dd
torch==2.0 \\
    --hash=sha256:ee
triton==1.0 \\
    --hash=sha256:ff
"""


def test_cuda_libraries_have_a_file_of_their_own():
    files = lock.split(COMPILED)
    assert tuple(files) == FILES
    names = {file: re.findall(r"^([\w-]+)==", content, re.MULTILINE) for file, content in files.items()}
    assert names == dict(
        zip(FILES, (["cudavision", "torch"], ["torch"], ["cuda-toolkit", "nvidia-cublas", "triton"]), strict=True)
    )
    for content in files.values():
        assert content.startswith("# ")
        assert content.endswith("\n")
    assert "".join(files[name].split("\n", 1)[1] for name in (FILES[0], FILES[2])).count("--hash") == 6


def test_what_is_installed_on_demand_is_locked_apart():
    """To the versions that all else has."""
    assert lock.pins(COMPILED).splitlines()[1:3] == ["cudavision==1.0", "nvidia-cublas==1.0"]
    own = COMPILED.replace("cudavision", "jupyterlab")
    assert re.findall(r"^([\w-]+)==", lock.rest("lab", own, COMPILED), re.MULTILINE) == ["jupyterlab"]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    base = {lock.name_of(package) for package in lock.packages_of((ROOT / FILES[0]).read_text("utf-8"))}
    for extra, file in zip(lock.EXTRAS, ON_DEMAND, strict=True):
        names = {lock.name_of(package) for package in lock.packages_of((ROOT / file).read_text("utf-8"))}
        assert {re.split("[=><]", requirement)[0] for requirement in extras[extra]} <= names
        assert not names & base


@pytest.mark.parametrize("file", FILES + ON_DEMAND)
def test_every_package_is_pinned_and_hashed(file):
    _, *packages = re.split(r"^(?=[a-z])", (ROOT / file).read_text("utf-8"), flags=re.MULTILINE)
    assert packages
    for package in packages:
        assert re.match(r"[a-z0-9-]+==[\w.+]+( ; [^\\]+)? (\\\n    --hash=sha256:[0-9a-f]{64} ?)+\n$", package), package


def test_the_pins_are_of_one_torch():
    pins = [re.findall(r"^torch==(.*?) ", (ROOT / file).read_text("utf-8"), re.MULTILINE) for file in FILES]
    assert pins == [[lock.TORCH], [f"{lock.TORCH}+cpu"], []]


def test_make_installs_by_hash():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert "LOCKED := $(PIP) --no-deps --require-hashes\n" in makefile
    assert sorted(re.findall(r"\$\(LOCKED\) -r (\S+)", makefile)) == sorted(["$<", *FILES])
    for extra in lock.EXTRAS:
        assert f"$(VENV)/.{extra}" in makefile
