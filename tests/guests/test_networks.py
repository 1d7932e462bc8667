"""The layer in networks that others wrote, without pretrained weights; one whose package is missing is skipped."""

import contextlib
import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gdlayer import deploy, parameter_groups, replace_conv2d

pytestmark = pytest.mark.filterwarnings("ignore")  # the packages' own

OPTIONS: dict[str, Any] = {"order": 2, "bases": 4, "growth": "skip"}
TOLERANCE = 1e-4
"""Of outputs, relative to the largest: a deep network adds up the rounding of its layers."""


def resnet_of_transformers(transformers: Any) -> nn.Module:
    config = transformers.ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic")
    return transformers.ResNetForImageClassification(config)


def convnext_of_transformers(transformers: Any) -> nn.Module:
    config = transformers.ConvNextConfig(hidden_sizes=[16, 32, 64, 128], depths=[1, 1, 1, 1])
    return transformers.ConvNextForImageClassification(config)


def unet_of_monai(networks: Any) -> nn.Module:
    return networks.UNet(2, 1, 2, channels=(8, 16, 32), strides=(2, 2), num_res_units=2)


@pytest.fixture(scope="module", autouse=True)
def operators_of_torchvision():
    """timm imports torchvision, which asks for its compiled operators, and no build of them fits every build of torch.

    No network here uses them. The library must be kept, or the definitions go.
    """
    library = None
    with contextlib.suppress(ImportError):
        try:
            importlib.import_module("torchvision")
        except RuntimeError:  # operator torchvision::nms does not exist
            library = torch.library.Library("torchvision", "DEF")
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


@pytest.mark.parametrize(
    ("package", "make", "shape", "replaced", "kept"),
    [
        pytest.param("timm", lambda timm: timm.create_model("resnet18"), (3, 64, 64), 17, 3, id="timm-resnet18"),
        pytest.param("timm", lambda timm: timm.create_model("convnext_atto"), (3, 64, 64), 13, 27, id="timm-convnext"),
        pytest.param(
            "timm", lambda timm: timm.create_model("mobilenetv3_small_100"), (3, 64, 64), 11, 42, id="timm-mobilenetv3"
        ),
        pytest.param(
            "timm", lambda timm: timm.create_model("resnext50_32x4d"), (3, 64, 64), 17, 36, id="timm-resnext50"
        ),
        pytest.param("monai.networks.nets", unet_of_monai, (1, 64, 64), 7, 6, id="monai-unet"),
        pytest.param("transformers", resnet_of_transformers, (3, 64, 64), 5, 1, id="transformers-resnet"),
        pytest.param("transformers", convnext_of_transformers, (3, 64, 64), 5, 3, id="transformers-convnext"),
        pytest.param(
            "pytorchcv.model_provider",
            lambda provider: provider.get_model("nin_cifar10"),
            (3, 32, 32),
            3,
            6,
            id="pytorchcv-nin",
        ),
    ],
)
def test_convolutions_are_replaced_trained_saved_and_deployed(
    package: str, make: Callable[[Any], nn.Module], shape: tuple[int, ...], replaced: int, kept: int, tmp_path
):
    module = pytest.importorskip(package, exc_type=ImportError)
    torch.manual_seed(0)
    model, x = make(module), torch.randn(2, *shape)
    report = replace_conv2d(model, **OPTIONS)
    assert (len(report.replaced), len(report.skipped)) == (replaced, kept)
    optimiser = torch.optim.AdamW(parameter_groups(model, geometry={"lr": 1e-2}), lr=1e-3)
    output(model.train(), x).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
    optimiser.step()
    with torch.no_grad():
        expected = output(model.eval(), x)
        assert expected.isfinite().all()
        if hasattr(model, "save_pretrained"):
            assert torch.equal(output(pretrained(model, tmp_path), x), expected)
        torch.testing.assert_close(
            output(deploy(model), x), expected, rtol=0, atol=TOLERANCE * float(expected.abs().max())
        )


def output(model: nn.Module, x: Tensor) -> Tensor:
    y = model(x)
    return y if isinstance(y, Tensor) else y.logits


def pretrained(model: Any, folder) -> nn.Module:
    """What ``from_pretrained`` makes of what ``save_pretrained`` wrote, in a class that has the layer."""

    class Guest(type(model)):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            replace_conv2d(self, **OPTIONS)

    model.save_pretrained(folder)
    return Guest.from_pretrained(folder).eval()
