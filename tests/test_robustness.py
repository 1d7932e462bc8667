"""The layers as modules in other people's programs: saved, copied, exported, spread over processes, badly trained."""

import math
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import replica
import torch
from layer_table import KINDS, even_same, every_layer, through_a_file
from torch import Tensor, nn
from torch.nn import functional as F

from gdlayer import GaussianDerivativeConv2d

kinds = pytest.mark.parametrize("kind", KINDS)
algorithms = pytest.mark.parametrize(
    "options",
    [
        {},
        {"separated": True},
        {"separated": True, "algorithm": "factorised"},
    ],
    ids=str,
)


# Shapes


@even_same
@pytest.mark.parametrize(
    ("arguments", "shape", "expected"),
    [
        ({}, (2, 3, 8, 9), (2, 4, 8, 9)),
        ({}, (3, 8, 9), (4, 8, 9)),
        ({}, (0, 3, 8, 9), (0, 4, 8, 9)),
        ({}, (1, 3, 1, 1), (1, 4, 1, 1)),
        ({"kernel_size": 9}, (1, 3, 2, 3), (1, 4, 2, 3)),
        ({"kernel_size": 4}, (1, 3, 5, 5), (1, 4, 5, 5)),
        ({"kernel_size": (1, 6)}, (1, 3, 5, 5), (1, 4, 5, 5)),
        ({"kernel_size": 1, "stride": 2}, (1, 3, 5, 5), (1, 4, 3, 3)),
        ({"stride": 2}, (1, 3, 8, 9), (1, 4, 4, 5)),
        ({"stride": (3, 1)}, (1, 3, 8, 9), (1, 4, 3, 9)),
        ({"stride": 9}, (1, 3, 8, 8), (1, 4, 1, 1)),
        ({"dilation": 3}, (1, 3, 8, 9), (1, 4, 8, 9)),
        ({"padding": "valid"}, (1, 3, 8, 9), (1, 4, 6, 7)),
        ({"padding": "valid"}, (1, 3, 3, 3), (1, 4, 1, 1)),
        ({"padding": (0, 2)}, (1, 3, 8, 9), (1, 4, 6, 11)),
        ({"padding": 2, "dilation": (1, 2)}, (3, 8, 9), (4, 10, 9)),
        ({"padding_mode": "reflect"}, (1, 3, 2, 2), (1, 4, 2, 2)),
        ({"padding_mode": "replicate"}, (3, 1, 1), (4, 1, 1)),
        ({"padding_mode": "circular"}, (1, 3, 1, 2), (1, 4, 1, 2)),
    ],
    ids=str,
)
@algorithms
def test_right_shapes(options, arguments, shape, expected):
    layer = GaussianDerivativeConv2d(3, 4, **{"kernel_size": 3, "bases": 2, "order": 1, **arguments, **options})
    assert layer(torch.randn(shape)).shape == expected
    assert layer.deploy()(torch.randn(shape)).shape == expected


@pytest.mark.parametrize(
    ("arguments", "shape", "message"),
    [
        ({}, (8, 9), "Expected 3D (unbatched) or 4D (batched) input to conv2d, but got input of size: [8, 9]"),
        ({}, (1, 1, 3, 8, 9), "Expected 3D (unbatched) or 4D (batched) input to conv2d, but got input of size: ["),
        ({}, (1, 2, 8, 9), "to have 3 channels, but got 2 channels instead"),
        ({}, (1, 6, 8, 9), "to have 3 channels, but got 6 channels instead"),
        ({}, (8, 9, 3), "to have 3 channels, but got 8 channels instead"),
        ({}, (), "Expected 3D (unbatched) or 4D (batched) input to conv2d, but got input of size: []"),
        ({}, (0,), "Expected 3D (unbatched) or 4D (batched) input to conv2d, but got input of size: [0]"),
        ({}, (1, 3, 0, 5), "(2 x 7). Kernel size: (3 x 3). Kernel size can't be greater than actual input size"),
        ({"stride": 2}, (3, 5, 0), "Kernel size: (3 x 3). Kernel size can't be greater than actual input size"),
        ({"padding": "valid"}, (1, 3, 2, 9), "Kernel size can't be greater than actual input size"),
        ({"padding": "valid", "dilation": 4}, (1, 3, 8, 9), "Kernel size can't be greater than actual input size"),
        (
            {"padding_mode": "reflect"},
            (1, 3, 1, 5),
            "Padding size should be less than the corresponding input dimension",
        ),
        ({"padding_mode": "circular", "padding": 3}, (1, 3, 2, 5), "more than once"),
    ],
    ids=str,
)
@algorithms
def test_wrong_shapes(options, arguments, shape, message):
    """Refused in the words of nn.Conv2d."""
    layer = GaussianDerivativeConv2d(3, 4, **{"kernel_size": 3, "bases": 2, "order": 1, **arguments, **options})
    for module in (layer, layer.deploy("dense")):
        with pytest.raises(RuntimeError, match=re.escape(message)):
            module(torch.randn(shape))


