r"""Initialisation that keeps the variance of activations, for filters made of weighted kernels.

A filter mixes N given kernels over f_in channels with independent weights of mean zero. Then cross terms vanish and

.. math:: E[J^2] = f_{in} \sum_n \mathrm{Var}(\omega_n)\, E[(\phi_n * I)^2]

so :math:`\mathrm{Var}(\omega_n) = g^2 / (f_{in} N P_n)`, with the response power
:math:`P_n = E[(\phi_n * I)^2] / E[I^2]`, gives each kernel the same share of the output and
:math:`E[J^2] = g^2 E[I^2]`: He's rule, with :math:`P_n` in the place of one tap's 1. Chapter 3 derives and measures it.
"""

import math

import torch
from torch import Tensor

RELU_GAIN = math.sqrt(2)
"""g that undoes the halving of E[J^2] by a rectifier (He et al., 2015)."""


def response_power(kernels: Tensor) -> Tensor:
    r"""P of each kernel for a white input of mean zero: :math:`P = \sum_{x,y} \phi(x, y)^2`.

    Parameters
    ----------
    kernels : tensor of shape (..., kh, kw)

    Returns
    -------
    tensor of shape (...)
    """
    return kernels.square().sum((-2, -1))


def mixing_std(kernels: Tensor, fan_in: int, gain: float = RELU_GAIN) -> Tensor:
    r"""Standard deviation :math:`g / \sqrt{f_{in} N P_n}` of the weight of each kernel.

    Parameters
    ----------
    kernels : tensor of shape (..., N, kh, kw)
    fan_in : int
        Input channels that each filter sums over.

    Returns
    -------
    tensor of shape (..., N)
    """
    power = response_power(kernels)
    return gain / torch.sqrt(fan_in * kernels.shape[-3] * power)
