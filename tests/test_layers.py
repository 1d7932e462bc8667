"""What every layer must pass, under every option: the checks that torch makes of its own modules."""

import copy
import io
import math
import pickle
import re
import sys
from collections.abc import Iterable
from typing import Any

import pytest
import torch
from layer_table import (
    SIZE,
    Make,
    convolution_in,
    even_same,
    every_layer,
    every_option,
    gaussian,
    perturbed,
    through_a_file,
)
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.func import functional_call, stack_module_state, vmap
from torch.fx import symbolic_trace
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gdlayer import GaussianDerivativeConv2d
from gdlayer.geometry import Geometry
from gdlayer.related import (
    DAUConv2d,
    NJetConv2d,
    RFNNConv2d,
    ScaleSpaceConv2d,
    SemiStructuredConv2d,
    TranslationInsensitiveConv2d,
)
from gdlayer.synthesis import SynthesizedConv2d


def reads_its_size(layer: nn.Module) -> bool:
    """Whether the size of its kernels follows a parameter, of which the meta device has no value."""
    return not getattr(layer, "capturable", True)


def image(*batch: int, dtype: torch.dtype = torch.float64, **options: Any) -> Tensor:
    return torch.randn(*batch, 2, *SIZE, dtype=dtype, **options)


@even_same
@every_layer
@every_option
def test_output_is_that_of_the_plain_convolution(make, options):
    layer = perturbed(make(2, 4, dtype=torch.float64, **options)).eval()
    x = image(2)
    y = layer(x)
    options = {"padding": "same", **options, "stride": 1}
    plain = nn.Conv2d(2, 4, layer.kernel_size, device="meta", dtype=torch.float64, **options)
    whole = plain(torch.empty_like(x, device="meta")).shape[-2:]  # as torch has it, before strides
    assert y.shape == (2, 4, *(math.ceil(n / s) for n, s in zip(whole, layer.stride, strict=True)))
    for plain in (layer.deploy(), layer.deploy("dense")):
        torch.testing.assert_close(plain(x), y, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer(x[0]), y[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer(x.to(memory_format=torch.channels_last)), y, rtol=1e-12, atol=1e-12)
    assert layer(x[:0]).shape == (0, *y.shape[1:])


@every_layer
@every_option
@pytest.mark.parametrize("training", [False, True])
def test_gradcheck(make, options, training):
    layer = perturbed(make(1, 4, dtype=torch.float64, **options)).train(training)
    names, parameters = zip(*((name, p) for name, p in layer.named_parameters() if p.requires_grad), strict=True)
    x = image(1)[:, :1].requires_grad_()

    def output(x: Tensor, *parameters: Tensor) -> Tensor:
        return functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    assert gradcheck(output, (x, *parameters), fast_mode=True)


@every_layer
@every_option
def test_copies(make, options):
    """Whole or by their state, they compute the same, hold the same, and share nothing with the layer."""
    layer = perturbed(make(2, 4, **options)).eval()
    x = image(1, dtype=torch.float32)
    expected = layer(x).detach()
    with torch.device("meta"):
        empty, assigned = make(2, 4, **options).eval(), make(2, 4, **options).eval()
    assert all(t.is_meta for module in (empty, assigned) for t in (*module.parameters(), *module.buffers()))
    loaded, empty = make(2, 4, **options).eval(), empty.to_empty(device="cpu")
    assert not torch.equal(loaded(x), expected)
    loaded.load_state_dict(dict(layer.state_dict()))
    empty.load_state_dict(through_a_file(layer.state_dict()))
    assigned.load_state_dict(through_a_file(layer.state_dict()), assign=True)
    ours = dict(layer.named_parameters())
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), loaded, empty, assigned):
        assert repr(twin) == repr(layer)
        assert torch.equal(twin(x), expected)
        theirs = dict(twin.named_parameters())
        assert ours.keys() == theirs.keys()
        for name, parameter in ours.items():
            assert torch.equal(parameter, theirs[name])
            assert parameter.requires_grad == theirs[name].requires_grad
            assert parameter.data_ptr() != theirs[name].data_ptr()


