"""All ways to compute the layer are one linear map with one set of derivatives; and what the cost model says."""

import copy
import re
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_conv import configurations, equations
from torch import Tensor, nn
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, stack_module_state, vmap
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from gdlayer import GaussianDerivativeConv2d, algorithms, conv
from gdlayer.algorithms import COST, FULL, SEPARATED, WORK, Sizes, Work, cheapest
from gdlayer.conv import GEOMETRY

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
every_algorithm = pytest.mark.parametrize(
    ("separated", "algorithm"), [(False, name) for name in FULL] + [(True, name) for name in SEPARATED]
)
# PyTorch itself uses what it deprecates, when it loads its derivatives for forward mode.
# And where its compiler meets an autograd function.
compiled = pytest.mark.filterwarnings("ignore:.* should not be instantiated:DeprecationWarning")
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")


def make(in_channels: int, out_channels: int, kernel_size: Any, **options: Any) -> GaussianDerivativeConv2d:
    """A small layer in float64 whose bias is not zero."""
    layer = GaussianDerivativeConv2d(
        in_channels, out_channels, kernel_size, **{"order": 1, "dtype": torch.float64, **options}
    )
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    return layer


def as_computed_by(algorithm: str, layer: GaussianDerivativeConv2d) -> GaussianDerivativeConv2d:
    """A copy of the layer with another algorithm."""
    twin = copy.deepcopy(layer)
    twin.algorithm = algorithm
    return twin


def values_and_gradients(layer: nn.Module, x: Tensor, cotangent: Tensor, *, input_trains: bool) -> dict[str, Tensor]:
    """Output, and gradients of <cotangent, output> by the input and by every parameter that trains."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_(input_trains)
    sources: dict[str, Tensor] = {name: p for name, p in layer.named_parameters() if p.requires_grad}
    if input_trains:
        sources["x"] = x
    y = layer(x)
    gradients = torch.autograd.grad(y, list(sources.values()), cotangent) if sources else ()
    return {"y": y.detach(), **dict(zip(sources, gradients, strict=True))}


def layout(x: Tensor) -> tuple[int, ...]:
    """Strides along the axes where they mean something."""
    return tuple(stride for stride, size in zip(x.stride(), x.shape, strict=True) if size > 1)


def assert_near(ours: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Relative to the largest value of a tensor; the gradients by sigma, mu and theta are measured together."""
    assert ours.keys() == expected.keys()
    together = ["raw_sigma", "mu", "theta"]
    for name, tensor in expected.items():
        group = [expected[n] for n in (together if name in together else [name]) if n in expected]
        scale = max([1e-6, *(float(t.abs().max()) for t in group if t.numel())])
        assert ours[name].shape == tensor.shape, name
        torch.testing.assert_close(
            ours[name].to(tensor.dtype), tensor, rtol=0, atol=tolerance * scale, msg=lambda text, n=name: f"{n}: {text}"
        )


# One linear map


@given(
    configurations(),
    st.sampled_from(list(FORMATS)),
    st.booleans(),
    st.lists(st.sampled_from(GEOMETRY), unique=True),
)
@settings(max_examples=80)
def test_all_algorithms_agree(drawn, memory_format, input_trains, trainable):
    """With the dense one and, by way of the outputs, with the equations as loops; in float64 and in float32."""
    arguments, shape, seed = drawn
    torch.manual_seed(seed)
    layer = make(**arguments, trainable=trainable)
    x = torch.randn(shape, dtype=torch.float64)
    if x.dim() == 4:
        x = x.contiguous(memory_format=FORMATS[memory_format])
    dense, *others = (as_computed_by(name, layer) for name in layer._algorithms)
    try:
        y = dense(x).detach()
    except RuntimeError:  # the image is too small
        for other in others:
            with pytest.raises(RuntimeError):
                other(x)
        return
    cotangent = torch.randn_like(y)
    expected = values_and_gradients(dense, x, cotangent, input_trains=input_trains)
    image = x if x.dim() == 3 else x[-1]
    naive = equations(layer, arguments, image)
    for other in others:
        ours = values_and_gradients(other, x, cotangent, input_trains=input_trains)
        assert layout(ours["y"]) == layout(y)
        assert_near(ours, expected, 1e-12)
        with torch.no_grad():
            by_loops = other(image)
        np.testing.assert_allclose(by_loops, naive, rtol=0, atol=1e-11 * max(1, np.abs(naive).max()))
    for single in (dense, *others):
        ours = values_and_gradients(single.float(), x.float(), cotangent.float(), input_trains=input_trains)
        assert_near(ours, expected, 1e-5)


