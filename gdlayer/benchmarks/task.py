"""What is measured of a layer: training steps and forward passes on one input, side by side with other layers."""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from gdlayer.benchmarks.goals import INFERENCE, TRAINING, Shape
from gdlayer.benchmarks.timing import compare
from gdlayer.conv import GaussianDerivativeConv2d
from gdlayer.experiments.training import channels_last

Rows = list[dict[str, Any]]

RATE = 1e-5
"""Of Adam where a step counts in: parameters change, but stay where they are."""


class Task:
    """Work of one shape on one input.

    Parameters
    ----------
    shape : Shape
    device : "cpu" or "cuda"
    run : TRAINING, FIRST_LAYER or INFERENCE
    precision : "fp32" or "bf16"
        The latter by autocast.
    images_last : bool
        The input in channels_last memory.
    optimise : bool
        With a step of Adam in every training step.
    """

    def __init__(
        self,
        shape: Shape,
        device: str,
        run: str = TRAINING,
        *,
        precision: str = "fp32",
        images_last: bool = False,
        optimise: bool = False,
    ) -> None:
        torch.manual_seed(0)
        x = torch.randn(shape.batch, shape.in_channels, shape.size, shape.size, device=device)
        self.x = (channels_last(x) if images_last else x).requires_grad_(run == TRAINING)
        self.shape = shape
        self.device = device
        self.run = run
        self.precision = precision
        self.optimise = optimise

    def compare(
        self,
        layers: Mapping[str, nn.Module],
        seconds: float,
        against: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Rows:
        """A row for each layer.

        Parameters
        ----------
        layers : {name: layer}
            "separated/factorised" is a layer and its algorithm; for a layer that chooses, the row has what it chose.
        seconds : float
        against : {name: name}
            The reference of each layer; without, it is the first for all others.
        **options :
            As :func:`~gdlayer.benchmarks.timing.compare`.
        """
        first, *others = layers
        functions = {name: self.function(layer.to(self.device)) for name, layer in layers.items()}
        times = compare(functions, against or dict.fromkeys(others, first), seconds=seconds, **options)
        common = {**self.shape._asdict(), "run": self.run}
        return [{**self.identify(name, layer), **common, **times[name]} for name, layer in layers.items()]

    def function(self, layer: nn.Module) -> Callable[[], None]:
        """What is timed."""
        grad: Tensor | None = None
        optimiser = torch.optim.Adam(layer.parameters(), lr=RATE, foreach=True) if self.optimise else None

        def train() -> None:
            nonlocal grad
            layer.zero_grad()
            self.x.grad = None
            with self.autocast():
                y = layer(self.x)
            if grad is None:
                grad = torch.randn_like(y)
            y.backward(grad)
            if optimiser:
                optimiser.step()

        @torch.no_grad()
        def infer() -> None:
            with self.autocast():
                layer(self.x)

        return infer if self.run == INFERENCE else train

    def identify(self, name: str, layer: nn.Module) -> dict[str, str]:
        """The fields of a row that say which layer it is of."""
        layer_name, _, algorithm = name.partition("/")
        fields = {"layer": layer_name} | ({"algorithm": algorithm} if algorithm else {})
        if isinstance(layer, GaussianDerivativeConv2d) and layer.algorithm == "auto":
            with self.autocast(), torch.set_grad_enabled(self.run != INFERENCE):
                fields["algorithm"] = layer._cheapest(self.x)
        return fields

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16")

    def results(self, layer: nn.Module) -> list[Tensor]:
        """The output, and the gradients of the parameters for the same random gradient of the output every time."""
        layer.zero_grad()
        with self.autocast():
            y = layer(self.x)
        grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y)
        y.backward(grad)
        return [t.detach().float() for t in (y, *(p.grad for p in layer.parameters() if p.grad is not None))]

    def peak_bytes(self, layer: nn.Module) -> int:
        """The most that tensors take in a training step: parameters, input, the output's gradient and what is made."""
        layer.to(self.device).zero_grad()
        self.x.grad = None
        out = torch.randn(self.shape.batch, self.shape.out_channels, self.shape.size, self.shape.size)
        grad = out.to(self.device)
        there = sum(t.nbytes for t in (self.x, grad, *layer.parameters()))
        if self.device == "cuda":
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            layer(self.x).backward(grad)
            return there + torch.cuda.max_memory_allocated() - before
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler announces itself
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            layer(self.x).backward(grad)
        return there + _most(profiler)


def _most(profiler: profile) -> int:
    """The highest sum of what was allocated and freed."""
    results = profiler.profiler and profiler.profiler.kineto_results
    events: Any = results.events() if results else []
    changes = sorted((event for event in events if event.name() == "[memory]"), key=lambda event: event.start_ns())
    return max(accumulate((event.nbytes() for event in changes), initial=0))
