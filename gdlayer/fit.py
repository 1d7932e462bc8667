"""Fits a Gaussian derivative layer to given filters by least squares."""

import math
from copy import deepcopy

import torch
from torch import Tensor
from torch.nn import functional as F

from gdlayer._plumbing.checks import integer, positive_number
from gdlayer._plumbing.parameters import check_settable
from gdlayer.conv import GaussianDerivativeConv2d

SWEEPS = 50
"""Rounds of alternating least squares for a separated layer, after the last step of its geometry."""

FAINT = 1e-2
"""A kernel whose norm is below this fraction of the largest norm in its basis is not scaled up to norm 1."""


def fit_filters(
    layer: GaussianDerivativeConv2d,
    filters: Tensor,
    *,
    bias: Tensor | None = None,
    steps: int = 0,
    learning_rate: float = 0.1,
    rcond: float = 1e-3,
) -> float:
    r"""Sets the weights of ``layer`` so that its filters are the least-squares approximation of the given ones.

    >>> from torch import nn
    >>> from gdlayer import GaussianDerivativeConv2d, fit_filters
    >>> conv = nn.Conv2d(3, 16, 5)
    >>> layer = GaussianDerivativeConv2d(3, 16, 5, padding=0, order=4, bases=4)
    >>> residual = fit_filters(layer, conv.weight, bias=conv.bias)
    >>> 0 < residual < 1  # of the norm of the filters
    True

    Basis b fits its own :math:`f_{out}/B` consecutive filters W with its kernels :math:`\phi`:

    .. math:: \min_\omega \sum_{j, i} \Big\| W_j^i - \sum_n \omega^{b,i}_{j,n} \phi^{b,n} \Big\|^2

    For fixed geometry the problem is linear. It is solved by singular value decomposition; among several solutions
    the one with the least :math:`\sum_n \|\omega_n \phi_n\|^2` is taken. In a separated layer
    :math:`\omega^{b,i}_{j,n} = \lambda^b_{j,n} \beta^{b,i}_n`: for each n, lambda and beta start at the product
    nearest to the full solution, then each is solved for in turn, which ends in a local minimum.

    With ``steps`` > 0, Adam also moves the geometry, and the weights are solved for again after each step (variable
    projection, Golub and Pereyra, 1973). At optimal weights, the gradient with respect to the geometry is the same
    as if the weights were constants. The best step is kept. Nothing is random.

    Parameters
    ----------
    layer : GaussianDerivativeConv2d
        Changed in place, on any device and in any dtype. The computation runs on the CPU in float64.
    filters : (f_out, f_in/groups, h, w)
        h and w may be smaller than the layer's ``kernel_size`` by even numbers: the filters are then padded with
        zeros on all sides. With "same" padding at stride 1 the larger filter computes the same as the smaller one.
    bias : (f_out,), optional
        Copied to the layer's bias; without it the layer keeps its own.
    steps : int
        Steps of Adam on the trainable part of the geometry; 0 leaves the geometry unchanged.
    learning_rate : float
        Learning rate of Adam: roughly how many pixels and radians one step moves the geometry.
    rcond : float
        Singular values of the normalised kernels below ``rcond`` times the largest are treated as zero. A larger
        ``rcond`` gives smaller weights and a larger residual.

    Returns
    -------
    float
        The residual :math:`\|W - \hat W\| / \|W\|`, where :math:`\hat W` are the new filters in the layer's dtype;
        0 if W = 0.

    Raises
    ------
    ValueError, TypeError
        If a shape does not fit, a filter is not finite, ``rcond`` or ``learning_rate`` is not a positive number,
        ``steps`` is negative, ``steps`` is positive but no geometry is trainable, ``bias`` is given to a layer
        without one, filters are complex, or a kernel is not finite. The layer is then unchanged.
    RuntimeError
        If a parameter of the layer is computed from others, by a parametrisation or pruning.
    """
    check_settable(layer)
    target = _framed(layer, filters)
    if bias is not None and (layer.bias is None or bias.shape != layer.bias.shape):
        expected = "None, as the layer has none" if layer.bias is None else f"of shape {tuple(layer.bias.shape)}"
        raise ValueError(f"bias must be {expected}, got shape {tuple(bias.shape)}")
    model = deepcopy(layer).to("cpu", torch.float64)
    geometry = [parameter for parameter in (model.raw_sigma, model.mu, model.theta) if parameter.requires_grad]
    if integer("steps", steps, 0) and not geometry:
        raise ValueError(f"steps must be 0, as no geometry of the layer trains, got {steps}")
    rcond = positive_number("rcond", rcond)
    learning_rate = positive_number("learning_rate", learning_rate)
    optimiser = torch.optim.Adam(geometry, lr=learning_rate) if steps > 0 else None
    scale = float(target.norm()) or 1.0
    lowest, best = math.inf, model.state_dict()
    if model.separated:
        _start_separated(model, target, rcond)
    with torch.enable_grad():
        for step in range(steps + 1):
            _solve_weights(model, target, rcond)
            loss = ((model.filters() - target) / scale).square().sum()
            if loss < lowest:
                lowest, best = float(loss.detach()), deepcopy(model.state_dict())
            if optimiser is not None and step < steps:
                optimiser.zero_grad()
                loss.backward(inputs=geometry)
                optimiser.step()
    model.load_state_dict(best)
    _solve_weights(model, target, rcond, SWEEPS)
    layer.load_state_dict(model.state_dict())
    if layer.bias is not None and bias is not None:
        with torch.no_grad():
            layer.bias.copy_(bias)
    return float((layer.filters().detach().to(target) - target).norm()) / scale