# Copies


@kinds
def test_state_dicts_across_dtypes(kind, device):
    """Rounded and no more: sigma keeps its bound, what comes back in the wider dtype is what was stored."""
    source = KINDS[kind](2, 4, dtype=torch.float64)
    x = torch.randn(1, 2, 8, 8, dtype=torch.float64)
    expected = source(x)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.05)):
        stored = KINDS[kind](2, 4, dtype=dtype, device=device)
        stored.load_state_dict(source.state_dict())
        back = KINDS[kind](2, 4, dtype=torch.float64)
        back.load_state_dict(through_a_file(stored.state_dict()))
        for name, parameter in back.named_parameters():
            assert torch.equal(parameter, source.get_parameter(name).to(dtype).double())
        if isinstance(stored, GaussianDerivativeConv2d):
            assert stored.sigma.dtype == dtype
            assert (stored.sigma >= stored.sigma_min).all()
        scale = float(expected.detach().abs().max())
        torch.testing.assert_close(back(x), expected, rtol=0, atol=tolerance * scale)
        output = stored(x.to(device, dtype)).cpu().double()
        torch.testing.assert_close(output, expected, rtol=0, atol=tolerance * scale)


@kinds
def test_training_resumes_from_a_file(kind):
    """Model and optimiser, saved without code, go on as if nothing had happened."""

    def start() -> tuple[nn.Module, torch.optim.Optimizer]:
        model = nn.Sequential(KINDS[kind](1, 4), nn.ReLU(), KINDS[kind](4, 2))
        return model, torch.optim.AdamW(model.parameters(), lr=0.02)

    def step(model: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor) -> None:
        optimiser.zero_grad()
        model(x).square().sum().backward()
        optimiser.step()

    model, optimiser = start()
    batches = torch.randn(4, 2, 1, 8, 8)
    for x in batches[:2]:
        step(model, optimiser, x)
    other, resumed = start()
    state = through_a_file({"model": model.state_dict(), "optimiser": optimiser.state_dict()})
    other.load_state_dict(state["model"])
    resumed.load_state_dict(state["optimiser"])
    for x in batches[2:]:
        step(model, optimiser, x)
        step(other, resumed, x)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


# Export


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(3, 2, 8, 9, generator=torch.Generator().manual_seed(0))


# What PyTorch before 2.6 says of autograd functions that it traces itself.
@pytest.mark.filterwarnings("ignore:.* should not be instantiated:DeprecationWarning")
@algorithms
def test_torch_export_with_any_batch(options, images):
    layer = GaussianDerivativeConv2d(2, 4, 3, order=1, bases=2, **options)
    program = torch.export.export(layer, (images,), dynamic_shapes={"x": {0: torch.export.Dim("batch")}})
    exported = program.module()
    for x in (images, images[:2], torch.cat([images, images])):
        torch.testing.assert_close(exported(x), layer(x))


@pytest.mark.skipif(torch.__version__ < "2.5", reason="torch.export of 2.4 fixes a size that padding depends on")
@pytest.mark.filterwarnings("ignore:.* should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2},
        {"stride": 2, "kernel_size": 4, "dilation": 2},
        {"stride": 2, "padding_mode": "reflect"},
        {"stride": (3, 1), "kernel_size": 2},
        {"stride": 2, "separated": True, "algorithm": "factorised"},
    ],
    ids=str,
)
def test_torch_export_with_any_size(options):
    """Also where "same" padding depends on the size."""
    layer = GaussianDerivativeConv2d(2, 4, **{"kernel_size": 3, "order": 1, "bases": 2, **options})
    height, width = (torch.export.Dim(name, min=8, max=100) for name in ("height", "width"))
    exported = torch.export.export(
        layer, (torch.randn(1, 2, 10, 12),), dynamic_shapes={"x": {2: height, 3: width}}
    ).module()
    for size in ((10, 12), (9, 8), (11, 13), (50, 31)):
        x = torch.randn(1, 2, *size)
        torch.testing.assert_close(exported(x), layer(x))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("input_trains", [False, True])
