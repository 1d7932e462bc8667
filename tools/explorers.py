"""Makes what the explorers of the book stand on: ``python tools/explorers.py``.

``data.js``: the photograph, and a basis trained on the Fashion-MNIST sample, with one of its filters.
``golden.json``: kernels, errors, spectra, filters and responses by gdlayer, which the explorers have to agree with.
``still.png``: what stands in their place without JavaScript.
"""

import base64
import json
import math
import re
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from gdlayer import GaussianDerivativeConv2d
from gdlayer.basis import gaussian_derivative_kernels, jet_orders
from gdlayer.datasets import fashion_mnist
from gdlayer.sampling import sampling_report

ROOT = Path(__file__).parents[1]
PHOTOGRAPH = ROOT / "book" / "_static" / "photograph.png"
DATA = PHOTOGRAPH.with_name("explorers") / "data.js"
STILL = DATA.with_name("still.png")
GOLDEN = ROOT / "tests" / "book" / "golden.json"
SHAPE = ("sigma1", "sigma2", "mu1", "mu2", "theta")
SIDE = 96
SCRIPT = """\
// Made by tools/explorers.py. The photograph: an espresso by Rachel Michetti, CC0, from scikit-image, in grey.
const photograph = {{ rows: {side}, columns: {side}, grey: "{grey}" }};
// A basis and one of its filters: the first layer of a small classifier of Fashion-MNIST.
const trained = {trained};
"""
POINTS, STEP = 16, 8
"""Golden spectra have 16 x 16 frequencies, golden responses every eighth row and column."""

Shape = dict[str, float]

SHAPES: tuple[tuple[Shape, int], ...] = tuple(
    ({"p": p, "q": q, **dict(zip(SHAPE, numbers, strict=True))}, size)
    for p, q, size, numbers in (
        (1, 0, 15, (2.0, 2.0, 0.0, 0.0, 0.0)),
        (0, 0, 7, (0.3, 0.5, 0.2, -0.4, 0.7)),
        (2, 1, 11, (1.5, 2.5, 1.3, -0.4, -2.1)),
        (3, 0, 8, (0.8, 3.0, -1.0, 0.5, 1.2)),
        (4, 4, 13, (1.6, 1.2, 0.0, 0.3, 3.0)),
        (0, 2, 1, (1.0, 1.0, 0.0, 0.0, 0.5)),
    )
)


def main() -> None:
    pixels = Image.open(PHOTOGRAPH).convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    grey = base64.b64encode(pixels.tobytes()).decode()
    DATA.write_text(SCRIPT.format(side=SIDE, grey=grey, trained=json.dumps(train())), encoding="utf-8")
    GOLDEN.write_text(json.dumps(golden(), separators=(",", ":")) + "\n", encoding="utf-8")
    draw_still()


def photograph() -> Tensor:
    """The photograph of data.js, (96, 96), from 0 to 1."""
    pixels = np.frombuffer(base64.b64decode(shipped(r'grey: "([^"]+)"')), np.uint8)
    return torch.tensor(pixels / 255).view(SIDE, SIDE)


def shipped(pattern: str) -> str:
    """What the pattern's group finds in data.js."""
    found = re.search(pattern, DATA.read_text(encoding="utf-8"))
    assert found
    return found[1]


def basis(name: str) -> tuple[list[Shape], list[float]]:
    """Shapes and shares of a basis: "jet", the 3-jet of one pixel, or "trained"."""
    if name == "jet":
        numbers = {"sigma1": 1.0, "sigma2": 1.0, "mu1": 0.0, "mu2": 0.0, "theta": 0.0}
        return [{"p": p, "q": q, **numbers} for p, q in jet_orders(3)], [0.0] * 10
    trained = json.loads(shipped(r"const trained = (.*);"))
    return trained["shapes"], trained["shares"]


def train() -> dict[str, Any]:
    """The first basis of a small network's first layer after five passes, and the largest of its filters."""
    torch.manual_seed(0)
    data = fashion_mnist.load("fashion-mnist-sample")
    x, y = torch.tensor(data.train_images), torch.tensor(data.train_labels)
    layer = GaussianDerivativeConv2d(1, 16, kernel_size=7, order=3, bases=4, stride=2)
    model = nn.Sequential(layer, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 7 * 7, 10))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for batch in torch.cat([torch.randperm(len(x)) for _ in range(5)]).split(50):
        optimiser.zero_grad()
        F.cross_entropy(model(x[batch, None] / 255), y[batch]).backward()
        optimiser.step()
    with torch.no_grad():
        geometry = torch.cat((layer.sigma[0], layer.mu[0], layer.theta[0, :, None]), -1)  # (N, 5)
        shares = layer.omega[0, :, 0] * layer.kernels()[0].flatten(1).norm(dim=1)  # (filters, N)
        share = shares[layer.filters()[: len(shares), 0].flatten(1).norm(dim=1).argmax()]
    shapes = [
        {"p": p, "q": q, **{name: round(value, 3) for name, value in zip(SHAPE, row, strict=True)}}
        for (p, q), row in zip(layer.orders, geometry.tolist(), strict=True)
    ]
    return {"shapes": shapes, "shares": [round(float(c), 2) for c in share / share.abs().max()]}