def _framed(layer: GaussianDerivativeConv2d, filters: Tensor) -> Tensor:
    """The filters padded with zeros to the layer's ``kernel_size``, in float64 on the CPU."""
    expected = (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size)
    frame = [full - given for full, given in zip(expected, filters.shape, strict=False)]
    if filters.ndim != 4 or any(frame[:2]) or any(extra < 0 or extra % 2 for extra in frame[2:]):
        raise ValueError(
            f"filters must have shape {expected}, or less by even numbers in the last two, got {tuple(filters.shape)}"
        )
    if filters.is_complex():
        raise TypeError(f"filters must be real, got {filters.dtype}")
    target = filters.detach().to("cpu", torch.float64)
    if not bool(target.isfinite().all()):
        raise ValueError("filters must be finite")
    top, left = frame[2] // 2, frame[3] // 2
    return F.pad(target, (left, left, top, top))


@torch.no_grad()
def _solve_weights(model: GaussianDerivativeConv2d, target: Tensor, rcond: float, sweeps: int = 1) -> None:
    """Solves for the mixing weights at the present geometry; in a separated layer from their present values."""
    kernels, target = _by_block(model, target)
    if not model.separated:
        model.omega.copy_(_least_squares(kernels, target.flatten(1, 2), rcond).view_as(model.omega))
        return
    for _ in range(sweeps):
        rows = model.beta[:, :, :, None] * kernels[:, :, None]  # (M, N, f_in/groups, taps)
        model.lam.copy_(_least_squares(rows.flatten(2), target.flatten(2), rcond))
        rows = model.lam.mT[:, :, :, None] * kernels[:, :, None]  # (M, N, f_out/M, taps)
        model.beta.copy_(_least_squares(rows.flatten(2), target.transpose(1, 2).flatten(2), rcond).mT)


@torch.no_grad()
def _start_separated(model: GaussianDerivativeConv2d, target: Tensor, rcond: float) -> None:
    """For each kernel, sets lambda and beta to the rank-one matrix nearest to the full layer's solution."""
    kernels, target = _by_block(model, target)
    full = _least_squares(kernels, target.flatten(1, 2), rcond).unflatten(1, target.shape[1:3])
    left, size, right = torch.linalg.svd(full.movedim(-1, 1), full_matrices=False)
    model.lam.copy_((left[..., 0] * size[..., :1]).mT)
    model.beta.copy_(right[..., 0, :])


def _by_block(model: GaussianDerivativeConv2d, target: Tensor) -> tuple[Tensor, Tensor]:
    """Kernels (M, N, taps) and filters (M, f_out/M, f_in/groups, taps) of the M blocks; kh kw taps."""
    kernels = model.per_block(model.kernels().flatten(2))
    if broken := int((~kernels.isfinite()).any(-1).sum()):
        raise ValueError(
            f"sigma, mu and theta must make finite kernels, got {broken} of {kernels.shape[:2].numel()} with NaN or "
            "infinity"
        )
    return kernels, target.flatten(2).unflatten(0, (len(kernels), -1))


def _least_squares(rows: Tensor, target: Tensor, rcond: float) -> Tensor:
    """c (..., R, N) that minimises |c @ rows - target|, for rows (..., N, M) and target (..., R, M).

    Each row is scaled to norm 1, unless its norm is below FAINT times the largest: such a kernel lies outside the
    window, and scaling it up could give it a weight of 1e80.
    """
    norm = rows.norm(dim=-1, keepdim=True)  # (..., N, 1)
    norm = norm.maximum(FAINT * norm.amax(-2, keepdim=True)).clamp_min(torch.finfo(rows.dtype).tiny)
    solution = torch.linalg.lstsq((rows / norm).mT, target.mT, rcond=rcond, driver="gelsd").solution
    return (solution / norm).mT
