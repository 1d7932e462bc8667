"""The layers that are measured: ours, and ours as the authors' code computes it."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gdlayer.basis import sampling_grid
from gdlayer.benchmarks.goals import ORDER, Shape
from gdlayer.conv import GaussianDerivativeConv2d


def conv2d(shape: Shape, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(shape.in_channels, shape.out_channels, shape.kernel_size, padding="same", groups=groups)


def ours(shape: Shape, *, order: int = ORDER, **options: Any) -> GaussianDerivativeConv2d:
    return GaussianDerivativeConv2d(
        shape.in_channels, shape.out_channels, shape.kernel_size, order=order, bases=shape.bases, **options
    )


class Rectified(nn.Module):
    """A layer and a ReLU, as in a network: torch.compile passes over a module of torch.nn that is by itself."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.layer(x))


class Synthesis(nn.Module):
    """Computes the filters of a layer and nothing else."""

    def __init__(self, layer: GaussianDerivativeConv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer.filters()


class AuthorsOrder(nn.Module):
    """A layer at stride 1, dilation 1 and padded with zeros, computed in the order of the authors' code.

    Kernels come from the formulas of section 2 and are differentiated by autograd. Then, one basis after the other:
    a full layer convolves with dense filters to the f_out/B maps of the basis; a separated layer convolves with the
    dense filters beta phi to N maps, then mixes these by lambda with a 1 x 1 convolution.
    """

    def __init__(self, layer: GaussianDerivativeConv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        layer, maps = self.layer, []
        for b, kernels in enumerate(self.kernels()):  # (N, kh, kw)
            if layer.separated:
                y = F.conv2d(x, layer.beta[b, :, :, None, None] * kernels[:, None], padding="same")
                maps.append(F.conv2d(y, layer.lam[b, :, :, None, None]))
            else:
                maps.append(F.conv2d(x, torch.einsum("jin,nyx->jiyx", layer.omega[b], kernels), padding="same"))
        y = torch.cat(maps, 1)
        return y if layer.bias is None else y + layer.bias[:, None, None]

    def kernels(self) -> Tensor:
        """Eq. (1) for the n-th kernel of all bases at once, n = 1, ..., N: (B, N, kh, kw)."""
        layer = self.layer
        x, y = sampling_grid(layer.kernel_size, device=layer.theta.device)
        sigma, kernels = layer.sigma, []
        for n, (p, q) in enumerate(layer.orders):
            sigma1, sigma2 = sigma[:, n, :, None, None].unbind(1)
            mu1, mu2 = layer.mu[:, n, :, None, None].unbind(1)
            theta = layer.theta[:, n, None, None]
            u = x * torch.cos(theta) + y[:, None] * torch.sin(theta)
            v = -x * torch.sin(theta) + y[:, None] * torch.cos(theta)
            kernels.append(_derivative(u - mu1, sigma1, p) * _derivative(v - mu2, sigma2, q))
        return torch.stack(kernels, 1)


def _derivative(x: Tensor, sigma: Tensor, p: int) -> Tensor:
    """G_p(x, sigma): the Hermite polynomial H_p by its series, times a Gaussian."""
    z = x / (math.sqrt(2) * sigma)
    hermite = sum(
        (-1) ** i * math.factorial(p) / (math.factorial(i) * math.factorial(p - 2 * i)) * (2 * z) ** (p - 2 * i)
        for i in range(p // 2 + 1)
    )
    gaussian = torch.exp(-(x**2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
    return (-1 / (math.sqrt(2) * sigma)) ** p * hermite * gaussian
