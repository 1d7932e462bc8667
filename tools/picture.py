"""Draws the README's picture from a layer: ``python tools/picture.py book/_static/layer.png``."""

import sys

import matplotlib.pyplot as plt
import torch

from gdlayer import GaussianDerivativeConv2d
from gdlayer.initialization import mixing_std


def main(path: str) -> None:
    torch.manual_seed(4)
    layer = GaussianDerivativeConv2d(1, 10, 21, bases=1, bias=False)
    with torch.no_grad():
        layer.sigma = 1.2 * layer.sigma + 0.5
        layer.mu.mul_(2)
        layer.omega.normal_().mul_(mixing_std(layer.kernels(), layer.in_channels)[:, None, None, :])
        kernels, filters = layer.kernels()[0], layer.filters()[:, 0]
    figure, axes = plt.subplots(2, 10, figsize=(10, 2.5), layout="constrained")
    for row, images in zip(axes, (kernels, filters), strict=True):
        for axis, image in zip(row, images, strict=True):
            limit = image.abs().max().item()
            axis.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit)
            axis.set(xticks=[], yticks=[])
    for axis, (p, q) in zip(axes[0], layer.orders, strict=True):
        axis.set_title(f"$G_{{{p},{q}}}$", fontsize=11)
    axes[0, 0].set_ylabel("a basis", fontsize=11)
    axes[1, 0].set_ylabel("its filters", fontsize=11)
    figure.savefig(path, dpi=150, facecolor="white", metadata={"Software": None})


if __name__ == "__main__":
    main(sys.argv[1])
