"""Models with convolutions replaced, and with the new layers deployed."""

import copy
import math
import re
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from layer_table import convolution_in
from torch import Tensor, fx, nn
from torch.fx.experimental import optimization

from gdlayer import GaussianDerivativeConv2d, deploy, fit_filters, parameter_groups, replace_conv2d, window_penalty
from gdlayer._plumbing.padding import PADDING_MODES
from gdlayer.padding import Conv2dSame
from gdlayer.related import DAUConv2d, NJetConv2d, RFNNConv2d, SemiStructuredConv2d
from gdlayer.synthesis import SynthesizedConv2d


def synthesized(kind: str, *args: Any, **options: Any) -> SynthesizedConv2d:
    """A layer of this kind in float64, with a random bias."""
    options = {"dtype": torch.float64, **options}
    module: SynthesizedConv2d
    if kind == "rfnn":
        module = RFNNConv2d(*args, sigma=1.0, **options)
    elif kind == "dau":
        module = DAUConv2d(*args, **options)
    elif kind == "njet":
        module = NJetConv2d(*args[:2], **options)
    elif kind == "semi-structured":
        module = SemiStructuredConv2d(*args, **options)
    else:
        module = GaussianDerivativeConv2d(*args, separated=kind == "separated", **options)
    if module.bias is not None:
        nn.init.normal_(module.bias)
    return module


KINDS = ["full", "separated", "rfnn", "dau", "njet", "semi-structured"]


