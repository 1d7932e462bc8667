"""``make lock``: the lock files anew from pyproject.toml, with hashes, by uv in an environment of its own.

``requirements.lock`` is every package but the libraries that PyPI's torch for Linux needs, which are
``requirements-cuda.lock``. ``requirements-cpu.lock`` is torch's CPU build, which needs none: a file of its own, since
pip takes PyPI's build where one requirement allows both. What only some commands need besides is in a file for each of
``EXTRAS``.
"""

import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

TORCH = "2.13.0"
CPU_BUILDS = {
    "cp311-cp311-manylinux_2_28_aarch64": "84453b69508ec79902f899c5ed9495acb9e2bbe9fda5f1d5d6f19e3c3842e1a7",
    "cp311-cp311-manylinux_2_28_x86_64": "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",
    "cp312-cp312-manylinux_2_28_aarch64": "6f307c2c32d764ffc6ff6893b801fad6d4752f3e67966cb8abf1843427c02604",
    "cp312-cp312-manylinux_2_28_x86_64": "4ca4a9394b0c771238a4f73590fdbbc4debad85ed0fa63d026ae1b085da7d6e2",
    "cp313-cp313-manylinux_2_28_aarch64": "0b8f7d0423027ae8b90c7977c627f3379f325363a08224dffad9b4b2d684a83d",
    "cp313-cp313-manylinux_2_28_x86_64": "3fbf9c9d1f3c10c2d59d04aca426dee9ccc6ceb32d255c61e93acc3b4f75fae6",
    "cp314-cp314-manylinux_2_28_aarch64": "ca021f9eb2f8345c83fa03e3a04587308afb8df71bd472670b3ece00df58621c",
    "cp314-cp314-manylinux_2_28_x86_64": "d20fa53ee744502fa4c69818a720b05ca0d37abd055d4f6e66cae155114bc691",
}
"""SHA256 of the wheels torch-{TORCH}+cpu-*.whl of PyTorch's own index, which has them for Linux; macOS takes PyPI's."""
EXTRAS = {"cluster": "make reproduce CLUSTER=slurm", "lab": "make lab"}
"""Those of pyproject.toml that are installed on demand, and by which command."""
HEADER = "# {}, at its exact version and with its hashes. Made by `make lock`; do not edit.\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        venv.create(scratch, with_pip=True)
        subprocess.run([f"{scratch}/bin/pip", "install", "--quiet", "uv"], check=True)
        constraint = Path(scratch, "constraint.txt")
        constraint.write_text(f"torch=={TORCH}\n", encoding="utf-8")
        compiled = compile_extra("dev", constraint, Path(scratch))
        constraint.write_text(pins(compiled), encoding="utf-8")
        extras = {name: compile_extra(name, constraint, Path(scratch)) for name in EXTRAS}
    files = split(compiled) | {f"requirements-{name}.lock": rest(name, extras[name], compiled) for name in EXTRAS}
    for name, content in files.items():
        Path(name).write_text(content, encoding="utf-8")


def compile_extra(extra: str, constraint: Path, scratch: Path) -> str:
    target = scratch / f"{extra}.txt"
    command = [f"{scratch}/bin/uv", "pip", "compile", "pyproject.toml", "--extra", extra, "--universal", "--quiet"]
    command += ["--python-version", "3.11", "--no-annotate", "--no-header", "--output-file", str(target)]
    subprocess.run([*command, "--generate-hashes", "--constraint", str(constraint)], check=True)
    return target.read_text(encoding="utf-8")


def split(compiled: str) -> dict[str, str]:
    """The lock files of what uv wrote: name and content."""
    packages = packages_of(compiled)
    cuda = [package for package in packages if re.match(r"(nvidia|cuda)-|triton=", package)]
    others = [package for package in packages if package not in cuda]
    return {
        "requirements.lock": HEADER.format("Every package this project runs with") + "".join(others),
        "requirements-cpu.lock": HEADER.format("torch's CPU build")
        + " \\\n    ".join([f"torch=={TORCH}+cpu", *(f"--hash=sha256:{digest}" for digest in CPU_BUILDS.values())])
        + "\n",
        "requirements-cuda.lock": HEADER.format("What torch's CUDA build for Linux needs besides") + "".join(cuda),
    }


def rest(extra: str, compiled: str, others: str) -> str:
    """The lock file of an extra: the packages that ``others`` has not."""
    known = {name_of(package) for package in packages_of(others)}
    own = [package for package in packages_of(compiled) if name_of(package) not in known]
    return HEADER.format(f"What `{EXTRAS[extra]}` needs besides") + "".join(own)


def pins(compiled: str) -> str:
    """The same versions without hashes."""
    return "\n".join(package.split("\\")[0].strip() for package in packages_of(compiled))


def packages_of(compiled: str) -> list[str]:
    return re.findall(r"^\S.*\n(?:\s.*\n)*", compiled, re.MULTILINE)


def name_of(package: str) -> str:
    return package.split("==")[0]


if __name__ == "__main__":
    sys.exit(main())
