"""The trained network of a trial, kept beside its record on request."""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gdlayer.networks.transfer import load_weights
from gdlayer.trials.files import parse_json
from gdlayer.trials.record import ResultsError, write_beside


def weights_path(record: Path) -> Path:
    """Where the weights of a record's network lie."""
    return record.with_suffix(".weights.pt")


def save_weights(model: nn.Module, path: Path) -> str:
    """Writes the model's state dict, whole or not at all; returns the file's SHA256.

    Raises
    ------
    gdlayer.trials.record.ResultsError
        If the folder cannot be written or the disk is full.
    """
    stream = io.BytesIO()
    torch.save(model.state_dict(), stream)
    write_beside(path, stream.getvalue())
    return hashlib.sha256(stream.getvalue()).hexdigest()


def load_kept(model: nn.Module, record: Path) -> dict[str, Any]:
    """Puts the weights beside a record into its network, as :func:`save_weights` wrote them; returns the record.

    Raises
    ------
    gdlayer.trials.record.ResultsError
        If the record cannot be read or says nothing of weights, or if the weights are others than it says.
    gdlayer.datasets.DataCorruptError
        If they do not fit the network.
    """
    path = weights_path(record)
    try:
        found = parse_json(record.read_text("utf-8"))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError) as error:
        raise ResultsError(f"{record} or the weights beside it cannot be read ({error})") from error
    if digest != found.get("weights_sha256"):
        raise ResultsError(f"{path} is not what {record.name} tells of: it has the SHA256 {digest}")
    load_weights(model, path)
    return found