class Net(nn.Module):
    """Convolutions of several kinds, some nested; one of them has four names."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding="same", padding_mode="reflect"), nn.ReLU())
        self.again = self.body[0]
        self.twice = nn.ModuleList([self.body, self.body])
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.up = nn.ConvTranspose2d(4, 4, 2)
        self.point = nn.Conv2d(4, 8, 1)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(self.body(self.stem(x)))
        return self.head(self.point(self.up(self.depthwise(x))).mean((-2, -1)))


def kinds(model: nn.Module) -> list[tuple[str, str]]:
    return [(name, type(module).__name__) for name, module in model.named_modules(remove_duplicate=False)]


def ours(model: nn.Module) -> list[str]:
    return [name for name, kind in kinds(model) if kind == "GaussianDerivativeConv2d"]


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Conv2d, tuple[int, int]]:
    """A convolution in float64 and an input size that its padding allows, also if the kernel grows by 2."""
    torch.manual_seed(draw(st.integers(0, 2**32 - 1)))
    padding = draw(
        st.one_of(
            st.sampled_from(["same", "valid"]), st.integers(0, 2), st.tuples(st.integers(0, 2), st.integers(0, 2))
        )
    )
    stride = st.one_of(st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 3)))
    conv = nn.Conv2d(
        draw(st.integers(1, 3)),
        draw(st.sampled_from([2, 4])),
        draw(st.one_of(st.integers(1, 4), st.tuples(st.integers(1, 4), st.integers(1, 4)))),
        stride=1 if padding == "same" else draw(stride),
        padding=padding,
        dilation=draw(st.one_of(st.integers(1, 2), st.tuples(st.integers(1, 2), st.integers(1, 2)))),
        padding_mode=draw(st.sampled_from(PADDING_MODES)),  # type: ignore[arg-type]
        bias=draw(st.booleans()),
        dtype=torch.float64,
    )
    return conv.train(draw(st.booleans())), draw(st.tuples(st.integers(9, 12), st.integers(9, 12)))


even_same = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


@even_same
@given(convolutions(), st.booleans())
def test_a_replaced_convolution_keeps_its_configuration(drawn, fit):
    conv, size = drawn
    model = nn.Sequential(conv)
    x = torch.randn(2, conv.in_channels, *size, dtype=torch.float64)
    expected = conv(x).detach()
    taps = conv.kernel_size[0] * conv.kernel_size[1]
    report = replace_conv2d(model, "0", fit=fit, order=6, rcond=1e-13, init="authors")  # 28 kernels, 16 taps at most
    new = model[0]
    assert isinstance(new, GaussianDerivativeConv2d)
    for name in ("in_channels", "out_channels", "kernel_size", "stride", "dilation", "padding_mode", "training"):
        assert getattr(new, name) == getattr(conv, name)
    assert (new.bias is None) == (conv.bias is None)
    if new.bias is not None and conv.bias is not None:
        assert torch.equal(new.bias, conv.bias)
    assert {parameter.dtype for parameter in new.parameters()} == {torch.float64}
    assert new(x).shape == expected.shape
    (layer,) = report.replaced
    assert layer.names == ("0",)
    bias = conv.out_channels if conv.bias is not None else 0
    assert layer.parameters_before == taps * conv.in_channels * conv.out_channels + bias
    assert layer.parameters_after == 28 * conv.in_channels * conv.out_channels + 5 * 28 + bias
    assert report.skipped == {}
    if fit:
        assert layer.residual is not None
        assert layer.residual < 1e-4
        torch.testing.assert_close(new(x), expected, rtol=1e-2, atol=1e-2 * float(expected.abs().max()))
    else:
        assert layer.residual is None


@even_same
@given(convolutions(), st.integers(0, 1), st.integers(0, 1))
def test_a_larger_kernel_keeps_sizes_and_place(drawn, down, right):
    conv, size = drawn
    model = nn.Sequential(conv)
    x = torch.randn(2, conv.in_channels, *size, dtype=torch.float64)
    larger = (conv.kernel_size[0] + 2 * down, conv.kernel_size[1] + 2 * right)
    replace_conv2d(model, "0", kernel_size=larger, order=1)
    new = model[0]
    assert isinstance(new, GaussianDerivativeConv2d)
    assert new.kernel_size == larger
    assert new(x).shape == conv(x).shape
    framed = torch.zeros(conv.out_channels, conv.in_channels, *larger, dtype=torch.float64)
    framed[:, :, down : down + conv.kernel_size[0], right : right + conv.kernel_size[1]] = conv.weight.detach()
    plain = new.deploy("dense")
    with torch.no_grad():
        convolution_in(plain).weight.copy_(framed)
    torch.testing.assert_close(plain(x), conv(x))  # the old filters, padded with zeros, compute the same


@even_same
@given(stride=st.integers(1, 3), kernel=st.integers(1, 4), grown=st.integers(0, 1), size=st.integers(9, 12))
def test_the_same_padding_of_keras(stride, kernel, grown, size):
    source = Conv2dSame(2, 4, kernel, stride=stride, dtype=torch.float64)
    model = nn.Sequential(source)
    x = torch.randn(1, 2, size, size, dtype=torch.float64)
    if grown and kernel < stride:
        message = (
            f"0: kernel_size must be {(kernel, kernel)}, that of the convolution, got {(kernel + 2, kernel + 2)}: "
        )
        message += (
            f"padding='same' would move the filters, as the old ones are smaller than the stride, {stride, stride}"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            replace_conv2d(model, "0", kernel_size=kernel + 2)
        return
    replace_conv2d(model, "0", kernel_size=kernel + 2 * grown, order=1)
    plain = model[0].deploy("dense")  # type: ignore[operator]
    weight = convolution_in(plain).weight
    with torch.no_grad():
        weight.zero_()
        weight[:, :, grown : grown + kernel, grown : grown + kernel] = source.weight
    torch.testing.assert_close(plain(x), source(x))


class Pair(NamedTuple):
    first: nn.Module
    last: nn.Module


class InContainers(nn.Module):
    """Calls convolutions that it holds in lists, tuples and dicts, too, of which modules know nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(1, 4, 5), nn.Conv2d(4, 2, 5)
        self.steps: list[Any] = [self.stem, torch.relu]
        self.steps.append(self.steps)
        self.ends = (1, {"pair": Pair(self.stem, self.head)})
        self.unseen: Any
        self.__dict__["unseen"] = self.head

    def forward(self, x: Tensor) -> Tensor:
        y = self.unseen(self.steps[1](self.steps[0](x)))
        assert torch.equal(y, self.ends[1]["pair"].last(torch.relu(self.ends[1]["pair"].first(x))))
        return y