@pytest.mark.parametrize("separated", [False, True])
@pytest.mark.parametrize(("f_in", "f_out", "bases", "size"), [(1, 16, 4, 14), (24, 32, 8, 7), (16, 64, 16, 9)])
def test_agreement_at_usual_sizes(separated, f_in, f_out, bases, size, device):
    """To 1e-5 in float32, where sums are longer than in a random configuration."""
    layer = make(f_in, f_out, 7, order=3, bases=bases, separated=separated, dtype=torch.float32, device=device)
    x, cotangent = torch.randn(4, f_in, size, size, device=device), torch.randn(4, f_out, size, size, device=device)
    exact = values_and_gradients(
        copy.deepcopy(as_computed_by("dense", layer)).double(), x.double(), cotangent.double(), input_trains=True
    )
    for name in layer._algorithms:
        ours = values_and_gradients(as_computed_by(name, layer), x, cotangent, input_trains=True)
        assert_near(ours, exact, 1e-5)


@pytest.mark.parametrize("requires_grad", [False, True])
def test_nothing_trains(requires_grad):
    """A frozen layer: the input alone gets a gradient, or nothing does."""
    layer = make(2, 4, 3, bases=2, separated=True, algorithm="factorised").requires_grad_(False)
    x = torch.randn(1, 2, 5, 5, dtype=torch.float64, requires_grad=requires_grad)
    y = layer(x)
    assert y.requires_grad == requires_grad
    if requires_grad:
        expected = as_computed_by("dense", layer)(x)
        cotangent = torch.randn_like(y)
        torch.testing.assert_close(
            torch.autograd.grad(y, x, cotangent), torch.autograd.grad(expected, x, cotangent), rtol=0, atol=1e-12
        )


@every_algorithm
def test_empty_batch(separated, algorithm):
    layer = make(2, 4, 3, bases=2, separated=separated, algorithm=algorithm)
    y = layer(torch.empty(0, 2, 5, 6, dtype=torch.float64))
    assert y.shape == (0, 4, 5, 6)
    y.sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in layer.parameters())


@every_algorithm
@pytest.mark.parametrize("kernel_size", [3, 4])
def test_the_output_has_the_memory_format_of_the_input(separated, algorithm, kernel_size, device):
    """That is, what F.conv2d makes of it; and so has the input's gradient. cuDNN has no channels_last in float64."""
    options: dict[str, Any] = {"dtype": torch.float32 if device == "cuda" else torch.float64, "device": device}
    layer = make(2, 4, kernel_size, bases=2, separated=separated, algorithm=algorithm, **options)
    dense = as_computed_by("dense", layer)
    image = torch.randn(2, 2, 6, 10, **options)
    inputs = {
        "contiguous": image,
        "channels_last": image.contiguous(memory_format=torch.channels_last),
        "every other column": image[..., ::2],
        "transposed": image.transpose(2, 3),
        "one channel": image[:, :1].expand(-1, 2, -1, -1),
    }
    for name, x in inputs.items():
        y, expected = layer(x), dense(x)
        assert layout(y) == layout(expected), name
        ours, theirs = (
            values_and_gradients(module, x, torch.ones_like(expected), input_trains=True)["x"]
            for module in (layer, dense)
        )
        assert layout(ours) == layout(theirs), name
    single = make(1, 4, 3, bases=2, separated=separated, algorithm=algorithm)
    for memory_format in FORMATS.values():
        x = torch.randn(2, 1, 5, 6, dtype=torch.float64).contiguous(memory_format=memory_format)
        assert single(x).is_contiguous()


