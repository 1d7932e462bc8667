"""For training: parameters in groups by their meaning, and a penalty that keeps kernels in their windows."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gdlayer._plumbing.checks import instance
from gdlayer._plumbing.parameters import parameters_behind
from gdlayer._plumbing.state import OwnState
from gdlayer.basis import rotation
from gdlayer.conv import GaussianDerivativeConv2d

REACH = 2.0
"""Standard deviations on either side that shall fit in the window: sigma up to a quarter of its width."""


def parameter_groups(
    model: nn.Module,
    *,
    geometry: Mapping[str, Any] | None = None,
    mixing: Mapping[str, Any] | None = None,
    other: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups for torch.optim: what shapes the kernels of layers, what weights them, and the rest.

    >>> import torch
    >>> from torch import nn
    >>> from gdlayer import GaussianDerivativeConv2d, parameter_groups
    >>> model = nn.Sequential(GaussianDerivativeConv2d(3, 16, 7), nn.ReLU(), nn.Conv2d(16, 10, 1))
    >>> groups = parameter_groups(model, geometry={"lr": 1e-2})
    >>> optimiser = torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.05)
    >>> [(group["name"], group["lr"], group["weight_decay"]) for group in optimiser.param_groups]
    [('geometry', 0.01, 0.0), ('mixing', 0.001, 0.05), ('other', 0.001, 0.05)]

    Sigma, mu and theta are in pixels and radians, where zero is no better than any other value. So they have no weight
    decay unless ``geometry`` says otherwise; it would pull s, and not sigma, towards zero. The same holds for scales,
    shifts and shears of the layers in ``gdlayer.related``.

    What a parametrisation or pruning of torch.nn.utils puts in the place of a parameter is in the group of that
    parameter.

    Parameters
    ----------
    model : Module
        With Gaussian derivative layers or those of ``gdlayer.related`` at any depth, or none.
    geometry, mixing, other : mapping, optional
        Options of the optimiser for what shapes kernels, as sigma, mu and theta; for the mixing weights; and for all
        other parameters, those of biases and other layers. The optimiser's own arguments hold for what they leave out.

    Returns
    -------
    list of dict
        The groups that are not empty, in this order, named by the key "name". They include frozen parameters, which
        train as soon as they require a gradient.

    Raises
    ------
    ValueError
        If an option is "params" or "name".
    """
    instance("model", model, nn.Module)
    options = {"geometry": {"weight_decay": 0.0, **(geometry or {})}, "mixing": mixing or {}, "other": other or {}}
    for name, given in options.items():
        if taken := {"params", "name"} & given.keys():
            raise ValueError(f"{name} must hold options of the optimiser, got {min(taken)!r}, which is set here")
    role = {
        parameter: role
        for layer in model.modules()
        if isinstance(layer, OwnState)
        for names, role in ((layer.shaping, "geometry"), (layer.mixing, "mixing"))
        for name in names
        for parameter in parameters_behind(layer, name).values()
    }
    members: dict[str, list[nn.Parameter]] = {name: [] for name in options}
    for parameter in model.parameters():
        members[role.get(parameter, "other")].append(parameter)
    return [{"params": parameters, "name": name, **options[name]} for name, parameters in members.items() if parameters]


def window_penalty(model: nn.Module) -> Tensor:
    r"""How far the kernels of all Gaussian derivative layers of a model reach out of their windows.

    >>> from gdlayer import GaussianDerivativeConv2d, window_penalty
    >>> layer = GaussianDerivativeConv2d(3, 16, 7)
    >>> layer.sigma = 4.0  # too wide for seven pixels
    >>> loss = 0.1 * window_penalty(layer)  # is added to the loss of the task
    >>> bool(loss > 0)
    True

    The mean over all kernels of

    .. math::
        & \sum_{a \in \{x, y\}} \max\big(0,\; |c_a| + 2 s_a - k_a / 2\big)^2 \\
        & c = R_\theta^\top \mu, \qquad s_a^2 = (R_\theta^\top \mathrm{diag}(\sigma_1^2, \sigma_2^2) R_\theta)_{aa}

    so a kernel is penalised as far as its centre c plus two standard deviations lie outside a window :math:`k_x` wide
    and :math:`k_y` high. A centred kernel has no penalty while sigma is below a quarter of the window. Add a multiple
    of it to the loss.

    Returns
    -------
    tensor of shape ()
        In squared pixels, differentiable by sigma, mu and theta.

    Raises
    ------
    ValueError
        If the model has no Gaussian derivative layer.
    """
    excess = [_excess(layer) for layer in _layers(model)]
    if not excess:
        raise ValueError(f"model must have a GaussianDerivativeConv2d, got {type(model).__name__} without one")
    return torch.cat(excess).square().sum(-1).mean()


def _excess(layer: GaussianDerivativeConv2d) -> Tensor:
    """Pixels beyond the edge along x and y, (B N, 2)."""
    sigma, mu, theta = layer.geometry()
    turned = rotation(theta).mT  # R^T, (B, N, 2, 2)
    centre = (turned * mu[..., None, :]).sum(-1)
    deviation = (turned * sigma[..., None, :]).norm(dim=-1)
    edge = centre.new_tensor(layer.kernel_size[::-1]) / 2
    return (centre.abs() + REACH * deviation - edge).relu().flatten(0, 1)


def _layers(model: nn.Module) -> list[GaussianDerivativeConv2d]:
    instance("model", model, nn.Module)
    return [module for module in model.modules() if isinstance(module, GaussianDerivativeConv2d)]
