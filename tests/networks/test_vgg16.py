"""VGG16: torchvision's state dict and arithmetic, files of weights good and bad, one layer trained alone."""

import os
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from invented import published
from mutations import attack
from torch import Tensor, nn
from torch.nn import functional as F

from gdlayer import ConvBlock, GaussianDerivativeConv2d
from gdlayer.datasets import DataCorruptError
from gdlayer.networks.transfer import load_weights, replace_first_layer
from gdlayer.networks.vgg16 import VGG16, AdaptedVGG16, cell_means, load_published

SMALL = {"widths": (4, 4, 6, 6, 8), "hidden": 10, "grid": 2}
CONVOLUTIONS = {
    0: (3, 64),
    2: (64, 64),
    5: (64, 128),
    7: (128, 128),
    10: (128, 256),
    12: (256, 256),
    14: (256, 256),
    17: (256, 512),
    19: (512, 512),
    21: (512, 512),
    24: (512, 512),
    26: (512, 512),
    28: (512, 512),
}
DENSE = {0: (25088, 4096), 3: (4096, 4096), 6: (4096, 1000)}


def image(size: int = 32, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, size, size)


# The network


def test_published_network_has_the_state_dict_of_torchvision():
    with torch.device("meta"):
        state = VGG16(1000).state_dict()
    expected = {}
    for index, (f_in, f_out) in CONVOLUTIONS.items():
        expected |= {f"features.{index}.weight": (f_out, f_in, 3, 3), f"features.{index}.bias": (f_out,)}
    for index, (f_in, f_out) in DENSE.items():
        expected |= {f"classifier.{index}.weight": (f_out, f_in), f"classifier.{index}.bias": (f_out,)}
    assert {name: tuple(value.shape) for name, value in state.items()} == expected
    assert list(state) == list(expected)
    assert sum(value.numel() for value in state.values()) == 138_357_544


@pytest.mark.parametrize("size", [32, 48, 70])
def test_forward_is_that_of_the_paper(size):
    model = VGG16(3, **SMALL).eval()
    state = model.state_dict()
    x = image(size)
    expected = x
    for index in CONVOLUTIONS:
        weight, bias = state[f"features.{index}.weight"], state[f"features.{index}.bias"].normal_()
        expected = F.conv2d(expected, weight, bias, padding=1).clamp_min(0)
        if index in (2, 7, 14, 21, 28):
            expected = F.max_pool2d(expected, 2)
    expected = F.adaptive_avg_pool2d(expected, 2).flatten(1)
    for index in DENSE:
        expected = F.linear(expected, state[f"classifier.{index}.weight"], state[f"classifier.{index}.bias"].normal_())
        if index < 6:
            expected = expected.clamp_min(0)
    logits = model(x)
    assert logits.shape == (2, 3)
    torch.testing.assert_close(logits, expected)


def test_dropout_is_half_of_both_hidden_layers():
    model = VGG16(**{**SMALL, "hidden": 1000})
    x = torch.ones(1, 1000)
    for index in (2, 5):
        dropped = model.classifier[index](x)
        assert set(dropped.unique().tolist()) == {0.0, 2.0}
        assert 400 < (dropped == 0).sum() < 600


def test_initial_second_moment_is_kept():
    model = VGG16(2, widths=(32, 32, 64, 64, 64), hidden=256, grid=1).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
            continue
        gain = 1 if name == "classifier.6.weight" else 2
        variance = gain / parameter[0].numel()
        assert abs(parameter.mean()) < 5 * (variance / parameter.numel()) ** 0.5
        torch.testing.assert_close(parameter.var().item(), variance, rtol=0.2, atol=0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"widths": (8, 8)}, ValueError, "widths must be five integers, got (8, 8)"),
        ({"widths": (8, 8, 0, 8, 8)}, ValueError, "each of widths must be an integer >= 1, got 0"),
        ({"hidden": 0}, ValueError, "hidden must be an integer >= 1, got 0"),
        ({"grid": 1.5}, TypeError, "grid must be an integer >= 1, got 1.5"),
        ({"num_classes": 0}, ValueError, "num_classes must be an integer >= 1, got 0"),
        ({"in_channels": 0}, ValueError, "in_channels must be an integer >= 1, got 0"),
    ],
    ids=str,
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        VGG16(**{**SMALL, **arguments})


