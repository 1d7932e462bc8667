"""Fully trainable Gaussian derivative convolutional layers for PyTorch.

The layer goes where an nn.Conv2d was::

    from gdlayer import GaussianDerivativeConv2d, deploy, replace_conv2d

    layer = GaussianDerivativeConv2d(16, 32, kernel_size=7, order=3, bases=8)
    report = replace_conv2d(model)  # or in the place of every convolution of a model
    plain = deploy(model)           # and out again: plain convolutions with the same outputs

Public names are imported on first use, so that code that only reads records or finds data does not import torch. The
layers that the paper compares with or builds on, displaced aggregation units (DAU) and N-Jet among them, are in
gdlayer.related.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gdlayer._plumbing.extras import MissingExtraError as MissingExtraError
    from gdlayer.authors import from_authors as from_authors
    from gdlayer.basis import gaussian_derivative_kernels as gaussian_derivative_kernels
    from gdlayer.block import ConvBlock as ConvBlock
    from gdlayer.conv import GaussianDerivativeConv2d as GaussianDerivativeConv2d
    from gdlayer.fit import fit_filters as fit_filters
    from gdlayer.optim import parameter_groups as parameter_groups
    from gdlayer.optim import window_penalty as window_penalty
    from gdlayer.plot.layers import plot_filters as plot_filters
    from gdlayer.plot.layers import plot_kernels as plot_kernels
    from gdlayer.replace import deploy as deploy
    from gdlayer.replace import replace_conv2d as replace_conv2d

__version__ = "0.1.0"

_HOME = {
    "ConvBlock": "gdlayer.block",
    "GaussianDerivativeConv2d": "gdlayer.conv",
    "MissingExtraError": "gdlayer._plumbing.extras",
    "deploy": "gdlayer.replace",
    "fit_filters": "gdlayer.fit",
    "from_authors": "gdlayer.authors",
    "gaussian_derivative_kernels": "gdlayer.basis",
    "parameter_groups": "gdlayer.optim",
    "plot_filters": "gdlayer.plot.layers",
    "plot_kernels": "gdlayer.plot.layers",
    "replace_conv2d": "gdlayer.replace",
    "window_penalty": "gdlayer.optim",
}
__all__ = [
    "ConvBlock",
    "GaussianDerivativeConv2d",
    "MissingExtraError",
    "__version__",
    "deploy",
    "fit_filters",
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


def __dir__() -> list[str]:
    """The public names too, which need not be imported yet."""
    return sorted({*globals(), *__all__})
