"""What a trial of experiment 2 trains and measures."""

import hashlib
import pkgutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gdlayer._plumbing.extras import extra
from gdlayer.conv import GaussianDerivativeConv2d
from gdlayer.datasets import balanced_subset, cats_dogs
from gdlayer.datasets.cache import cached
from gdlayer.datasets.files import cache_directory
from gdlayer.datasets.weights import VGG16_MEAN, vgg16_weights
from gdlayer.experiments.table2.layers import LAYERS, FirstLayer
from gdlayer.experiments.table2.sources import SOURCES
from gdlayer.experiments.table2.trial import Table2Trial
from gdlayer.fit import fit_filters
from gdlayer.networks.squeezenet import BlueGreenRed, SqueezeNet, imagenet_squeezenet
from gdlayer.networks.transfer import TransferNetwork, load_weights, replace_first_layer
from gdlayer.networks.vgg16 import IMAGENET_MEAN, IMAGENET_STD, VGG16, AdaptedVGG16, load_published
from gdlayer.trials.provenance import machine_name
from gdlayer.trials.record import packed
from gdlayer.trials.run import run
from gdlayer.trials.settings import check_fixed
from gdlayer.trials.task import Task, Workplace
from gdlayer.trials.training import Standardise, correct, forward
from gdlayer.trials.weights import save_weights

with extra("experiments"):
    from filelock import FileLock

Photos = tuple[np.ndarray, np.ndarray]
"""Images (n, h, w, 3), or features of them (n, h, w, c), and labels (n,)."""
FEATURE_BATCH = 32


def prepare(trial: Table2Trial, settings: dict[str, Any], workplace: Workplace) -> Task:
    """The source network, or its weights with a new first layer that trains alone; accuracy on two splits.

    A search measures on pictures of the training split that neither network has seen.
    """
    data = cats_dogs.load(trial.dataset, settings["resolution"])
    before = trial.needs
    source, row = SOURCES[trial.source], LAYERS[trial.layer]
    if before is not None:
        _train_first(before, workplace)
    torch.manual_seed(trial.seed)  # the network draws random numbers too, before its layer does
    details: dict[str, Any] = {}
    network: TransferNetwork = pkgutil.resolve_name(source.network)(settings)
    kept = network.classifier if source.cached else network
    if before is not None:
        load_weights(kept, weights_path(before, workplace.results))
    if row.make:
        old = network.features[0]
        assert isinstance(old, nn.Conv2d)
        layer, details = row.maker()(old, settings, row)
        replace_first_layer(network, layer)
    elif before is not None or source.pretrained:
        network.requires_grad_(False)
        network.classifier.requires_grad_(True)
        network.first_layer_only = before is not None  # no dropout, as when the first layer trains
    pixels = pkgutil.resolve_name(source.pixels)()
    views = _views(data, source.cached)
    if source.cached and not row.make:
        views = features(nn.Sequential(pixels, network.features).to(workplace.device), views, settings["precision"])
        pixels, network.features = Float(), nn.Sequential(nn.Identity())
    training, held_out = _split(data, views, settings.get("validation", 0), trial.seed)
    model = nn.Sequential(pixels, network).to(workplace.device)
    images, labels = _on_device(training, workplace.device)
    parts = {part: _on_device(photos, workplace.device) for part, photos in held_out.items()}

    def measure() -> dict[str, float]:
        right = {f"{part}_accuracy": correct(model, *split, settings["precision"]) for part, split in parts.items()}
        if "validation" not in settings:
            details["correct"] = {name: packed(hits.cpu().numpy()) for name, hits in right.items()}
        return {name: hits.sum().item() / len(hits) for name, hits in right.items()}

    return Task(
        model,
        images,
        labels,
        measure,
        metrics=tuple(f"{part}_accuracy" for part in parts),
        data={
            "name": data.name,
            "label": data.label,
            "source": data.source,
            "sha256": data.sha256,
            "n_train": len(labels),
            **{f"n_{part}": len(photos[1]) for part, photos in held_out.items()},
            "skipped": len(data.skipped),
            "converted": len(data.converted),
        },
        details=details,
        finish=None if before else partial(save_weights, kept, weights_path(trial, workplace.results)),
    )