def test_containers_hold_the_new_layers_too():
    model = InContainers()
    replace_conv2d(model, order=1)
    x = torch.randn(1, 1, 12, 12)
    model(x).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert type(model.steps[0]) is type(model.ends[1]["pair"].last) is GaussianDerivativeConv2d
    assert model.steps[2] is model.steps
    torch.testing.assert_close(deploy(model)(x), model(x))


def test_by_default_what_can_be_replaced():
    model = Net().eval()
    report = replace_conv2d(model, kernel_size=5, order=2, bases=2, growth="allow")
    assert ours(model) == ["stem", "body.0", "again", "twice.0.0", "twice.1.0", "depthwise"]
    assert model.body[0] is model.again
    assert [layer.names for layer in report.replaced] == [
        ("stem",),
        ("body.0", "again", "twice.0.0", "twice.1.0"),
        ("depthwise",),
    ]
    assert report.skipped == {
        "up": "it is a ConvTranspose2d, and only nn.Conv2d can be replaced",
        "point": "its kernel is 1 x 1",
    }
    assert isinstance(model.stem, GaussianDerivativeConv2d)
    assert (model.stem.bases, len(model.stem.orders), model.stem.kernel_size) == (2, 6, (5, 5))
    assert not any(module.training for module in model.modules())
    assert str(report).splitlines() == [
        "stem                                    112 -> 136 parameters, random",
        "body.0 = again = twice.0.0 = twice.1.0  148 -> 160 parameters, random",
        "depthwise                               40 -> 88 parameters, random",
        "up                                      skipped: it is a ConvTranspose2d, and only nn.Conv2d can be replaced",
        "point                                   skipped: its kernel is 1 x 1",
    ]
    model(torch.randn(2, 3, 9, 9)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


class Special(nn.Conv2d):
    """A type of its own."""


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("stem", ["stem"]),
        (["stem", "point"], ["stem", "point"]),
        ((name for name in ("point",)), ["point"]),
        ("again", ["body.0", "again", "twice.0.0", "twice.1.0"]),
        (Special, ["special"]),
        (lambda name, conv: conv.in_channels == 3, ["stem", "special"]),
        (lambda name, conv: name == "twice.1.0", ["body.0", "again", "twice.0.0", "twice.1.0"]),
    ],
    ids=["name", "names", "generator", "one of several names", "type", "predicate", "predicate on one of the names"],
)
def test_choices(layers, expected):
    model = Net()
    model.special = Special(3, 4, 3)
    replace_conv2d(model, layers, order=1, growth="allow")
    assert ours(model) == expected


def test_type_takes_subclasses():
    model = nn.ModuleList([nn.Conv2d(1, 2, 3), Special(1, 2, 3), Conv2dSame(1, 2, 3, stride=2), nn.Conv1d(1, 2, 3)])
    report = replace_conv2d(copy.deepcopy(model), growth="allow")
    assert [layer.names for layer in report.replaced] == [("0",), ("2",)]
    assert report.skipped == {
        "1": "it is a Special, which may compute something else",
        "3": "it is a Conv1d, and only nn.Conv2d can be replaced",
    }
    replace_conv2d(model, nn.Conv2d, growth="allow")
    assert ours(model) == ["0", "1", "2"]


def test_fitted_as_fit_filters_does():
    model = Net()
    weight = model.stem.weight
    bias = model.stem.bias
    assert bias is not None
    torch.manual_seed(1)
    expected = GaussianDerivativeConv2d(3, 4, 5, padding=2, order=1, bases=2, separated=True)
    residual = fit_filters(expected, weight, bias=bias, steps=4, learning_rate=0.2, rcond=0.1)
    torch.manual_seed(1)
    report = replace_conv2d(
        model, "stem", kernel_size=5, fit=True, steps=4, learning_rate=0.2, rcond=0.1, order=1, bases=2, separated=True
    )
    assert report.replaced[0].residual == residual
    assert 0 < residual < 1
    assert repr(model.stem) == repr(expected)
    for name, value in expected.state_dict().items():
        assert torch.equal(model.stem.state_dict()[name], value)
    assert f"112 -> {sum(p.numel() for p in expected.parameters())} parameters, residual {residual:.3g}" in str(report)


