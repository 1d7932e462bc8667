r"""Initialisation that keeps the second moment of activations, for filters that are sums of weighted kernels.

A filter mixes N given kernels over f_in channels with independent weights of mean zero. Cross terms vanish, so

.. math:: E[J^2] = f_{in} \sum_n \mathrm{Var}(\omega_n)\, E[(\phi_n * I)^2]

and for white input, :math:`E[(\phi_n * I)^2] = \|\phi_n\|^2 E[I^2]`. So
:math:`\mathrm{Var}(\omega_n) = g^2 / (f_{in} N \|\phi_n\|^2)` gives each kernel the same share of the output and
:math:`E[J^2] = g^2 E[I^2]`. A one-hot basis of the k x k taps gives He's rule. The
book's chapter on the layer derives and measures it.
"""

import math

from torch import Tensor

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
    """
    norm = kernels.square().sum((-2, -1)).sqrt()
    return gain / (math.sqrt(fan_in * kernels.shape[-3]) * norm)
