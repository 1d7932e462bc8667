"""The layers that the paper compares with or builds on, by their published definitions."""

from gdlayer.related.dau import DAUConv2d as DAUConv2d
from gdlayer.related.njet import NJetConv2d as NJetConv2d
from gdlayer.related.rfnn import RFNNConv2d as RFNNConv2d
from gdlayer.related.scale_space import ScaleChannelNetwork as ScaleChannelNetwork
from gdlayer.related.scale_space import ScaleSpaceConv2d as ScaleSpaceConv2d
from gdlayer.related.semi_structured import SemiStructuredConv2d as SemiStructuredConv2d
from gdlayer.related.translation_insensitive import TranslationInsensitiveConv2d as TranslationInsensitiveConv2d

__all__ = [
    "DAUConv2d",
    "NJetConv2d",
    "RFNNConv2d",
    "ScaleChannelNetwork",
    "ScaleSpaceConv2d",
    "SemiStructuredConv2d",
    "TranslationInsensitiveConv2d",
]
