"""What lies between an experiment and the training: what it prepares for one trial, and where that runs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Task:
    """What an experiment prepares for one trial.

    Parameters
    ----------
    model : module, on its device
    images, labels : as :func:`gdlayer.trials.training.train` takes them
    measure : function
        The metrics of the model as it is, on data that it does not train on.
    metrics : names of those that are the trial's outcome
    data : what the record says of the data
    details : what it says besides
    finish : function, optional
        Called after the training: writes what is kept beside the record.
    """

    model: nn.Module
    images: Tensor
    labels: Tensor
    measure: Callable[[], dict[str, float]]
    metrics: tuple[str, ...]
    data: dict[str, Any]
    details: dict[str, Any] = field(default_factory=dict)
    finish: Callable[[], object] | None = None


@dataclass(frozen=True)
class Workplace:
    """Where a trial runs: its device, the folder of all records, and the place of its own."""

    device: torch.device
    results: Path
    record: Path

    @property
    def checkpoint(self) -> Path:
        return self.record.with_name(f".{self.record.stem}.checkpoint")