@algorithms
def test_a_trace_passes_its_check(options, stride, input_trains):
    """Large sums, where algorithms differ by more than the check allows; then images of other sizes."""
    layer = GaussianDerivativeConv2d(32, 32, 5, bases=8, stride=stride, init="authors", **options)
    x = torch.randn(2, 32, 12, 13, requires_grad=input_trains)
    traced: Any = torch.jit.trace(layer, (x,))
    for image in (x, torch.randn(1, 32, 9, 8), torch.randn(3, 32, 8, 11)):
        assert torch.equal(traced(image), layer(image))


def onnx_outputs(model: bytes, x: Tensor) -> np.ndarray:
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


@pytest.mark.skipif(torch.__version__ < "2.5", reason="torch.onnx.export has dynamic_shapes from 2.5 on")
# PyTorch itself uses what it deprecates.
@pytest.mark.filterwarnings("ignore:`isinstance\\(treespec, LeafSpec\\)` is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "make",
    [
        lambda: GaussianDerivativeConv2d(2, 4, 3, order=3, bases=2),
        lambda: GaussianDerivativeConv2d(2, 4, (3, 4), separated=True, stride=2, padding_mode="reflect"),
        lambda: GaussianDerivativeConv2d(2, 4, 3, separated=True, algorithm="factorised", sigma_max=4.0),
        lambda: GaussianDerivativeConv2d(2, 4, 3, groups=2, separated=True, algorithm="factorised"),
        lambda: GaussianDerivativeConv2d(2, 4, (3, 4), stride=2).deploy(),
    ],
    ids=["full", "separated", "factorised", "depthwise", "deployed"],
)
def test_onnx(make, images):
    """Run by onnxruntime, with another batch than that of the export."""
    layer = make().eval()
    program = torch.onnx.export(
        layer, (images,), dynamo=True, verbose=False, dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    assert program is not None
    model = program.model_proto.SerializeToString()
    for x in (images, images[:2]):
        np.testing.assert_allclose(onnx_outputs(model, x), layer(x).detach().numpy(), rtol=0, atol=1e-5)


# What PyTorch says of its older exporter, the default before 2.9; of sizes read in Python; of its shape inference.
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::torch.jit.TracerWarning",
    "ignore:ComputeShapeFromReshape:UserWarning",
    "ignore:Constant folding:UserWarning",
)
@pytest.mark.parametrize("options", [{}, {"stride": 2}], ids=str)
@every_layer
def test_export_by_trace(make, options, images, tmp_path):
    """Also where gradients are on, for images of other sizes, and without what OpenVINO does not know or gets wrong."""
    layer = make(2, 4, **options).eval()
    operations = str(torch.jit.trace(layer, (images,)).inlined_graph)  # type: ignore[attr-defined]
    for unknown in ("mT", "exp2", "diag_embed", "tensordot", "einsum"):
        assert f"aten::{unknown}(" not in operations
    sizes = {"x": {0: "batch", 2: "height", 3: "width"}}
    for opset in (13, 20):
        file = tmp_path / f"{opset}.onnx"
        arguments: dict[str, Any] = {"dynamo": False, "opset_version": opset, "dynamic_axes": sizes}
        torch.onnx.export(layer, (images,), str(file), input_names=["x"], **arguments)
        for x in (images, torch.randn(1, 2, 11, 12)):
            expected = layer(x).detach().numpy()
            np.testing.assert_allclose(onnx_outputs(file.read_bytes(), x), expected, rtol=0, atol=1e-5)


# Training


