"""One training loop for every network, classifying images or pixels."""

import hashlib
import io
import math
import os
import pickle
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gdlayer._plumbing.checks import one_of, positive_int
from gdlayer._plumbing.extras import extra
from gdlayer.related import NJetConv2d

with extra("experiments"):
    from tqdm import tqdm

PRECISIONS = ("fp32", "bf16")
SCHEDULES = ("cosine", "cosine-as-printed")
CURVE_POINTS = 20
CHECKPOINT_SECONDS = 60
DIGEST_BYTES = hashlib.sha256().digest_size
EVALUATION_BATCH = 200
"""Larger batches take longer per image on a CPU, as their feature maps do not fit into its cache."""
WARM_UP_STEPS = 3
"""Steps before one is captured: in the first, buffers that stay are allocated and kernels are chosen."""


def cosine_decay(step: int, total: int, lr0: float, alpha: float) -> float:
    r"""Learning rate of the decay that the paper means, as in Keras: from lr0 to alpha lr0.

    .. math:: lr_k = lr_0 \Big(\alpha + (1 - \alpha) \tfrac12 \big(1 + \cos(\pi \min(k, K_{max}) / K_{max})\big)\Big)
    """
    return lr0 * (alpha + (1 - alpha) * (1 + math.cos(math.pi * min(step, total) / total)) / 2)


def cosine_as_printed(step: int, total: int, lr0: float, alpha: float) -> float:
    r"""Learning rate as section 3 prints it: from lr0 (2 - alpha) down to alpha lr0 at K_max / 2, and back up.

    .. math:: lr_k = lr_0 \Big(\alpha + (1 - \alpha) \big(1 + \cos(2\pi \min(k, K_{max}) / K_{max})\big)\Big)
    """
    return lr0 * (alpha + (1 - alpha) * (1 + math.cos(2 * math.pi * min(step, total) / total)))


@dataclass(frozen=True)
class Recipe:
    """How a network is trained; every field goes into the record.

    Raises
    ------
    ValueError
        If a field is not one of the allowed values.
    """

    steps: int
    batch_size: int
    learning_rate: float
    alpha: float
    schedule: str
    precision: str
    evaluations: int
    seed: int

    @classmethod
    def of(cls, settings: dict[str, Any], seed: int) -> Self:
        """The recipe among a trial's hyper-parameters."""
        return cls(seed=seed, **{name: settings[name] for name in cls.__dataclass_fields__ if name != "seed"})

    def __post_init__(self) -> None:
        one_of("schedule", self.schedule, SCHEDULES)
        one_of("precision", self.precision, PRECISIONS)
        for name in ("steps", "batch_size", "evaluations"):
            positive_int(name, getattr(self, name))


