"""The shapes that are measured, and the goals for time and memory. Needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class Shape(NamedTuple):
    """Sizes of a layer and its input: a batch of square images, square kernels, B bases of the 3-jet."""

    batch: int
    in_channels: int
    out_channels: int
    size: int
    kernel_size: int
    bases: int

    def __str__(self) -> str:
        return f"({', '.join(map(str, self))})"


ORDER = 3
"""K of every layer, so N = 10 kernels per basis; only the part "growth" varies it."""

FIRST = Shape(32, 1, 16, 28, 7, 4)
"""Measured also as the first layer of a network, whose input needs no gradient."""

FULL_LIMITS = {
    FIRST: 1.15,
    Shape(32, 16, 32, 28, 7, 8): 1.05,
    Shape(32, 32, 64, 14, 7, 16): 1.05,
    Shape(32, 64, 64, 14, 5, 16): 1.05,
    Shape(8, 64, 64, 56, 7, 16): 1.02,
    Shape(32, 16, 16, 28, 7, 8): 1.10,  # the last two are of the Table 1 network
    Shape(32, 16, 32, 28, 7, 16): 1.10,
}
SEPARATED_LIMITS = dict.fromkeys(FULL_LIMITS, 1.05) | {
    Shape(32, 64, 64, 14, 7, 16): 0.75,
    Shape(8, 64, 64, 56, 7, 16): 0.75,
}
SHAPES = tuple(SEPARATED_LIMITS)

CHOICE_SHAPES = (
    *SHAPES,
    *(
        Shape(*sizes)
        for sizes in (
            (32, 32, 64, 14, 7, 1),
            (32, 32, 64, 14, 7, 4),
            (16, 64, 128, 14, 5, 8),
            (16, 128, 128, 14, 3, 4),
            (16, 128, 128, 14, 7, 32),
            (8, 32, 32, 56, 5, 4),
            (8, 64, 64, 28, 3, 4),
            (8, 64, 64, 28, 9, 8),
            (32, 3, 64, 28, 7, 4),
            (8, 24, 48, 28, 7, 6),
            (8, 48, 96, 14, 7, 24),
            (4, 128, 64, 28, 7, 16),
            (32, 16, 32, 28, 5, 2),
            (8, 32, 32, 28, 9, 16),
            (64, 32, 32, 7, 7, 4),
            (1, 64, 64, 56, 7, 16),
        )
    ),
)
"""Shapes to which the cost model was fitted, in the part "choice"."""
HELD_OUT_SHAPES = tuple(
    Shape(*sizes)
    for sizes in (
        (16, 12, 24, 28, 7, 4),
        (16, 24, 24, 20, 7, 3),
        (16, 40, 80, 14, 7, 8),
        (8, 80, 80, 28, 5, 10),
        (16, 96, 192, 14, 3, 6),
        (4, 96, 96, 56, 7, 12),
        (32, 64, 32, 14, 9, 4),
        (8, 32, 128, 28, 7, 16),
        (2, 64, 64, 112, 7, 8),
        (32, 20, 40, 28, 5, 5),
        (8, 192, 192, 7, 7, 24),
        (16, 48, 48, 28, 7, 2),
    )
)
"""Shapes that had no say in it."""

GROWTH = Shape(32, 32, 64, 14, 7, 16)
"""In the part "growth", one size at a time differs from this shape."""

TRAINING, FIRST_LAYER, INFERENCE = "training", "training, input without gradient", "inference"
"""What one run does: forward and backward; the same without the gradient of the input; forward only."""

PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class Goal:
    """A bound on one ratio."""

    text: str
    limit: float
    row: Mapping[str, Any]
    """Fields that identify the row of the record with this ratio."""
    at_least: bool = False
    """Whether the ratio must be at least the limit; else it must be at most the limit."""


def _layer(text: str, limit: float, shape: Shape, at_least: bool = False, **row: Any) -> Goal:
    return Goal(text, limit, {"part": "goals", "run": TRAINING} | shape._asdict() | row, at_least)


GOALS = (
    *(_layer("full", limit, shape, layer="full") for shape, limit in FULL_LIMITS.items()),
    _layer("full, as the first layer", FULL_LIMITS[FIRST], FIRST, run=FIRST_LAYER, layer="full"),
    *(_layer("separated", limit, shape, layer="separated") for shape, limit in SEPARATED_LIMITS.items()),
    _layer("separated, as the first layer", SEPARATED_LIMITS[FIRST], FIRST, run=FIRST_LAYER, layer="separated"),
    *(_layer("full, deployed", 1.02, shape, run=INFERENCE, layer="deployed") for shape in SHAPES),
    *(
        _layer(f"{layer}: the authors' order takes", 2.5, shape, True, layer=f"{layer}, authors' order")
        for layer in ("full", "separated")
        for shape in SHAPES
    ),
    *(
        _layer("full, dense: peak memory", 1.1, shape, part="memory", layer="full", algorithm="dense")
        for shape in SHAPES
    ),
    *(
        Goal(f"Table 1 step, {precision}", 1.15, {"part": "step", "layer": "ours", "precision": precision})
        for precision in PRECISIONS
    ),
)
"""All goals, as ratios: our time and memory to those of an nn.Conv2d of the same size; the time of the authors' order
to ours; a training step of Table 1's network to that of the free-form network with the same support. A deployed layer
is an nn.Conv2d, so its ratio is 1.00 up to the noise between two equal modules."""
