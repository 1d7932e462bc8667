"""Builds the book into a folder, warnings being errors: ``build_book.py HTML [--chapters DIR]``.

It is built elsewhere and moved when it is whole and complete without a network; chapters in DIR replace the committed
ones of the same name.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import yaml
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
        shutil.copy(ROOT / "_toc.yml", source)
        (source / "_config.yml").write_text(configuration(ROOT), encoding="utf-8")
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


def configuration(root: Path) -> str:
    """``_config.yml``, with the repository's address and buttons if pyproject.toml has its address."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if address := project.get("urls", {}).get("Repository"):
        config["repository"]["url"] = address
        config["html"] |= {"use_repository_button": True, "use_issues_button": True}
    return yaml.safe_dump(config)


if __name__ == "__main__":
    sys.exit(main())