# One layer trained alone


def new_layer(**options) -> GaussianDerivativeConv2d:
    return GaussianDerivativeConv2d(3, 4, 7, bases=2, **options)


@pytest.mark.parametrize("make", [new_layer, lambda: nn.Conv2d(3, 4, 3, padding=1)], ids=["gaussian", "free-form"])
def test_only_the_first_layer_trains(make):
    model = VGG16(**SMALL)
    trained = replace_first_layer(model, make())
    assert {id(p) for p in trained} == {id(p) for p in model.parameters() if p.requires_grad}
    assert {id(p) for p in trained} == {id(p) for p in model.features[0].parameters()}
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimiser = torch.optim.Adam(trained, lr=0.1)
    model.train()
    F.cross_entropy(model(image()), torch.tensor([0, 1])).backward()
    optimiser.step()
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name]) != name.startswith("features.0."), name


def test_all_but_the_first_layer_stays_in_evaluation_mode():
    model = VGG16(**SMALL).train()
    replace_first_layer(model, ConvBlock(new_layer(bias=False)))
    modes = {name: module.training for name, module in model.named_modules()}
    assert {name for name, training in modes.items() if training} == {
        "", "features.0", "features.0.conv", "features.0.norm", "features.0.activation",
    }  # fmt: skip
    x = image()
    assert torch.equal(model(x), model(x))  # no dropout
    assert not any(module.training for module in model.eval().modules())
    model.train()
    assert model.features[0].training
    assert not model.classifier[2].training


def test_evaluation_mode_is_kept_and_no_statistics_change():
    model = VGG16(**SMALL).eval()
    layer = ConvBlock(new_layer(bias=False))
    replace_first_layer(model, layer)
    assert not layer.training
    assert layer.norm.get_buffer("num_batches_tracked") == 0


def test_own_first_layer_can_be_trained_again():
    model = VGG16(**SMALL)
    replace_first_layer(model, new_layer())
    again = model.features[0]
    assert len(replace_first_layer(model, again)) == 5
    assert all(parameter.requires_grad for parameter in again.parameters())


def test_new_layer_takes_dtype_of_the_model_and_keeps_what_it_froze():
    model = VGG16(**SMALL).double()
    trained = replace_first_layer(model, new_layer(trainable=("mu",)))
    assert {tuple(p.shape) for p in trained} == {(2, 10, 2), (4,), (2, 2, 3, 10)}
    assert model(image().double()).dtype == torch.float64


@pytest.mark.parametrize(
    ("layer", "found"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), "got (1, 8, 32, 33)"),
        (nn.Conv2d(3, 4, 3), "got (1, 4, 30, 31)"),
        (GaussianDerivativeConv2d(3, 4, 7, stride=2), "got (1, 4, 16, 17)"),
        (nn.Conv2d(1, 4, 3, padding=1), "expected input"),
    ],
    ids=["width", "padding", "stride", "channels"],
)
def test_layers_that_do_not_fit(layer, found):
    model = VGG16(**SMALL)
    before = model.features[0]
    message = "new_layer must map shape (1, 3, 32, 33) to (1, 4, 32, 33)"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}.*{re.escape(found)}"):
        replace_first_layer(model, layer)
    assert model.features[0] is before
    assert all(parameter.requires_grad for parameter in model.parameters())


# Files of weights


@pytest.fixture(params=[True, False], ids=["zip", "as published"])
def saved(request, tmp_path) -> tuple[Path, VGG16]:
    model = VGG16(1000, **SMALL).eval()
    torch.save(model.state_dict(), tmp_path / "w.pth", _use_new_zipfile_serialization=request.param)
    return tmp_path / "w.pth", model


def test_weights_are_loaded(saved):
    path, source = saved
    model = VGG16(1000, **SMALL).eval()
    load_weights(model, path)
    x = image()
    assert torch.equal(model(x), source(x))


