"""Layers with hybrid kernels: stencils and one smoothing of each output map, the preset, and the window they need."""

import math
import re
from typing import Any

import pytest
import torch
from layer_table import SIZE, every_option
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck

from gdlayer import GaussianDerivativeConv2d
from gdlayer.geometry import GEOMETRY
from gdlayer.hybrid import stencil_size, stencils, turned

LAYERS: dict[str, dict[str, Any]] = {
    "full": {"order": 3},
    "separated": {"separated": True, "normalise": 0.5},
    "groups": {"groups": 2},
    "depthwise": {"groups": 4},
    "one basis, even": {"kernel_size": (6, 8), "bases": 1},
    "padded far": {"padding": 12, "kernel_size": (5, 15)},
}
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}


def layer(dtype: torch.dtype = torch.float64, **options: Any) -> GaussianDerivativeConv2d:
    torch.manual_seed(0)
    own: dict[str, Any] = {"kernel_size": 9, "order": 2, "bases": 2, "shared": GEOMETRY, "algorithm": "smoothed"}
    return GaussianDerivativeConv2d(4, 8, sampling="hybrid", dtype=dtype, **{**own, **options})


def results(it: GaussianDerivativeConv2d, x: Tensor) -> list[Tensor]:
    """The output, and the gradients of the image and all parameters."""
    x = x.clone().requires_grad_()
    y = it(x)
    cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(y)
    return [y.detach(), *torch.autograd.grad(y, [x, *it.parameters()], cotangent)]


def assert_equal_to_dense(it: GaussianDerivativeConv2d, x: Tensor) -> None:
    """Relative to the largest value of each."""
    ours = results(it, x)
    it.algorithm = "dense"
    for mine, expected in zip(ours, results(it, x), strict=True):
        assert (mine - expected).abs().max() <= TOLERANCE[x.dtype] * expected.abs().max()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("own", LAYERS.values(), ids=LAYERS)
def test_equal_to_dense(own, dtype):
    assert_equal_to_dense(layer(dtype, **own), torch.randn(2, 4, 21, 23, dtype=dtype))


@every_option
def test_equal_to_dense_under_all_options(options):
    assert_equal_to_dense(layer(**options), torch.randn(2, 4, SIZE[0] + 8, SIZE[1] + 8, dtype=torch.float64))


def test_many_images_are_correlated_in_parts(monkeypatch):
    monkeypatch.setattr("gdlayer.hybrid.PART_BYTES", 1)
    assert_equal_to_dense(layer(kernel_size=13), torch.randn(5, 4, 9, 7, dtype=torch.float64))


@pytest.mark.skipif(" " in torch.__file__, reason="torch.compile passes torch's folder to the linker without quotes")
@pytest.mark.filterwarnings("ignore:.* should not be instantiated:DeprecationWarning")
def test_compiled():
    """The gradient of a large window by frequencies too."""
    torch.compiler.reset()
    it, x = layer(torch.float32, kernel_size=13), torch.randn(2, 4, 9, 7)
    expected = results(it, x)
    it.compile(fullgraph=True)
    for mine, theirs in zip(results(it, x), expected, strict=True):
        assert (mine - theirs).abs().max() <= 1e-4 * theirs.abs().max()


