"""What layers are deployed as: modules of torch alone, which programs without gdlayer load and transform."""

import os
import re
import subprocess
import sys
from typing import Any

import pytest
import torch
from layer_table import convolution_in, perturbed
from torch import Tensor, fx, nn

from gdlayer import GaussianDerivativeConv2d, deploy
from gdlayer._plumbing.padding import PADDING_MODES

FORMS: dict[str, tuple[dict[str, Any], list[type[nn.Module]]]] = {
    "odd kernel": ({}, [nn.Conv2d]),
    "even kernel": ({"kernel_size": 4}, [nn.ZeroPad2d, nn.Conv2d]),
    "even kernel, circular": ({"kernel_size": 4, "padding_mode": "circular"}, [nn.CircularPad2d, nn.Conv2d]),
    "even kernel, stride 2": ({"kernel_size": 4, "stride": 2}, [nn.ZeroPad2d, nn.Conv2d]),
    "1 x 1, stride 3": ({"kernel_size": 1, "stride": 3}, [nn.Conv2d]),
    "smaller than the stride": ({"kernel_size": 2, "stride": 3}, [nn.ZeroPad2d, nn.Conv2d]),
    "odd kernel, stride 2": ({"stride": 2}, [fx.GraphModule, nn.Conv2d]),
    "odd kernel, stride 2, grouped": ({"stride": 2, "groups": 2}, [fx.GraphModule, nn.Conv2d]),
    "stride along one axis": ({"stride": (1, 2), "kernel_size": (4, 3)}, [fx.GraphModule, nn.Conv2d]),
    "stride and dilation": ({"stride": 3, "dilation": 2, "padding_mode": "reflect"}, [fx.GraphModule, nn.Conv2d]),
    "padding given": ({"stride": 2, "padding": 1}, [nn.Conv2d]),
}
forms = pytest.mark.parametrize(("options", "expected"), FORMS.values(), ids=FORMS.keys())


def make(in_channels: int, out_channels: int, **options: Any) -> GaussianDerivativeConv2d:
    options = {"kernel_size": 3, "order": 2, "bases": 2, "dtype": torch.float64, **options}
    layer = GaussianDerivativeConv2d(in_channels, out_channels, **options)
    perturbed(layer)
    return layer


@forms
def test_modules_are_torch_s_own_and_right_for_every_size(options, expected):
    layer = make(2, 4, **options)
    plain = layer.deploy()
    kinds = [type(module) for module in (plain if type(plain) is nn.Sequential else [plain])]
    assert len(kinds) == len(expected)
    assert all(issubclass(*pair) for pair in zip(kinds, expected, strict=True))
    assert type(convolution_in(plain)) is nn.Conv2d
    for module in (plain, fx.symbolic_trace(plain)):
        for height in range(8, 14):
            x = torch.randn(2, 2, height, 21 - height, dtype=torch.float64)
            torch.testing.assert_close(module(x), layer(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("padding_mode", PADDING_MODES)
@pytest.mark.parametrize(("separated", "algorithm"), [(False, "dense"), (True, "dense"), (True, "factorised")])
@pytest.mark.parametrize("groups", [1, 2])
def test_every_form_on_request(separated, algorithm, padding_mode, groups):
    layer = make(4, 8, separated=separated, groups=groups, bases=4, padding_mode=padding_mode, stride=(1, 2))
    plain = layer.deploy(algorithm)
    shapes = {
        "dense": [(8, 4 // groups, 3, 3)],
        "factorised": [(24, 4 // groups, 1, 1), (24, 1, 3, 3), (8, 6, 1, 1)],
    }
    convolutions = [module for module in plain.modules() if isinstance(module, nn.Conv2d)]
    assert [tuple(conv.weight.shape) for conv in convolutions] == shapes[algorithm]
    assert {conv.weight.dtype for conv in convolutions} == {torch.float64}
    assert not any(t.data_ptr() == p.data_ptr() for t in plain.parameters() for p in layer.parameters())
    x = torch.randn(2, 4, 6, 7, dtype=torch.float64)
    torch.testing.assert_close(plain(x), layer(x), rtol=1e-12, atol=1e-12)
    assert not any(module.training for module in layer.eval().deploy(algorithm).modules())


def test_a_separated_layer_stays_separated_where_that_is_cheaper():
    """By the cost model, which knows float32 on CPUs; or as the layer's own ``algorithm`` says."""
    cheaper = {"kernel_size": 7, "order": 3, "bases": 16, "separated": True}
    layer = make(64, 64, dtype=torch.float32, **cheaper)
    kinds = [(conv.kernel_size, conv.groups) for conv in layer.deploy().modules() if isinstance(conv, nn.Conv2d)]
    assert kinds == [((1, 1), 1), ((7, 7), 160), ((1, 1), 16)]
    x = torch.randn(1, 64, 9, 9)
    for plain in (layer.deploy(), deploy(layer)):
        output = plain(x)
        assert output.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(output, layer(x), rtol=0, atol=1e-6 * float(output.detach().abs().max()))
    assert type(layer.deploy("dense")) is type(deploy(layer, "dense")) is nn.Conv2d
    layer.algorithm = "dense"
    assert type(layer.deploy()) is nn.Conv2d
    for other in (make(64, 64, **cheaper), make(16, 32, dtype=torch.float32, **cheaper)):
        assert type(other.deploy()) is nn.Conv2d
        other.algorithm = "factorised"
        assert len(list(other.deploy().children())) == 3


def model() -> nn.Sequential:
    """Every way to pad, and every form."""
    return nn.Sequential(
        make(1, 4, kernel_size=4),
        nn.ReLU(),
        make(4, 4, stride=2),
        make(4, 4, stride=2, separated=True, algorithm="factorised", padding_mode="replicate"),
        make(4, 4, groups=2),
    ).eval()


LOAD = """
import sys
sys.modules["gdlayer"] = None  # importing it, or a module of it, is an ImportError
import torch
try:
    import gdlayer.conv
except ImportError:
    plain, x, expected = torch.load(sys.argv[1], weights_only=False)
torch.testing.assert_close(plain(x), expected)
torch.testing.assert_close(torch.fx.symbolic_trace(plain)(x), expected)
"""


def test_a_deployed_model_loads_where_there_is_no_gdlayer(tmp_path):
    layers = model()
    x = torch.randn(2, 1, 13, 10, dtype=torch.float64)
    torch.save((deploy(layers), x, layers(x).detach()), tmp_path / "plain.pt")
    command = [sys.executable, "-c", LOAD, str(tmp_path / "plain.pt")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_copies_of_a_deployed_model_share_nothing():
    plain = deploy(model())
    twin = deploy(plain)
    x = torch.randn(1, 1, 9, 12, dtype=torch.float64)
    expected = plain(x).detach()
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert torch.equal(plain(x), expected)
    assert not twin(x).any()


def test_gradients_reach_plain_modules():
    plain = deploy(model())
    x = torch.randn(1, 1, 9, 12, dtype=torch.float64, requires_grad=True)
    plain(x).sum().backward()
    tensors: list[Tensor] = [x, *plain.parameters()]
    assert all(t.grad is not None for t in tensors)


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        (make(1, 2), "'auto', 'dense'"),
        (make(1, 2, separated=True), "'auto', 'dense', 'factorised'"),
    ],
    ids=["full", "separated"],
)
def test_unknown_algorithms(module, allowed):
    message = f"algorithm must be one of {allowed}, got 'fft'"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        module.deploy("fft")
    with pytest.raises(ValueError, match=r"^algorithm must be one of 'auto', 'dense', got 'factorised'$"):
        deploy(module, "factorised")
