"""State dicts of layers whose parameters mean something only to layers like them."""

import json
from typing import Any

import torch
from torch import Tensor, nn


class OwnState(nn.Module):
    """A layer that computes its filters from parameters of its own, and says in its state dict what they mean.

    A state dict holds as ``_extra_state`` what shapes do not tell, such as the size of the window or the bounds of
    sigma: :meth:`meaning` as JSON, a character a number. It is a tensor of finite float32, because not every device,
    file format and training loop takes anything else.
    """

    once_weight: str | None = None
    """The parameter that older state dicts call ``weight``; they are loaded too."""
    mixing: tuple[str, ...] = ()
    """Names of the parameters that weight kernels."""
    shaping: tuple[str, ...] = ()
    """Names of the parameters that shape kernels, in pixels or radians or logarithms of them."""

    def meaning(self) -> dict[str, Any]:
        """What gives the numbers in the state dict their meaning, of types that JSON has."""
        raise NotImplementedError

    def get_extra_state(self) -> Tensor:
        """:meth:`meaning` for the state dict."""
        return written(self.meaning())

    def set_extra_state(self, state: Any) -> None:
        """Compares the meaning of a state dict that is loaded with that of the layer.

        Raises
        ------
        RuntimeError
            If they differ, or ``state`` is none. Characters may be off by less than a half, as in half precision.
        """
        ours = json.loads(json.dumps(self.meaning()))
        try:
            theirs = json.loads(bytes(map(round, state.tolist())))
        except (AttributeError, RuntimeError, TypeError, ValueError, OverflowError):
            theirs = None
        if not isinstance(theirs, dict):
            raise RuntimeError(f"it must be that of a {type(self).__name__}, got {state!r}")
        if other := [name for name in ours if theirs.get(name) != ours[name]]:
            raise RuntimeError(
                "; ".join(
                    f"{name} must be {ours[name]!r}, that of the layer, got {theirs.get(name)!r}" for name in other
                )
            )

    def up_to_date(self, state_dict: dict[str, Any], prefix: str = "") -> None:
        """Gives the entries of this layer, which start with ``prefix``, their present form, in place."""
        if self.once_weight is not None and f"{prefix}weight" in state_dict:
            state_dict.setdefault(f"{prefix}{self.once_weight}", state_dict.pop(f"{prefix}weight"))
        state_dict.setdefault(f"{prefix}_extra_state", self.get_extra_state())

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """As torch has it, for older state dicts too; that it is of another layer is an error as a wrong shape is."""
        self.up_to_date(state_dict, prefix)
        try:
            super()._load_from_state_dict(
                state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
            )
        except RuntimeError as error:
            error_msgs.append(f"{prefix}_extra_state: {error}")


def written(meaning: dict[str, Any]) -> Tensor:
    """The JSON of ``meaning``, a character a number."""
    return torch.tensor(list(json.dumps(meaning).encode()), dtype=torch.float32, device="cpu")
