r"""Initialisation that keeps the second moment of activations, for filters that are sums of weighted kernels.

A filter mixes N given kernels over f_in channels with independent weights of mean zero. Cross terms vanish, so

.. math:: E[J^2] = f_{in} \sum_n \mathrm{Var}(\omega_n)\, E[(\phi_n * I)^2]

and for white input, :math:`E[(\phi_n * I)^2] = \|\phi_n\|^2 E[I^2]`. So
:math:`\mathrm{Var}(\omega_n) = g^2 / (f_{in} N \|\phi_n\|^2)` gives each kernel the same share of the output and
:math:`E[J^2] = g^2 E[I^2]`. A one-hot basis of the k x k taps gives He's rule. The
book's chapter on the layer derives and measures it.

In a window of one pixel a kernel is one number, which may be near zero by chance. There all kernels of a basis have the
same weights, :math:`\mathrm{Var}(\omega_n) = g^2 / (f_{in} \sum_m \phi_m^2)`, and E[J^2] is the same.
"""

import math

from torch import Tensor

from gdlayer._plumbing.modes import has_values

RELU_GAIN = math.sqrt(2)
"""g that undoes the halving of E[J^2] by a rectifier (He et al., 2015)."""


def mixing_std(kernels: Tensor, fan_in: int, gain: float = RELU_GAIN) -> Tensor:
    r"""Standard deviation :math:`g / (\sqrt{f_{in} N} \|\phi_n\|)` of the weight of each kernel.

    Parameters
    ----------
    kernels : tensor of shape (..., N, kh, kw)
    fan_in : int
        Input channels that each filter sums over.

    Returns
    -------
    tensor of shape (..., N)

    Raises
    ------
    ValueError
        If the norm of a kernel is zero or not finite, as it is after an overflow.
    """
    energy = kernels.square().sum((-2, -1))
    if kernels.shape[-2:] == (1, 1):
        energy = energy.mean(-1, keepdim=True).expand_as(energy)
    norm = energy.sqrt()
    std = gain / (math.sqrt(fan_in * kernels.shape[-3]) * norm)
    if has_values(std) and not bool((std.isfinite() & (std > 0)).all()):
        worst = norm.flatten()[norm.log().abs().argmax()].item()
        raise ValueError(
            f"kernels must have norms that {norm.dtype} can hold squared, got {worst:.3g}: "
            "take lower orders, a smaller normalise or another sigma"
        )
    return std