@every_algorithm
def test_an_input_of_another_depth_is_refused(separated, algorithm):
    """Also a multiple of f_in, which a convolution of groups would take for more groups."""
    layer = make(2, 4, 3, bases=2, separated=separated, algorithm=algorithm)
    for channels in (1, 3, 4):
        x = torch.randn(1, channels, 5, 5, dtype=torch.float64)
        message = f"to have 2 channels, but got {channels} channels instead"
        with pytest.raises(RuntimeError, match=message):
            layer(x)
        with torch.no_grad(), pytest.raises(RuntimeError, match=message):
            layer(x)


@pytest.mark.parametrize("init", ["authors", "variance_preserving"])
@pytest.mark.parametrize("bias", [False, True])
def test_huge_images_overflow_no_earlier_than_in_the_plain_convolution(init, bias):
    """Finite images up to the largest numbers: infinite only where the plain convolution is, and nowhere NaN."""
    largest = torch.finfo(torch.float32).max
    infinite = 0
    for seed in range(10):
        torch.manual_seed(seed)
        options = {"separated": True, "algorithm": "factorised", "init": init, "bias": bias, "dtype": torch.float32}
        layer = make(6, 8, 5, bases=4, **options)
        with torch.no_grad():
            layer.lam.mul_(4)
        for size in (1e-3, 0.1, 1.0):
            x = (torch.rand(1, 6, 9, 9) * 2 - 1) * (size * largest)
            for y in (layer(x), layer.requires_grad_(False)(x)):
                assert not y.isnan().any()
                plain = as_computed_by("dense", layer)(x)
                assert y[plain.isfinite()].isfinite().all()
                infinite += int(y.isinf().sum())
            layer.requires_grad_()
    assert infinite > 0


# Derivatives


@every_algorithm
@pytest.mark.parametrize(
    "options",
    [{"padding_mode": "reflect"}, {"stride": 2, "bias": False}, {"dilation": (1, 2), "padding": (1, 2)}],
    ids=str,
)
def test_gradcheck(separated, algorithm, options):
    """First and second derivatives, in reverse and in forward mode, by the input and by every parameter."""
    layer = make(2, 2, (2, 3), bases=2, order=[(1, 0), (0, 2)], separated=separated, algorithm=algorithm, **options)
    names, parameters = zip(*layer.named_parameters(), strict=True)
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)

    def output(x: Tensor, *parameters: Tensor) -> Tensor:
        return functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    assert gradcheck(output, (x, *parameters), check_forward_ad=True)
    assert gradgradcheck(output, (x, *parameters))


@every_algorithm
def test_transforms_of_functions(separated, algorithm):
    """jacfwd, jacrev, their compositions, and vmap over images: gradients of each, and Hessians."""
    layer = make(1, 2, 2, bases=2, order=[(0, 1)], separated=separated, algorithm=algorithm)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    images = torch.randn(2, 1, 3, 3, dtype=torch.float64)

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(layer, parameters, (x,)).pow(3).sum()

    def by_hand(x: Tensor) -> dict[str, Tensor]:
        gradients = torch.autograd.grad(layer(x).pow(3).sum(), list(layer.parameters()))
        return dict(zip(parameters, gradients, strict=True))

    first = [by_hand(x) for x in images]
    of_each = {name: torch.stack([gradients[name] for gradients in first]) for name in parameters}
    torch.testing.assert_close(jacfwd(loss)(parameters, images[0]), first[0])
    torch.testing.assert_close(jacrev(loss)(parameters, images[0]), first[0])
    torch.testing.assert_close(vmap(grad(loss), (None, 0))(parameters, images), of_each)
    torch.testing.assert_close(vmap(lambda x: functional_call(layer, parameters, (x,)))(images), layer(images).detach())
    second = jacrev(jacrev(loss))(parameters, images[0])
    for composed in (hessian(loss), jacfwd(jacfwd(loss)), jacrev(jacfwd(loss))):
        torch.testing.assert_close(composed(parameters, images[0]), second)
    torch.testing.assert_close(
        vmap(hessian(loss), (None, 0))(parameters, images[:1])["mu"]["mu"][0], second["mu"]["mu"]
    )


