"""``make lock``: the lock files anew from pyproject.toml, with hashes, by uv in an environment of its own.

``requirements.lock`` is every package but the libraries that PyPI's torch for Linux needs, which are
``requirements-cuda.lock``. ``requirements-cpu.lock`` is torch's CPU build, which needs none: a file of its own, since
pip takes PyPI's build where one requirement allows both.
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
HEADER = "# {}, at its exact version and with its hashes. Made by `make lock`; do not edit.\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        venv.create(scratch, with_pip=True)
        subprocess.run([f"{scratch}/bin/pip", "install", "--quiet", "uv"], check=True)
        constraint, compiled = Path(scratch, "constraint.txt"), Path(scratch, "lock.txt")
        constraint.write_text(f"torch=={TORCH}\n", encoding="utf-8")
        command = [f"{scratch}/bin/uv", "pip", "compile", "pyproject.toml", "--extra", "dev", "--universal", "--quiet"]
        command += ["--python-version", "3.11", "--no-annotate", "--no-header", "--output-file", str(compiled)]
        subprocess.run([*command, "--generate-hashes", "--constraint", str(constraint)], check=True)
        text = compiled.read_text(encoding="utf-8")
    for name, content in split(text).items():
        Path(name).write_text(content, encoding="utf-8")


def split(compiled: str) -> dict[str, str]:
    """The lock files of what uv wrote: name and content."""
    packages = re.findall(r"^\S.*\n(?:\s.*\n)*", compiled, re.MULTILINE)
    cuda = [package for package in packages if re.match(r"(nvidia|cuda)-|triton=", package)]
    others = [package for package in packages if package not in cuda]
    return {
        "requirements.lock": HEADER.format("Every package this project runs with") + "".join(others),
        "requirements-cpu.lock": HEADER.format("torch's CPU build")
        + f"torch=={TORCH}+cpu \\\n    --hash={CPU_BUILD}\n",
        "requirements-cuda.lock": HEADER.format("What torch's CUDA build for Linux needs besides") + "".join(cuda),
    }


if __name__ == "__main__":
    sys.exit(main())