@pytest.mark.parametrize("how", ["replicated", "sharded"])
def test_two_processes_train_as_one(tmp_path, how):
    """DistributedDataParallel and fully_shard, half a batch each: gradients and weights of one process on the whole.

    Filters, penalties and plain convolutions are of whole layers, too.
    """
    if how == "sharded" and torch.__version__ < "2.8":
        pytest.skip("fully_shard of this torch takes no ignored_params")
    model, batches = replica.network(), torch.randn(3, 4, 1, 6, 6, dtype=torch.float64)
    others = replica.relatives()
    start = {"model": model.state_dict(), "others": others.state_dict(), "batches": batches}
    torch.save(start, tmp_path / "start.pt")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}

    def run(rank: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, replica.__file__, str(tmp_path), str(rank), how]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)

    with ThreadPoolExecutor(2) as pool:  # each waits for the other
        for done in pool.map(run, range(2)):
            assert done.returncode == 0, done.stderr
    replica.train(model, batches)
    for rank in range(2):
        result = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(result["gradients"][name], parameter.grad, rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(result["model"][name], parameter.detach(), rtol=1e-10, atol=1e-12)
        for layer, sigma in zip(model, result["sigma"], strict=True):
            torch.testing.assert_close(sigma, layer.sigma, rtol=1e-10, atol=1e-12)
        for name, expected in replica.readings(model, others, batches[0]).items():
            torch.testing.assert_close(result[name], expected, rtol=1e-10, atol=1e-12)


@kinds
def test_mixed_precision_with_a_gradient_scaler(kind, device):
    """It learns; and a step whose gradients overflow is left out, by halving the scale."""
    model = nn.Sequential(KINDS[kind](1, 4), nn.ReLU(), KINDS[kind](4, 2)).to(device)
    dtype = torch.float16 if device == "cuda" else torch.bfloat16
    scaler = torch.amp.GradScaler(device, init_scale=2.0**10)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    x, target = torch.randn(4, 1, 8, 8, device=device), torch.randn(4, 2, 8, 8, device=device)

    def step(factor: float = 1.0) -> float:
        optimiser.zero_grad()
        with torch.autocast(device, dtype):
            loss = F.mse_loss(model(x).float(), target)
        scaler.scale(loss * factor).backward()
        assert all(p.grad is None or p.grad.dtype == torch.float32 for p in model.parameters())
        scaler.step(optimiser)
        scaler.update()
        return loss.item()

    losses = [step() for _ in range(20)]
    assert losses[-1] < losses[0]
    before = [p.detach().clone() for p in model.parameters()]
    step(math.inf)
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    assert scaler.get_scale() == 2.0**9
    step()
    assert all(p.isfinite().all() for p in model.parameters())
    assert not all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


@kinds
def test_a_thousand_steps_at_a_learning_rate_ten_times_too_high(kind):
    """Random gradients of all sizes: kernels stay finite and sigma positive, in training and right after."""
    layer = KINDS[kind](1, 2)
    parameters = list(layer.parameters())
    optimiser = torch.optim.Adam(parameters, lr=0.5)
    start = [p.detach().clone() for p in parameters]
    farthest = [0.0] * len(parameters)
    for step in range(1000):
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter) * math.exp(float(torch.randn(())) * 3)
        optimiser.step()
        with torch.no_grad():
            for training in (False, True):
                layer.train(training)
                assert layer.filters().isfinite().all(), step
                if isinstance(layer, GaussianDerivativeConv2d):
                    assert layer.kernels().isfinite().all(), step
                sigma = torch.as_tensor(layer.sigma)  # type: ignore[arg-type]
                assert (sigma > 0).all(), step
                assert sigma.isfinite().all(), step
            distances = [float((p - at).abs().max()) for p, at in zip(parameters, start, strict=True)]
            farthest = list(map(max, farthest, distances))
    assert min(farthest) > 1  # the steps were huge


@kinds
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
def test_deploy_names_what_is_not_finite(kind, value):
    layer = KINDS[kind](2, 4)
    for name, parameter in layer.named_parameters():
        kept = parameter.detach().clone()
        parameter.data.view(-1)[-1] = value
        message = f"{name} must be finite, got 1 of {parameter.numel()} values NaN or infinite"
        with pytest.raises(ValueError, match=f"^{message}$"):
            layer.deploy()
        parameter.data.copy_(kept)
    assert layer.deploy()(torch.ones(1, 2, 8, 8)).isfinite().all()
