"""Layers with groups, up to depthwise: each group is a layer of its own, with the bases that it has or shares."""

import copy
import re
from typing import Any

import pytest
import torch
from test_algorithms import as_computed_by, assert_near, convolution_flops, values_and_gradients
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from gdlayer import GaussianDerivativeConv2d, fit_filters, replace_conv2d
from gdlayer.algorithms import WORK, Sizes

CASES: dict[str, dict[str, int]] = {
    "one basis for all": {"in_channels": 4, "out_channels": 6, "groups": 2, "bases": 1},
    "a basis for two groups": {"in_channels": 8, "out_channels": 8, "groups": 4, "bases": 2},
    "a basis each": {"in_channels": 6, "out_channels": 12, "groups": 3, "bases": 3},
    "two bases each": {"in_channels": 4, "out_channels": 8, "groups": 2, "bases": 4},
    "depthwise": {"in_channels": 4, "out_channels": 4, "groups": 4, "bases": 1},
    "depthwise, own bases, two filters each": {"in_channels": 3, "out_channels": 6, "groups": 3, "bases": 6},
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def make(case: dict[str, int], **options: Any) -> GaussianDerivativeConv2d:
    layer = GaussianDerivativeConv2d(
        kernel_size=(3, 4),
        **{"order": 2, "dtype": torch.float64, **case, **options},  # type: ignore[arg-type]
    )
    assert layer.bias is not None
    nn.init.normal_(layer.bias)
    return layer


def parts(layer: GaussianDerivativeConv2d) -> list[GaussianDerivativeConv2d]:
    """A layer without groups for each group."""
    count = layer.groups
    own_bases = max(layer.bases // count, 1)
    single = []
    for group in range(count):
        part = GaussianDerivativeConv2d(
            layer.in_channels // count,
            layer.out_channels // count,
            layer.kernel_size,
            order=layer.orders,
            bases=own_bases,
            separated=layer.separated,
            stride=layer.stride,
            algorithm="dense",
            dtype=layer.theta.dtype,
        )
        first = group * layer.bases // count
        state = {}
        for name, value in layer.state_dict().items():
            if name in ("raw_sigma", "mu", "theta"):
                state[name] = value[first : first + own_bases]
            elif name != "_extra_state":
                state[name] = value.chunk(count)[group]
        part.load_state_dict({**state, "_extra_state": layer.get_extra_state()})
        single.append(part)
    return single


@cases
def test_equal_to_a_loop_over_groups(case, separated):
    """Outputs and gradients of every algorithm, in both precisions and memory formats."""
    layer = make(case, separated=separated, stride=(1, 2))
    x = torch.randn(2, layer.in_channels, 7, 6, dtype=torch.float64)
    loop = parts(layer)
    images = [chunk.clone().requires_grad_() for chunk in x.chunk(layer.groups, 1)]
    y = torch.cat([part(image) for part, image in zip(loop, images, strict=True)], 1)
    cotangent = torch.randn_like(y)
    y.backward(cotangent)
    expected = {"y": y.detach(), "x": torch.cat([image.grad for image in images if image.grad is not None], 1)}
    for name in dict(layer.named_parameters()):
        gradients = torch.cat([part.get_parameter(name).grad for part in loop])  # type: ignore[arg-type]
        if len(gradients) > len(layer.get_parameter(name)):  # a basis that several groups share
            gradients = gradients.unflatten(0, (layer.bases, -1)).sum(1)
        expected[name] = gradients
    for name in layer._algorithms:
        twin = as_computed_by(name, layer)
        for single in (twin, copy.deepcopy(twin).float()):
            dtype = single.theta.dtype
            for image in (x, x.to(memory_format=torch.channels_last)):
                ours = values_and_gradients(single, image.to(dtype), cotangent.to(dtype), input_trains=True)
                assert_near(ours, expected, 1e-11 if dtype == torch.float64 else 3e-6)
            with torch.no_grad():
                assert_near({"y": single(x.to(dtype))}, {"y": expected["y"]}, 1e-6)


@cases
def test_parameter_counts(case, separated):
    """N f_in f_out / groups + 5NB full, N (M f_in / groups + f_out) + 5NB separated."""
    layer = make(case, separated=separated)
    f_in, f_out, groups, bases = case.values()
    n, m = 6, max(bases, groups)
    mixing = n * (m * f_in // groups + f_out) if separated else n * f_in * f_out // groups
    assert sum(p.numel() for p in layer.parameters()) == mixing + 5 * n * bases + f_out
    shapes = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    if separated:
        assert (shapes["beta"], shapes["lam"]) == ((m, n, f_in // groups), (m, f_out // m, n))
    else:
        assert shapes["omega"] == (m, f_out // m, f_in // groups, n)
    plain = nn.Conv2d(f_in, f_out, (3, 4), groups=groups)
    assert f"(Conv2d: {sum(p.numel() for p in plain.parameters())})" in repr(layer)
    assert f"dilation=(1, 1), groups={groups}, padding_mode" in repr(layer)
    assert layer.filters().shape == plain.weight.shape


@cases
def test_work_is_what_torch_counts(case, separated):
    """Multiply-adds on the way forward."""
    layer = make(case, separated=separated, stride=2, padding="valid")
    f_in, f_out, groups, bases = case.values()
    x = torch.randn(5, f_in, 8, 6, dtype=torch.float64)
    sizes = Sizes(f_in, f_out, 6, bases, (3, 4), 48, 6, groups)
    for name in layer._algorithms:
        layer.algorithm = name
        work = WORK[name](sizes)
        with torch.no_grad(), FlopCounterMode(display=False) as flops:
            layer(x)
        assert convolution_flops(flops) == 2 * 5 * (work.dense + work.pointwise + work.depthwise), name


@pytest.mark.parametrize("bases", [1, 8, 64])
def test_the_start_keeps_the_variance(bases, separated):
    torch.manual_seed(1)
    layer = GaussianDerivativeConv2d(64, 256, 9, groups=8, bases=bases, separated=separated, gain=1.0, padding="valid")
    with torch.no_grad():
        assert float(layer(torch.randn(1, 64, 40, 40)).square().mean()) == pytest.approx(1, rel=0.25)


@cases
def test_deployed(case, separated):
    layer = make(case, separated=separated)
    x = torch.randn(2, layer.in_channels, 6, 7, dtype=torch.float64)
    torch.testing.assert_close(layer.deploy()(x), layer(x))


@pytest.mark.parametrize("algorithm", ["dense", "factorised"])
def test_gradcheck(algorithm):
    layer = make(
        CASES["a basis for two groups"], order=1, separated=algorithm == "factorised", algorithm=algorithm, stride=2
    )
    names, parameters = zip(*layer.named_parameters(), strict=True)
    x = torch.randn(1, 8, 3, 4, dtype=torch.float64, requires_grad=True)

    def output(x: Tensor, *parameters: Tensor) -> Tensor:
        return functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    assert gradcheck(output, (x, *parameters), fast_mode=True)


@cases
def test_filters_are_fitted(case, separated):
    """Filters of such a layer, from other weights; and how many taps a depthwise layer has kernels for."""
    source = make(case, separated=separated)
    layer = copy.deepcopy(source)
    nn.init.normal_(layer.lam if separated else layer.omega)
    assert fit_filters(layer, source.filters(), bias=source.bias) < 1e-3
    x = torch.randn(1, layer.in_channels, 6, 6, dtype=torch.float64)
    scale = float(source(x).detach().abs().max())
    torch.testing.assert_close(layer(x), source(x), rtol=0, atol=1e-2 * scale)
    with pytest.raises(ValueError, match=re.escape(f"filters must have shape {tuple(source.filters().shape)}")):
        fit_filters(layer, source.filters().repeat(1, layer.groups, 1, 1))


class Blocks(nn.Module):
    """The convolutions of today's networks: a strided stem, ResNeXt's groups, ConvNeXt's and MobileNet's depthwise."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.resnext = nn.Conv2d(16, 32, 3, padding=1, groups=8, bias=False)
        self.norm = nn.BatchNorm2d(32)
        self.convnext = nn.Conv2d(32, 32, 7, padding=3, groups=32)
        self.expand = nn.Conv2d(32, 48, 1)
        self.mobilenet = nn.Conv2d(48, 48, 5, stride=2, padding=2, groups=48)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.resnext(self.stem(x))).relu()
        return self.mobilenet(self.expand(x + self.convnext(x)).relu()).mean((-2, -1))


@pytest.mark.parametrize("options", [{}, {"separated": True}, {"bases": 8, "order": 2}], ids=str)
def test_grouped_convolutions_are_replaced(options):
    model, x = Blocks().double().eval(), torch.randn(2, 3, 24, 24, dtype=torch.float64)
    report = replace_conv2d(model, growth="allow", **options)
    assert [layer.names for layer in report.replaced] == [("stem",), ("resnext",), ("convnext",), ("mobilenet",)]
    assert report.skipped == {"expand": "its kernel is 1 x 1"}
    assert [getattr(model, name).groups for name in ("stem", "resnext", "convnext", "mobilenet")] == [1, 8, 32, 48]
    model(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_replaced_and_fitted_they_compute_nearly_the_same():
    """28 kernels for nine taps."""
    model, x = Blocks().double().eval(), torch.randn(2, 3, 24, 24, dtype=torch.float64)
    expected = model(x).detach()
    report = replace_conv2d(model, ["stem", "resnext"], fit=True, order=6, rcond=1e-13)
    assert all(layer.residual is not None and layer.residual < 1e-4 for layer in report.replaced)
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-2 * float(expected.abs().max()))


# What PyTorch before 2.6 says of autograd functions that it traces itself.
@pytest.mark.filterwarnings("ignore:.* should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(
    "options",
    [{"bases": 4}, {"separated": True, "algorithm": "factorised"}, {"groups": 8, "bases": 8}],
    ids=["full", "factorised", "depthwise"],
)
def test_exported_with_any_batch(options):
    layer = GaussianDerivativeConv2d(8, 8, 3, **{"order": 1, "groups": 4, **options})
    x = torch.randn(2, 8, 6, 7)
    dynamic = {0: torch.export.Dim("batch")}
    exported = torch.export.export(layer, (x,), dynamic_shapes={"x": dynamic}).module()
    torch.testing.assert_close(exported(x[:1]), layer(x[:1]))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"groups": 0}, ValueError, "groups must be an integer >= 1, got 0"),
        ({"groups": 2.0}, TypeError, "groups must be an integer >= 1, got 2.0"),
        ({"groups": 3}, ValueError, "in_channels must be a multiple of groups, got 4 and 3"),
        ({"in_channels": 16, "groups": 16}, ValueError, "out_channels must be a multiple of groups, got 12 and 16"),
        ({"groups": 4, "bases": 6}, ValueError, "bases must divide groups or be a multiple of them, got 6 and 4"),
    ],
    ids=str,
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        GaussianDerivativeConv2d(**{"in_channels": 4, "out_channels": 12, "kernel_size": 3, **arguments})


def test_an_input_of_another_depth_is_refused(separated):
    for algorithm in make(CASES["a basis each"], separated=separated)._algorithms:
        layer = make(CASES["a basis each"], separated=separated, algorithm=algorithm)
        for channels in (2, 3, 12):
            with pytest.raises(RuntimeError, match=f"to have 6 channels, but got {channels} channels instead"):
                layer(torch.randn(1, channels, 5, 5, dtype=torch.float64))
