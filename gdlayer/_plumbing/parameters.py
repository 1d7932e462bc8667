"""The parameters behind an attribute: itself, or those from which torch.nn.utils computes it at every call."""

from torch import nn
from torch.nn.utils import parametrize

from gdlayer._plumbing.state import OwnState

IN_PLACE_OF = "{}", "{}_orig", "{}_g", "{}_v"
"""Names of what trains: itself, or by prune and spectral_norm, or by weight_norm."""


def parameters_behind(module: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """What trains as ``name``, by its own name: one parameter, or those of its parametrisation or pruning.

    Parameters of the parametrisation itself are among them. It is empty if the module has no such parameter.
    """
    if parametrize.is_parametrized(module, name):
        path = f"parametrizations.{name}"
        return dict(module.get_submodule(path).named_parameters(prefix=path))
    own = dict(module.named_parameters(recurse=False))
    return {key: own[key] for form in IN_PLACE_OF if (key := form.format(name)) in own}


def check_settable(layer: OwnState, *names: str) -> None:
    """Raises RuntimeError if one of these parameters, or of all, is computed from others: a change would be lost."""
    for name in names or (*layer.shaping, *layer.mixing, "bias"):
        behind = parameters_behind(layer, name)
        if behind and name not in behind:
            raise RuntimeError(
                f"{name} must be a parameter of its own to be set, got one that is computed from {', '.join(behind)}: "
                "set it before, or remove its parametrisation or pruning"
            )
