"""Executes a chapter with papermill: ``execute_chapter.py IN OUT name=value ...``. OUT appears if all went well."""

import os
import sys
from pathlib import Path

import papermill


def main(source: str, target: str, *assignments: str) -> None:
    parameters = dict(assignment.split("=", 1) for assignment in assignments)
    if unknown := parameters.keys() - papermill.inspect_notebook(source).keys():
        sys.exit(f"error: {source} has no parameter {', '.join(sorted(unknown))}")
    part = Path(target).with_suffix(".part.ipynb")
    part.parent.mkdir(parents=True, exist_ok=True)
    papermill.execute_notebook(
        source,
        str(part),
        parameters,
        cwd=str(Path(source).parent),
        kernel_name="python3",
        progress_bar=False,
        extra_arguments=["--log-level=CRITICAL"],
    )
    os.replace(part, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