def test_derivatives():
    it = layer(kernel_size=(11, 4), groups=2, bias=True)
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64, requires_grad=True)

    def output(x: Tensor, *parameters: Tensor) -> Tensor:
        named = dict(zip(dict(it.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(it, named, (x,))

    inputs = (x, *(p.detach().clone().requires_grad_() for p in it.parameters()))
    assert gradcheck(output, inputs, check_forward_ad=True, fast_mode=True)
    assert gradgradcheck(output, inputs, fast_mode=True)
    with forward_ad.dual_level():
        it(forward_ad.make_dual(x.detach(), torch.ones_like(x)))


@pytest.mark.parametrize("theta", [0.0, 0.4, -2.0])
def test_stencils_differentiate_polynomials(theta):
    """Of all monomials up to the order, in the turned frame, the own one alone has an answer at the centre."""
    orders = [(p, q) for p in range(3) for q in range(3) if p + q <= 2]
    masks = turned(torch.full((1,), theta, dtype=torch.float64), stencils(orders)).view(-1, 3, 3)
    angle = torch.tensor(theta, dtype=torch.float64)
    x = torch.arange(-1.0, 2.0, dtype=torch.float64)
    u, v = x * angle.cos() + x[:, None] * angle.sin(), x[:, None] * angle.cos() - x * angle.sin()
    for mask, (p, q) in zip(masks, orders, strict=True):
        for a, b in orders:
            if a + b <= p + q:
                factorials = (1 + (a == 2)) * (1 + (b == 2))
                answer = float((mask * (-u) ** a * (-v) ** b).sum()) / factorials
                assert answer == pytest.approx(float((a, b) == (p, q)), abs=1e-12)


def test_sizes_of_stencils():
    assert [stencil_size([(0, 0), (k, 0)]) for k in range(6)] == [1, 3, 3, 5, 5, 7]


def test_auto_takes_it_for_large_kernels_alone():
    def chosen(kernel_size: int, f_in: int = 64) -> str:
        it = GaussianDerivativeConv2d(f_in, 64, kernel_size, order=2, shared=GEOMETRY, sampling="hybrid")
        return it.chosen(torch.empty(1, f_in, 8, 8))

    assert [chosen(k) for k in (3, 7, 15, 31)] == ["dense", "smoothed", "smoothed", "smoothed"]
    assert chosen(15, f_in=1) == "dense"
    depthwise = {"groups": 64, "bases": 8, "order": 2, "shared": GEOMETRY, "sampling": "hybrid"}
    layers = [GaussianDerivativeConv2d(64, 64, k, **depthwise) for k in (7, 13, 15)]
    assert [it.chosen(torch.empty(1, 64, 8, 8)) for it in layers] == ["dense", "dense", "smoothed"]


@pytest.mark.parametrize("kernel_size", [3, 7, 15, (31, 21)])
@pytest.mark.parametrize("options", [{}, {"groups": 12, "order": 3, "kernel_size": 15}, {"sigma_min": 1.5}])
def test_recommended(kernel_size, options):
    it = GaussianDerivativeConv2d.recommended(12, 24, **{"kernel_size": kernel_size, **options})
    assert (it.sampling, it.bases, it.shared, it.order) == ("hybrid", 3, GEOMETRY, options.get("order", 2))
    assert it(torch.randn(1, 12, 9, 9)).shape == (1, 24, 9, 9)
    if kernel_size not in (3, 7) and not options:
        assert bool((it.receptive_field() <= torch.tensor(it.kernel_size)).all())  # or the warning is an error


def test_a_gaussian_that_is_cut_counts_as_undersampled():
    it = GaussianDerivativeConv2d.recommended(4, 8, 15)
    assert it.check_derivatives().sampling.max() < 0.05
    it.sigma = 2.7
    with pytest.warns(UserWarning, match="a larger kernel_size hybrid ones whose Gaussian is cut"):
        it.check_derivatives()


@pytest.mark.parametrize("sampling", ["point", "hybrid"])
def test_receptive_field(sampling):
    """All of a Gaussian outside is below exp(-4.5) of its peak, and two samples further inside it is not."""
    it = GaussianDerivativeConv2d(
        1, 1, 41, dilation=2, order=[(0, 0)], shared=GEOMETRY, sampling=sampling, dtype=torch.float64
    )
    it.sigma = torch.tensor([3.0, 1.0])
    with torch.no_grad():
        it.mu[0, 0] = torch.tensor([2.0, -1.0])
        it.theta.fill_(0.6)
    height, width = it.receptive_field()[0, 0].tolist()
    kernel = it.kernels()[0, 0].detach()
    edge = kernel.max() * math.exp(-4.5)
    for side, along in ((height, kernel.amax(1)), (width, kernel.amax(0))):
        distance = 2 * (torch.arange(41) - 20).abs()
        assert along[distance > (side - 1) / 2].max() < edge < along[distance > (side - 1) / 2 - 4].max()
    it.sigma = 9.0
    with pytest.warns(
        UserWarning, match=r"^1 of 1 kernels are cut by the 41 x 41 window, the largest needs 59\.\d pix"
    ):
        it.receptive_field()


def test_deployed_as_two_convolutions():
    it = layer(torch.float32, kernel_size=15)
    plain = it.deploy("smoothed")
    x = torch.randn(2, 4, 20, 20)
    assert [type(m).__name__ for m in plain.children()] == ["Conv2d", "Conv2d"]
    torch.testing.assert_close(plain(x), it(x).contiguous(), rtol=1e-4, atol=1e-5)


@every_option
def test_deployed_under_all_options(options):
    it = layer(**options)
    x = torch.randn(2, 4, SIZE[0] + 8, SIZE[1] + 8, dtype=torch.float64)
    torch.testing.assert_close(it.deploy("smoothed")(x), it(x), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"shared": ("sigma", "mu")},
            "shared must be ('sigma', 'mu', 'theta') for sampling='hybrid', whose differences are taken of one "
            "Gaussian per basis, got ('sigma', 'mu')",
        ),
        (
            {"kernel_size": (9, 3), "order": 3},
            "kernel_size must be at least 5 for sampling='hybrid' with orders p + q up to 3, got (9, 3)",
        ),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        layer(**options)
