"""Kills ``make reproduce`` over and over and counts what it loses: ``python tests/soak.py --kills 200``.

The kills hit a copy of the repository, profile ``smoke``. Half of them fall within 2 s of a new record, the others at
any moment; half hit the scheduler alone, whose trials run on, the others every process. A run that comes to its end is
checked, and all begins anew. Needs Linux.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import nbformat
import pandas as pd

from gdlayer.report.cells import summarise, write_csv
from gdlayer.trials.plan import asked_by
from gdlayer.trials.record import ResultsError, load_records, read_record, recorded_datasets
from gdlayer.trials.registry import experiments

ROOT = Path(__file__).parents[1]
COPIED = ("gdlayer", "workflow", "book", "data", "_config.yml", "_toc.yml", "pyproject.toml")
PROFILE = "smoke"
ANY_MOMENT = 30.0
"""Seconds from the start within which a kill falls that waits for no record."""
AFTER_RECORD = 2.0
PHASES = {
    "build_book.py": "book",
    "execute_chapter.py": "chapters",
    "gdlayer.report": "tables",
    "experiments": "trials",
}


class Victim:
    """A copy of the repository in which ``make reproduce`` runs, and what stood finished there when it was killed."""

    def __init__(self, folder: Path) -> None:
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.pt"))
            else:
                shutil.copy(source, folder)
        self.folder = folder
        self.results = folder / "results"
        self.log = folder / "log.txt"
        self.sessions: list[int] = []
        self.stood: dict[Path, str] = {}

    def start(self) -> subprocess.Popen[bytes]:
        offline = {"GDLAYER_DATA": "", "GDLAYER_OFFLINE": "1", "PYTHONPATH": str(self.folder)}
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "workflow/reproduce.py", "--profile", PROFILE, "--cores", "2"],
                cwd=self.folder,
                env=os.environ | offline,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.sessions.append(process.pid)
        return process

    def running(self, *sessions: int) -> dict[int, str]:
        """The processes of these sessions: id and command."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    session = int((entry / "stat").read_text().rpartition(")")[2].split()[3])
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                except OSError:
                    continue  # it has ended
                if session in sessions and command:
                    found[int(entry.name)] = command
        return found

    def records(self) -> dict[Path, str]:
        """The records that are there, with the hash of their content."""
        return {
            path: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.results.glob(f"{PROFILE}/*/*/*.json")
            if not path.name.startswith(".")
        }

    def damage(self) -> Counter[str]:
        """What has become of the records that stood at the last kill, and of new ones."""
        present = self.records()
        found: Counter[str] = Counter()
        for path, digest in self.stood.items():
            if path not in present:
                found["lost"] += 1
            elif present[path] != digest:
                found["changed"] += 1
        for path in present:
            try:
                read_record(path)
            except ResultsError:
                found["half-written"] += 1
        return found

    def faults_of_the_whole(self) -> list[str]:
        """What is wrong with a run that came to its end: tables, chapters, book, leftovers."""
        deadline = time.monotonic() + 300
        while self.running(*self.sessions) and time.monotonic() < deadline:  # trials of a scheduler that was killed
            time.sleep(0.2)
        faults = [f"still runs: {command}" for command in self.running(*self.sessions).values()]
        names = [name for name in experiments() if name in asked_by(PROFILE)]
        for name in names:
            datasets = recorded_datasets(self.results, PROFILE, name)
            anew = self.folder / f"{name}.csv"
            write_csv(summarise(load_records(self.results, PROFILE, name, datasets), experiments()[name]), anew)
            if anew.read_bytes() != (self.results / PROFILE / anew.name).read_bytes():
                faults.append(f"{anew.name} is not the table of its records")
        build = self.folder / "_build" / PROFILE
        for name in (*names, "overview"):
            cells = nbformat.read(build / "chapters" / f"{name}.ipynb", 4).cells
            if not all(cell.execution_count for cell in cells if cell.cell_type == "code"):
                faults.append(f"chapter {name} is executed in part")
        if not (build / "html" / "index.html").exists():
            faults.append("there is no book")
        hidden = [path for folder in (self.results, build) for path in folder.rglob(".*")]
        # the empty lock file of a killed trial can stay: it locks nothing
        left = [path for path in hidden if path.name != ".buildinfo" and path.suffix != ".lock"]
        return faults + [f"left behind: {path.relative_to(self.folder)}" for path in left]

    def clear(self) -> None:
        for folder in (self.results, self.folder / "_build", self.folder / ".snakemake"):
            shutil.rmtree(folder, ignore_errors=True)
        self.stood = {}

    def end(self) -> None:
        for pid in self.running(*self.sessions):
            os.kill(pid, signal.SIGKILL)


