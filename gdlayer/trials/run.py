"""From a trial to its record."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from gdlayer.trials.memory import peak_memory_bytes
from gdlayer.trials.provenance import machine_name, provenance
from gdlayer.trials.record import ResultsError, check_current, read_record, reserve
from gdlayer.trials.registry import experiments
from gdlayer.trials.settings import hyperparameters
from gdlayer.trials.task import Workplace
from gdlayer.trials.training import Recipe, train
from gdlayer.trials.trial import Search, Trial
from gdlayer.trials.weights import save_weights, weights_path


def run(
    trial: Trial,
    results: Path,
    *,
    device: str = "cpu",
    force: bool = False,
    keep_weights: bool = False,
    told: Callable[[int, int], object] | None = None,
) -> dict[str, Any]:
    """Runs a trial and writes its record; a finished record is returned as it is.

    Parameters
    ----------
    trial : Trial
    results : path
        The record goes to ``trial.record_path(results)``; a checkpoint lies beside it while the trial runs.
    device : "cpu" or "cuda"
    force : bool
        Run even if the record exists, and replace it when done.
    keep_weights : bool
        Write the trained network beside the record (:func:`~gdlayer.trials.weights.load_kept`).
    told : function, optional
        As for :func:`gdlayer.trials.training.train`.

    Raises
    ------
    gdlayer.trials.record.ResultsError
        If the record cannot be written, or exists with other hyper-parameters or without weights that are to be kept,
        or if its block is of another machine.
    gdlayer.datasets.DataError
        If the data cannot be had.
    """
    settings = hyperparameters(trial)
    path = trial.record_path(results)
    if not force and (finished := read_record(path)):
        check_current(finished, settings, path)
        if keep_weights and not weights_path(path).exists():
            raise ResultsError(f"{path} was made without keeping the weights; --force makes both anew")
        return finished
    check_block(trial, results, machine_name(device))
    with reserve(path) as place:
        if not force and (finished := read_record(path)):  # by the process that held the place until now
            return finished
        workplace = Workplace(torch.device(device), results, path)
        record = conduct(trial, settings, workplace, keep_weights, told)
        place.write(record)
        workplace.checkpoint.unlink(missing_ok=True)
    return record


def check_block(trial: Trial, results: Path, machine: str) -> None:
    """Compares the machine with that of the block: the records of all layers of the same cell and seed.

    Layers are compared within blocks, and models of CPU round differently. A search compares the rates of one layer,
    which are much further apart than that.

    Raises
    ------
    gdlayer.trials.record.ResultsError
        If a record of the block was made on another machine.
    """
    for layer in () if isinstance(trial, Search) else trial.layers:
        path = replace(trial, layer=layer).record_path(results)
        record = read_record(path) if layer != trial.layer else None
        made_on = record["machine"]["name"] if record else machine
        if made_on != machine:
            raise ResultsError(
                f"{path} was made on {made_on}, this is {machine}: all layers of a cell and seed must run on one model;"
                " finish them there, or move that record away"
            )


def conduct(
    trial: Trial,
    settings: dict[str, Any],
    workplace: Workplace,
    keep_weights: bool = False,
    told: Callable[[int, int], object] | None = None,
) -> dict[str, Any]:
    """Trains what the trial's experiment prepares, and makes the record."""
    started = datetime.now(UTC)
    task = experiments()[trial.belongs_to].prepare(trial, settings, workplace)
    training = train(
        task.model,
        task.images,
        task.labels,
        task.measure,
        Recipe.of(settings, trial.seed),
        checkpoint=workplace.checkpoint,
        settings=settings,
        told=told,
    )
    if task.finish is not None:
        task.finish()
    kept = {"weights_sha256": save_weights(task.model, weights_path(workplace.record))} if keep_weights else {}
    return {
        "trial": trial.describe(),
        "hyperparameters": settings,
        "metrics": {name: training.curve[-1][name] for name in task.metrics},
        "curve": training.curve,
        "parameters": sum(p.numel() for p in task.model.parameters() if p.requires_grad),
        **task.details,
        **kept,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(training.seconds, 3),
        "peak_memory_bytes": peak_memory_bytes(workplace.device.type),
        "data": task.data,
        **provenance(workplace.device.type, torch.get_num_threads()),
    }
