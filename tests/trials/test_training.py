"""The training loop: schedules, determinism, resumption, precision."""

import hashlib
import io
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from torch import Tensor, nn

from gdlayer.experiments.table1.layers import LAYERS
from gdlayer.networks.four_conv import FourConv
from gdlayer.trials import training
from gdlayer.trials.training import (
    DIGEST_BYTES,
    WARM_UP_STEPS,
    Recipe,
    Run,
    Standardise,
    accuracy,
    cosine_as_printed,
    cosine_decay,
    epoch_order,
    to_channels_last,
    train,
)

RECIPE: dict[str, Any] = {
    "steps": 30,
    "batch_size": 8,
    "learning_rate": 0.01,
    "alpha": 0.0,
    "schedule": "cosine",
    "precision": "fp32",
    "evaluations": 3,
    "seed": 0,
}


def recipe(**changes: Any) -> Recipe:
    return Recipe(**(RECIPE | changes))


def network(layer: str = "free-form", seed: int = 0, pooled: bool = True) -> FourConv:
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"widths": (4, 4, 4, 8), "bases": (2, 2, 2, 2), "kernel_size": 3}
    return FourConv(LAYERS[layer].maker(), **sizes, num_classes=3, pooled=pooled)


def textures(n: int = 51) -> tuple[Tensor, Tensor]:
    """Noisy images (n, 1, 8, 8) and what they show: 0 light, 1 columns, 2 rows. Of 51, the last batch is short."""
    generator = torch.Generator().manual_seed(7)
    labels = torch.arange(n) % 3
    stripes = torch.tensor([1.0, 1.0, -1.0, -1.0]).repeat(2)
    clean = torch.stack([torch.ones(8, 8), stripes.expand(8, 8), stripes[:, None].expand(8, 8)])
    return (clean[labels] + 0.3 * torch.randn(n, 8, 8, generator=generator))[:, None], labels


def nothing() -> dict[str, float]:
    return {}


