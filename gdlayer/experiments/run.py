"""From a trial to its record."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gdlayer.experiments.record import check_current, peak_memory_bytes, provenance, read_record, reserve
from gdlayer.experiments.training import Run
from gdlayer.experiments.trial import Trial, hyperparameters


@dataclass(frozen=True)
class Outcome:
    """What an experiment gives back: the network as it ended, the training run, and what it was measured on."""

    model: nn.Module
    run: Run
    metrics: dict[str, float]
    data: dict[str, Any]
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Workplace:
    """Where a trial runs: its device, the folder of all records, and the place of its own files."""

    device: torch.device
    results: Path
    record: Path

    @property
    def checkpoint(self) -> Path:
        return self.record.with_name(f".{self.record.stem}.checkpoint")


def run(trial: Trial, results: Path, *, device: str = "cpu", force: bool = False) -> dict[str, Any]:
    """Runs a trial and writes its record; a finished record is returned as it is.

    Parameters
    ----------
    trial : Trial
    results : path
        The record goes to ``trial.record_path(results)``; a checkpoint lies beside it while the trial runs.
    device : "cpu" or "cuda"
    force : bool
        Run even if the record exists, and replace it when done.

    Raises
    ------
    gdlayer.experiments.record.ResultsError
        If the record cannot be written, or exists with other hyper-parameters.
    gdlayer.datasets.DataError
        If the data cannot be had.
    """
    settings = hyperparameters(trial)
    path = trial.record_path(results)
    if not force and (finished := read_record(path)):
        check_current(finished, settings, path)
        return finished
    with reserve(path) as place:
        if not force and (finished := read_record(path)):  # by the process that held the place until now
            return finished
        started = datetime.now(UTC)
        workplace = Workplace(torch.device(device), results, path)
        outcome = import_module(f"gdlayer.experiments.{trial.table}").conduct(trial, settings, workplace)
        record = {
            "trial": trial.describe(),
            "hyperparameters": settings,
            "metrics": outcome.metrics,
            "curve": outcome.run.curve,
            "parameters": sum(p.numel() for p in outcome.model.parameters() if p.requires_grad),
            **outcome.details,
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(outcome.run.seconds, 3),
            "peak_memory_bytes": peak_memory_bytes(device),
            "data": outcome.data,
            **provenance(device, torch.get_num_threads()),
        }
        place.write(record)
        workplace.checkpoint.unlink(missing_ok=True)
    return record
