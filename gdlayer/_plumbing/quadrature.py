"""The Gauss-Legendre rule."""

import numpy as np
import torch
from torch import Tensor


def gauss_legendre(count: int) -> tuple[Tensor, Tensor]:
    r"""Nodes and weights of :math:`\int_{-1}^1 f(t)\, dt \approx \sum_i w_i f(t_i)`, exact to degree 2 count - 1.

    Returns
    -------
    float64 tensors t and w of shape (count,), on the CPU
    """
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return torch.tensor(nodes, device="cpu"), torch.tensor(weights, device="cpu")
