"""State dicts of layers whose parameters mean something only to their own layer."""

from typing import Any

from torch import nn


class OwnState(nn.Module):
    """A layer that computes its filters, so its parameters are its own and none is a ``weight``."""

    once_weight: str | None = None
    """The parameter that older state dicts call ``weight``; they are loaded too."""

    def up_to_date(self, state_dict: dict[str, Any], prefix: str = "") -> None:
        """Gives the entries of this layer, which start with ``prefix``, their present form, in place."""
        if self.once_weight is not None and f"{prefix}weight" in state_dict:
            state_dict.setdefault(f"{prefix}{self.once_weight}", state_dict.pop(f"{prefix}weight"))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """As torch has it, for older state dicts too."""
        self.up_to_date(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