@every_layer
def test_state_dict_holds_parameters_and_what_they_mean(make):
    layer = make(2, 4)
    layer(image(1, dtype=torch.float32))  # nothing is cached
    state = layer.state_dict()
    assert set(state) == {"_extra_state", *(name for name, _ in layer.named_parameters())}
    assert all(isinstance(value, Tensor) for value in state.values())


@every_layer
def test_there_is_no_weight_that_others_could_take_for_the_filters(make):
    layer = make(2, 4)
    assert not hasattr(layer, "weight")
    assert {name for name, _ in layer.named_parameters()} > set(layer.mixing)
    message = (
        f"{type(layer).__name__} has no weight, as its filters are computed: use filters() for the filters and "
        f"{' and '.join(layer.mixing)} for the mixing weights; deploy() the layer first for code that fuses it or "
        "expects its filters"
    )
    for use in (lambda: layer.weight, lambda: setattr(layer, "weight", nn.Parameter(torch.ones(1)))):
        with pytest.raises(AttributeError, match=f"^{re.escape(message)}$"):
            use()


@every_layer
def test_state_dicts_of_before_are_loaded(make):
    """They called the mixing weights ``weight``, except alpha, beta and lambda, and said less of what these mean."""
    layer, other = (nn.Sequential(perturbed(make(2, 4))) for _ in range(2))
    before = {
        "0.weight" if name == f"0.{layer[0].once_weight}" else name: p.detach() for name, p in layer.named_parameters()
    }
    if isinstance(layer[0], Geometry):
        before["0._extra_state"] = torch.tensor([layer[0].sigma_min, layer[0]._sigma_limit], dtype=torch.float64)
    keys = list(before)
    other.load_state_dict(before)
    assert list(before) == keys
    x = image(1, dtype=torch.float32)
    assert torch.equal(other.eval()(x), layer.eval()(x))


@every_layer
def test_copies_and_pickles_carry_no_constants(make):
    """They are computed anew; in a discrete layer they can be 70 MB beside 0.3 kB of parameters."""
    layer = make(2, 4)
    held = set()

    class Spy(pickle.Pickler):
        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, Tensor):
                held.add(obj.untyped_storage().data_ptr())
            return NotImplemented

    Spy(io.BytesIO()).dump(layer)
    assert held == {parameter.untyped_storage().data_ptr() for parameter in layer.parameters()}


@every_layer
def test_everything_is_a_parameter_or_a_buffer(make):
    """So that it moves with the layer, and no replica lacks it; a tuple of constants follows by itself, see below."""
    assert not [name for name, value in vars(make(2, 4)).items() if isinstance(value, Tensor)]


