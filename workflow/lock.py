"""``make lock``: requirements.lock anew from pyproject.toml, by uv in an environment of its own."""

import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

TORCH = "2.13.0"
HEADER = """\
# Every package this project runs with, at its exact version. Made by `make lock`; do not edit.
# torch's own CUDA packages (Linux, default index) are left out: torch pins them itself, and the CPU build needs none.
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        venv.create(scratch, with_pip=True)
        subprocess.run([f"{scratch}/bin/pip", "install", "--quiet", "uv"], check=True)
        constraint, compiled = Path(scratch, "constraint.txt"), Path(scratch, "lock.txt")
        constraint.write_text(f"torch=={TORCH}\n", encoding="utf-8")
        command = [f"{scratch}/bin/uv", "pip", "compile", "pyproject.toml", "--extra", "dev", "--universal", "--quiet"]
        command += ["--python-version", "3.11", "--no-annotate", "--no-header", "--output-file", str(compiled)]
        subprocess.run([*command, "--constraint", str(constraint)], check=True)
        pins = [
            line
            for line in compiled.read_text(encoding="utf-8").splitlines()
            if not re.match(r"(nvidia-|cuda-|triton)", line)
        ]
    Path("requirements.lock").write_text(HEADER + "\n".join(pins) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
