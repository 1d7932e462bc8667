"""Builds the book into a folder, warnings being errors: ``build_book.py HTML [--chapters DIR]``.

It is built elsewhere and moved when it is whole and complete without a network; chapters in DIR replace the committed
ones of the same name.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from check_offline import check_offline

ROOT = Path(__file__).parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("html", type=Path)
    parser.add_argument("--chapters", type=Path)
    options = parser.parse_args()
    options.html.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".book-", dir=options.html.parent) as scratch:
        source, output = Path(scratch, "source"), Path(scratch, "output")
        shutil.copytree(ROOT / "book", source / "book", ignore=shutil.ignore_patterns(".*"))
        for name in ("_config.yml", "_toc.yml"):
            shutil.copy(ROOT / name, source)
        if options.chapters:
            shutil.copytree(options.chapters, source / "book", dirs_exist_ok=True)
        built = subprocess.run(
            [
                *(Path(sys.executable).with_name("jupyter-book"), "build", source, "--path-output", output),
                *("-W", "-n", "--keep-going", "-q"),
            ],
            capture_output=True,
            text=True,
        )
        if built.returncode:
            print(built.stdout, built.stderr, "error: the book was not built", sep="\n", file=sys.stderr)
            return 1
        html = output / "_build" / "html"
        faults, *_ = check_offline(html)
        if faults:
            print(*faults, "error: the book is not complete without a network", sep="\n", file=sys.stderr)
            return 1
        shutil.rmtree(options.html, ignore_errors=True)
        html.rename(options.html)
    print(f"the book: {(options.html / 'index.html').resolve()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
