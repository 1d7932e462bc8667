"""Brings tables, chapters and README up to the committed record: ``python workflow/refresh.py``."""

import re
import sys
from pathlib import Path

import nbformat
from execute_chapter import take_stderr
from nbclient import NotebookClient

from gdlayer.report import PAGES, answers, dots, overview
from gdlayer.report.cells import summarise, write_csv
from gdlayer.trials.record import load_records, recorded_datasets
from gdlayer.trials.registry import experiments

ROOT = Path(__file__).parents[1]
COMMITTED = ROOT / "data" / "results"
CHAPTERS = (
    "evaluation",
    "relatives",
    "howto",
    *experiments(),
    *PAGES,
)
PICTURE = ROOT / "book" / "_static" / "answers.png"
ANSWERS = re.compile(r"(?m)(?:^- \*\*\[.*\]\(book/.*\n)*^- \*\*\[.*\]\(book/.*$")
"""Their list in the README."""
LANGUAGE = {"name": "python", "pygments_lexer": "ipython3"}


def main() -> int:
    for profile in sorted(path.name for path in COMMITTED.iterdir()):
        for name, experiment in experiments().items():
            if datasets := recorded_datasets(COMMITTED, profile, name):
                records = load_records(COMMITTED, profile, name, datasets)
                write_csv(summarise(records, experiment), COMMITTED / profile / f"{name}.csv")
    for name in CHAPTERS:
        execute(ROOT / "book" / f"{name}.ipynb")
        print(name, flush=True)
    front_page()
    return 0


def front_page() -> None:
    """Writes the answers into the README, and draws its picture, which carries in words what it shows."""
    tables = overview.load_all(COMMITTED, "fullest")
    readme = ROOT / "README.md"
    text = readme.read_text("utf-8")
    readme.write_text(ANSWERS.sub(lambda _: answers.markdown(tables), text), "utf-8")
    description = dots.in_words(tables, first=True)
    dots.dot_plot(tables, first=True).savefig(
        PICTURE, dpi=120, facecolor="white", metadata={"Software": None, "Description": description}
    )


def execute(path: Path) -> None:
    """Executes a notebook in its place, whole or not at all, and keeps no trace of when and by which Python."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--log-level=CRITICAL"],
    ).execute()
    take_stderr(notebook)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata.language_info = LANGUAGE
    nbformat.write(notebook, path)


if __name__ == "__main__":
    sys.exit(main())