def test_random_layers_are_as_drawn():
    model, torch_state = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False)), torch.get_rng_state()
    replace_conv2d(model, "0", init="authors")
    torch.set_rng_state(torch_state)
    expected = GaussianDerivativeConv2d(3, 4, 3, bias=False, padding="valid", init="authors")
    for name, value in expected.state_dict().items():
        assert torch.equal(model[0].state_dict()[name], value)


@pytest.mark.parametrize("fit", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_device_and_dtype_of_the_convolution(device, dtype, fit):
    conv = nn.Conv2d(3, 4, 3, device=device, dtype=dtype).requires_grad_(False)
    model = nn.Sequential(conv, nn.Conv2d(4, 2, 3))
    replace_conv2d(model, "0", fit=fit)
    assert {(p.device.type, p.dtype, p.requires_grad) for p in model[0].parameters()} == {(device, dtype, True)}
    assert model[0].state_dict()["bias"].data_ptr() != conv.bias.data_ptr()  # type: ignore[union-attr]


def test_there_and_back():
    """Deploys layers and replaces them again: 21 kernels fit nine taps exactly, so the outputs are the same."""
    first, last = synthesized("full", 2, 4, 3, stride=2), synthesized("full", 4, 4, 3, padding=1)
    model = nn.Sequential(first, nn.BatchNorm2d(4), nn.Sequential(last))
    x = torch.randn(2, 2, 9, 8, dtype=torch.float64)
    expected = model.double().eval()(x)
    again = deploy(model)
    report = replace_conv2d(again, fit=True, order=5, growth="allow")
    assert all(layer.residual is not None and layer.residual < 1e-6 for layer in report.replaced)
    assert ours(again) == ["0.1", "2.0"]
    torch.testing.assert_close(again(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: nn.utils.parametrizations.weight_norm(m.last), "its weight is computed from other parameters"),
        (lambda m: nn.utils.parametrizations.spectral_norm(m.last), "its weight is computed from other parameters"),
        (lambda m: setattr(m, "last", nn.LazyConv2d(4, 3)), "it is lazy: run the model once before"),
        (
            lambda m: setattr(m, "last", nn.Conv2d(4, 4, 3, dtype=torch.complex64)),
            "its dtype is torch.complex64, not a real one",
        ),
        (
            lambda m: m.last.register_forward_hook(lambda *_: None),
            "it has hooks, which would be lost: remove them before",
        ),
        (
            lambda m: m.last.register_full_backward_hook(lambda *_: None),
            "it has hooks, which would be lost: remove them before",
        ),
        (lambda m: setattr(m.first, "weight", m.last.weight), "it shares a parameter with another module"),
    ],
    ids=["weight norm", "spectral norm", "lazy", "complex", "forward hook", "backward hook", "tied"],
)
def test_what_cannot_be_replaced(change, message):
    model = nn.Sequential()
    model.first, model.last, model.other = nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3)
    change(model)
    before = kinds(model)
    with pytest.raises(ValueError, match=f"^last cannot be replaced: {re.escape(message)}$"):
        replace_conv2d(model, ["other", "last"])
    assert kinds(model) == before
    for layers in (None, nn.Conv2d, lambda name, conv: name != "first"):
        copied = copy.deepcopy(model)
        assert replace_conv2d(copied, layers, growth="allow").skipped["last"] == message
        assert "other" in ours(copied)
        assert "last" not in ours(copied)


def test_hooks_of_older_normalisations_are_seen():
    model = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3))
    nn.utils.spectral_norm(model[1])
    assert replace_conv2d(model, growth="allow").skipped == {"1": "its weight is computed from other parameters"}


