"""The small depthwise separable network."""

import pytest
import torch

from gdlayer.networks.depthwise import DEVIATION, DepthwiseNet


def test_shapes_and_parameters():
    network = DepthwiseNet((4, 6, 8), kernel_size=5, in_channels=2, num_classes=3)
    assert network(torch.rand(2, 2, 12, 10)).shape == (2, 3)
    depthwise = network.depthwise()
    assert {name: tuple(conv.weight.shape) for name, conv in depthwise.items()} == {
        "features.3": (4, 1, 5, 5),
        "features.10": (6, 1, 5, 5),
    }
    convolutions = 2 * 4 * 9 + (4 + 6) * 25 + 4 * 6 + 6 * 8
    norms = 2 * (4 + 4 + 6 + 6 + 8)
    assert sum(p.numel() for p in network.parameters()) == convolutions + norms + 8 * 3 + 3


def test_depthwise_filters_start_small():
    torch.manual_seed(0)
    filters = torch.cat([conv.weight.flatten() for conv in DepthwiseNet((64, 64, 64)).depthwise().values()])
    assert filters.std().item() == pytest.approx(DEVIATION, rel=0.05)


def test_maps_are_pooled_once():
    sizes = []
    network = DepthwiseNet((4, 4, 4))
    for conv in network.depthwise().values():
        conv.register_forward_hook(lambda module, args, output: sizes.append(tuple(output.shape[2:])))
    network(torch.rand(2, 1, 8, 8))
    assert sizes == [(8, 8), (4, 4)]
