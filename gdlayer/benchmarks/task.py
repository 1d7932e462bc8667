"""Training steps and forward passes of several layers on one input, timed side by side."""

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
from gdlayer.trials.training import to_channels_last

Rows = list[dict[str, Any]]

RATE = 1e-5
"""Learning rate of Adam where its step is timed too; so small that the parameters hardly change."""


class Task:
    """One shape, one input and one kind of run, for any layer of that shape.

    Parameters
    ----------
    shape : Shape
    device : "cpu" or "cuda"
    run : TRAINING, FIRST_LAYER or INFERENCE
    precision : "fp32" or "bf16"
        "bf16" is autocast to bfloat16.
    images_last : bool
        Whether the input is in channels_last memory.
    optimise : bool
        Whether a training step includes a step of Adam.
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
        self.x = (to_channels_last(x) if images_last else x).requires_grad_(run == TRAINING)
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
            A name like "separated/factorised" gives layer and algorithm; for a layer with algorithm "auto" the row
            names the algorithm that it chose.
        seconds : float
        against : {name: name}
            The reference of each layer; by default the first layer is the reference of all others.
        **options :
            As :func:`~gdlayer.benchmarks.timing.compare`.
        """
        first, *others = layers
        functions = {name: self.function(layer.to(self.device)) for name, layer in layers.items()}
        times = compare(functions, against or dict.fromkeys(others, first), seconds=seconds, **options)
        common = {**self.shape._asdict(), "run": self.run}
        return [{**self.identify(name, layer), **common, **times[name]} for name, layer in layers.items()]

    def function(self, layer: nn.Module) -> Callable[[], None]:
        """The function that is timed: one training step, or one forward pass."""
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
        """The fields "layer" and "algorithm" of a row."""
        layer_name, _, algorithm = name.partition("/")
        fields = {"layer": layer_name} | ({"algorithm": algorithm} if algorithm else {})
        if isinstance(layer, GaussianDerivativeConv2d) and layer.algorithm == "auto":
            with self.autocast(), torch.set_grad_enabled(self.run != INFERENCE):
                fields["algorithm"] = layer.chosen(self.x)
        return fields

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.precision == "bf16")

    def results(self, layer: nn.Module) -> list[Tensor]:
        """The output and the parameters' gradients; the gradient of the output is random but the same in each call."""
        layer.zero_grad()
        with self.autocast():
            y = layer(self.x)
        grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y)
        y.backward(grad)
        return [t.detach().float() for t in (y, *(p.grad for p in layer.parameters() if p.grad is not None))]

    def peak_bytes(self, layer: nn.Module) -> int:
        """Peak memory of a training step: parameters, input, gradient of the output, and what the step allocates."""
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
    """The peak of the bytes allocated minus the bytes freed."""
    results = profiler.profiler and profiler.profiler.kineto_results
    events: Any = results.events() if results else []
    changes = sorted((event for event in events if event.name() == "[memory]"), key=lambda event: event.start_ns())
    return max(accumulate((event.nbytes() for event in changes), initial=0))