@every_layer
def test_meta_device(make):
    """Shapes without numbers, and a later start by reset_parameters, as of every layer of torch."""
    if reads_its_size(make(1, 2)):
        pytest.skip("the size of its kernels is read from a parameter")
    layer = make(2, 4, stride=2, device="meta")
    x = torch.empty(5, 2, *SIZE, device="meta", requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert layer(x).shape == (5, 4, SIZE[0] // 2, SIZE[1] // 2)
    layer.to_empty(device="cpu").reset_parameters()
    assert layer(image(1, dtype=torch.float32)).isfinite().all()


CLASSES: list[tuple[type[nn.Module], dict[str, Any]]] = [
    (GaussianDerivativeConv2d, {"kernel_size": 5}),
    (RFNNConv2d, {"kernel_size": 5, "sigma": 1.0}),
    (DAUConv2d, {"kernel_size": 5}),
    (NJetConv2d, {}),
    (SemiStructuredConv2d, {"kernel_size": 3}),
    (TranslationInsensitiveConv2d, {}),
    (ScaleSpaceConv2d, {"sigma": 1.0}),
]
classes = pytest.mark.parametrize(("kind", "options"), CLASSES, ids=lambda value: getattr(value, "__name__", ""))


@classes
def test_skip_init(kind, options):
    """No random number is drawn; parameters may then be given values one by one, without a state dict."""
    layer = kind(2, 4, **options)
    state = torch.get_rng_state()
    skipped = nn.utils.skip_init(kind, 2, 4, **options)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            skipped.get_parameter(name).copy_(parameter)
    x = image(1, dtype=torch.float32)
    assert torch.equal(skipped(x), layer(x))
    assert repr(skipped) == repr(layer)
    assert repr(kind(2, 4, device="meta", **options))


@classes
@pytest.mark.parametrize("dtype", [torch.complex64, torch.int32, torch.bool, torch.float8_e4m3fn, "float32"], ids=str)
def test_other_dtypes_are_refused(kind, options, dtype):
    allowed = "torch.float16, torch.bfloat16, torch.float32, torch.float64"
    with pytest.raises(ValueError, match=f"^{re.escape(f'dtype must be one of {allowed}, got {dtype!r}')}$"):
        kind(2, 4, dtype=dtype, **options)


@every_layer
@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
def test_a_conversion_to_complex_numbers_is_refused(make):
    with pytest.raises(TypeError, match=r"must be real, got torch\.complex64$"):
        make(2, 4).to(torch.complex64)


def built_on_meta(make: Make, **options: Any) -> SynthesizedConv2d:
    if reads_its_size(make(1, 2)):
        pytest.skip("the size of its kernels is read from a parameter")
    with torch.device("meta"):
        return make(2, 4, **options)


def assign(layer: nn.Module, tensors: Iterable[tuple[str, Tensor]]) -> None:
    for name, value in tensors:
        setattr(layer, name, nn.Parameter(value.detach().clone(), value.requires_grad))


@every_layer
@pytest.mark.parametrize("buffers", ["left on meta", "uninitialised"])
def test_parameters_assigned_one_by_one_on_the_meta_device(make, buffers):
    """As loaders of pretrained models do; some put uninitialised memory in the place of what is in no state dict."""
    layer, empty = perturbed(make(2, 4)), built_on_meta(make)
    assign(empty, layer.named_parameters())
    if buffers == "uninitialised":
        for name, buffer in list(empty.named_buffers()):
            setattr(empty, name, torch.full_like(buffer, -1, device="cpu"))
    x = image(1, dtype=torch.float32)
    assert torch.equal(empty(x), layer(x))


@every_layer
@pytest.mark.parametrize("buffers", [False, True], ids=["of the base", "stacked"])
def test_ensemble_on_a_meta_base(make, buffers):
    """Several layers as one by torch.func, as its tutorial has it."""
    base = built_on_meta(make, dtype=torch.float64).eval()
    layers = [perturbed(make(2, 4, dtype=torch.float64)).eval() for _ in range(3)]
    parameters, stacked = stack_module_state(layers)  # type: ignore[arg-type]
    x = image(2)

    def output(*state: dict[str, Tensor]) -> Tensor:
        return functional_call(base, state, (x,))

    outputs = vmap(output)(parameters, stacked) if buffers else vmap(output)(parameters)
    for y, layer in zip(outputs, layers, strict=True):
        torch.testing.assert_close(y, layer(x), rtol=1e-10, atol=1e-10)


@every_layer
def test_replicas_of_data_parallel_are_whole_on_their_devices(make, monkeypatch):
    """By torch's own mechanics, with "meta" as the second device in the place of a second GPU."""
    module = sys.modules["torch.nn.parallel.replicate"]
    devices = [torch.device("cpu"), torch.device("meta")]

    def copies(tensors: list[Tensor], devices: list[torch.device], detach: bool = False) -> list[list[Tensor]]:
        return [[tensor.to(device) for tensor in tensors] for device in devices]

    monkeypatch.setattr(module, "_broadcast_coalesced_reshape", copies)
    monkeypatch.setattr(module, "_get_device_index", lambda device, optional: device)
    layer = perturbed(make(2, 4)).eval()
    first, second = module.replicate(layer, devices)  # type: ignore[attr-defined]
    x = image(1, dtype=torch.float32)
    assert torch.equal(first(x), layer(x))
    if not reads_its_size(layer):
        assert second(x.to("meta")).is_meta


@every_layer
@pytest.mark.parametrize("decay", [0.9, 0.95, 0.9999])
def test_an_average_of_equal_models_is_the_model(make, decay):
    """As torch makes it, with buffers: it rounds the average of integers down, to 2 for 3s."""
    layer = perturbed(make(2, 4)).eval()
    average = AveragedModel(layer, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    for _ in range(3):
        average.update_parameters(layer)
    x = image(1, dtype=torch.float32)
    assert torch.equal(average(x), layer(x))


def test_an_average_over_a_run_crosses_half_a_turn():
    """Training does not wrap theta, which would throw averages to the other side."""
    layer = gaussian(5)(2, 2)
    nn.init.constant_(layer.theta, 3.1)
    average = AveragedModel(layer)
    average.update_parameters(layer)
    layer.theta.grad = torch.full_like(layer.theta, -0.1)
    torch.optim.SGD([layer.theta], lr=1).step()
    layer(image(1, dtype=torch.float32))
    average.update_parameters(layer)
    assert torch.allclose(average.module.get_parameter("theta"), torch.tensor(3.15))


@every_layer
def test_one_node_of_a_graph_that_fx_traces(make):
    model = nn.Sequential(make(2, 4), nn.ReLU(), make(4, 2))
    traced = symbolic_trace(model)
    assert [node.target for node in traced.graph.nodes] == ["input", "0", "1", "2", "output"]
    x = image(1, dtype=torch.float32)
    assert torch.equal(traced(x), model(x))
    message = f"torch.fx must trace a model around {type(model[0]).__name__}, got the layer itself"
    with pytest.raises(TypeError, match=f"^{message}$"):
        symbolic_trace(model[0])


@every_layer
def test_reset_parameters_draws_anew(make):
    def parameters(layer: SynthesizedConv2d) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in layer.named_parameters()}

    torch.manual_seed(1)
    layer = make(2, 4)
    first = parameters(layer)
    perturbed(layer)
    layer.reset_parameters()
    assert not all(torch.equal(first[name], value) for name, value in parameters(layer).items())
    assert layer.bias is not None
    assert not layer.bias.any()
    torch.manual_seed(1)
    layer.reset_parameters()
    assert all(torch.equal(first[name], value) for name, value in parameters(layer).items())


@every_layer
def test_repr_counts_what_trains(make):
    layer = make(3, 4)
    count = sum(p.numel() for p in layer.parameters() if p.requires_grad)
    dense = 4 * 3 * layer.kernel_size[0] * layer.kernel_size[1] + 4
    assert f"3, 4, kernel_size={layer.kernel_size}, stride=(1, 1), padding='same'" in repr(layer)
    assert f"parameters={count} (Conv2d: {dense})" in repr(layer)
    assert "\n" not in repr(layer)


@every_layer
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_device_and_dtype(make, dtype, device):
    """Of the arguments, and of a later conversion; outputs and gradients are finite in each."""
    x = image(2, dtype=dtype, device=device)
    for layer in (make(2, 4, device=device, dtype=dtype), make(2, 4, dtype=torch.float64).to(device, dtype)):
        floating = (t for t in (*layer.parameters(), *layer.buffers()) if t.is_floating_point())
        assert {(t.device.type, t.dtype) for t in floating} == {(device, dtype)}
        assert (layer.filters().device.type, layer.filters().dtype) == (device, dtype)
        y = layer(x)
        assert y.dtype == dtype
        y.float().square().sum().backward()
        trained = [p for p in layer.parameters() if p.requires_grad]
        assert all(p.grad is not None and p.grad.dtype == dtype and p.grad.isfinite().all() for p in trained)
        exact = copy.deepcopy(layer).double()(x.double())
        tolerance = {torch.float64: 1e-12, torch.float32: 1e-5 if device == "cpu" else 2e-3, torch.bfloat16: 0.05}
        assert (y.double() - exact).abs().max() <= tolerance[dtype] * exact.abs().max()


@every_layer
def test_autocast_computes_filters_in_float32(make, device):
    layer = make(2, 4, device=device)
    x = image(2, dtype=torch.float32, device=device)
    expected, filters = layer(x), layer.filters()
    with torch.autocast(device, torch.bfloat16):
        output = layer(x)
        assert layer.filters().dtype == torch.float32
        torch.testing.assert_close(convolution_in(layer.deploy("dense")).weight, filters)
    assert output.dtype == torch.bfloat16
    assert (output - expected).abs().max() < 0.02 * expected.abs().max()
    output.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in layer.parameters() if p.requires_grad)
