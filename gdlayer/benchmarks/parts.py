"""The parts of the benchmark. A part is a list of jobs; a job returns rows of the record."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from tempfile import TemporaryDirectory
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gdlayer.algorithms import SEPARATED, WORK, Sizes
from gdlayer.basis import SAMPLINGS, jet_orders
from gdlayer.benchmarks.goals import (
    CHOICE_SHAPES,
    FIRST,
    FIRST_LAYER,
    GROWTH,
    HELD_OUT_SHAPES,
    INFERENCE,
    ORDER,
    PRECISIONS,
    SHAPES,
    TRAINING,
    Shape,
)
from gdlayer.benchmarks.measured_layers import AuthorsOrder, Rectified, Synthesis, conv2d, ours
from gdlayer.benchmarks.peers import INSTALL, PEERS
from gdlayer.benchmarks.task import RATE, Rows, Task
from gdlayer.benchmarks.timing import compare, rounded
from gdlayer.datasets import fashion_mnist
from gdlayer.experiments.table1.layers import LAYERS
from gdlayer.experiments.table1.prepare import build_network
from gdlayer.experiments.table1.trial import Table1Trial
from gdlayer.geometry import GEOMETRY
from gdlayer.trials.memory import keep_freed_memory
from gdlayer.trials.settings import hyperparameters
from gdlayer.trials.training import Captured, Recipe, forward

ALGORITHM_SHAPES = (*SHAPES, Shape(32, 1, 16, 28, 7, 1), Shape(32, 16, 32, 28, 7, 1), Shape(32, 32, 64, 14, 7, 1))
HOPELESS = 5
"""An algorithm whose first call takes more than this multiple of nn.Conv2d's time is not called again."""
DEPTHWISE_SHAPES = tuple(Shape(32, 64, 64, 28, size, 8) for size in (3, 5, 7))
COMPILED = {
    "full": Shape(32, 16, 32, 28, 7, 8),
    "separated": Shape(32, 64, 64, 14, 7, 16),
    "depthwise": DEPTHWISE_SHAPES[0],
}
SAMPLED_SHAPES = (FIRST, GROWTH)
GRID = tuple(
    Shape(max(6272 // size**2, 1), 64, 64, size, kernel_size, 8)
    for kernel_size in (3, 5, 7, 9, 11, 13, 15, 21, 31)
    for size in (14, 28, 56, 112)
)
"""Kernel sizes by image sizes, with about as many pixels in a batch."""
LARGEST_SEPARATED = 15
"""Above this kernel size a separated layer is left out of the part "grid", to save its time."""
PEER_SHAPE = Shape(32, 16, 32, 28, 7, 8)
VARIED = {
    "bases": (1, 2, 4, 8, 16, 32, 64),
    "order": (0, 1, 2, 3, 4, 5),
    "kernel_size": (3, 5, 7, 9, 11, 15, 21, 31),
    "in_channels": (8, 16, 32, 64, 128),
    "out_channels": (16, 32, 64, 128, 256),
}
"""The sizes that differ from the shape GROWTH, one at a time."""
PEAK_SIZES = {"cpu": (512, 1024, 2048), "cuda": (4096, 8192)}
"""Sides of the square matrices whose products show how fast a device can multiply."""
PEAK_SHAPE = Shape(32, 128, 128, 14, 7, 1)
"""A large convolution, which some libraries compute faster than a product."""
COPIED_BYTES = 1 << 29
"""More than a cache holds."""
NETWORKS = ("free-form-same-support", "ours", "ours-separated")
"""The networks of Table 1 whose training step is measured."""


@dataclass(frozen=True)
class Job:
    """``run(device, effort)`` returns some rows of a part; ``effort`` scales the time it takes."""

    name: str
    seconds: float
    """About how long it takes at effort 1."""
    run: Callable[[str, float], Rows]


def goals() -> Iterator[Job]:
    """Our layer against nn.Conv2d, the deployed layer against nn.Conv2d, and the authors' order against ours."""
    for shape in SHAPES:
        yield Job(f"{shape} training", 5, partial(_training, shape, TRAINING))
        if shape == FIRST:
            yield Job(f"{shape} as the first layer", 5, partial(_training, shape, FIRST_LAYER))
        yield Job(f"{shape} deployed", 2, partial(_deployed, shape))
        yield Job(f"{shape} authors' order", 4, partial(_authors, shape))


def _training(shape: Shape, run: str, device: str, effort: float) -> Rows:
    layers = {"conv2d": conv2d(shape), "full": ours(shape), "separated": ours(shape, separated=True)}
    return Task(shape, device, run).compare(layers, 4 * effort)


def _deployed(shape: Shape, device: str, effort: float) -> Rows:
    layers = {"conv2d": conv2d(shape), "conv2d again": conv2d(shape), "deployed": ours(shape).deploy()}
    return Task(shape, device, INFERENCE).compare(layers, 2 * effort)


def _authors(shape: Shape, device: str, effort: float) -> Rows:
    full, separated = ours(shape), ours(shape, separated=True)
    layers = {
        "full": full,
        "full, authors' order": AuthorsOrder(full),
        "separated": separated,
        "separated, authors' order": AuthorsOrder(separated),
    }
    against = {f"{name}, authors' order": name for name in ("full", "separated")}
    rows = Task(shape, device).compare(layers, 2 * effort, against)
    return [row for row in rows if row["layer"] in against]


def algorithms() -> Iterator[Job]:
    """Every algorithm, to compare with the cost model."""
    for shape in ALGORITHM_SHAPES:
        for run in (TRAINING, INFERENCE):
            yield Job(f"{shape} {run}", 4, partial(_algorithms, shape, run))


def _algorithms(shape: Shape, run: str, device: str, effort: float) -> Rows:
    task = Task(shape, device, run)
    rows = _with_choice(task, task.compare(_every_algorithm(shape), 2 * effort, hopeless=HOPELESS))
    if run == INFERENCE:
        for row in rows:
            row |= operations(row.get("algorithm", "dense"), shape)
    return rows


def _with_choice(task: Task, rows: Rows) -> Rows:
    """The rows of all algorithms, with a field that says which "auto" takes."""
    auto = {"full": ours(task.shape).to(task.device), "separated": ours(task.shape, separated=True).to(task.device)}
    chosen = [task.identify(name, layer) for name, layer in auto.items()]
    for row in rows:
        if "algorithm" in row:
            row["chosen"] = {name: row[name] for name in ("layer", "algorithm")} in chosen
    return rows


def choice() -> Iterator[Job]:
    """What "auto" takes of a separated layer beside the other algorithm, in every precision and memory format.

    A layer of up to 3 maps is taken for the first of a network, whose input needs no gradient.
    """
    for shape in (*CHOICE_SHAPES, *HELD_OUT_SHAPES):
        for name in PRECISIONS:
            for run in (FIRST_LAYER if shape.in_channels <= 3 else TRAINING, INFERENCE):
                for images_last in (False, True):
                    yield Job(
                        f"{shape} {name} {run}{', channels_last' * images_last}",
                        2,
                        partial(_choice, shape, run, name, images_last),
                    )


def _choice(shape: Shape, run: str, name: str, images_last: bool, device: str, effort: float) -> Rows:
    task = Task(shape, device, run, precision=name, images_last=images_last)
    layers = {"conv2d": conv2d(shape), **_separated(shape)}
    rows = _with_choice(task, task.compare(layers, effort / 2, hopeless=HOPELESS))
    return [row | {"precision": name, "images_last": images_last} for row in rows]


def _every_algorithm(shape: Shape) -> dict[str, nn.Module]:
    return {"conv2d": conv2d(shape), "full/dense": ours(shape), **_separated(shape)}


def _separated(shape: Shape) -> dict[str, nn.Module]:
    return {f"separated/{algorithm}": ours(shape, algorithm=algorithm, separated=True) for algorithm in SEPARATED}


def operations(algorithm: str, shape: Shape) -> dict[str, int]:
    """A forward pass on a batch in float32: its multiply-adds, and the bytes that its steps read and write.

    There are two intermediate results, before and after the depthwise convolution.
    """
    pixels = shape.size**2
    kernel_size = (shape.kernel_size, shape.kernel_size)
    n = len(jet_orders(ORDER))
    sizes = Sizes(shape.in_channels, shape.out_channels, n, shape.bases, kernel_size, pixels, pixels)
    done = WORK[algorithm](sizes)
    multiply_adds = done.dense + done.pointwise + done.depthwise
    ends = pixels * (shape.in_channels + shape.out_channels)
    between = 2 * done.depthwise // shape.kernel_size**2
    weights = multiply_adds // pixels  # each is used once per pixel
    return {"multiply_adds": shape.batch * multiply_adds, "bytes": 4 * (shape.batch * (ends + 2 * between) + weights)}


def precision() -> Iterator[Job]:
    """Images in channels_last memory, in float32 and under bfloat16 autocast; with the errors against float32."""
    for shape in SHAPES:
        for name in PRECISIONS:
            yield Job(f"{shape} {name}", 2, partial(_precision, shape, name))


def _precision(shape: Shape, name: str, device: str, effort: float) -> Rows:
    layers = {"conv2d": conv2d(shape), "full": ours(shape), "separated": ours(shape, separated=True)}
    task = Task(shape, device, precision=name, images_last=True)
    if task.identify("separated", layers["separated"]).get("algorithm") == "dense":
        layers["separated/factorised"] = ours(shape, separated=True, algorithm="factorised")
    rows = task.compare(layers, 2 * effort)
    exact = Task(shape, device)
    for row, layer in zip(rows, layers.values(), strict=True):
        row["precision"] = name
        pairs = zip(task.results(layer), exact.results(layer), strict=True)
        output, *gradients = (float((a - b).abs().max() / b.abs().max()) for a, b in pairs)
        row |= {"output_error": rounded(output), "gradient_error": rounded(max(gradients))}
    return rows


def compiled() -> Iterator[Job]:
    """Training steps under torch.compile, and the time to compile."""
    for name, shape in COMPILED.items():
        yield Job(f"{shape} {name}", 40, partial(_compiled, shape, name))


def _compiled(shape: Shape, name: str, device: str, effort: float) -> Rows:
    torch.compiler.reset()  # or it compiles for the sizes of the last job and this one
    layers = {of: Rectified(layer) for of, layer in _with_conv2d(name, shape).items()}
    compiled = {f"{of}, compiled": deepcopy(layer) for of, layer in layers.items()}
    for layer in compiled.values():
        layer.compile(fullgraph=True)
    against = {name: "conv2d", f"{name}, compiled": "conv2d, compiled"}
    try:
        rows = Task(shape, device).compare(layers | compiled, 2 * effort, against)
    except RuntimeError as error:
        return [{"layer": f"{name}, compiled", **shape._asdict(), "unavailable": str(error).splitlines()[0]}]
    with TemporaryDirectory() as empty:
        for row, of in zip(rows[len(layers) :], layers, strict=True):
            with (
                patch.dict(os.environ, TORCHINDUCTOR_CACHE_DIR=f"{empty}/{of}"),
                ProcessPoolExecutor(1, get_context("spawn")) as process,
            ):
                row["compile_seconds"] = process.submit(_first_step_seconds, shape, name, of, device).result()
    return rows


def _first_step_seconds(shape: Shape, name: str, of: str, device: str) -> float:
    """The time of the first training step of a compiled layer, in a process that has compiled nothing before."""
    layer = Rectified(_with_conv2d(name, shape)[of]).to(device)
    layer.compile(fullgraph=True)
    step = Task(shape, device).function(layer)
    start = time.perf_counter()
    step()
    return rounded(time.perf_counter() - start)


def _with_conv2d(name: str, shape: Shape) -> dict[str, nn.Module]:
    """An nn.Conv2d and our layer, which is "full", "separated" or "depthwise"."""
    groups = shape.in_channels if name == "depthwise" else 1
    return {"conv2d": conv2d(shape, groups), name: ours(shape, separated=name == "separated", groups=groups)}


def depthwise() -> Iterator[Job]:
    """Training steps of depthwise layers, each map with filters of its own."""
    for shape in DEPTHWISE_SHAPES:
        yield Job(str(shape), 3, partial(_depthwise, shape))


def _depthwise(shape: Shape, device: str, effort: float) -> Rows:
    return Task(shape, device).compare(_with_conv2d("depthwise", shape), 3 * effort)


def sampling() -> Iterator[Job]:
    """What the samplings of the kernels cost: training steps, and the synthesis of the filters by itself."""
    for shape in SAMPLED_SHAPES:
        yield Job(str(shape), 5, partial(_sampling, shape))


def _sampling(shape: Shape, device: str, effort: float) -> Rows:
    shared = {name: GEOMETRY if name == "hybrid" else () for name in SAMPLINGS}
    layers = {f"full, {name}": ours(shape, sampling=name, shared=shared[name]) for name in SAMPLINGS}
    alone = {f"synthesis, {name}": Synthesis(ours(shape, sampling=name, shared=shared[name])) for name in SAMPLINGS}
    against = dict.fromkeys(layers, "conv2d") | dict.fromkeys(alone, "synthesis, point")
    del against["synthesis, point"]
    return Task(shape, device).compare({"conv2d": conv2d(shape), **layers, **alone}, 5 * effort, against)


def grid() -> Iterator[Job]:
    """Layers of every kernel and image size against nn.Conv2d, the cheap large kernels among them."""
    for shape in GRID:
        for run in (TRAINING, INFERENCE):
            yield Job(
                f"{shape} {run}",
                1 + shape.kernel_size**2 * shape.batch * shape.size**2 / 5e5,
                partial(_grid, shape, run),
            )


def _grid(shape: Shape, run: str, device: str, effort: float) -> Rows:
    """One shape and run. Hybrid layers have order 2, as the recommended one."""
    whole = {"conv2d": conv2d(shape), "full": ours(shape)}
    if shape.kernel_size <= LARGEST_SEPARATED:
        whole["separated"] = ours(shape, separated=True)
    apart = {"depthwise conv2d": conv2d(shape, shape.in_channels), "depthwise": ours(shape, groups=shape.in_channels)}
    hybrids = {"hybrid": {}, "hybrid, round": {"isotropic": True}, "depthwise hybrid": {"groups": shape.in_channels}}
    cheap = {name: ours(shape, order=2, shared=GEOMETRY, sampling="hybrid", **own) for name, own in hybrids.items()}
    layers = {**whole, **apart, **cheap}
    against = {name: f"{'depthwise ' * name.startswith('depthwise')}conv2d" for name in layers}
    del against["conv2d"], against["depthwise conv2d"]
    return Task(shape, device, run).compare(layers, effort / 2, against, rounds=3)


def memory() -> Iterator[Job]:
    """Peak memory of a training step."""
    for shape in SHAPES:
        yield Job(str(shape), 3, partial(_memory, shape))


def _memory(shape: Shape, device: str, effort: float) -> Rows:
    task, rows = Task(shape, device), []
    for name, layer in _every_algorithm(shape).items():
        peak = task.peak_bytes(layer)
        row = {**task.identify(name, layer), **shape._asdict(), "run": TRAINING, "peak_bytes": peak}
        rows.append(row | ({"against": "conv2d", "ratio": rounded(peak / rows[0]["peak_bytes"])} if rows else {}))
    return rows


def growth() -> Iterator[Job]:
    """Training steps with one size at a time smaller or larger."""
    for name, values in VARIED.items():
        for value in values:
            yield Job(f"{name.replace('_', ' ')} {value}", 1.3, partial(_growth, name, value))


def _growth(name: str, value: int, device: str, effort: float) -> Rows:
    shape, order = (GROWTH, value) if name == "order" else (GROWTH._replace(**{name: value}), ORDER)
    full = ours(shape, order=order)
    layers = {
        "conv2d": conv2d(shape),
        "full": full,
        "separated": ours(shape, order=order, separated=True),
        "synthesis": Synthesis(full),
    }
    return [
        {**row, "varied": name, "order": order, "kernels": len(jet_orders(order))}
        for row in Task(shape, device).compare(layers, effort)
    ]


def roofline() -> Iterator[Job]:
    """The machine's peaks: products of large matrices, a large convolution, and a large copy."""
    yield Job("peaks", 3, _peaks)


def _peaks(device: str, effort: float) -> Rows:
    rows = []
    for name, dtype in zip(PRECISIONS, (torch.float32, torch.bfloat16), strict=True):
        for n in PEAK_SIZES[device]:
            a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
            found = compare({"product": partial(torch.mm, a, b)}, {}, seconds=effort / 2)["product"]
            rate = rounded(n**3 / found["seconds"])
            rows.append({"layer": "product", "size": n, "precision": name, **found, "multiply_adds_a_second": rate})
        (row,) = Task(PEAK_SHAPE, device, INFERENCE, precision=name).compare({"conv2d": conv2d(PEAK_SHAPE)}, effort)
        rate = rounded(operations("dense", PEAK_SHAPE)["multiply_adds"] / row["seconds"])
        rows.append({**row, "precision": name, "multiply_adds_a_second": rate})
    source = torch.zeros(COPIED_BYTES // 4, device=device)
    target = torch.empty_like(source)
    found = compare({"copy": partial(target.copy_, source)}, {}, seconds=effort)["copy"]
    rows.append({"layer": "copy", **found, "bytes_a_second": rounded(2 * source.nbytes / found["seconds"])})
    return rows


def peers() -> Iterator[Job]:
    """Other layers made of Gaussians, where their packages are installed."""
    yield Job(str(PEER_SHAPE), 6, _peers)


def _peers(device: str, effort: float) -> Rows:
    layers = {"conv2d": conv2d(PEER_SHAPE), "full": ours(PEER_SHAPE), "separated": ours(PEER_SHAPE, separated=True)}
    task = Task(PEER_SHAPE, device, optimise=True)
    missing: Rows = []
    for name, make in PEERS.items():
        try:
            layer = make(PEER_SHAPE).to(device)
            task.function(layer)()
        except ImportError as error:
            missing.append({"layer": name, **PEER_SHAPE._asdict(), "unavailable": f"{error}: {INSTALL}"})
        except RuntimeError as error:  # some do not run on every device
            missing.append({"layer": name, **PEER_SHAPE._asdict(), "unavailable": str(error).splitlines()[0]})
        else:
            layers[name] = layer
    rows = task.compare(layers, 5 * effort)
    for row, layer in zip(rows, layers.values(), strict=True):
        row["parameters"] = sum(p.numel() for p in layer.parameters())
    return rows + missing


def step() -> Iterator[Job]:
    """A training step of the Table 1 network. It comes last, as it changes how this process allocates memory."""
    for name in PRECISIONS:
        yield Job(f"Table 1 network {name}", 5, partial(_step, name))


def _step(name: str, device: str, effort: float) -> Rows:
    keep_freed_memory()
    steps = {layer: _training_step(layer, name, device) for layer in NETWORKS}
    times = compare(steps, dict.fromkeys(NETWORKS[1:], NETWORKS[0]), seconds=5 * effort)
    return [{"layer": layer, "precision": name, **times[layer]} for layer in NETWORKS]


def _training_step(layer: str, precision: str, device: str) -> Callable[[], None]:
    """One step as in :func:`gdlayer.trials.training.train`, on images of noise."""
    trial = Table1Trial(layer=layer, dataset=fashion_mnist.SAMPLE, n_train=1000, seed=0, profile="quick")
    settings = hyperparameters(trial)
    batch = Recipe.of(settings, trial.seed).batch_size
    torch.manual_seed(0)
    images = torch.randint(256, (8 * batch, 1, 28, 28), dtype=torch.uint8, device=device)
    labels = torch.randint(10, (8 * batch,), device=device)
    model = build_network(LAYERS[layer].maker(), settings).to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE, fused=True, capturable=device == "cuda")

    def step(chosen: Tensor) -> None:
        loss = F.cross_entropy(forward(model, images[chosen], precision), labels[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    chosen = torch.randperm(len(images))[:batch].to(device)
    return partial(Captured(step, chosen.clone()) if device == "cuda" else step, chosen)


PARTS: dict[str, Callable[[], Iterator[Job]]] = {
    part.__name__: part
    for part in (
        goals,
        algorithms,
        choice,
        growth,
        roofline,
        precision,
        memory,
        compiled,
        depthwise,
        sampling,
        grid,
        peers,
        step,
    )
}
"""The parts by name, in the order of the runs."""
