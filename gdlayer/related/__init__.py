"""The layers that the paper compares with, by their published definitions."""

from gdlayer.related.dau import DAUConv2d as DAUConv2d
from gdlayer.related.njet import NJetConv2d as NJetConv2d
from gdlayer.related.rfnn import RFNNConv2d as RFNNConv2d

__all__ = ["DAUConv2d", "NJetConv2d", "RFNNConv2d"]
