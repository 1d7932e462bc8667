"""Fits trained filters by Gaussian derivatives and by controls: ``python workflow/fit_learned.py FOLDER [PART ...]``.

Parts are "squeezenet", "photos" and "depthwise", all unless told. Each leaves two files in FOLDER, whose place in the
repository is ``data/fits``: PART.csv, what each basis misses of the filters or what accuracy it leaves, and PART.json,
where and by which code that was measured.
"""

import csv
import hashlib
import io
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from make_checkpoints import FOLDER as CHECKPOINTS
from make_checkpoints import depthwise_network
from torch import Tensor, nn

from gdlayer import GaussianDerivativeConv2d, fit_filters, gaussian_derivative_kernels
from gdlayer._plumbing.checks import one_of
from gdlayer.basis import jet_orders
from gdlayer.datasets import balanced_subset, cats_dogs, fashion_mnist
from gdlayer.datasets.weights import squeezenet_weights
from gdlayer.networks.depthwise import DepthwiseNet
from gdlayer.networks.squeezenet import BlueGreenRed, imagenet_squeezenet
from gdlayer.trials.provenance import provenance
from gdlayer.trials.record import write_beside
from gdlayer.trials.training import accuracy, to_channels_last
from gdlayer.trials.weights import load_kept

ORDERS = range(5)
"""K of the jets; a basis has N = (K + 1)(K + 2) / 2 members."""
STEPS = 60
"""Of the fit of sigma, mu and theta."""
SIGMAS = torch.linspace(0.5, 3, 26, dtype=torch.float64)
"""Among which the one scale of a plain jet is chosen."""
DRAWS = 100
"""Of random bases of which the residual is measured."""
FEW_DRAWS = 3
"""Of what takes long: fits to random filters, and accuracies that random bases leave."""
SHARED = (1, 8)
"""Numbers of bases that the filters of a layer share."""
PHOTOS = {"train": 2000, "val": 600}
"""Of cats and dogs: to fit the last layer, and to measure."""
RESOLUTION = 96
RIDGE = 10.0
FIELDS: tuple[str, ...] = (
    "network",
    "layer",
    "filters",
    "basis",
    "order",
    "members",
    "bases",
    "draw",
    "residual",
    "accuracy",
)

Row = dict[str, Any]
Approximate = Callable[[Tensor], Tensor]
"""Filters (f_out, f_in, k, k) -> their best approximation by a basis."""


def members(K: int) -> int:
    """N of the K-jet."""
    return (K + 1) * (K + 2) // 2


def residual(filters: Tensor, fitted: Tensor) -> float:
    """|W - fitted| / |W|."""
    return float((filters - fitted).norm() / filters.norm())


def projected(filters: Tensor, rows: Tensor) -> Tensor:
    """The filters (f_out, f_in, k, k) projected on the span of the rows (N, k k), or of as many as are independent."""
    _, singular, basis = torch.linalg.svd(rows, full_matrices=False)
    basis = basis[singular > 1e-10 * singular[0]]
    return (filters.flatten(2) @ basis.T @ basis).view_as(filters)


def plain_jet(K: int) -> Approximate:
    """Round, centred derivatives at the one scale that suits the filters best."""

    def approximate(filters: Tensor) -> Tensor:
        size = filters.shape[-1]
        found = [projected(filters, _round_kernels(float(sigma), K, size)) for sigma in SIGMAS]
        return min(found, key=lambda fitted: residual(filters, fitted))

    return approximate


def fitted_jet(K: int, bases: int | None) -> Approximate:
    """B bases of the layer, or one per filter, their sigma, mu and theta fitted too, from a random start."""

    def approximate(filters: Tensor) -> Tensor:
        f_out, f_in, size, _ = filters.shape
        groups = f_out if f_in == 1 else 1
        torch.manual_seed(0)
        layer = GaussianDerivativeConv2d(
            f_in * groups, f_out, size, groups=groups, order=K, bases=bases or f_out, bias=False, dtype=torch.float64
        )
        fit_filters(layer, filters, steps=STEPS)
        return layer.filters().detach()

    return approximate


