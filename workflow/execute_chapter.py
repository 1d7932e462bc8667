"""Executes a chapter with papermill: ``execute_chapter.py IN OUT name=value ...``. OUT appears if all went well.

What libraries say on stderr while it runs is passed on, and does not enter the chapter.
"""

import sys
from pathlib import Path

import nbformat
import papermill

from gdlayer.trials.record import ResultsError, write_beside


def main(source: str, target: str, *assignments: str) -> None:
    parameters = dict(assignment.split("=", 1) for assignment in assignments)
    if unknown := parameters.keys() - papermill.inspect_notebook(source).keys():
        sys.exit(f"error: {source} has no parameter {', '.join(sorted(unknown))}")
    executed = papermill.execute_notebook(
        source,
        None,
        parameters,
        cwd=str(Path(source).parent),
        kernel_name="python3",
        progress_bar=False,
        extra_arguments=["--log-level=CRITICAL"],
    )
    take_stderr(executed)
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    write_beside(Path(target), nbformat.writes(executed).encode())


def take_stderr(notebook: nbformat.NotebookNode) -> None:
    """Moves what an executed notebook holds of stderr to that of this process."""
    for cell in notebook.cells:
        told = [output for output in cell.get("outputs", ()) if output.get("name") == "stderr"]
        for output in told:
            cell.outputs.remove(output)
            print(output.text, end="", file=sys.stderr)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (ResultsError, OSError) as error:
        sys.exit(f"error: {error}")