def sized_vgg16(settings: dict[str, Any]) -> VGG16:
    """A VGG16 of the widths and sizes in the settings, with random weights."""
    return VGG16(2, widths=settings["widths"], hidden=settings["hidden"], grid=settings["grid"])


def squeezenet(settings: dict[str, Any]) -> SqueezeNet:
    """A SqueezeNet as published, with its ImageNet weights."""
    check_fixed(settings, {"widths": "as published"})
    return imagenet_squeezenet(2)


def adapted_vgg16(settings: dict[str, Any]) -> AdaptedVGG16:
    """The convolutions of VGG16 with their ImageNet weights, under a head of the sizes in the settings."""
    network = AdaptedVGG16(2, widths=settings["widths"], hidden=settings["hidden"], grid=settings["grid"])
    load_published(network, vgg16_weights())
    return network


def standardised() -> Standardise:
    """Pixels of mean 0 and deviation 1."""
    return Standardise(IMAGENET_MEAN, IMAGENET_STD)


def vgg16_pixels() -> BlueGreenRed:
    """Pixels as VGG16's ImageNet weights expect them."""
    return BlueGreenRed(VGG16_MEAN)


def unit_pixels() -> Standardise:
    """Pixels from 0 to 1, red first, as the authors' demonstration feeds them."""
    return Standardise((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class Float(nn.Module):
    """Features of any precision -> float32."""

    def forward(self, features: Tensor) -> Tensor:
        return features.float()


def free_first_layer(old: nn.Conv2d, settings: dict[str, Any], row: FirstLayer) -> tuple[nn.Module, dict[str, Any]]:
    """The old layer itself, one of larger support that computes the same, or one that starts by He's rule."""
    if row.start == "original" and (row.kernel_size, row.kernel_size) == old.kernel_size:
        return old, {}
    new = nn.Conv2d(old.in_channels, old.out_channels, row.kernel_size, stride=_stride(old), padding=_padding(old, row))
    assert new.bias is not None
    if row.start == "original":
        assert old.bias is not None
        with torch.no_grad():
            new.weight.copy_(F.pad(old.weight, (_frame(old, row),) * 4))
            new.bias.copy_(old.bias)
        return new, {}
    nn.init.kaiming_normal_(new.weight, nonlinearity="relu")
    nn.init.zeros_(new.bias)
    return new, {}


class GainAndBias(nn.Module):
    """x -> gain x + bias by channel, at first x: (b, c, h, w) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain, self.bias = nn.Parameter(torch.ones(channels, 1, 1)), nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x + self.bias


def gain_and_bias(old: nn.Conv2d, settings: dict[str, Any], row: FirstLayer) -> tuple[nn.Module, dict[str, Any]]:
    """The old layer, frozen, behind a gain and a bias that train."""
    return nn.Sequential(GainAndBias(old.in_channels), old.requires_grad_(False)), {}


def gaussian_first_layer(
    old: nn.Conv2d, settings: dict[str, Any], row: FirstLayer, train_geometry: bool = True
) -> tuple[nn.Module, dict[str, Any]]:
    """A Gaussian derivative layer, at random or fitted to the old filters; then with its relative residual.

    On every machine by one algorithm. The geometry moves in the fit even if it does not train thereafter.
    """
    layer = GaussianDerivativeConv2d(
        old.in_channels,
        old.out_channels,
        row.kernel_size,
        order=settings["order"],
        bases=settings["bases"],
        stride=_stride(old),
        padding=_padding(old, row),
        algorithm="dense",
    )
    if row.start == "random":
        return layer, {}
    assert old.bias is not None
    residual = fit_filters(layer, old.weight.detach(), bias=old.bias.detach(), steps=settings["fit_steps"])
    for parameter in (layer.raw_sigma, layer.mu, layer.theta):
        parameter.requires_grad_(train_geometry)
    return layer, {"fit_residual": residual}


def weights_path(trial: Table2Trial, results: Path) -> Path:
    """Where the source network's weights lie, beside its record."""
    return (trial.needs or trial).record_path(results).with_suffix(".pt")


def _train_first(source: Table2Trial, workplace: Workplace) -> None:
    """Trains the source network unless it is there with its weights; checks that it is of the present settings."""
    path = weights_path(source, workplace.results)
    lost = not path.exists() and source.record_path(workplace.results).exists()
    run(source, workplace.results, device=workplace.device.type, force=lost)


def _stride(old: nn.Conv2d) -> tuple[int, int]:
    return old.stride[0], old.stride[1]


def _frame(old: nn.Conv2d, row: FirstLayer) -> int:
    """By how many pixels the new support is wider on each side."""
    return (row.kernel_size - old.kernel_size[0]) // 2


def _padding(old: nn.Conv2d, row: FirstLayer) -> tuple[int, int]:
    """What keeps the outputs of a larger kernel where they were."""
    assert not isinstance(old.padding, str)
    return old.padding[0] + _frame(old, row), old.padding[1] + _frame(old, row)


def _views(data: cats_dogs.PhotoSet, mirrored: bool) -> dict[str, np.ndarray]:
    """The images of each split, and the mirror images of those to train on."""
    views = {"train": data.train_images, "val": data.val_images, "test": data.test_images}
    return views | ({"mirrored": data.train_images[:, :, ::-1]} if mirrored else {})


def features(model: nn.Module, views: dict[str, np.ndarray], precision: str) -> dict[str, np.ndarray]:
    """What a frozen model makes of images (n, h, w, 3): (n, h', w', c), computed once and kept in the cache.

    Half-precision holds what bfloat16 computes. Models of CPU round differently, and so do versions of torch; each
    has its own.
    """
    device = next(model.parameters()).device
    made_by = hashlib.sha256(f"{torch.__version__} {machine_name(device.type)} {precision} {model}".encode())
    weights = {name: tensor.cpu().numpy() for name, tensor in model.state_dict().items()}
    for name, value in (*weights.items(), *views.items()):
        made_by.update(f"\n{name} {value.dtype} {value.shape}\n".encode())
        made_by.update(np.ascontiguousarray(value).data)

    @torch.no_grad()
    def of(images: np.ndarray) -> np.ndarray:
        batches = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).split(FEATURE_BATCH)
        found = [forward(model, batch.to(device), precision).cpu() for batch in batches]
        kind = torch.float16 if precision == "bf16" else torch.float32
        return torch.cat(found).to(kind).permute(0, 2, 3, 1).contiguous().numpy()

    path = f"features/{made_by.hexdigest()[:32]}.arrays"
    lock = cache_directory() / f"{path}.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):  # who comes second finds them
        return cached(path, lambda: {name: of(images) for name, images in views.items()})


def _split(
    data: cats_dogs.PhotoSet, views: dict[str, np.ndarray], validation: int, seed: int
) -> tuple[Photos, dict[str, Photos]]:
    """What to train on, and by name what to measure on: of a search, so much of the training split."""
    labels, chosen = data.train_labels, slice(None)
    held_out = {"val": (views["val"], data.val_labels), "test": (views["test"], data.test_labels)}
    if validation:
        drawn = balanced_subset(labels, len(labels), seed)
        out, chosen = drawn[:validation], drawn[validation:]
        held_out = {"validation": (views["train"][out], labels[out])}
    shown = [views[name][chosen] for name in ("train", "mirrored") if name in views]
    images = shown[0] if len(shown) == 1 else np.concatenate(shown)
    return (images, np.tile(labels[chosen], len(shown))), held_out


def _on_device(photos: Photos, device: torch.device) -> tuple[Tensor, Tensor]:
    """uint8 images, or features, (n, h, w, c) -> (n, c, h, w), and their labels."""
    images, labels = photos
    return torch.from_numpy(images).permute(0, 3, 1, 2).to(device), torch.from_numpy(labels).to(device)
