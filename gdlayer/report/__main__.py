"""Writes a table's CSV: ``python -m gdlayer.report table1 --profile quick --dataset fashion-mnist``."""

import argparse
import sys
from pathlib import Path

from gdlayer.experiments.record import ResultsError
from gdlayer.report.records import load_records
from gdlayer.report.table1 import summarise, write_csv


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m gdlayer.report", description=__doc__)
    parser.add_argument("experiment", choices=("table1",))
    parser.add_argument("--profile", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args()
    try:
        records = load_records(options.results, options.profile, options.experiment, options.dataset)
        write_csv(summarise(records), options.results / options.profile / f"{options.experiment}-{options.dataset}.csv")
    except (ResultsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