def kernels(shapes: list[Shape], size: int) -> tuple[Tensor, tuple[Any, ...]]:
    """Kernels (N, size, size) and what gdlayer makes them of."""
    sigma, mu = (torch.tensor([[s[f"{k}1"], s[f"{k}2"]] for s in shapes], dtype=torch.float64) for k in ("sigma", "mu"))
    theta = torch.tensor([s["theta"] for s in shapes], dtype=torch.float64)
    parts = sigma, mu, theta, [(int(s["p"]), int(s["q"])) for s in shapes]
    return gaussian_derivative_kernels(*parts, (size, size)), parts


def response(kernel: Tensor) -> Tensor:
    """Of the photograph to a kernel, the photograph's border going on outside."""
    before = (len(kernel) - 1) // 2
    padding = (before, len(kernel) - 1 - before) * 2
    return F.conv2d(F.pad(photograph()[None, None], padding, "replicate"), kernel[None, None])[0, 0]


def spectrum(kernel: Tensor, points: int) -> Tensor:
    """|Fourier transform| of the samples at points x points frequencies, 0 in the middle."""
    frequencies = torch.arange(points, dtype=torch.float64) / points - 0.5
    waves = torch.exp(-2j * math.pi * frequencies[:, None] * torch.arange(len(kernel), dtype=torch.float64))
    return (waves @ kernel.to(waves.dtype) @ waves.mT).abs()


def mixture(shapes: list[Shape], shares: list[float], size: int) -> Tensor:
    """The sum of omega_n phi_n, omega_n = c_n / norm of phi_n."""
    phi, _ = kernels(shapes, size)
    weights = torch.tensor(shares, dtype=torch.float64) / phi.flatten(1).norm(dim=1)
    return (weights[:, None, None] * phi).sum(0)


def golden() -> dict[str, Any]:
    def numbers(values: Tensor) -> list[float]:
        return [float(f"{value:.10g}") for value in values.flatten().tolist()]

    def seen(kernel: Tensor) -> list[float]:
        return numbers(response(kernel)[::STEP, ::STEP])

    shapes = []
    for shape, size in SHAPES:
        phi, parts = kernels([shape], size)
        sigma, mu, theta, orders = parts
        report = sampling_report(phi[None], sigma[None], mu[None], theta[None], orders, 0.1)
        shapes.append(
            {
                "shape": shape,
                "size": size,
                "kernel": numbers(phi),
                "sampling": float(report.sampling),
                "truncation": float(report.truncation),
                "spectrum": numbers(spectrum(phi[0], POINTS)),
                "response": seen(phi[0]),
            }
        )
    mixtures = []
    for name, scale, size, own in (
        ("jet", 2.0, 13, [0.1, -0.6, -0.6, 0.3, 0.6, -0.2, 0.05, 0.4, -1.0, 0.7]),
        ("trained", 1.5, 10, None),
    ):
        units, learned = basis(name)
        larger = [{k: v * scale if k[:-1] in ("sigma", "mu") else v for k, v in unit.items()} for unit in units]
        filtered = mixture(larger, own or learned, size)
        mixtures.append(
            {"basis": name, "scale": scale, "size": size, "shares": own or learned}
            | {"filter": numbers(filtered), "response": seen(filtered)}
        )
    return {"points": POINTS, "step": STEP, "shapes": shapes, "mixtures": mixtures}


def draw_still() -> None:
    """A kernel, its spectrum and its response; a mixture and its response."""
    phi = kernels([SHAPES[0][0]], SHAPES[0][1])[0][0]
    units, shares = basis("trained")
    filtered = mixture(units, shares, 15)
    panels = {
        "kernel (1, 0)": phi,
        "its Fourier magnitude": spectrum(phi, 64),
        "its response": response(phi),
        "a trained filter": filtered,
        "its response ": response(filtered),
    }
    figure, axes = plt.subplots(1, len(panels), figsize=(10, 2.4), layout="constrained")
    for axis, (title, image) in zip(axes, panels.items(), strict=True):
        limit = image.abs().max().item()
        axis.imshow(image, cmap="RdBu_r", vmin=-limit, vmax=limit)
        axis.set(xticks=[], yticks=[], title=title.strip())
    figure.savefig(STILL, dpi=110, facecolor="white", metadata={"Software": None})


if __name__ == "__main__":
    main()
