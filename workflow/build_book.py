"""Builds the book into a folder, warnings being errors: ``build_book.py HTML [--chapters DIR --run PROFILE]``.

It is built elsewhere and moved when it is whole and complete without a network. Chapters in DIR, of a user's own run,
replace the committed ones of the same name, and every page says whose it is.
"""

import argparse
import errno
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from check_offline import check_offline
from writable import provide_caches

ROOT = Path(__file__).parents[1]
ICONS = re.compile(r'\s*<script defer src="[^"]*/scripts/fontawesome\.js[^"]*"></script>')
YOURS = "This is the book of your own run, profile {}: the numbers of the experiments are yours, beside the record's."
NO_SPACE = os.strerror(errno.ENOSPC)


class BookError(RuntimeError):
    """The book cannot be built."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("html", type=Path)
    parser.add_argument("--chapters", type=Path)
    parser.add_argument("--run", metavar="PROFILE")
    options = parser.parse_args()
    try:
        if note := provide_caches(ROOT / "_build" / "home"):
            print(f"note: {note}", file=sys.stderr)
        with place_beside(options.html) as scratch:
            html = build(scratch, options.chapters, options.run)
            shutil.rmtree(options.html, ignore_errors=True)
            html.rename(options.html)
    except (BookError, OSError) as error:
        # shutil.Error is an OSError that lists what could not be copied
        reason = NO_SPACE if NO_SPACE in str(error) else error
        print(f"error: the book was not built in {options.html.parent.resolve()}: {reason}", file=sys.stderr)
        return 1
    print(f"the book: {(options.html / 'index.html').resolve()}")
    return 0


@contextmanager
def place_beside(html: Path) -> Iterator[Path]:
    """An empty folder to build in; waits while another process builds there, clears up after one that was killed."""
    html.parent.mkdir(parents=True, exist_ok=True)
    scratch = html.with_name(f".{html.name}")
    folder = os.open(html.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(folder)


def build(scratch: Path, chapters: Path | None, run: str | None = None) -> Path:
    """The folder of the finished pages.

    Raises
    ------
    BookError
        If there is a warning or an error, or a page needs a network.
    """
    html = render(scratch, chapters, "html", run)
    lighten(html)
    faults, *_ = check_offline(html)
    if faults:
        raise BookError("\n".join(("it is not complete without a network", *faults)))
    return html


def render(scratch: Path, chapters: Path | None, builder: str, run: str | None = None) -> Path:
    """The folder that one of Sphinx's builders writes: "html", or "singlehtml" for all chapters on one page.

    Raises
    ------
    BookError
        If there is a warning or an error.
    """
    source, output = scratch / "source", scratch / "output"
    shutil.copytree(ROOT / "book", source / "book", ignore=shutil.ignore_patterns(".*"))
    shutil.copy(ROOT / "_toc.yml", source)
    (source / "_config.yml").write_text(configuration(ROOT, run), encoding="utf-8")
    if chapters:
        shutil.copytree(chapters, source / "book", ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)
    built = subprocess.run(
        [
            *(Path(sys.executable).with_name("jupyter-book"), "build", source, "--path-output", output),
            *("--builder", builder, "-W", "-n", "--keep-going", "-q"),
        ],
        capture_output=True,
        text=True,
    )
    if built.returncode:
        raise BookError(f"\n{built.stdout}\n{built.stderr}")
    return output / "_build" / builder


def lighten(html: Path) -> None:
    """Takes out what no page needs: source maps, and a script that draws the icons of the theme's font again."""
    for file in {*html.rglob("*.map"), *html.rglob("fontawesome.js*")}:
        file.unlink()
    for page in html.rglob("*.html"):
        page.write_text(ICONS.sub("", page.read_text(encoding="utf-8")), encoding="utf-8")


def configuration(root: Path, run: str | None = None) -> str:
    """``_config.yml``, with the repository's address and buttons if pyproject.toml has its address.

    The pages of a user's own run, of profile ``run``, say at their head that they are.
    """
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if address := project.get("urls", {}).get("Repository"):
        config["repository"]["url"] = address
        config["html"] |= {"use_repository_button": True, "use_issues_button": True}
    if run is not None:
        config["sphinx"]["config"]["html_theme_options"]["announcement"] = YOURS.format(run)
    return yaml.safe_dump(config)


if __name__ == "__main__":
    sys.exit(main())
