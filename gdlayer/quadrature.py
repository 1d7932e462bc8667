"""The Gauss-Legendre rule, as a tensor that no conversion of a layer's dtype rounds."""

import numpy as np
import torch
from torch import Tensor

UNIT = 2.0**-52
"""What 1 stands for in a rule: nodes and weights are integers in this unit, exact to it in float64."""


def gauss_legendre(count: int, *, device: torch.device | None = None) -> Tensor:
    r"""Nodes and weights of :math:`\int_{-1}^1 f(t)\, dt \approx \sum_i w_i f(t_i)`, exact to degree 2 count - 1.

    Returns
    -------
    int64 tensor of shape (2, count)
        t and w in units of :data:`UNIT`; :func:`nodes_and_weights` converts them.
    """
    rule = np.stack(np.polynomial.legendre.leggauss(count))
    return torch.tensor(np.rint(rule / UNIT).astype(np.int64), device=device)


def nodes_and_weights(rule: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """t and w of a rule, each of shape (count,)."""
    nodes, weights = (rule.to(dtype) * UNIT).unbind()
    return nodes, weights
