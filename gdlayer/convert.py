"""Between free-form filters and Gaussian derivative layers."""

import math
from copy import deepcopy

import torch
from torch import Tensor
from torch.nn import functional as F

from gdlayer.conv import GaussianDerivativeConv2d
from gdlayer.synthesis import positive_number

SWEEPS = 50
"""Of alternating least squares, once the geometry is settled."""

FAINT = 1e-2
"""Norm, as part of the largest, below which a kernel of a basis is not normalised."""


def fit_filters(
    layer: GaussianDerivativeConv2d,
    filters: Tensor,
    *,
    bias: Tensor | None = None,
    steps: int = 0,
    learning_rate: float = 0.1,
    rcond: float = 1e-3,
) -> float:
    r"""Sets ``layer`` so that its filters come as near to the given ones as least squares can bring them.

    With filters W and kernels :math:`\phi`, basis b takes its own :math:`f_{out}/B` consecutive filters and

    .. math:: \min_\omega \sum_{j, i} \Big\| W_j^i - \sum_n \omega^{b,i}_{j,n} \phi^{b,n} \Big\|^2

    which is linear for given geometry: the solution with the least :math:`\sum_n \|\omega_n \phi_n\|^2`, by singular
    values. A separated layer, :math:`\omega^{b,i}_{j,n} = \lambda^b_{j,n} \beta^{b,i}_n`, starts at the product nearest
    to the full solution for each n, and solves for lambda and beta in turn; that ends in a local minimum.

    With ``steps``, the geometry descends by Adam, and the weights are solved for anew at each step (variable
    projection, Golub and Pereyra, 1973): where they are optimal, the gradient is that at constant weights. The best
    step is kept. Nothing is random.

    Parameters
    ----------
    layer : GaussianDerivativeConv2d
        Changed in place, on any device and in any dtype; the work is done on the CPU in float64.
    filters : (f_out, f_in, h, w)
        Those smaller than the layer's ``kernel_size`` stand in the centre of a frame of zeros, so the difference must
        be even. With "same" padding at stride 1 the larger filter does what the smaller did.
    bias : (f_out,), optional
        Copied; without it the layer keeps its own.
    steps : int
        Steps of the geometry, as far as the layer trains it; 0 leaves it as it is.
    learning_rate : float
        Of Adam: about the pixels and radians of a step.
    rcond : float
        Singular values of the normalised kernels below ``rcond`` times the largest count as zero: the more, the
        smaller the weights, and the larger the residual.

    Returns
    -------
    float
        :math:`\|W - \hat W\| / \|W\|` for the filters that the layer now has, in its dtype; 0 if W = 0.

    Raises
    ------
    ValueError
        If shapes do not fit, a filter is not finite, ``steps`` is negative or finds nothing to train, or the layer has
        no bias to set. Then the layer is as before.
    """
    target = _framed(layer, filters)
    if bias is not None and (layer.bias is None or bias.shape != layer.bias.shape):
        expected = "None, as the layer has none" if layer.bias is None else f"of shape {tuple(layer.bias.shape)}"
        raise ValueError(f"bias must be {expected}, got shape {tuple(bias.shape)}")
    model = deepcopy(layer).to("cpu", torch.float64)
    geometry = [parameter for parameter in (model.raw_sigma, model.mu, model.theta) if parameter.requires_grad]
    if steps < 0 or (steps > 0 and not geometry):
        raise ValueError(f"steps must be 0, or positive and some of the geometry trainable, got {steps}")
    rcond = positive_number("rcond", rcond)
    optimiser = torch.optim.Adam(geometry or [target], lr=positive_number("learning_rate", learning_rate))
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
            if step < steps:
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
    """The filters on the layer's grid, in float64 on the CPU."""
    expected = (layer.out_channels, layer.in_channels, *layer.kernel_size)
    frame = [full - given for full, given in zip(expected, filters.shape, strict=False)]
    if filters.ndim != 4 or any(frame[:2]) or any(extra < 0 or extra % 2 for extra in frame[2:]):
        raise ValueError(
            f"filters must have shape {expected}, or less by even numbers in the last two, got {tuple(filters.shape)}"
        )
    if not bool(filters.isfinite().all()):
        raise ValueError("filters must be finite")
    top, left = frame[2] // 2, frame[3] // 2
    return F.pad(filters.detach().to("cpu", torch.float64), (left, left, top, top))


@torch.no_grad()
def _solve_weights(model: GaussianDerivativeConv2d, target: Tensor, rcond: float, sweeps: int = 1) -> None:
    """Sets the mixing weights for the present geometry; those of a separated layer by sweeps from where they are."""
    target = target.view(model.bases, -1, model.in_channels, target[0, 0].numel())  # (B, f_out/B, f_in, M), M = kh kw
    kernels = model.kernels().flatten(2)  # (B, N, M)
    if not model.separated:
        model.weight.copy_(_least_squares(kernels, target.flatten(1, 2), rcond).view_as(model.weight))
        return
    for _ in range(sweeps):
        rows = model.beta[:, :, :, None] * kernels[:, :, None]  # (B, N, f_in, M)
        model.lam.copy_(_least_squares(rows.flatten(2), target.flatten(2), rcond))
        rows = model.lam.mT[:, :, :, None] * kernels[:, :, None]  # (B, N, f_out/B, M)
        model.beta.copy_(_least_squares(rows.flatten(2), target.transpose(1, 2).flatten(2), rcond).mT)


@torch.no_grad()
def _start_separated(model: GaussianDerivativeConv2d, target: Tensor, rcond: float) -> None:
    """Sets lambda and beta to the product that is nearest, for each kernel, to the full layer's least squares."""
    b, f_in, n = model.bases, model.in_channels, len(model.orders)
    full = _least_squares(model.kernels().flatten(2), target.view(b, -1, target[0, 0].numel()), rcond)
    left, size, right = torch.linalg.svd(full.view(b, -1, f_in, n).movedim(-1, 1), full_matrices=False)
    model.lam.copy_((left[..., 0] * size[..., :1]).mT)
    model.beta.copy_(right[..., 0, :])


def _least_squares(rows: Tensor, target: Tensor, rcond: float) -> Tensor:
    """c (..., R, N) such that c @ rows is nearest to the target, for rows (..., N, M) and target (..., R, M).

    Rows are normalised, but not lifted if fainter than FAINT: such a kernel has left the grid, and a weight of 1e80
    would bring it back.
    """
    norm = rows.norm(dim=-1, keepdim=True)  # (..., N, 1)
    norm = norm.maximum(FAINT * norm.amax(-2, keepdim=True)).clamp_min(torch.finfo(rows.dtype).tiny)
    solution = torch.linalg.lstsq((rows / norm).mT, target.mT, rcond=rcond, driver="gelsd").solution
    return (solution / norm).mT
