"""The questions that the ablations ask, and the variants of Ours that answer them."""

from collections.abc import Mapping
from dataclasses import dataclass

from gdlayer.trials.experiment import LayerType


@dataclass(frozen=True, kw_only=True)
class Question:
    """A property of the layer, and the variants that differ in it; their settings stand in ``choices.toml``.

    Parameters
    ----------
    asks : in words
    varies : what differs
    values : {variant: what it has}
        The first is what the others are held against.
    """

    asks: str
    varies: str
    values: Mapping[str, str]

    @property
    def reference(self) -> str:
        return next(iter(self.values))

    @property
    def variants(self) -> list[str]:
        """Those that are held against the reference."""
        return list(self.values)[1:]


QUESTIONS = {
    "trainable": Question(
        asks="Does it help to train σ, μ and θ?",
        varies="σ, μ, θ",
        values={
            "ours": "all trained",
            "trains-none": "all fixed",
            "trains-sigma": "only σ trained",
            "trains-mu": "only μ trained",
            "trains-theta": "only θ trained",
        },
    ),
    "order": Question(
        asks="How high an order of derivation is needed?",
        varies="Highest order",
        values={"ours": "K = 3", "order-1": "K = 1", "order-2": "K = 2", "order-4": "K = 4"},
    ),
    "bases": Question(
        asks="How many bases are needed?",
        varies="Bases",
        values={
            "ours": "B = f_out / 2",
            "bases-1": "B = 1",
            "bases-eighth": "B = f_out / 8",
            "bases-quarter": "B = f_out / 4",
            "bases-all": "B = f_out",
        },
    ),
    "kernel-size": Question(
        asks="How large must the kernels be?",
        varies="Kernel size",
        values={"ours": "7×7", "size-3": "3×3", "size-5": "5×5", "size-9": "9×9", "size-11": "11×11"},
    ),
    "separated": Question(
        asks="What does the separated combination cost?",
        varies="Combination",
        values={"ours": "full", "separated": "separated"},
    ),
    "equal-size": Question(
        asks="Is the separated combination better than a narrower full network of as many parameters?",
        varies="Combination at equal size",
        values={"narrow": "narrower full network", "separated": "separated"},
    ),
    "geometry": Question(
        asks="Does each kernel need a geometry of its own?",
        varies="Geometry",
        values={"ours": "one per kernel", "shared": "one per basis"},
    ),
    "initialisation": Question(
        asks="Does the initialisation matter?",
        varies="Initialisation",
        values={"ours": "variance preserving", "authors": "the authors'"},
    ),
}


def _layers() -> dict[str, LayerType]:
    layers = {"ours": LayerType(name="ours", title="Ours")}
    for question in QUESTIONS.values():
        for name, value in question.values.items():
            layers.setdefault(name, LayerType(name=name, title=f"{question.varies}: {value}", in_paper=False))
    return layers


LAYERS = _layers()
