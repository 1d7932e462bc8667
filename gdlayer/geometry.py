"""The geometry of Gaussian derivative kernels: sigma, mu and theta as parameters."""

import torch
from torch import Tensor


def inverse_softplus(y: Tensor) -> Tensor:
    """x with softplus(x) = log(1 + exp(x)) = y, for y > 0."""
    return y + torch.log(-torch.expm1(-y))
