"""Writes a table's CSV: ``python -m gdlayer.report table1 --profile paper --results data/results``."""

import argparse
import sys
from pathlib import Path

from gdlayer._plumbing.extras import MissingExtraError
from gdlayer.trials.files import FolderError
from gdlayer.trials.record import ResultsError, load_records, recorded_datasets
from gdlayer.trials.registry import experiments


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m gdlayer.report", description=__doc__)
    parser.add_argument("experiment", choices=experiments())
    parser.add_argument("--profile", required=True)
    parser.add_argument("--datasets", nargs="+", help="default: all that have records")
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args()
    try:
        from gdlayer.report.cells import summarise, write_csv

        datasets = options.datasets or recorded_datasets(options.results, options.profile, options.experiment)
        if not datasets:
            raise ResultsError(f"{options.results} has no {options.experiment} of profile {options.profile!r}")
        records = load_records(options.results, options.profile, options.experiment, datasets)
        path = options.results / options.profile / f"{options.experiment}.csv"
        write_csv(summarise(records, experiments()[options.experiment]), path)
    except (FolderError, MissingExtraError, ResultsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