@every_algorithm
def test_forward_mode_through_parameters(separated, algorithm):
    """Dual numbers in the parameters themselves, which also train."""
    layer = make(2, 2, 3, bases=2, separated=separated, algorithm=algorithm)
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    directions = {name: torch.randn_like(p) for name, p in layer.named_parameters()}
    with forward_ad.dual_level():
        duals = {name: forward_ad.make_dual(p, directions[name]) for name, p in layer.named_parameters()}
        tangent = forward_ad.unpack_dual(functional_call(layer, duals, (x,))).tangent
    assert tangent is not None
    cotangent = torch.randn_like(tangent)
    gradients = torch.autograd.grad(layer(x), list(layer.parameters()), cotangent)
    expected = sum((g * d).sum() for g, d in zip(gradients, directions.values(), strict=True))
    torch.testing.assert_close((tangent * cotangent).sum(), expected)


@every_algorithm
def test_forward_mode_over_reverse_mode(separated, algorithm):
    """Dual numbers through a backward pass without a graph of its own: a Hessian times a vector."""
    layer = make(1, 2, 3, bases=2, separated=separated, algorithm=algorithm)
    x = torch.randn(1, 1, 4, 4, dtype=torch.float64)
    directions = {name: torch.randn_like(p) for name, p in layer.named_parameters()}
    with forward_ad.dual_level():
        duals = {name: forward_ad.make_dual(p, directions[name]) for name, p in layer.named_parameters()}
        loss = functional_call(layer, duals, (x,)).pow(3).sum()
        gradients = torch.autograd.grad(loss, list(duals.values()))
        ours = [forward_ad.unpack_dual(g).tangent for g in gradients]
    gradients = torch.autograd.grad(layer(x).pow(3).sum(), list(layer.parameters()), create_graph=True)
    along = torch.stack([(g * d).sum() for g, d in zip(gradients, directions.values(), strict=True)])
    expected = torch.autograd.grad(along.sum(), list(layer.parameters()))
    torch.testing.assert_close(ours, list(expected))


