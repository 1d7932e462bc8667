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
CPU_BUILD = "sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"
"""torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl of PyTorch's own index."""
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
        + f"torch=={TORCH}+cpu \\\n    --hash={CPU_BUILD}\n",
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
