"""Caches where HOME cannot be written, as in a container that runs as an unknown user."""

import os
import tempfile
from pathlib import Path

PLACES = {
    "XDG_CACHE_HOME": "~/.cache",
    "XDG_CONFIG_HOME": "~/.config",
    "XDG_DATA_HOME": "~/.local/share",
    "IPYTHONDIR": "~/.ipython",
    "JUPYTER_CONFIG_DIR": "~/.jupyter",
}
"""Where Snakemake, Matplotlib, Jupyter and IPython keep their files: {variable: place unless it is set}."""


def provide_caches(fallback: Path) -> str:
    """Lets this process and those that it starts use ``fallback`` for each place that they cannot write.

    Returns a note that says so in a line, or "".

    Raises
    ------
    OSError
        If the fallback cannot be written either.
    """
    refused = {}
    for variable, place in PLACES.items():
        folder = Path(os.environ.get(variable) or place).expanduser()
        if not is_writable(folder):
            refused[variable] = folder
            instead = fallback.resolve() / place.removeprefix("~/")
            instead.mkdir(parents=True, exist_ok=True)
            os.environ[variable] = str(instead)
    told = ", ".join(map(str, refused.values()))
    return f"{told} cannot be written: caches go to {fallback.resolve()}" if refused else ""


def is_writable(folder: Path) -> bool:
    """Whether files can be made in a folder; makes it if it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder.is_absolute()
    except OSError:
        return False