@every_algorithm
def test_an_ensemble_of_layers(separated, algorithm):
    """vmap over parameters: outputs, and gradients by autograd through it, are those of one layer at a time."""
    layers = [make(2, 4, 3, bases=2, separated=separated, algorithm=algorithm) for _ in range(3)]
    stacked, buffers = stack_module_state(layers)  # type: ignore[arg-type]
    x = torch.randn(2, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    outputs = vmap(lambda p, b: functional_call(layers[0], (p, b), (x,)))(stacked, buffers)
    torch.testing.assert_close(outputs, torch.stack([layer(x) for layer in layers]))
    cotangent = torch.randn_like(outputs)
    names = list(stacked)
    *ours, by_x = torch.autograd.grad(outputs, [*stacked.values(), x], cotangent)
    total = torch.zeros_like(x)
    for i, layer in enumerate(layers):
        single = values_and_gradients(layer, x.detach(), cotangent[i], input_trains=True)
        total += single["x"]
        for name, gradient in zip(names, ours, strict=True):
            torch.testing.assert_close(gradient[i], single[name])
    torch.testing.assert_close(by_x, total)


# Precision, compilers, graphs


@every_algorithm
@pytest.mark.parametrize("memory_format", FORMATS)
def test_bfloat16_autocast(separated, algorithm, memory_format, device):
    layer = make(8, 8, 5, bases=2, order=3, separated=separated, algorithm=algorithm, dtype=torch.float32).to(device)
    x = torch.randn(2, 8, 9, 8, device=device).contiguous(memory_format=FORMATS[memory_format])
    cotangent = torch.randn(2, 8, 9, 8, device=device)
    expected = values_and_gradients(layer, x, cotangent, input_trains=True)
    with torch.autocast(device, torch.bfloat16):
        ours = values_and_gradients(layer, x, cotangent.bfloat16(), input_trains=True)
    assert ours.pop("y").dtype == torch.bfloat16
    with torch.autocast(device, torch.bfloat16):
        y = layer(x)
    assert y.is_contiguous(memory_format=FORMATS[memory_format])
    assert all(gradient.dtype == torch.float32 for gradient in ours.values())
    assert_near({"y": y.detach(), **ours}, expected, 0.03)


@compiled
@every_algorithm
def test_torch_compile_does_not_compile_again(separated, algorithm):
    """One graph without a break for all steps, with the gradients of eager mode."""
    layer = make(2, 4, 3, bases=2, separated=separated, algorithm=algorithm)
    eager = copy.deepcopy(layer)
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(layer, backend=backend, fullgraph=True)
    optimisers = [torch.optim.SGD(module.parameters(), lr=1e-3) for module in (layer, eager)]
    for _ in range(3):
        x = torch.randn(2, 2, 5, 6, dtype=torch.float64)
        losses = [module(x).square().sum() for module in (compiled, eager)]
        torch.testing.assert_close(*losses)
        for loss, optimiser in zip(losses, optimisers, strict=True):
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    for ours, expected in zip(layer.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(ours, expected)
    assert len(graphs) == 1


@compiled
@pytest.mark.skipif(torch.__version__ < "2.5", reason="torch.compile of 2.4 cannot ask for a format of unknown sizes")
@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++, which torch.compile needs on a CPU")
@pytest.mark.skipif(" " in torch.__file__, reason="torch.compile gives its linker the path of torch without quotes")
def test_compiled_for_every_size_of_images():
    """With torch's own compiler, which must know the order of strides of images of unknown size."""
    layer = make(4, 4, 3, bases=2, separated=True, algorithm="factorised")
    compiled = torch.compile(layer, fullgraph=True, dynamic=True)
    for b, h, w in ((2, 8, 8), (3, 7, 9)):
        x = torch.randn(b, 4, h, w, dtype=torch.float64, requires_grad=True)
        ours, expected = compiled(x), layer(x)
        torch.testing.assert_close(ours, expected)
        torch.testing.assert_close(*(torch.autograd.grad(y.sum(), x) for y in (ours, expected)))


@every_algorithm
def test_meta_device(separated, algorithm):
    layer = make(2, 4, 3, bases=2, separated=separated, algorithm=algorithm, stride=2, device="meta")
    x = torch.empty(5, 2, 9, 8, dtype=torch.float64, device="meta", requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape
    assert layer(x).shape == (5, 4, 5, 4)


@gpu
@every_algorithm
def test_cuda_equals_cpu(separated, algorithm):
    layer = make(3, 4, (4, 5), bases=2, separated=separated, algorithm=algorithm, stride=2)
    x, cotangent = torch.randn(2, 3, 9, 8, dtype=torch.float64), torch.randn(2, 4, 5, 4, dtype=torch.float64)
    expected = values_and_gradients(layer, x, cotangent, input_trains=True)
    ours = values_and_gradients(copy.deepcopy(layer).cuda(), x.cuda(), cotangent.cuda(), input_trains=True)
    assert_near({name: tensor.cpu() for name, tensor in ours.items()}, expected, 1e-12)


@gpu
@every_algorithm
def test_cuda_graph(separated, algorithm):
    """A captured training step, replayed on other images, gives the gradients of an eager one."""
    layer = make(2, 4, 3, bases=2, separated=separated, algorithm=algorithm, device="cuda")
    eager = copy.deepcopy(layer)
    images = torch.randn(3, 2, 2, 5, 6, dtype=torch.float64, device="cuda")
    x = images[0].clone()

    def step() -> None:
        layer.zero_grad(set_to_none=False)
        layer(x).square().sum().backward()

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    for image in images[1:]:
        x.copy_(image)
        graph.replay()
        eager.zero_grad()
        eager(image).square().sum().backward()
        for ours, expected in zip(layer.parameters(), eager.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, expected.grad)


# What is kept


@every_algorithm
def test_nothing_is_kept_in_the_layer(separated, algorithm):
    layer = make(2, 4, 3, bases=2, separated=separated, algorithm=algorithm)
    attributes = set(vars(layer))
    layer(torch.randn(1, 2, 5, 5, dtype=torch.float64)).sum().backward()
    with torch.no_grad():
        layer(torch.randn(1, 2, 5, 5, dtype=torch.float64))
    assert set(vars(layer)) == attributes
    assert set(layer.state_dict()) == {*dict(layer.named_parameters()), "_extra_state"}


@every_algorithm
@pytest.mark.parametrize("memory_format", FORMATS)
def test_training_keeps_the_input_and_no_maps(separated, algorithm, memory_format):
    """A training step saves the input, as nn.Conv2d does, and beside it nothing of the images' size."""
    layer = make(4, 4, 3, bases=2, separated=separated, algorithm=algorithm)
    x = torch.randn(4, 4, 32, 32, dtype=torch.float64).contiguous(memory_format=FORMATS[memory_format])
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: (saved.append(tensor), tensor)[1], lambda tensor: tensor
    ):
        layer(x.requires_grad_())
    large = {tensor.untyped_storage().data_ptr() for tensor in saved if tensor.numel() >= x[0, 0].numel()}
    assert large == {x.untyped_storage().data_ptr()}


# The cost model


BATCH = 17
"""Of the images that are counted: no factor of the filters has as many rows."""


class Maps(TorchDispatchMode):
    """Counts the values of feature maps that copies and convolutions write."""

    written = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten.convolution.default, torch.ops.aten.clone.default) and out.shape[0] == BATCH:
            self.written += out.numel()
        return out


def convolution_flops(counter: FlopCounterMode) -> int:
    return sum(count for op, count in counter.get_flop_counts()["Global"].items() if "convolution" in str(op))


@given(
    st.booleans(),
    st.tuples(*[st.integers(2, 5)] * 2),
    st.integers(1, 3),
    st.tuples(*[st.integers(1, 3)] * 2),
    st.tuples(*[st.integers(1, 2)] * 2),
    st.tuples(*[st.integers(5, 8)] * 2),
)
@settings(max_examples=30)
def test_work_is_what_torch_counts(separated, channels, bases, kernel_size, stride, size):
    """Multiply-adds and values moved on the way forward; and that a training step adds what every algorithm adds."""
    f_in, f_out = channels[0], channels[1] * bases
    layer = make(f_in, f_out, kernel_size, bases=bases, separated=separated, stride=stride, padding="valid", bias=False)
    x = torch.randn(BATCH, f_in, *size, dtype=torch.float64)
    in_pixels, out_pixels = x[0, 0].numel(), layer(x)[0, 0].numel()
    sizes = Sizes(f_in, f_out, 3, bases, kernel_size, in_pixels, out_pixels)
    dense = WORK["dense"](sizes).dense
    assert dense == out_pixels * nn.Conv2d(f_in, f_out, kernel_size).weight.numel()
    for name in layer._algorithms:
        layer.algorithm = name
        expected = WORK[name](sizes)
        forward = expected.dense + expected.pointwise + expected.depthwise
        with torch.no_grad(), FlopCounterMode(display=False) as flops, Maps() as maps:
            layer(x)
        assert convolution_flops(flops) == 2 * BATCH * forward
        assert maps.written == BATCH * (expected.moved + out_pixels * f_out)
        for input_trains in (False, True):
            with FlopCounterMode(display=False) as flops:
                layer(x.clone().requires_grad_(input_trains)).sum().backward()
            assert convolution_flops(flops) == 2 * BATCH * ((1 + input_trains) * forward + dense)


def test_cost_is_the_documented_sum():
    sizes = Sizes(5, 6, 3, 2, (7, 3), 80, 20)
    for algorithm, expected in {
        "dense": Work(dense=20 * 5 * 6 * 21),
        "factorised": Work(pointwise=80 * 5 * 6 + 20 * 6 * 6, depthwise=20 * 6 * 21, moved=80 * (5 + 6) + 20 * (6 + 6)),
    }.items():
        assert WORK[algorithm](sizes) == expected
        assert expected.cost == sum(COST[kind] * getattr(expected, kind) for kind in COST)
    assert COST["dense"] == 1


@pytest.mark.parametrize(
    ("algorithms", "f_in", "f_out", "n", "bases", "k", "expected"),
    [
        (FULL, 1, 16, 10, 4, 7, "dense"),
        (FULL, 64, 64, 10, 16, 7, "dense"),
        (SEPARATED, 1, 16, 10, 4, 7, "dense"),
        (SEPARATED, 16, 32, 10, 16, 7, "dense"),
        (SEPARATED, 32, 64, 10, 16, 7, "factorised"),
        (SEPARATED, 64, 64, 10, 16, 7, "factorised"),
        (SEPARATED, 64, 64, 10, 16, 3, "dense"),
        (SEPARATED, 64, 64, 10, 64, 7, "dense"),
    ],
)
def test_the_cheapest(algorithms, f_in, f_out, n, bases, k, expected):
    assert choice(algorithms, f_in, f_out, n, bases, (k, k)) == expected


def choice(algorithms: tuple[str, ...], f_in: int, f_out: int, n: int, bases: int, kernel_size: tuple[int, int]) -> str:
    return cheapest(algorithms, Sizes(f_in, f_out, n, bases, kernel_size, 28 * 28, 28 * 28))


@given(
    st.integers(1, 96),
    st.integers(1, 96),
    st.sampled_from([1, 3, 6, 10, 15]),
    st.integers(1, 32),
    st.integers(1, 11),
    st.sampled_from([FULL, SEPARATED]),
)
@settings(max_examples=200)
def test_what_the_choice_depends_on(f_in, f_out, n, bases, k, algorithms):
    chosen = choice(algorithms, f_in, f_out, n, bases, (k, k))
    sizes = Sizes(f_in, f_out, n, bases, (k, k), 784, 784)
    assert WORK[chosen](sizes).cost == min(WORK[other](sizes).cost for other in algorithms)
    if chosen == "dense":  # more bases and more kernels make it no better to have them apart
        assert choice(algorithms, f_in, f_out, n, 2 * bases, (k, k)) == "dense"
        assert choice(algorithms, f_in, f_out, 2 * n, bases, (k, k)) == "dense"
    else:  # the larger the kernel the more is saved
        assert choice(algorithms, f_in, f_out, n, bases, (k + 2, k + 2)) != "dense"
    if chosen == "factorised":
        assert choice(algorithms, f_in + 8, f_out, n, bases, (k, k)) == "factorised"
        assert choice(algorithms, f_in, f_out + 8, n, bases, (k, k)) == "factorised"


@compiled
def test_the_layer_takes_the_cheapest(monkeypatch):
    """On a CPU in dtypes for which the costs hold, compiled or not; any other gets the dense one."""
    monkeypatch.setattr(conv, "KNOWN_DTYPES", {torch.float32})
    layer = make(64, 64, 7, order=3, bases=16, separated=True, dtype=torch.float32)
    dense, apart = as_computed_by("dense", layer), as_computed_by("factorised", layer)
    x = torch.randn(1, 64, 3, 3)
    assert (layer.algorithm, layer.chosen(x), layer.chosen(x.double())) == ("auto", "factorised", "dense")
    assert not torch.equal(dense(x), apart(x))  # rounding tells them apart
    assert torch.equal(layer(x), apart(x))
    assert torch.equal(layer(x[0]), apart(x[0]))
    with torch.no_grad():
        assert torch.equal(layer(x), apart(x))
    assert torch.equal(torch.compile(layer, backend="eager", fullgraph=True)(x), apart(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x), dense(x))
        assert not torch.equal(layer(x), apart(x))
    for dtype in (torch.float64, torch.bfloat16):
        layer, dense, apart = (module.to(dtype) for module in (layer, dense, apart))
        assert torch.equal(layer(x.to(dtype)), dense(x.to(dtype)))
        assert not torch.equal(layer(x.to(dtype)), apart(x.to(dtype)))
    monkeypatch.setattr(conv, "KNOWN_DTYPES", {torch.float32, torch.bfloat16})
    assert layer.chosen(x.bfloat16()) == "factorised"  # the layer is in bfloat16 now
    assert torch.equal(layer(x.bfloat16()), apart(x.bfloat16()))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.chosen(x) == "factorised"
    with torch.autocast("cpu", torch.float16):
        assert layer.chosen(x) == "dense"
    assert layer.chosen(x.to("meta")) == "dense"
    first = make(1, 16, 7, order=3, bases=4, separated=True, dtype=torch.float32)
    image = torch.randn(1, 1, 9, 9)
    assert torch.equal(first(image), as_computed_by("dense", first)(image))
    assert not torch.equal(first(image), as_computed_by("factorised", first)(image))


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx512_bf16": True, "amx_bf16": True}, False),
        ({"avx512_bf16": False, "amx_bf16": False}, False),
        ({"architecture": "aarch64"}, False),
        (None, False),
    ],
)
def test_costs_hold_for_bfloat16_where_the_cpu_has_vectors_of_it_and_no_matrices(capabilities, expected, monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)  # as in older versions of torch
    if capabilities is not None:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert algorithms._multiplies_bfloat16_as_float32() == expected


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("groups", [1, 2])
def test_parts_of_a_batch_make_the_whole(memory_format, groups, monkeypatch):
    """Outputs, gradients and memory format of five images are the same, two or one at a time."""
    layer = make(4, 8, (3, 4), bases=2, stride=2, groups=groups, separated=True, algorithm="factorised")
    x = torch.randn(5, 4, 9, 8, dtype=torch.float64).contiguous(memory_format=FORMATS[memory_format])
    cotangent = torch.randn(5, 8, 5, 4, dtype=torch.float64)
    whole = values_and_gradients(layer, x, cotangent, input_trains=True)
    sizes = set()
    apply = algorithms._mixed
    monkeypatch.setattr(
        algorithms, "_mixed", lambda x, *args, **kwargs: (sizes.add(len(x)), apply(x, *args, **kwargs))[1]
    )
    for part_bytes in (1, 20_000):
        monkeypatch.setattr(algorithms, "PART_BYTES", part_bytes)
        sizes.clear()
        parts = values_and_gradients(layer, x, cotangent, input_trains=True)
        assert_near(parts, whole, 1e-12)
        assert [layout(parts[name]) for name in ("y", "x")] == [layout(whole[name]) for name in ("y", "x")]
        assert sizes == {1} or part_bytes > 1
        assert torch.equal(layer(x[:0]), whole["y"][:0])


@pytest.mark.parametrize(
    ("separated", "algorithm", "allowed"),
    [
        (False, "factorised", "'auto', 'dense'"),
        (True, "fft", "'auto', 'dense', 'factorised'"),
        (True, None, "'auto', 'dense', 'factorised'"),
    ],
)
def test_wrong_algorithms(separated, algorithm, allowed):
    message = f"algorithm must be one of {allowed}, got {algorithm!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        GaussianDerivativeConv2d(2, 4, 3, separated=separated, algorithm=algorithm)
