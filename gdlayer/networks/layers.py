"""One factory for every convolution that Table 1 compares."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from gdlayer.checks import one_of
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


def free_form(spec: ConvSpec, kernel_size: int) -> nn.Conv2d:
    """Free-form filters: He's normal initialisation, or Keras' default (Glorot's uniform) for "authors"."""
    conv = nn.Conv2d(spec.in_channels, spec.out_channels, kernel_size, padding="same", bias=False)
    if one_of("init", spec.init, ("variance_preserving", "authors")) == "authors":
        nn.init.xavier_uniform_(conv.weight)
    else:
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return conv


def rfnn(spec: ConvSpec) -> RFNNConv2d:
    sigma, kernel_size = (1.5, 11) if spec.depth == 0 else (1.0, 7)
    return RFNNConv2d(spec.in_channels, spec.out_channels, kernel_size, sigma=sigma, init=spec.init)


def dau(spec: ConvSpec) -> DAUConv2d:
    return DAUConv2d(spec.in_channels, spec.out_channels, spec.kernel_size, init=spec.init)


def njet(spec: ConvSpec) -> NJetConv2d:
    return NJetConv2d(spec.in_channels, spec.out_channels, init=spec.init)


def ours(spec: ConvSpec, *, bases: int | None = None, separated: bool = False) -> GaussianDerivativeConv2d:
    return GaussianDerivativeConv2d(
        spec.in_channels,
        spec.out_channels,
        spec.kernel_size,
        bases=spec.bases if bases is None else bases,
        separated=separated,
        bias=False,
        sigma_min=spec.sigma_min,
        init=spec.init,
    )


LAYERS: dict[str, Callable[[ConvSpec], nn.Module]] = {
    "free-form": lambda spec: free_form(spec, 3),
    "rfnn": rfnn,
    "dau": dau,
    "ours": ours,
    "ours-few": lambda spec: ours(spec, bases=spec.bases // 2),
    "ours-separated": lambda spec: ours(spec, separated=True),
    "free-form-same-support": lambda spec: free_form(spec, spec.kernel_size),
    "n-jet": njet,
}
"""Layer type by name: the six columns of Table 1, then two controls that the paper lacks. None has a bias."""


def make_conv(name: str, spec: ConvSpec) -> nn.Module:
    """The convolution of type ``name``, stride 1, "same" padding, no bias, initialised for unit variance.

    Raises
    ------
    ValueError
        If ``name`` is not one of :data:`LAYERS`.
    """
    if name not in LAYERS:
        raise ValueError(f"layer must be one of {', '.join(LAYERS)}; got {name!r}")
    return LAYERS[name](spec)
