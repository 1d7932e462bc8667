"""Every layer of the package, and the options that all have in common: the table that the common checks run over."""

import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from gdlayer import GaussianDerivativeConv2d
from gdlayer.geometry import GEOMETRY
from gdlayer.related import (
    DAUConv2d,
    NJetConv2d,
    RFNNConv2d,
    SemiStructuredConv2d,
    TranslationInsensitiveConv2d,
)
from gdlayer.synthesis import SynthesizedConv2d

Make = Callable[..., SynthesizedConv2d]


def gaussian(kernel_size: Any = 3, **own: Any) -> Make:
    def make(f_in: int, f_out: int, **options: Any) -> GaussianDerivativeConv2d:
        return GaussianDerivativeConv2d(f_in, f_out, kernel_size, **{"order": 2, **own, **options})

    return make


def rfnn(f_in: int, f_out: int, **options: Any) -> RFNNConv2d:
    own: dict[str, Any] = {"kernel_size": 5, "sigma": 1.0, "num_kernels": 6, "bias": True}
    return RFNNConv2d(f_in, f_out, **(own | options))


def dau(f_in: int, f_out: int, **options: Any) -> DAUConv2d:
    own: dict[str, Any] = {"kernel_size": 5, "units": (2, 1), "bias": True}
    return DAUConv2d(f_in, f_out, **(own | options))


def njet(f_in: int, f_out: int, **options: Any) -> NJetConv2d:
    own: dict[str, Any] = {"order": 2, "bias": True}
    return NJetConv2d(f_in, f_out, **(own | options))


def semi_structured(f_in: int, f_out: int, **options: Any) -> SemiStructuredConv2d:
    own: dict[str, Any] = {"kernel_size": (3, 2), "bias": True}
    return SemiStructuredConv2d(f_in, f_out, **(own | options))


def insensitive(f_in: int, f_out: int, **options: Any) -> TranslationInsensitiveConv2d:
    own: dict[str, Any] = {"sigma_per_stride": 0.6, "num_kernels": 6, "bias": True}
    return TranslationInsensitiveConv2d(f_in, f_out, **(own | options))


CONSTRAINED: dict[str, Make] = {
    "all shared": gaussian(bases=2, shared=GEOMETRY),
    "scale and angle shared": gaussian(shared=("sigma", "theta")),
    "shift shared": gaussian(bases=2, shared=("mu",)),
    "isotropic": gaussian(bases=2, isotropic=True),
    "bounded": gaussian(bases=2, sigma_max=2.5),
    "everything": gaussian(bases=2, separated=True, shared=GEOMETRY, isotropic=True, sigma_min=0.8, sigma_max=1.5),
}
LAYERS: dict[str, Make] = {
    "full": gaussian(bases=2),
    "full, even kernel": gaussian((2, 4)),
    "separated": gaussian(bases=2, separated=True),
    "separated, factorised": gaussian(bases=2, separated=True, algorithm="factorised"),
    "frozen geometry": gaussian(trainable=()),
    "integrated": gaussian(bases=2, sampling="integrated", normalise=0.5),
    "discrete": gaussian(separated=True, sampling="discrete", normalise=1.0),
    "hybrid": gaussian(5, bases=2, shared=GEOMETRY, sampling="hybrid", normalise=0.5),
    "hybrid, smoothed": gaussian(5, bases=2, separated=True, shared=GEOMETRY, sampling="hybrid", algorithm="smoothed"),
    **CONSTRAINED,
    "rfnn": rfnn,
    "dau": dau,
    "njet": njet,
    "semi-structured": semi_structured,
    "semi-structured, grouped": lambda *channels, **options: semi_structured(
        *channels, groups=math.gcd(*channels), **options
    ),
    "translation-insensitive": insensitive,
}
KINDS: dict[str, Make] = {
    name: LAYERS[name] for name in ("full", "separated", "everything", "rfnn", "dau", "njet", "semi-structured")
}
"""One layer of each kind, for checks that take long."""
OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "no bias": {"bias": False},
    "stride": {"stride": (2, 3)},
    "padding": {"padding": (0, 2)},
    "valid, dilated": {"padding": "valid", "dilation": (1, 2)},
    "reflect": {"padding_mode": "reflect", "stride": 2},
    "replicate": {"padding_mode": "replicate", "dilation": (2, 1)},
    "circular": {"padding_mode": "circular", "padding": 1},
}
SIZE = 10, 18
"""Of an image that every layer accepts under all options."""

every_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())
every_option = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
# Of PyTorch, about nn.Conv2d's own padding="same": it copies the input where the kernel is even. No matter here.
even_same = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


def through_a_file(value: Any) -> Any:
    """Saved and loaded, by way of a file that holds no code."""
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def convolution_in(plain: nn.Module) -> nn.Conv2d:
    """The one nn.Conv2d of a deployed layer, which may pad by a step of its own."""
    (conv,) = (module for module in plain.modules() if isinstance(module, nn.Conv2d))
    return conv


def perturbed(layer: SynthesizedConv2d) -> SynthesizedConv2d:
    """With parameters away from their start, as after some training; no bias is zero."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    return layer