class Standardise(nn.Module):
    """uint8 images (b, c, h, w) -> float: (pixels / 255 - mean) / deviation, by channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        return (images.float() / 255 - self.mean) / self.std


@dataclass
class Run:
    """A training run under way; what a checkpoint holds besides the tensors."""

    step: int
    seconds: float
    curve: list[dict[str, Any]]


class Captured:
    """A function of a tensor of one shape, called for its effects, replayed from a CUDA graph.

    The first calls run it on a side stream, as a capture requires. The next call captures it; from then on it is
    replayed: the same kernels on the same memory, in one launch.

    Parameters
    ----------
    function : function
    argument : tensor, of the shape of all arguments
    version : function, optional
        Called before each call; a graph is captured for each value that it returns.
    """

    def __init__(
        self, function: Callable[[Tensor], None], argument: Tensor, version: Callable[[], Hashable] = tuple
    ) -> None:
        self.function = function
        self.argument = argument
        self.version = version
        self.calls: Counter[Hashable] = Counter()
        self.graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}

    def __call__(self, argument: Tensor) -> None:
        self.argument.copy_(argument)
        version = self.version()
        self.calls[version] += 1
        if self.calls[version] <= WARM_UP_STEPS:
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                self.function(self.argument)
            torch.cuda.current_stream().wait_stream(aside)
            return
        if version not in self.graphs:
            self.graphs[version] = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graphs[version]):
                self.function(self.argument)
        self.graphs[version].replay()


def train(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    evaluate: Callable[[], dict[str, float]],
    recipe: Recipe,
    *,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    settings: dict[str, Any] | None = None,
    capture: bool = True,
    told: Callable[[int, int], object] | None = None,
) -> Run:
    """Trains ``model`` in place by Adam on cross-entropy, batches drawn without replacement epoch by epoch.

    The order of epoch e depends on (seed, e) alone, so a run resumed from its checkpoint continues as if it had never
    stopped.

    Parameters
    ----------
    model : module, on its device
    images : (n, c, h, w), on the same device; labels : (n,), or (n, h, w) for a class each pixel
    evaluate : function
        Called at ``recipe.evaluations`` evenly spread steps, the last one included; its metrics enter the curve.
    recipe : Recipe
    checkpoint : path, optional
        Written every ``checkpoint_seconds`` and read if it is there; removed by the caller once the record exists.
    settings : dict, optional
        What made the model and the data. A checkpoint of other settings, recipe or device is not resumed, nor one that
        was changed, fits no longer or has numbers that are not finite: the run starts anew and says so in one line.
    capture : bool
        On a GPU, replay the step on a full batch from a CUDA graph, unless a module other than N-jet layers has
        ``capturable = False``. The outcome is the same.
    told : function, optional
        Called about 20 times with the number of steps done and of all.

    Returns
    -------
    Run
        With the curve: at about 20 steps the mean training loss and accuracy since the last, and the metrics.
    """
    images, device = to_channels_last(images), images.device
    schedule = cosine_decay if recipe.schedule == "cosine" else cosine_as_printed
    optimiser = torch.optim.Adam(
        [p for p in model.parameters() if p.requires_grad],
        lr=torch.tensor(recipe.learning_rate, device=device),
        fused=True,
        capturable=device.type == "cuda",
    )
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    hits = torch.zeros((), dtype=torch.int64, device=device)

    def step(chosen: Tensor) -> None:
        y = labels[chosen]
        logits = forward(model, images[chosen], recipe.precision)
        # a row per label: on a GPU, torch's loss of maps of labels is not deterministic
        loss = F.cross_entropy(logits.movedim(1, -1).flatten(0, -2), y.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss_sum.add_(loss.detach() * y.numel())
        hits.add_((logits.argmax(1) == y).sum())

    n_jets = [module for module in model.modules() if isinstance(module, NJetConv2d)]

    def kernel_sizes() -> tuple[tuple[int, int], ...]:
        scales = torch.stack([layer.log2_sigma for layer in n_jets]).tolist() if n_jets else []
        return tuple(layer.resize(scale) for layer, scale in zip(n_jets, scales, strict=True))

    full_step = step
    capturable = all(getattr(module, "capturable", True) for module in model.modules() if module not in n_jets)
    if capture and capturable and device.type == "cuda":
        full_step = Captured(step, torch.zeros(recipe.batch_size, dtype=torch.int64, device=device), kernel_sizes)
    made_for = {
        "recipe": vars(recipe),
        "settings": settings,
        "device": device.type,
    }
    run = _resume(checkpoint, model, optimiser, made_for) or Run(0, 0.0, [])
    curve_steps = {round(recipe.steps * i / CURVE_POINTS) for i in range(1, CURVE_POINTS + 1)}
    evaluation_steps = {round(recipe.steps * i / recipe.evaluations) for i in range(1, recipe.evaluations + 1)}
    batches = -(-len(images) // recipe.batch_size)
    order, epoch = torch.empty(0, dtype=torch.int64), -1
    seen = 0
    started = saved = time.perf_counter()
    already = run.seconds
    model.train()
    with tqdm(total=recipe.steps, initial=run.step, unit="step", disable=None, leave=False) as progress:
        while run.step < recipe.steps:
            if run.step // batches != epoch:
                epoch = run.step // batches
                order = epoch_order(len(images), recipe.seed, epoch).to(device)
            start = run.step % batches * recipe.batch_size
            chosen = order[start : start + recipe.batch_size]
            optimiser.param_groups[0]["lr"].fill_(schedule(run.step, recipe.steps, recipe.learning_rate, recipe.alpha))
            (full_step if len(chosen) == recipe.batch_size else step)(chosen)
            seen += labels[0].numel() * len(chosen)
            run.step += 1
            progress.update()
            if run.step in curve_steps | evaluation_steps:
                point = {
                    "step": run.step,
                    "epoch": run.step / batches,
                    "train_loss": _finite(loss_sum.item() / seen),
                    "train_accuracy": hits.item() / seen,
                }
                if run.step in evaluation_steps:
                    point |= evaluate()
                    model.train()
                run.curve.append(point)
                if told is not None:
                    told(run.step, recipe.steps)
                loss_sum.zero_()
                hits.zero_()
                seen = 0
                run.seconds = already + time.perf_counter() - started
                due = run.step < recipe.steps and time.perf_counter() - saved > checkpoint_seconds
                if checkpoint is not None and due:
                    _save(checkpoint, model, optimiser, run, made_for)
                    saved = time.perf_counter()
    return run


def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """The order of the n images in an epoch: (n,), decided by the seed and the epoch alone."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(n, generator=generator)