@pytest.mark.parametrize(
    ("layers", "arguments", "error", "message"),
    [
        ("steam", {}, ValueError, "layers must name modules of the model, got 'steam'; near to it are stem$"),
        ([3], {}, ValueError, "layers must name modules of the model, got 3; its convolutions are stem, body.0, "),
        (
            "up",
            {},
            ValueError,
            "up must be an nn.Conv2d, got ConvTranspose2d; its convolutions are stem, body.0, again, "
            "twice.0.0, twice.1.0 and 2 more$",
        ),
        (nn.Linear, {}, TypeError, "layers must be a subclass of nn.Conv2d if it is a type, got Linear"),
        (Special, {}, ValueError, "layers must leave an nn.Conv2d to replace, got <class"),
        ([], {}, ValueError, "layers must leave an nn.Conv2d to replace, got []"),
        (3, {}, TypeError, "layers must be names, a type or a function, got 3"),
        (["stem", "depthwise"], {"groups": 2}, TypeError, "groups is taken over from each convolution and cannot be"),
        (
            "depthwise",
            {"bases": 3},
            ValueError,
            "depthwise cannot be replaced: bases=3 does not divide its 4 output channels",
        ),
        (["stem"], {"bases": 3}, ValueError, "stem cannot be replaced: bases=3 does not divide its 4 output channels"),
        (["stem"], {"bases": 1.5}, TypeError, "stem: bases must be an integer >= 1, got 1.5"),
        (["stem", "point"], {"bases": 4, "order": -1}, ValueError, "stem: order must be an integer >= 0"),
        (["stem"], {"jet": True}, TypeError, "stem: "),
        (
            ["point", "stem"],
            {"kernel_size": 4},
            ValueError,
            "stem: kernel_size must be (3, 3), that of the convolution, or larger by even numbers, got (4, 4)",
        ),
        (
            ["stem"],
            {"kernel_size": (5, 1)},
            ValueError,
            "stem: kernel_size must be (3, 3), that of the convolution, or larger by even numbers, got (5, 1)",
        ),
        (["stem"], {"kernel_size": 5.0}, TypeError, "stem: kernel_size must be an integer >= 1 or a pair of them"),
        (["stem"], {"fit": True, "rcond": 0}, ValueError, "stem: rcond must be a positive number, got 0"),
        (["stem"], {"fit": True, "steps": -1}, ValueError, "stem: steps must be an integer >= 0, got -1"),
        (["stem"], {"steps": 2}, ValueError, "steps must be 0 unless fit=True, got 2"),
        (
            ["stem"],
            {"stride": 2},
            TypeError,
            "stride is taken over from each convolution and cannot be given, got 2",
        ),
        (
            ["stem"],
            {"device": "cpu"},
            TypeError,
            "device is taken over from each convolution and cannot be given, got 'cpu'",
        ),
        (
            ["stem"],
            {"per_layer": {"stem": {"bias": False}}},
            TypeError,
            "bias is taken over from each convolution and cannot be given, got False",
        ),
        (None, {"per_layer": {"stem": {"jet": 1}}}, TypeError, "stem: "),
        (
            None,
            {"per_layer": {"steam": {}}},
            ValueError,
            "per_layer must name convolutions of the model, got 'steam'; near to it are stem$",
        ),
        (None, {"per_layer": 3}, TypeError, "per_layer must be a mapping or a function, got 3"),
        (None, {"growth": "stop"}, ValueError, "growth must be one of 'warn', 'skip', 'allow', got 'stop'"),
    ],
    ids=[
        "unknown name",
        "no name",
        "another module",
        "another type",
        "type of none",
        "nothing",
        "neither",
        "groups",
        "bases of groups",
        "bases",
        "bases no integer",
        "order",
        "unknown option",
        "kernel size even",
        "kernel size smaller",
        "kernel size no integer",
        "rcond",
        "steps negative",
        "steps without fit",
        "stride",
        "device",
        "bias of one layer",
        "unknown option of one layer",
        "unknown layer",
        "options of no layer",
        "growth",
    ],
)
def test_wrong_replacements(layers, arguments, error, message):
    model = Net()
    before = kinds(model), [id(parameter) for parameter in model.parameters()]
    end = "$" if message.endswith("$") else ""
    with pytest.raises(error, match=f"^{re.escape(message.removesuffix('$'))}{end}"):
        replace_conv2d(model, layers, **arguments)
    assert (kinds(model), [id(parameter) for parameter in model.parameters()]) == before