def attack(victim: Victim, rng: random.Random, share_at_records: float) -> dict[str, object] | None:
    """One run and its kill: the phase, whom it hit, how many records stood and what has become of those before.

    None if the run came to its end first.

    Raises
    ------
    RuntimeError
        If the run failed by itself, or ended whole but with faults.
    """
    before = victim.records().keys()
    process = victim.start()
    at_record = rng.random() < share_at_records
    moment = time.monotonic() + rng.uniform(0, ANY_MOMENT)
    while process.poll() is None:
        if at_record and victim.records().keys() - before - victim.stood.keys():
            time.sleep(rng.uniform(0, AFTER_RECORD))
            break
        if not at_record and time.monotonic() > moment:
            break
        time.sleep(0.02)
    if process.poll() is not None:
        faults = victim.faults_of_the_whole() if process.returncode == 0 else [f"ended with {process.returncode}"]
        if faults:
            raise RuntimeError("\n".join((*faults, victim.log.read_text(errors="replace"))))
        return None
    commands = victim.running(process.pid)
    phase = next((name for word, name in PHASES.items() if any(word in c for c in commands.values())), "no job")
    alone = rng.random() < 0.5
    for pid, command in commands.items():
        if not alone or "snakemake --snakefile" in command or "workflow/reproduce.py" in command:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it has ended meanwhile
    process.wait()
    damage = victim.damage()
    victim.stood = victim.records()
    return {
        "moment": f"{phase}, a new record" if at_record else phase,
        "killed": "scheduler" if alone else "everything",
        "records": len(victim.stood),
        "lost": damage["lost"],
        "changed": damage["changed"],
        "half-written": damage["half-written"],
    }


def soak(kills: int, seed: int, share_at_records: float) -> pd.DataFrame:
    """A row a kill."""
    rng = random.Random(seed)
    rows: list[dict[str, object]] = []
    wholes = 0
    with tempfile.TemporaryDirectory(prefix="gdlayer soak ") as scratch:
        victim = Victim(Path(scratch))
        try:
            while len(rows) < kills:
                if row := attack(victim, rng, share_at_records):
                    rows.append(row)
                    print(f"{len(rows)}/{kills}", *(f"{name} {value}" for name, value in row.items()), flush=True)
                else:
                    wholes += 1
                    lost = victim.damage()
                    print(f"run {wholes} came to its end whole; {dict(lost) or 'nothing lost'}", flush=True)
                    if lost:
                        rows[-1] |= lost
                    victim.clear()
        finally:
            victim.end()
    return pd.DataFrame(rows)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-records", type=float, default=0.5, help="share of the kills just after a new record")
    parser.add_argument("--csv", type=Path, help="where to write the table")
    options = parser.parse_args(arguments)
    rows = soak(options.kills, options.seed, options.at_records)
    damage = ["lost", "changed", "half-written"]
    sums = ["kills", "records", *damage]
    table = rows.assign(kills=1).pivot_table(index=["moment", "killed"], values=sums, aggfunc="sum")[sums]
    print(table.to_string())
    if options.csv:
        table.to_csv(options.csv, lineterminator="\n")
    worst = int(rows[damage].to_numpy().sum())
    print(f"{len(rows)} kills while {rows['records'].sum()} records stood finished: {worst} lost or damaged")
    return 1 if worst else 0


if __name__ == "__main__":
    sys.exit(main())