def cosines(K: int) -> Approximate:
    """The N cosines of the discrete cosine transform with u + v <= K: as smooth, and without a scale."""

    def approximate(filters: Tensor) -> Tensor:
        size = filters.shape[-1]
        at = torch.arange(size, dtype=torch.float64) + 0.5
        wave = torch.stack([torch.cos(math.pi * u * at / size) for u in range(min(K + 1, size))])
        orders = [(u, v) for u in range(len(wave)) for v in range(len(wave)) if u + v <= K]
        return projected(filters, torch.stack([torch.outer(wave[v], wave[u]).flatten() for u, v in orders]))

    return approximate


def principal(K: int, bases: int = 1) -> Approximate:
    """The N principal components of each of B groups of filters: no basis of N members holds more."""

    def approximate(filters: Tensor) -> Tensor:
        parts = filters.chunk(bases)
        directions = [torch.linalg.svd(part.flatten(0, 1).flatten(1), full_matrices=False)[2] for part in parts]
        return torch.cat([projected(part, rows[: members(K)]) for part, rows in zip(parts, directions, strict=True)])

    return approximate


def random_basis(K: int, draw: int) -> Approximate:
    """N random directions."""

    def approximate(filters: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(draw)
        taps = filters.shape[-1] ** 2
        return projected(filters, torch.randn(members(K), taps, generator=generator, dtype=torch.float64))

    return approximate


def noise(filters: Tensor, draw: int) -> Tensor:
    """As many random filters, every tap independent."""
    generator = torch.Generator().manual_seed(draw)
    return torch.randn(filters.shape, generator=generator, dtype=filters.dtype)


def same_covariance(filters: Tensor, draw: int) -> Tensor:
    """As many random filters, normal with the second moments of the given ones, over all taps of all input maps.

    They are as smooth, and their input maps as much alike.
    """
    rows = filters.flatten(1)  # (f_out, f_in k k)
    _, singular, directions = torch.linalg.svd(rows, full_matrices=False)
    generator = torch.Generator().manual_seed(draw)
    weights = torch.randn(len(rows), len(singular), generator=generator, dtype=rows.dtype) / math.sqrt(len(rows))
    return ((weights * singular) @ directions).view_as(filters)


def approximations(taps: int, draws: int) -> Iterator[tuple[dict[str, Any], Approximate]]:
    """What filters of so many taps are approximated by, and how the table names it.

    A basis has fewer members than a filter has taps. Where each filter has a basis of its own, K is at most 1, or the
    basis would have more numbers than the filter.
    """
    for K in (K for K in ORDERS if members(K) < taps):
        of = {"order": K, "members": members(K), "bases": 1}
        yield of | {"basis": "jet"}, plain_jet(K)
        yield of | {"basis": "cosines"}, cosines(K)
        for draw in range(draws):
            yield of | {"basis": "random", "draw": draw}, random_basis(K, draw)
        for bases in SHARED:
            yield of | {"basis": "fitted jet", "bases": bases}, fitted_jet(K, bases)
            yield of | {"basis": "principal", "bases": bases}, principal(K, bases)
        if K <= 1:
            yield of | {"basis": "fitted jet", "bases": "each"}, fitted_jet(K, None)


def residuals(network: str, layer: str, weight: Tensor, fitted: bool = True) -> Iterator[Row]:
    """Rows for the trained filters of a layer, and of fitted jets, if they are asked for, for random filters too."""
    W = weight.detach().double()
    random = {"noise": noise, "same covariance": same_covariance}
    others = [
        (kind, draw, make(W, draw)) for kind, make in random.items() for draw in range(FEW_DRAWS if fitted else 0)
    ]
    for named, approximate in approximations(W[0, 0].numel(), DRAWS):
        of = {"network": network, "layer": layer, **named}
        if named["basis"] != "fitted jet":
            yield of | {"filters": "trained", "residual": residual(W, approximate(W))}
        elif fitted:
            yield of | {"filters": "trained", "residual": residual(W, approximate(W))}
            for kind, draw, other in others:
                yield of | {"filters": kind, "draw": draw, "residual": residual(other, approximate(other))}


def accuracies(network: str, convolutions: Sequence[nn.Conv2d], measure: Callable[[], float]) -> Iterator[Row]:
    """Rows for the network with the filters of all these convolutions replaced, and nothing trained after."""
    trained = [conv.weight.detach().clone() for conv in convolutions]
    of = {"network": network, "layer": "all", "filters": "trained"}
    yield of | {"basis": "none", "accuracy": measure()}
    for named, approximate in approximations(trained[0][0, 0].numel(), FEW_DRAWS):
        with torch.no_grad():
            for conv, weight in zip(convolutions, trained, strict=True):
                conv.weight.copy_(approximate(weight.double()))
        yield of | named | {"accuracy": measure()}


def of_squeezenet() -> Iterator[Row]:
    """The 3 x 3 filters of SqueezeNet; jets are fitted in the first layer, which has the fewest."""
    for name, array in squeezenet_weights().items():
        if array.shape[2:] == (3, 3):
            layer = name.removesuffix(".weight")
            yield from residuals("squeezenet", layer, torch.from_numpy(array), fitted=layer == "conv1")


@torch.no_grad()
def of_photos() -> Iterator[Row]:
    """SqueezeNet with its first layer replaced; a linear classifier of cats and dogs takes the place of its last layer.

    It goes by the means of the last 512 maps, and is fitted once, by ridge regression, with the published filters.
    """
    network = imagenet_squeezenet().eval()
    first = network.features[0]
    assert isinstance(first, nn.Conv2d)
    data = cats_dogs.load(cats_dogs.PACK, RESOLUTION)
    drawn = balanced_subset(data.train_labels, PHOTOS["train"], 0)
    held_out = balanced_subset(data.val_labels, PHOTOS["val"], 0)
    pixels = BlueGreenRed()

    def features(images: np.ndarray) -> Tensor:
        batches = torch.from_numpy(images).permute(0, 3, 1, 2).split(100)
        return torch.cat([network.features(pixels(to_channels_last(batch))).mean((-2, -1)) for batch in batches])

    known, signs = features(data.train_images[drawn]).double(), torch.from_numpy(2 * data.train_labels[drawn] - 1)
    mean, std = known.mean(0), known.std(0).clamp_min(1e-6)
    x = (known - mean) / std
    weights = torch.linalg.solve(x.T @ x + RIDGE * torch.eye(x.shape[1], dtype=x.dtype), x.T @ signs.double())

    def measure() -> float:
        found = (features(data.val_images[held_out]).double() - mean) / std @ weights > 0
        return float((found == torch.from_numpy(data.val_labels[held_out] == 1)).double().mean())

    yield from accuracies("squeezenet", [first], measure)


def of_depthwise() -> Iterator[Row]:
    """The depthwise network of ``make_checkpoints.py``, measured on the test images of Fashion-MNIST."""
    model = depthwise_network()
    load_kept(model, CHECKPOINTS / "depthwise.json")
    network = model[1]
    assert isinstance(network, DepthwiseNet)
    convolutions = network.depthwise()
    for name, conv in convolutions.items():
        yield from residuals("depthwise", name, conv.weight)
    data = fashion_mnist.load(fashion_mnist.FULL)
    test = torch.from_numpy(data.test_images[:, None]), torch.from_numpy(data.test_labels)
    yield from accuracies("depthwise", list(convolutions.values()), lambda: accuracy(model, *test, "fp32"))


PARTS = {"squeezenet": of_squeezenet, "photos": of_photos, "depthwise": of_depthwise}


def measure(rows: Iterator[Row], path: Path) -> None:
    """Writes the rows to ``path``, a CSV, and where they come from beside it."""
    started, clock = datetime.now(UTC), time.perf_counter()
    stream = io.StringIO(newline="")
    table: csv.DictWriter[str] = csv.DictWriter(stream, FIELDS, lineterminator="\n")
    table.writeheader()
    for row in rows:
        table.writerow({name: f"{value:.6f}" if isinstance(value, float) else value for name, value in row.items()})
    content = stream.getvalue().encode()
    made = {
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - clock, 3),
        **provenance("cpu", torch.get_num_threads()),
        "table_sha256": hashlib.sha256(content).hexdigest(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_beside(path, content)
    write_beside(path.with_suffix(".json"), (json.dumps(made, indent=1) + "\n").encode())


def main(folder: Path, *parts: str) -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for part in parts or PARTS:
        measure(PARTS[one_of("part", part, PARTS)](), folder / f"{part}.csv")
        print(folder / f"{part}.csv", flush=True)


def _round_kernels(sigma: float, K: int, size: int) -> Tensor:
    """Those of the K-jet: (N, size size)."""
    N = members(K)
    zero = torch.zeros(N, 2, dtype=torch.float64)
    return gaussian_derivative_kernels(zero + sigma, zero, zero[:, 0], jet_orders(K), (size, size)).flatten(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