def test_nothing_is_replaced_where_one_layer_fails():
    model = Net()
    nn.init.constant_(model.get_parameter("again.weight"), torch.nan)
    with pytest.raises(ValueError, match=r"^body\.0: filters must be finite$"):
        replace_conv2d(model, fit=True, growth="allow")
    assert ours(model) == []


def test_options_of_single_layers():
    """By name, where any of several names will do, or by a function; before those that hold for all."""
    by_name = {"again": {"order": 1, "kernel_size": 5}, "depthwise": {"order": 9}}
    for per_layer in (by_name, lambda name, conv: by_name.get(name)):
        model = Net()
        replace_conv2d(model, order=2, kernel_size=3, per_layer=per_layer, growth="allow")
        layers = [model.get_submodule(name) for name in ("stem", "body.0")]
        assert all(isinstance(layer, GaussianDerivativeConv2d) for layer in layers)
        assert [(layer.order, layer.kernel_size) for layer in layers] == [(2, (3, 3)), (1, (5, 5))]


def test_bases_that_do_not_divide_are_reported():
    model = nn.Sequential(nn.Conv2d(3, 4, 5), nn.Conv2d(4, 6, 5), nn.Conv2d(6, 8, 5))
    report = replace_conv2d(model, bases=4, order=2)
    assert ours(model) == ["0", "2"]
    assert report.skipped == {"1": "bases=4 does not divide its 6 output channels"}
    replace_conv2d(model, bases=4, order=2, per_layer={"1": {"bases": 3}})
    assert ours(model) == ["0", "1", "2"]
    grouped = nn.Sequential(nn.Conv2d(12, 12, 5, groups=3), nn.Conv2d(12, 12, 5, groups=4))
    report = replace_conv2d(grouped, bases=4, order=1)
    assert report.skipped == {"0": "bases=4 neither divides its 3 groups nor is a multiple of them"}