@pytest.mark.parametrize("part", [0, 0.001, 0.5, 0.99])
def test_truncated_weights_are_refused(saved, part):
    path, model = saved
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(DataCorruptError, match=rf"^{re.escape(str(path))} is damaged or no file of weights \(\w+\)$"):
        load_weights(model, path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_mutations_of_trained_weights(tmp_path):
    path, model = tmp_path / "w.pth", VGG16(4, **SMALL)
    torch.save(model.state_dict(), path)
    target = VGG16(4, **SMALL)

    def read() -> dict[str, torch.Tensor]:
        load_weights(target, path)
        return target.state_dict()

    def same(found: dict[str, torch.Tensor]) -> bool:
        return all(torch.equal(found[name], value) for name, value in model.state_dict().items())

    counts = attack("weights trained here", path, read, same, DataCorruptError)
    assert counts.keys() <= {"refused", "same"}  # bytes between the members mean nothing
    assert counts["refused"] > counts.total() / 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(2)], "holds no state dict"),
        ({"epoch": 3}, "holds no state dict"),
        (
            VGG16(10, **SMALL).state_dict(),
            "holds other weights: classifier.6.weight has shape (10, 10), expected (1000, 10)",
        ),
        ({}, "holds other weights: features.0.weight has shape None, expected (4, 3, 3, 3)"),
        (
            {**VGG16(1000, **SMALL).state_dict(), "features.1.weight": torch.ones(4)},
            "holds other weights: features.1.weight has shape (4,), expected None",
        ),
    ],
    ids=["list", "numbers", "classes", "empty", "batch norm"],
)
def test_other_weights_are_refused(content, message, tmp_path):
    path = tmp_path / "w.pth"
    torch.save(content, path)
    with pytest.raises(DataCorruptError, match=f"^{re.escape(f'{path} {message}')}$"):
        load_weights(VGG16(1000, **SMALL), path)


def test_code_in_a_file_is_not_run(tmp_path):
    torch.save({"features.0.weight": os.system}, tmp_path / "w.pth")
    with pytest.raises(DataCorruptError, match="UnpicklingError"):
        load_weights(VGG16(**SMALL), tmp_path / "w.pth")


# Published convolutions under a small head


TINY = (4, 5, 6, 7, 8)


@pytest.mark.parametrize(("hidden", "grid"), [(6, 2), (0, 1)])
def test_a_small_head_on_the_published_convolutions(hidden, grid):
    model, weights = AdaptedVGG16(2, widths=TINY, hidden=hidden, grid=grid).eval(), published(TINY)
    load_published(model, weights)
    x = expected = image(64)
    for stage, count in enumerate((2, 2, 3, 3, 3), 1):
        for i in range(1, count + 1):
            kernel, bias = (torch.from_numpy(weights[f"conv{stage}_{i}.{kind}"]) for kind in ("weight", "bias"))
            expected = F.conv2d(expected, kernel, bias, padding=1).relu()
        expected = F.max_pool2d(expected, 2)
    expected = (expected if grid == 2 else expected.mean((2, 3))).flatten(1)
    dense = [layer for layer in model.classifier if isinstance(layer, nn.Linear)]
    assert [tuple(layer.weight.shape) for layer in dense] == ([(6, 32), (2, 6)] if hidden else [(2, 8)])
    if hidden:
        expected = dense[0](expected).relu()
        assert isinstance(model.classifier[2], nn.Dropout)
    torch.testing.assert_close(model(x), dense[-1](expected))


def test_other_convolutions_are_refused():
    message = "conv5_3.weight must have shape (8, 8, 3, 3), got (9, 9, 3, 3)"
    weights = published(TINY) | {name: value for name, value in published((*TINY[:4], 9)).items() if "5_3" in name}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        load_published(AdaptedVGG16(widths=TINY), weights)
    with pytest.raises(ValueError, match=r"^hidden must be an integer >= 0, got -1$"):
        AdaptedVGG16(widths=TINY, hidden=-1)


@given(h=st.integers(1, 15), w=st.integers(1, 15), grid=st.integers(1, 9))
def test_the_matrices_of_the_cells_are_adaptive_pooling(h, w, grid):
    """Which stands for it on a GPU."""
    x = torch.randn(2, 3, h, w, dtype=torch.float64)
    rows, columns = (cell_means(size, grid) for size in (h, w))
    torch.testing.assert_close(rows @ x @ columns.mT, F.adaptive_avg_pool2d(x, grid), rtol=0, atol=1e-12)