def to_channels_last(images: Tensor) -> Tensor:
    """(b, c, h, w) in channels_last memory, where convolutions are fastest; layers take the layout of their input.

    The strides say so also for one channel, whose memory is the same in both layouts: layers go by the strides.
    """
    b, c, h, w = images.shape
    return images.permute(0, 2, 3, 1).flatten().view(b, h, w, c).permute(0, 3, 1, 2)


def forward(model: nn.Module, images: Tensor, precision: str) -> Tensor:
    """The model's output in float32; under "bf16", computed in it except where filters are synthesised."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
        return model(to_channels_last(images)).float()


@torch.no_grad()
def correct(model: nn.Module, images: Tensor, labels: Tensor, precision: str) -> Tensor:
    """Whether the largest logit of each image is that of its label, in evaluation mode: bool, (n,)."""
    model.eval()
    batches = zip(images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True)
    return torch.cat([forward(model, x, precision).argmax(1) == y for x, y in batches])


def accuracy(model: nn.Module, images: Tensor, labels: Tensor, precision: str) -> float:
    """The fraction of images that are :func:`correct`."""
    return correct(model, images, labels, precision).sum().item() / len(labels)


def _finite(value: float) -> float | None:
    """JSON has no NaN: a loss that is not finite is recorded as null."""
    return value if math.isfinite(value) else None


def _save(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, run: Run, made_for: dict) -> None:
    """Writes what torch saves and, as the last 32 bytes, its SHA256."""
    part = path.with_name(f"{path.name}.part")
    state = {
        "made_for": made_for,
        "run": vars(run),
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "random": [torch.get_rng_state(), *torch.cuda.get_rng_state_all()],
    }
    try:
        with part.open("w+b") as stream:
            torch.save(state, stream)
            stream.seek(0)
            stream.write(hashlib.file_digest(stream, "sha256").digest())
        os.replace(part, path)
    except (OSError, RuntimeError) as error:  # the run goes on; only a restart would lose time
        with suppress(OSError):
            part.unlink()
        tqdm.write(f"checkpoint {path} was not saved: {error}")


def _resume(path: Path | None, model: nn.Module, optimiser: torch.optim.Optimizer, made_for: dict) -> Run | None:
    """Puts model, optimiser and generators where the checkpoint was; None if there is none that fits."""
    if path is None or not path.exists():
        return None
    before = deepcopy(model.state_dict())
    try:
        state = _load(path, next(model.parameters()).device)
        _check(state, model, made_for)
        model.load_state_dict(state["model"])
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        model.load_state_dict(before)
        reason = error if isinstance(error, ValueError) else "cannot be resumed"
        tqdm.write(f"checkpoint {path} {reason}; the run starts anew")
        return None
    optimiser.load_state_dict(state["optimiser"])
    cpu, *gpus = (generator.cpu() for generator in state["random"])
    torch.set_rng_state(cpu)
    torch.cuda.set_rng_state_all(gpus)
    return Run(**state["run"])


def _load(path: Path, device: torch.device) -> dict[str, Any]:
    """What :func:`_save` saved; ValueError if a byte of the file was changed."""
    with path.open("rb") as stream:
        content = stream.read(max(0, path.stat().st_size - DIGEST_BYTES))
        if stream.read() != hashlib.sha256(content).digest():
            raise ValueError("was changed after it was written, or is of an earlier version")
    return torch.load(io.BytesIO(content), map_location=device, weights_only=True)


def _check(state: dict[str, Any], model: nn.Module, made_for: dict[str, Any]) -> None:
    """Raises ValueError if a checkpoint is of another run, or of one that has diverged."""
    if state["made_for"] != made_for or len(state["random"]) != 1 + torch.cuda.device_count():
        raise ValueError("is of another run")
    moments = [value for kept in state["optimiser"]["state"].values() for value in kept.values()]
    parameters = [value for name, value in state["model"].items() if not name.endswith("_extra_state")]
    if not all(value.isfinite().all() for value in (*parameters, *moments)):
        raise ValueError("has numbers that are not finite")