def test_growth():
    """Where there are more kernels than pixels, it is told, refused or allowed."""

    def model() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 2), nn.Conv2d(8, 8, 7), *(nn.Conv2d(8, 8, 2) for _ in range(6)))

    message = (
        "7 of 8 layers have more parameters than the convolutions they replace, together 4486 instead of 1688: 0, 2, "
        "3, 4, 5 and 2 more. A lower order, fewer bases or separated=True make them smaller, growth='skip' leaves the "
        "convolutions"
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        replace_conv2d(model())
    grown = model()
    report = replace_conv2d(grown, growth="skip")
    assert ours(grown) == ["1"]
    assert report.skipped["0"] == "it would grow from 104 to 298 parameters"
    assert ours(model()) == []
    for layers, growth in ((None, "allow"), ("0", "warn"), ("0", "skip")):
        replace_conv2d(model(), layers, growth=growth)  # a warning would be an error


@pytest.mark.parametrize("function", [replace_conv2d, deploy, parameter_groups, window_penalty])
def test_what_is_no_module(function):
    with pytest.raises(TypeError, match=r"^model must be an instance of torch\.nn\..*Module, got 3$"):
        function(3)


def test_reasons_in_an_error_take_a_line_each():
    model = nn.Sequential(*(nn.Conv2d(4, 4, 1) for _ in range(50)), nn.Conv2d(4, 6, 3))
    message = (
        "layers must leave an nn.Conv2d to replace, got None\n  0, 1, 2, 3, 4 and 45 more: its kernel is 1 x 1\n"
        "  50: bases=4 does not divide its 6 output channels"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        replace_conv2d(model, bases=4)


def test_a_convolution_alone():
    message = "model is itself an nn.Conv2d and cannot be replaced in place: put it into an nn.Sequential"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        replace_conv2d(nn.Conv2d(1, 1, 3))
    with pytest.raises(ValueError, match=r"got 'conv'; it has no convolution$"):
        replace_conv2d(nn.Sequential(nn.ReLU()), "conv")
    with pytest.raises(ValueError, match=r"^model must have an nn\.Conv2d, got Linear without one$"):
        replace_conv2d(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"^model must have .* got Sequential without one\n  0: it is a Conv1d"):
        replace_conv2d(nn.Sequential(nn.Conv1d(2, 2, 3)))


# deploy


@given(st.data())
def test_deployed_models_compute_the_same(data):
    torch.manual_seed(data.draw(st.integers(0, 2**32 - 1)))
    channels, layers = [data.draw(st.integers(1, 3))], []
    for _ in range(data.draw(st.integers(1, 3))):
        channels.append(data.draw(st.integers(1, 4)))
        options = {
            "stride": data.draw(st.sampled_from([1, 2, (1, 2)])),
            "padding": data.draw(st.sampled_from(["same", 6, (6, 7)])),
            "dilation": data.draw(st.sampled_from([1, 1, 2])),
            "padding_mode": data.draw(st.sampled_from(["zeros", "replicate"])),
            "bias": data.draw(st.booleans()),
        }
        kind = data.draw(st.sampled_from(KINDS))
        kernel_size = data.draw(st.sampled_from([3, 5]))
        layers.append(nn.Sequential(synthesized(kind, *channels[-2:], kernel_size, **options), nn.ReLU()))
    layers.append(nn.BatchNorm2d(channels[-1], dtype=torch.float64))
    model = nn.Sequential(*layers).train(data.draw(st.booleans()))
    x = torch.randn(2, channels[0], 14, 13, dtype=torch.float64)
    state = copy.deepcopy(model.state_dict())

    plain = deploy(model)

    for name, kind in kinds(model):
        after = plain.get_submodule(name)
        assert not any(isinstance(module, SynthesizedConv2d) for module in after.modules())
        assert type(after).__name__ == kind or isinstance(model.get_submodule(name), SynthesizedConv2d)
        assert all(module.training == model.training for module in after.modules())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert {p.data_ptr() for p in plain.parameters()}.isdisjoint(p.data_ptr() for p in model.parameters())
    torch.testing.assert_close(plain(x), model(x), rtol=1e-9, atol=1e-9)


def test_a_shared_layer_is_deployed_once():
    model = Net()
    replace_conv2d(model, growth="allow")
    plain = deploy(model)
    assert isinstance(plain, Net)
    assert type(plain.again) is nn.Conv2d
    assert plain.again is plain.body[0] is plain.twice[1].get_submodule("0")
    x = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(plain(x), model(x))
    assert len(ours(model)) == 6


class Residual(nn.Module):
    """Normalisations that fold, and by their names some that do not."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.conv = GaussianDerivativeConv2d(2, 4, **{"kernel_size": 3, "bias": False, **options})
        self.norm = nn.BatchNorm2d(4)
        self.separated = GaussianDerivativeConv2d(4, 4, 3, separated=True, algorithm="factorised")
        self.after = nn.BatchNorm2d(4, affine=False)
        self.points, self.other = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.kept = nn.BatchNorm2d(4)
        self.batch = nn.BatchNorm2d(4, track_running_stats=False)
        self.twice = nn.Sequential(GaussianDerivativeConv2d(4, 4, 3), nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        x = torch.relu(self.after(self.separated(x)))
        y = self.points(x)
        x = self.other(y) + self.kept(x)
        y = self.twice[0](x)
        return self.batch(self.twice(self.twice(x))) + self.twice[1](y) + y


@pytest.mark.parametrize(
    "options", [{}, {"stride": 2}, {"kernel_size": 4}, {"stride": 2, "padding_mode": "reflect"}], ids=str
)
def test_batch_norm_folds_into_what_is_before_it(options):
    model = nn.Sequential(Residual(**options), nn.Flatten())
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None:
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2)
    model.double()
    message = "fold_batch_norm must be False for a model in training mode, got 0.norm in it"
    with pytest.raises(ValueError, match=f"^{message}$"):
        deploy(model, fold_batch_norm=True)
    plain = deploy(model.eval(), fold_batch_norm=True)
    left = [name for name, module in plain.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert left == ["0.kept", "0.batch", "0.twice.1"]
    assert not any(isinstance(module, SynthesizedConv2d) or module.training for module in plain.modules())
    for size in (9, 10):
        x = torch.randn(2, 2, size, size, dtype=torch.float64)
        torch.testing.assert_close(plain(x), model(x))
    assert isinstance(model[0].get_submodule("norm"), nn.BatchNorm2d)


def test_batch_norm_folds_where_convolutions_were_replaced():
    """Tools of others fold what is deployed, too."""
    model = nn.Sequential(nn.Conv2d(2, 4, 5, stride=2, padding=2), nn.BatchNorm2d(4), nn.ReLU(), Conv2dSame(4, 4, 5, 2))
    model.append(nn.BatchNorm2d(4))
    replace_conv2d(model, order=2)
    model(torch.randn(4, 2, 9, 9))
    x = torch.randn(1, 2, 9, 10)
    plain = deploy(model.eval())
    folded = deploy(model, fold_batch_norm=True)
    assert [type(module) for module in folded[1::3]] == [nn.Identity, nn.Identity]  # type: ignore[index]
    theirs = torch.ao.quantization.fuse_modules(plain, [["0", "1", "2"], ["3.1", "4"]])
    for fused in (folded, theirs, optimization.fuse(fx.symbolic_trace(plain))):
        assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
        torch.testing.assert_close(fused(x), model(x), rtol=1e-4, atol=1e-5)


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_what_cannot_be_traced_is_not_folded():
    model = nn.Sequential(GaussianDerivativeConv2d(1, 2, 3), nn.BatchNorm2d(2), Branches()).eval()
    assert type(deploy(model)) is nn.Sequential
    message = "fold_batch_norm must be False where torch.fx cannot trace the model, got Sequential: "
    with pytest.raises(ValueError, match=f"^{message}"):
        deploy(model, fold_batch_norm=True)
    with pytest.raises(TypeError, match=r"^fold_batch_norm must be True or False, got 1$"):
        deploy(model, fold_batch_norm=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("training", [False, True])
def test_a_graph_of_modules_keeps_its_mode(training):
    """As of a feature extractor: a copy of an fx.GraphModule makes anew what holds its modules."""
    model = nn.Sequential(nn.Sequential(GaussianDerivativeConv2d(1, 2, 3), nn.Dropout()), nn.ReLU())
    traced = fx.symbolic_trace(model).train(training)
    plain = deploy(traced)
    assert {module.training for module in plain.modules()} == {training}


def test_one_layer_and_none():
    single = synthesized("full", 2, 4, 3)
    plain = deploy(single)
    assert type(plain) is nn.Conv2d
    torch.testing.assert_close(plain.weight, single.filters())
    again = deploy(plain)
    assert again is not plain
    assert isinstance(again, nn.Conv2d)
    assert torch.equal(again.weight, plain.weight)


def test_device_and_dtype_of_deployed_models(device):
    model = nn.Sequential(GaussianDerivativeConv2d(2, 4, 3, device=device, dtype=torch.bfloat16), nn.ReLU())
    assert {(p.device.type, p.dtype) for p in deploy(model).parameters()} == {(device, torch.bfloat16)}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_parameters_that_are_not_finite_are_named(kind, value):
    options = {} if kind == "njet" else {"order": 1} if kind in ("full", "separated") else {}
    for name, _ in synthesized(kind, 2, 4, 3, bias=True, **options).named_parameters():
        broken = synthesized(kind, 2, 4, 3, bias=True, **options)
        parameter = broken.get_parameter(name)
        parameter.data.view(-1)[-1] = value
        model = nn.ModuleDict({"stem": synthesized(kind, 3, 2, 3), "body": nn.Sequential(nn.ReLU(), broken)})
        message = f"must be finite, got 1 of {parameter.numel()} values NaN or infinite"
        with pytest.raises(ValueError, match=f"^body.1.{name} {message}$"):
            deploy(model)
        with pytest.raises(ValueError, match=f"^{name} {message}$"):
            deploy(broken)


def test_other_modules_may_hold_infinities():
    model = nn.Sequential(synthesized("full", 1, 1, 3), nn.Linear(2, 2))
    nn.init.constant_(model.get_parameter("1.bias"), -math.inf)
    assert torch.equal(deploy(model).get_parameter("1.bias"), torch.full((2,), -math.inf))
