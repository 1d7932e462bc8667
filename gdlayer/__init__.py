"""Fully trainable Gaussian derivative convolutional layers for PyTorch.

Public names are imported on first use, so that reading records or finding data never waits for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gdlayer.basis import gaussian_derivative_kernels as gaussian_derivative_kernels
    from gdlayer.block import ConvBlock as ConvBlock
    from gdlayer.conv import GaussianDerivativeConv2d as GaussianDerivativeConv2d

__version__ = "0.1.0"

_HOME = {
    "gaussian_derivative_kernels": "gdlayer.basis",
    "ConvBlock": "gdlayer.block",
    "GaussianDerivativeConv2d": "gdlayer.conv",
}
__all__ = ["ConvBlock", "GaussianDerivativeConv2d", "__version__", "gaussian_derivative_kernels"]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'gdlayer' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