def same_parameters(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


# Schedules


@pytest.mark.parametrize("alpha", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("total", [2, 10, 401])
def test_cosine_decay_runs_from_lr0_to_alpha_lr0(alpha, total):
    rates = [cosine_decay(step, total, 0.01, alpha) for step in range(total + 1)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[-1] == pytest.approx(0.01 * alpha, abs=1e-15)
    assert rates == sorted(rates, reverse=True)
    assert cosine_decay(total + 50, total, 0.01, alpha) == rates[-1]
    if total % 2 == 0:
        assert rates[total // 2] == pytest.approx(0.01 * (1 + alpha) / 2)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("total", [10, 400])
def test_cosine_as_printed_does_not_decay(alpha, total):
    """The formula of section 3: from lr0 (2 - alpha) to alpha lr0 halfway, and back to where it stays."""
    for step in (0, 1, total // 3, total // 2, total, total + 50):
        printed = 0.01 * (alpha + (1 - alpha) * (1 + math.cos(2 * math.pi * min(step, total) / total)))
        assert cosine_as_printed(step, total, 0.01, alpha) == pytest.approx(printed)
    assert cosine_as_printed(0, total, 0.01, alpha) == pytest.approx(0.01 * (2 - alpha))
    assert cosine_as_printed(total // 2, total, 0.01, alpha) == pytest.approx(0.01 * alpha, abs=1e-15)
    for step in (total, total + 1, 10 * total):
        assert cosine_as_printed(step, total, 0.01, alpha) == pytest.approx(0.01 * (2 - alpha))


@pytest.mark.parametrize(
    ("schedule", "rates"), [("cosine", [1, 0.75, 0.25]), ("cosine-as-printed", [2, 0.5, 0.5])], ids=str
)
def test_every_step_takes_its_rate_from_the_schedule(monkeypatch, schedule, rates):
    used = []
    step = torch.optim.Adam.step

    def noting(self: torch.optim.Adam) -> None:
        used.append(self.param_groups[0]["lr"].item())
        step(self)

    monkeypatch.setattr(torch.optim.Adam, "step", noting)
    train(network(), *textures(), nothing, recipe(steps=3, evaluations=1, schedule=schedule))
    assert used == pytest.approx([0.01 * rate for rate in rates])


# Recipes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "linear"}, "schedule must be one of 'cosine', 'cosine-as-printed', got 'linear'"),
        ({"precision": "fp16"}, "precision must be one of 'fp32', 'bf16', got 'fp16'"),
        ({"steps": 0}, "steps must be an integer >= 1, got 0"),
        ({"batch_size": -32}, "batch_size must be an integer >= 1, got -32"),
        ({"evaluations": 0}, "evaluations must be an integer >= 1, got 0"),
    ],
    ids=str,
)
def test_wrong_recipes(changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        recipe(**changes)


# Batches


def test_epoch_order_is_a_permutation_of_seed_and_epoch():
    orders = {(seed, epoch): epoch_order(100, seed, epoch) for seed in range(3) for epoch in range(3)}
    for order in orders.values():
        assert torch.equal(order.sort().values, torch.arange(100))
    assert len({tuple(order.tolist()) for order in orders.values()}) == 9
    state = torch.get_rng_state()
    torch.manual_seed(99)
    assert torch.equal(epoch_order(100, 1, 2), orders[1, 2])
    torch.set_rng_state(state)
    epoch_order(100, 1, 2)
    assert torch.equal(torch.get_rng_state(), state)


class Recorder(nn.Module):
    """Remembers which images it saw; the image's number is its pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.batches: list[list[int]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.batches.append(x.flatten().int().tolist())
        return self.weight.expand(len(x), 2) * 1.0


def test_every_epoch_shows_every_image_once():
    model = Recorder()
    images, labels = torch.arange(10.0).view(10, 1, 1, 1), torch.zeros(10, dtype=torch.int64)
    train(model, images, labels, nothing, recipe(steps=7, batch_size=4, evaluations=1, seed=5))
    assert [len(batch) for batch in model.batches] == [4, 4, 2, 4, 4, 2, 4]
    for epoch in range(2):
        shown = [image for batch in model.batches[3 * epoch : 3 * epoch + 3] for image in batch]
        assert shown == epoch_order(10, 5, epoch).tolist()
    assert model.batches[6] == epoch_order(10, 5, 2)[:4].tolist()


# Memory


@pytest.mark.parametrize("shape", [(5, 1, 4, 6), (5, 3, 4, 6), (1, 2, 3, 3), (5, 3, 1, 1), (0, 3, 4, 6)], ids=str)
def test_channels_last_says_so_by_its_strides(shape):
    _, c, h, w = shape
    images = torch.arange(math.prod(shape)).view(shape)
    assert to_channels_last(images).stride() == (h * w * c, 1, w * c, c)
    assert torch.equal(to_channels_last(images), images)


def test_channels_last_copies_only_what_lies_otherwise():
    single, several = torch.zeros(5, 1, 4, 6), torch.zeros(5, 3, 4, 6)
    assert to_channels_last(single).data_ptr() == single.data_ptr()
    assert to_channels_last(several).data_ptr() != several.data_ptr()
    several = several.to(memory_format=torch.channels_last)
    assert to_channels_last(several).data_ptr() == several.data_ptr()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("layer", LAYERS)
def test_every_feature_map_is_in_channels_last_memory(layer, precision):
    """One channel in front, whose two layouts are the same memory, must not turn the network back."""
    inner = network(layer)
    model = nn.Sequential(Standardise([0.5], [0.5]), inner)
    maps: list[Tensor] = []

    def note(stage: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        maps.append(output)

    for stage in inner.features:
        stage.register_forward_hook(note)
    images = torch.randint(256, (5, 1, 8, 8), dtype=torch.uint8)
    labels = torch.arange(5) % 3
    train(model, images, labels, nothing, recipe(steps=2, batch_size=3, evaluations=1, precision=precision))
    accuracy(model, images, labels, precision)
    assert len(maps) == 3 * len(inner.features)
    for x in maps:
        assert x.is_contiguous(memory_format=torch.channels_last)
        assert x.dtype == (torch.float32 if precision == "fp32" else torch.bfloat16)


# Capture


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")


@needs_cuda
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("layer", LAYERS)
def test_a_captured_step_computes_the_same(monkeypatch, layer, precision):
    """Short batches, which are not captured, in between."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    replays = []
    replay = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: (replays.append(1), replay(graph))[1])
    models, curves = [], []
    for capture in (False, True):
        model = network(layer).cuda()
        images, labels = (t.cuda() for t in textures())
        run = train(model, images, labels, nothing, recipe(precision=precision), capture=capture)
        models.append(model)
        curves.append(run.curve)
        assert len(replays) == (30 - 4 - WARM_UP_STEPS if capture else 0)
    assert same_parameters(*models)
    assert curves[0] == curves[1]


@needs_cuda
def test_dropout_in_a_captured_step_draws_the_same():
    models = []
    for capture in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(64, 3)).cuda()
        images, labels = (t.cuda() for t in textures())
        train(model, images, labels, nothing, recipe(), capture=capture)
        models.append(model)
    assert same_parameters(*models)


# Learning


@pytest.mark.parametrize("layer", LAYERS)
def test_a_small_problem_is_learned(layer):
    model, (images, labels) = network(layer, pooled=False), textures()
    run = train(model, images, labels, nothing, recipe(steps=60, learning_rate=0.02))
    assert run.curve[0]["train_loss"] > 2 * run.curve[-1]["train_loss"]
    assert accuracy(model, images, labels, "fp32") > 0.9
    assert model.training is False


def test_curve(monkeypatch):
    model, (images, labels) = network(), textures()
    modes = []

    def evaluate() -> dict[str, float]:
        modes.append(model.training)
        return {"test_accuracy": accuracy(model, images, labels, "fp32")}

    run = train(model, images, labels, evaluate, recipe(steps=40, evaluations=4))
    assert (run.step, [point["step"] for point in run.curve]) == (40, list(range(2, 41, 2)))
    assert [point["step"] for point in run.curve if "test_accuracy" in point] == [10, 20, 30, 40]
    assert modes == [True] * 4  # back in training mode after each evaluation
    assert [point["epoch"] for point in run.curve] == [point["step"] / 7 for point in run.curve]
    assert run.seconds > 0
    assert json.loads(json.dumps(run.curve, allow_nan=False)) == run.curve


def test_curve_is_the_mean_over_images_since_the_last_point():
    """By a loop over the same batches; the third and last is a short one."""
    images, labels = textures(10)
    model, other = network(), network()
    run = train(model, images, labels, nothing, recipe(steps=60, batch_size=4))
    assert [point["step"] for point in run.curve[:2]] == [3, 6]
    optimiser = torch.optim.Adam(other.parameters(), lr=0.01)
    losses, hits = [], []
    for step in range(3):
        chosen = epoch_order(10, 0, 0)[4 * step : 4 * step + 4]
        optimiser.param_groups[0]["lr"] = cosine_decay(step, 60, 0.01, 0.0)
        logits = other(images[chosen])
        loss = nn.functional.cross_entropy(logits, labels[chosen], reduction="none")
        optimiser.zero_grad()
        loss.mean().backward()
        optimiser.step()
        losses += loss.tolist()
        hits += (logits.argmax(1) == labels[chosen]).tolist()
    assert len(losses) == 10
    assert run.curve[0]["train_loss"] == pytest.approx(sum(losses) / 10, rel=1e-5)
    assert run.curve[0]["train_accuracy"] == pytest.approx(sum(hits) / 10)


@pytest.mark.parametrize(("layer", "precision"), [*((layer, "fp32") for layer in LAYERS), ("ours", "bf16")])
def test_a_seed_makes_one_run(layer, precision):
    models = []
    for seed in (0, 0, 1):
        models.append(network(layer))
        train(models[-1], *textures(), nothing, recipe(steps=8, seed=seed, precision=precision))
    assert same_parameters(models[0], models[1])
    assert not same_parameters(models[0], models[2])


@pytest.mark.parametrize("layer", LAYERS)
def test_bf16_stays_close_to_fp32(layer):
    curves = {}
    for precision in ("fp32", "bf16"):
        model, (images, labels) = network(layer), textures()
        run = train(model, images, labels, nothing, recipe(steps=20, precision=precision))
        assert all(p.dtype == torch.float32 for p in model.parameters())
        curves[precision] = [point["train_loss"] for point in run.curve]
        assert accuracy(model, images, labels, precision) > 0
    assert curves["bf16"] == pytest.approx(curves["fp32"], rel=0.05)
    assert curves["bf16"] != curves["fp32"]


# Resumption


class Interrupted(Exception):
    pass


def load(checkpoint: Path) -> dict[str, Any]:
    return torch.load(io.BytesIO(checkpoint.read_bytes()[:-DIGEST_BYTES]), weights_only=True)


def rewrite(checkpoint: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes what a checkpoint holds, and its checksum with it."""
    state, stream = load(checkpoint), io.BytesIO()
    change(state)
    torch.save(state, stream)
    checkpoint.write_bytes(stream.getvalue() + hashlib.sha256(stream.getvalue()).digest())


def interrupt_at(call: int) -> Callable[[], dict[str, float]]:
    """An evaluation that ends the run at that call."""
    calls = iter(range(1, 1000))

    def evaluate() -> dict[str, float]:
        if next(calls) == call:
            raise Interrupted
        return {}

    return evaluate


@pytest.mark.parametrize(
    ("layer", "precision"),
    [*((layer, "fp32") for layer in ("free-form", "dau", "n-jet", "ours", "ours-separated")), ("ours", "bf16")],
)
def test_an_interrupted_run_ends_as_if_it_never_stopped(tmp_path, layer, precision):
    """Interrupted in mid-epoch, twice, each time into a fresh model."""
    whole, plan = network(layer), recipe(precision=precision)
    uninterrupted = train(whole, *textures(), nothing, plan)
    checkpoint = tmp_path / "checkpoint"
    starts = []
    for interruption in (interrupt_at(1), interrupt_at(2), nothing):
        model = network(layer, seed=len(starts))  # other parameters at the start: only the first's count
        options: dict[str, Any] = {"checkpoint": checkpoint, "checkpoint_seconds": 0}
        try:
            run = train(model, *textures(), interruption, plan, **options)
        except Interrupted:
            assert checkpoint.exists()
            starts.append(load(checkpoint)["run"]["step"])
        else:
            assert same_parameters(model, whole)
            assert run.curve == uninterrupted.curve
            assert run.step == 30
    assert starts == [9, 18]  # of 7 to an epoch


def test_a_resumed_run_counts_its_seconds_on(tmp_path):
    checkpoint = tmp_path / "checkpoint"
    with pytest.raises(Interrupted):
        train(network(), *textures(), interrupt_at(3), recipe(), checkpoint=checkpoint, checkpoint_seconds=0)
    rewrite(checkpoint, lambda state: state["run"].update(seconds=1000.0))
    run = train(network(), *textures(), nothing, recipe(), checkpoint=checkpoint)
    assert 1000 < run.seconds < 1100


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"steps": 40}, {"learning_rate": 0.02}, {"schedule": "cosine-as-printed"}, {"settings": "other"}],
    ids=str,
)
def test_a_checkpoint_of_another_run_is_not_read(tmp_path, changes):
    checkpoint = tmp_path / "checkpoint"
    changes = dict(changes)
    settings = [{"sigma_min": 0.5}, {"sigma_min": 0.4 if changes.pop("settings", None) else 0.5}]
    with pytest.raises(Interrupted):
        train(
            *(network(), *textures(), interrupt_at(3), recipe()),
            checkpoint=checkpoint,
            checkpoint_seconds=0,
            settings=settings[0],
        )
    resumed, fresh = network(seed=1), network(seed=1)  # another start than the checkpoint's
    run = train(resumed, *textures(), nothing, recipe(**changes), checkpoint=checkpoint, settings=settings[1])
    assert run.curve == train(fresh, *textures(), nothing, recipe(**changes)).curve
    assert same_parameters(resumed, fresh)


def test_a_checkpoint_of_another_device_is_not_read(tmp_path):
    """Its arithmetic differs."""
    checkpoint = tmp_path / "checkpoint"
    with pytest.raises(Interrupted):
        train(network(), *textures(), interrupt_at(3), recipe(), checkpoint=checkpoint, checkpoint_seconds=0)
    rewrite(checkpoint, lambda state: state["made_for"].update(device="cuda"))
    resumed, fresh = network(seed=1), network(seed=1)
    train(resumed, *textures(), nothing, recipe(), checkpoint=checkpoint)
    train(fresh, *textures(), nothing, recipe())
    assert same_parameters(resumed, fresh)


@pytest.mark.parametrize("damage", ["empty", "zeros", "half", "directory"])
def test_an_unreadable_checkpoint_is_not_read(tmp_path, capsys, damage):
    checkpoint = tmp_path / "checkpoint"
    with pytest.raises(Interrupted):
        train(network(), *textures(), interrupt_at(3), recipe(), checkpoint=checkpoint, checkpoint_seconds=0)
    content = checkpoint.read_bytes()
    checkpoint.unlink()
    if damage == "directory":
        checkpoint.mkdir()
    else:
        checkpoint.write_bytes({"empty": b"", "zeros": bytes(1000), "half": content[: len(content) // 2]}[damage])
    resumed, fresh = network(), network()
    train(resumed, *textures(), nothing, recipe(), checkpoint=checkpoint)
    reason = {"directory": "cannot be resumed"}.get(
        damage, "was changed after it was written, or is of an earlier version"
    )
    assert capsys.readouterr().out == f"checkpoint {checkpoint} {reason}; the run starts anew\n"
    train(fresh, *textures(), nothing, recipe())
    assert same_parameters(resumed, fresh)


def change_of(place: str, name: str, value: float) -> Callable[[dict[str, Any]], object]:
    """Sets the first number of the first tensor with such a name, of the model or of the optimiser's state."""

    def change(state: dict[str, Any]) -> None:
        tensors = state["model"] if place == "model" else state["optimiser"]["state"][0]
        next(tensor for key, tensor in tensors.items() if key.endswith(name)).view(-1)[0] = value

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (change_of("model", "weight", math.nan), "has numbers that are not finite"),
        (change_of("optimiser", "exp_avg_sq", math.inf), "has numbers that are not finite"),
        (lambda state: state["random"].append(state["random"][0]), "is of another run"),
        (change_of("model", "_extra_state", 0.4), "cannot be resumed"),
        (lambda state: state["model"].popitem(), "cannot be resumed"),
        (lambda state: state.pop("optimiser"), "cannot be resumed"),
    ],
)
def test_a_checkpoint_that_fits_no_longer_leaves_the_start_as_it_was(tmp_path, capsys, change, reason):
    """As one of an earlier version of the layer does."""
    checkpoint = tmp_path / "checkpoint"
    with pytest.raises(Interrupted):
        train(network("ours"), *textures(), interrupt_at(3), recipe(), checkpoint=checkpoint, checkpoint_seconds=0)
    rewrite(checkpoint, change)
    resumed, fresh = network("ours", seed=1), network("ours", seed=1)
    train(resumed, *textures(), nothing, recipe(), checkpoint=checkpoint)
    assert capsys.readouterr().out == f"checkpoint {checkpoint} {reason}; the run starts anew\n"
    train(fresh, *textures(), nothing, recipe())
    assert same_parameters(resumed, fresh)


@pytest.mark.parametrize("obstacle", ["no folder", "a file for a folder", "full disk"])
def test_an_unwritable_checkpoint_does_not_stop_the_run(tmp_path, monkeypatch, capsys, obstacle):
    checkpoint = tmp_path / "folder" / "checkpoint"
    if obstacle == "a file for a folder":
        (tmp_path / "folder").write_text("in the way")
    elif obstacle == "full disk":
        (tmp_path / "folder").mkdir()
        checkpoint.write_bytes(b"of an earlier save")

        def save(state: object, stream: BinaryIO) -> None:
            stream.write(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(torch, "save", save)
    saved, plain = network(), network()
    run = train(saved, *textures(), nothing, recipe(), checkpoint=checkpoint, checkpoint_seconds=0)
    assert run.step == 30
    assert f"checkpoint {checkpoint} was not saved: " in capsys.readouterr().out
    train(plain, *textures(), nothing, recipe())
    assert same_parameters(saved, plain)
    if obstacle == "full disk":
        assert [path.name for path in checkpoint.parent.iterdir()] == ["checkpoint"]
        assert checkpoint.read_bytes() == b"of an earlier save"


def test_checkpoints_are_no_more_frequent_than_asked(tmp_path, monkeypatch):
    saves = []
    monkeypatch.setattr(training, "_save", lambda *_: saves.append(1))
    options: dict[str, Any] = {"checkpoint": tmp_path / "checkpoint"}
    train(network(), *textures(), nothing, recipe(), **options, checkpoint_seconds=0)
    assert len(saves) == 19  # none at the end, where the record is due
    train(network(), *textures(), nothing, recipe(), **options, checkpoint_seconds=1000)
    train(network(), *textures(), nothing, recipe(), **options)
    train(network(), *textures(), nothing, recipe(), checkpoint_seconds=0)
    assert len(saves) == 19  # none at the end, where the record is due


# Numbers that are none


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_null(value):
    images, labels = textures()
    images[20] = value
    run = train(network(), images, labels, nothing, recipe())
    assert run.curve[-1]["train_loss"] is None
    assert "null" in json.dumps(run.curve, allow_nan=False)


# Accuracy


class Answers(nn.Module):
    """Logits that say the number in the first pixel, right only in evaluation mode."""

    def forward(self, x: Tensor) -> Tensor:
        said = x[:, 0, 0, 0].round().long()
        return nn.functional.one_hot(said if not self.training else 1 - said, 3).float()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("n", "right"), [(1, 0), (1, 1), (7, 3), (1203, 1001)])
def test_accuracy_of_a_model_whose_answers_are_known(n, right, precision):
    labels = torch.arange(n) % 3
    said = torch.where(torch.arange(n) < right, labels, (labels + 1) % 3)
    images = said.float().view(n, 1, 1, 1).expand(n, 1, 4, 4)
    model = Answers().train()
    assert accuracy(model, images, labels, precision) == pytest.approx(right / n)
    assert not model.training


def test_run_needs_no_defaults():
    assert vars(Run(3, 1.5, [])) == {"step": 3, "seconds": 1.5, "curve": []}
