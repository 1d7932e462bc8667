"""Command line of the benchmark: ``python -m gdlayer.benchmarks --help``."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

from gdlayer._plumbing.extras import MissingExtraError
from gdlayer.benchmarks.measurements import Row, describe, read, write
from gdlayer.benchmarks.parts import PARTS, Job
from gdlayer.trials.progress import duration_in_words
from gdlayer.trials.provenance import provenance, repository
from gdlayer.trials.record import ResultsError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark, writes each row as soon as it is measured, and prints all tables, the goals last."""
    options = parse(arguments)
    try:
        _run(options)
    except (ResultsError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what was measured until now is kept", file=sys.stderr)
        return 130
    return 0


def _run(options: argparse.Namespace) -> None:
    if options.threads < 1:
        raise ValueError(f"threads is {options.threads}, allowed are integers from 1 on")
    if options.effort < 0:
        raise ValueError(f"effort is {options.effort}, allowed are numbers from 0 on")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is 'cuda', but torch finds no GPU; allowed is cpu")
    torch.set_num_threads(options.threads)
    path = options.results / f"{options.device}.json"
    measure([part for part in PARTS if part in (options.only or PARTS)], path, options)
    print(f"\n{_tables(path)}")


def _tables(path: Path) -> str:
    try:
        from gdlayer.benchmarks import report
    except MissingExtraError as error:
        return f"{path} is written, but its tables cannot be shown: {error}"
    root = repository()
    return report.as_text(path, root and root / "data" / "bench" / path.name)


def measure(parts: Sequence[str], path: Path, options: argparse.Namespace) -> None:
    """Runs the jobs of some parts; their rows replace those of the same parts in the record at ``path``."""
    made = provenance(options.device, options.threads) | {"load": round(os.getloadavg()[0], 2)}
    record = read(path) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    jobs = [(part, job) for part in parts for job in PARTS[part]()]
    start = time.perf_counter()
    for done, (part, job) in enumerate(jobs, 1):
        began = time.perf_counter()
        if done == 1 or jobs[done - 2][0] != part:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            record[part] = {"made": {**made, "started": now, "seconds": 0.0}, "rows": []}
        rows = job.run(options.device, options.effort)
        record[part]["rows"] += rows
        record[part]["made"]["seconds"] = round(record[part]["made"]["seconds"] + time.perf_counter() - began, 1)
        write(record, path)
        left = time_left(jobs, done, time.perf_counter() - start)
        print(
            f"[{done}/{len(jobs)}] {part} {job.name}: {_in_short(rows)}; about {duration_in_words(left)} left",
            flush=True,
        )


def time_left(jobs: Sequence[tuple[str, Job]], done: int, elapsed: float) -> float:
    """Seconds that the other jobs will take: the usual times, scaled by how slow this machine has been so far."""
    known = [job.seconds for _, job in jobs]
    return sum(known[done:]) * elapsed / sum(known[:done])


def _in_short(rows: Sequence[Row]) -> str:
    ratios = [f"{describe(row)} {row['ratio']:.2f}" for row in rows if "ratio" in row]
    ratios += [f"{row['layer']} not at hand" for row in rows if "unavailable" in row]
    return ", ".join(ratios) or "done"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(prog="python -m gdlayer.benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, default=Path("results/bench"), help="folder of the record")
    parser.add_argument("--effort", type=float, default=1.0, help="factor to the time each job takes")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
