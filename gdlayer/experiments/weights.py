"""The trained network of a trial, kept beside its record on request."""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gdlayer.experiments.record import ResultsError, read_record, write_beside
from gdlayer.networks.transfer import load_weights


def weights_path(record: Path) -> Path:
    """Where the weights of a record's network lie."""
    return record.with_suffix(".weights.pt")


def save_weights(model: nn.Module, path: Path) -> str:
    """Writes the model's state dict, whole or not at all; returns the file's SHA256.

    Raises
    ------
    ResultsError
        If the folder cannot be written or the disk is full.
    """
    stream = io.BytesIO()
    torch.save(model.state_dict(), stream)
    write_beside(path, stream.getvalue())
    return hashlib.sha256(stream.getvalue()).hexdigest()


def load_trained(model: nn.Module, record: Path) -> dict[str, Any]:
    """Puts the weights beside a record into its network, as :func:`save_weights` wrote them; returns the record.

    Raises
    ------
    ResultsError
        If there is no record, or none that was made with ``keep_weights``, or the weights are not those of it.
    gdlayer.datasets.DataCorruptError
        If they are of another network.
    """
    found, path = read_record(record), weights_path(record)
    if found is None or "weights_sha256" not in found:
        raise ResultsError(f"{record} is no record with weights: experiments run --keep-weights makes one")
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ResultsError(f"{path} cannot be read: {error.strerror}") from error
    if digest != found["weights_sha256"]:
        raise ResultsError(f"{path} is not what {record.name} was made with: its SHA256 is {digest}")
    load_weights(model, path)
    return found
