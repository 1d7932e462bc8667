"""Fully trainable Gaussian derivative convolutional layers for PyTorch.

Public names are imported on first use, so that reading records or finding data never waits for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gdlayer.basis import gaussian_derivative_kernels as gaussian_derivative_kernels
    from gdlayer.block import ConvBlock as ConvBlock
    from gdlayer.conv import GaussianDerivativeConv2d as GaussianDerivativeConv2d
    from gdlayer.convert import deploy as deploy
    from gdlayer.convert import from_authors as from_authors
    from gdlayer.convert import replace_conv2d as replace_conv2d
    from gdlayer.optim import parameter_groups as parameter_groups
    from gdlayer.optim import window_penalty as window_penalty
    from gdlayer.plot import plot_filters as plot_filters
    from gdlayer.plot import plot_kernels as plot_kernels

__version__ = "0.1.0"

_HOME = {
    "gaussian_derivative_kernels": "gdlayer.basis",
    "ConvBlock": "gdlayer.block",
    "GaussianDerivativeConv2d": "gdlayer.conv",
    "deploy": "gdlayer.convert",
    "from_authors": "gdlayer.convert",
    "replace_conv2d": "gdlayer.convert",
    "parameter_groups": "gdlayer.optim",
    "plot_filters": "gdlayer.plot",
    "plot_kernels": "gdlayer.plot",
    "window_penalty": "gdlayer.optim",
}
__all__ = [
    "ConvBlock",
    "GaussianDerivativeConv2d",
    "__version__",
    "deploy",
    "from_authors",
    "gaussian_derivative_kernels",
    "parameter_groups",
    "plot_filters",
    "plot_kernels",
    "replace_conv2d",
    "window_penalty",
]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'gdlayer' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
