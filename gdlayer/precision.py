"""Filters are computed in float32 or better, also where autocast is on."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def autocast_on(device: torch.device) -> bool:
    """False for "meta", which torch does not ask."""
    return device.type != "meta" and torch.is_autocast_enabled(device.type)


def autocast_off(device: torch.device) -> AbstractContextManager[Any]:
    """Computes in the precision of the operands."""
    return torch.autocast(device.type, enabled=False) if autocast_on(device) else nullcontext()
