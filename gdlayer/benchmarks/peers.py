"""Other layers that make their filters from Gaussians, doing the same work; measured where they are installed.

gdlayer does not need them. :data:`INSTALL` installs them without touching torch.
"""

import logging
import warnings
from collections.abc import Callable

import torch
from torch import nn

from gdlayer.basis import jet_orders
from gdlayer.benchmarks.goals import ORDER, Shape
from gdlayer.networks.convolutions import ConvSpec, dau, njet, rfnn
from gdlayer.related import ScaleSpaceConv2d, SemiStructuredConv2d

INSTALL = "python -m pip install --no-deps norse==1.1.0 nir==1.0.8 nirtorch==2.6 h5py==3.16.0 DCLS==0.1.1"


def dcls(shape: Shape) -> nn.Module:
    """Dilated convolution with learnable spacings; per filter as many Gaussians as a basis has kernels."""
    from DCLS.construct.modules import Dcls2d  # pyright: ignore[reportMissingImports]

    logging.disable(logging.WARNING)  # it recommends a kernel for channel by channel convolutions
    try:
        return Dcls2d(
            shape.in_channels,
            shape.out_channels,
            kernel_count=len(jet_orders(ORDER)),
            dilated_kernel_size=shape.kernel_size,
            padding=shape.kernel_size // 2,
            version="gauss",
        )
    finally:
        logging.disable(logging.NOTSET)


def norse(shape: Shape) -> nn.Module:
    """Affine Gaussian derivatives without learned mixing: one field per output map, on the pixels of our kernels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it scripts functions, which torch calls deprecated
        from norse.torch import SpatialReceptiveField2d  # pyright: ignore[reportMissingImports]

    orders = jet_orders(ORDER)
    fields = [[1.5, 0.1 * i, 1.5, *orders[i % len(orders)]] for i in range(shape.out_channels)]
    return SpatialReceptiveField2d(
        shape.in_channels,
        shape.kernel_size,
        torch.tensor(fields),  # scale, angle, ratio, and the orders of derivation
        domain=(shape.kernel_size - 1) / 2,
        padding=shape.kernel_size // 2,
    )


def semi_structured(shape: Shape) -> nn.Module:
    """Free-form filters that the 5 x 5 Gaussian at its start makes as large as our kernels."""
    return SemiStructuredConv2d(shape.in_channels, shape.out_channels, shape.kernel_size - 4)


def _own(make: Callable[[ConvSpec], nn.Module]) -> Callable[[Shape], nn.Module]:
    return lambda shape: make(ConvSpec(shape.in_channels, shape.out_channels, shape.kernel_size, shape.bases, depth=1))


PEERS: dict[str, Callable[[Shape], nn.Module]] = {
    "DCLS": dcls,
    "norse": norse,
    "RFNN": _own(rfnn),
    "DAU": _own(dau),
    "N-Jet": _own(njet),
    "semi-structured": semi_structured,
    "Lindeberg's": lambda shape: ScaleSpaceConv2d(shape.in_channels, shape.out_channels, sigma=1.0),
}
"""Functions that make the layer; they raise ImportError if its package is missing. The last five are gdlayer's own
versions, as the published code runs on no present framework."""
