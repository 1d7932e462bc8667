"""The layer in networks that others wrote: ``python workflow/guests.py [NAME ...] [--csv FILE]``.

Each network is made without pretrained weights. Its convolutions are replaced, it takes a training step, goes through
``save_pretrained`` and ``from_pretrained`` if it has them, and is deployed. A network whose package is missing is
skipped aloud. Nothing is downloaded.
"""

import argparse
import contextlib
import csv
import importlib
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from gdlayer import deploy, parameter_groups, replace_conv2d

OPTIONS: dict[str, Any] = {"order": 2, "bases": 4, "growth": "skip"}
TOLERANCE = 1e-4
"""Of outputs, relative to the largest: a deep network adds up the rounding of its layers."""


class Outcome(Protocol):
    """What came of a case; it prints as a line."""

    def row(self) -> dict[str, Any]:
        """Of the table."""
        ...


class Case(Protocol):
    """Something to try with a package of others."""

    @property
    def package(self) -> str: ...

    def visit(self, package: Any) -> Outcome:
        """Tries it with the imported package; what fails raises."""
        ...


class Guest(NamedTuple):
    """A network, and what it takes."""

    package: str
    make: Callable[[Any], nn.Module]
    """From its imported package."""
    size: tuple[int, ...]
    """Of one image: (channels, h, w)."""

    def visit(self, package: Any) -> "Visit":
        return visit(self.make(package), torch.randn(2, *self.size))


def resnet_of_transformers(transformers: Any) -> nn.Module:
    config = transformers.ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic")
    return transformers.ResNetForImageClassification(config)


def convnext_of_transformers(transformers: Any) -> nn.Module:
    config = transformers.ConvNextConfig(hidden_sizes=[16, 32, 64, 128], depths=[1, 1, 1, 1])
    return transformers.ConvNextForImageClassification(config)


def unet_of_monai(networks: Any) -> nn.Module:
    return networks.UNet(2, 1, 2, channels=(8, 16, 32), strides=(2, 2), num_res_units=2)


GUESTS = {
    "timm resnet18": Guest("timm", lambda timm: timm.create_model("resnet18"), (3, 64, 64)),
    "timm convnext_atto": Guest("timm", lambda timm: timm.create_model("convnext_atto"), (3, 64, 64)),
    "timm mobilenetv3": Guest("timm", lambda timm: timm.create_model("mobilenetv3_small_100"), (3, 64, 64)),
    "timm resnext50": Guest("timm", lambda timm: timm.create_model("resnext50_32x4d"), (3, 64, 64)),
    "monai UNet": Guest("monai.networks.nets", unet_of_monai, (1, 64, 64)),
    "transformers ResNet": Guest("transformers", resnet_of_transformers, (3, 64, 64)),
    "transformers ConvNext": Guest("transformers", convnext_of_transformers, (3, 64, 64)),
    "pytorchcv NIN": Guest("pytorchcv.model_provider", lambda provider: provider.get_model("nin_cifar10"), (3, 32, 32)),
}


class Visit(NamedTuple):
    """What came of one network."""

    replaced: int
    convolutions: int
    parameters: tuple[int, int]
    """Before and after."""
    deviation: float
    """Of the outputs of the deployed network, relative to the largest."""
    seconds: float

    def row(self) -> dict[str, Any]:
        return {
            "replaced": self.replaced,
            "convolutions": self.convolutions,
            "parameters_before": self.parameters[0],
            "parameters_after": self.parameters[1],
            "deviation": f"{self.deviation:.0e}",
        }

    def __str__(self) -> str:
        before, after = self.parameters
        return (
            f"{self.replaced} of {self.convolutions} convolutions replaced, {before} -> {after} parameters, "
            f"deployed to {self.deviation:.0e}, {self.seconds:.0f} s"
        )


def visit(model: nn.Module, x: Tensor) -> Visit:
    """Replaces, trains, saves, loads and deploys.

    Raises
    ------
    VisitError
        If a gradient is missing or not finite, or a copy computes something else.
    """
    start = time.perf_counter()
    before = count(model)
    report = replace_conv2d(model, **OPTIONS)
    after = count(model)
    optimiser = torch.optim.AdamW(parameter_groups(model, geometry={"lr": 1e-2}), lr=1e-3)
    output(model.train(), x).square().mean().backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    check(all(p.grad is not None and p.grad.isfinite().all() for p in trained), "a gradient is missing or not finite")
    optimiser.step()
    with torch.no_grad():
        expected = output(model.eval(), x)
        check(bool(expected.isfinite().all()), "the output is not finite after a step")
        if hasattr(model, "save_pretrained"):
            check(torch.equal(output(pretrained(model), x), expected), "from_pretrained gives another network")
        deviation = float((output(deploy(model), x) - expected).abs().max() / expected.abs().max())
    check(deviation < TOLERANCE, f"deployed, the output deviates by {deviation:.1e}")
    replaced = len(report.replaced)
    return Visit(replaced, replaced + len(report.skipped), (before, after), deviation, time.perf_counter() - start)


class VisitError(Exception):
    """The layer fails in a network."""


def check(passed: bool, message: str) -> None:
    if not passed:
        raise VisitError(message)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def output(model: nn.Module, x: Tensor) -> Tensor:
    y = model(x)
    return y if isinstance(y, Tensor) else y.logits


def pretrained(model: Any) -> nn.Module:
    """What ``from_pretrained`` makes of what ``save_pretrained`` wrote, in a class that has the layer."""

    class Guest(type(model)):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            replace_conv2d(self, **OPTIONS)

    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return Guest.from_pretrained(folder).eval()


def define_operators_of_torchvision() -> torch.library.Library | None:
    """timm imports torchvision, which asks for its compiled operators, and no build of them fits every build of torch.

    No network here uses them. The library must be kept, or the definitions go.
    """
    with contextlib.suppress(ImportError):
        try:
            importlib.import_module("torchvision")
        except RuntimeError:  # operator torchvision::nms does not exist
            library = torch.library.Library("torchvision", "DEF")
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            return library
    return None


def tour(column: str, cases: Mapping[str, Case], names: list[str], table: Path | None = None) -> int:
    """0 if nothing failed; what is skipped does not count. ``table`` gets a row for each that passed."""
    torch.manual_seed(0)
    warnings.filterwarnings("ignore")  # the packages' own
    kept = define_operators_of_torchvision()
    failed, rows = 0, []
    for name, case in cases.items():
        if names and name not in names:
            continue
        distribution = case.package.partition(".")[0]
        try:
            package = importlib.import_module(case.package)
        except (ImportError, RuntimeError) as error:
            print(f"SKIPPED {name}: {error}")
            continue
        versions = {"version": version(distribution), "torch": torch.__version__}
        try:
            outcome = case.visit(package)
            rows.append({column: name, **versions, **outcome.row()})
        except Exception as error:
            failed += 1
            outcome = f"FAILED: {type(error).__name__}: {error}"
        print(f"{name} ({distribution} {versions['version']}): {outcome}", flush=True)
    del kept
    if table and rows:
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return int(failed > 0)


def main(description: str | None, column: str, cases: Mapping[str, Case]) -> int:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(cases))
    parser.add_argument("--csv", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    return tour(column, cases, arguments.names, arguments.csv)


if __name__ == "__main__":
    sys.exit(main(__doc__, "network", GUESTS))
