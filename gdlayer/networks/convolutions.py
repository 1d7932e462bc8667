"""Makers of the convolutions that Table 1 compares: stride 1, "same" padding, no bias, unit variance at the start."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from gdlayer._plumbing.checks import one_of
from gdlayer.conv import GaussianDerivativeConv2d
from gdlayer.related import DAUConv2d, NJetConv2d, RFNNConv2d


@dataclass(frozen=True)
class ConvSpec:
    """What a network asks of one of its convolutions."""

    in_channels: int
    out_channels: int
    kernel_size: int
    bases: int
    depth: int
    """How many convolutions come before it."""
    init: str = "variance_preserving"
    """Or "authors": what each layer's own authors publish."""
    sigma_min: float = 0.5
    """Of the Gaussian derivative layer, in pixels."""


def free_form(spec: ConvSpec, *, kernel_size: int | None = None, dilation: int = 1) -> nn.Conv2d:
    """Free-form filters: He's normal initialisation, or Keras' default (Glorot's uniform) for "authors".

    ``kernel_size`` replaces that of the network.
    """
    size = kernel_size or spec.kernel_size
    conv = nn.Conv2d(spec.in_channels, spec.out_channels, size, padding="same", dilation=dilation, bias=False)
    if one_of("init", spec.init, ("variance_preserving", "authors")) == "authors":
        nn.init.xavier_uniform_(conv.weight)
    else:
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return conv


def rfnn(spec: ConvSpec) -> RFNNConv2d:
    """Its published scales and sizes: broader in the first layer."""
    sigma, kernel_size = (1.5, 11) if spec.depth == 0 else (1.0, 7)
    return RFNNConv2d(spec.in_channels, spec.out_channels, kernel_size, sigma=sigma, init=spec.init)


def dau(spec: ConvSpec) -> DAUConv2d:
    return DAUConv2d(spec.in_channels, spec.out_channels, spec.kernel_size, init=spec.init)


def njet(spec: ConvSpec) -> NJetConv2d:
    return NJetConv2d(spec.in_channels, spec.out_channels, init=spec.init)


def ours(spec: ConvSpec, *, share_of_bases: float = 1, **options: Any) -> GaussianDerivativeConv2d:
    """The Gaussian derivative layer; ``share_of_bases`` of the bases that the network has for it, and its options.

    On every machine by the same algorithm, so that a trial does not depend on what is the cheapest there.
    """
    return GaussianDerivativeConv2d(
        spec.in_channels,
        spec.out_channels,
        spec.kernel_size,
        bases=int(spec.bases * share_of_bases),
        bias=False,
        sigma_min=spec.sigma_min,
        init=spec.init,
        algorithm="dense",
        **options,
    )
