"""The authors' Keras layer converted, against the same layer as loops over numbers, channels last."""

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gdlayer import from_authors

Array = NDArray[np.float64]


def authors_hermite(p: int, x: float) -> float:
    return {0: 1.0, 1: 2 * x, 2: 4 * x**2 - 2, 3: 8 * x**3 - 12 * x, 4: 16 * x**4 - 48 * x**2 + 12}[p]


def authors_derivative(p: int, x: float, s: float) -> float:
    """G_p(x, s) as the paper writes it; s may be negative."""
    scaled = x / (math.sqrt(2) * s)
    gaussian = math.exp(-(x**2) / (2 * s**2)) / (s * math.sqrt(2 * math.pi))
    return (-1 / (math.sqrt(2) * s)) ** p * authors_hermite(p, scaled) * gaussian


def authors_kernels(variables: Mapping[str, Any], kernel_size: tuple[int, int]) -> list[list[Array]]:
    """The kernels of each basis. The grid always has odd sides; the first number of kernel_size counts its columns."""
    xs, ys = (range(-int(k / 2), int(k / 2) + 1) for k in kernel_size)
    bases, n = np.shape(variables["thetas"])
    out: list[list[Array]] = []
    for b in range(bases):
        out.append([])
        i = j = 0
        for index in range(n):
            t = float(variables["thetas"][b][index])
            mu1, mu2 = map(float, variables["centroids"][b][index])
            s1, s2 = map(float, variables["sigmas"][b][index])
            kernel = np.empty((len(ys), len(xs)))
            for row, y in enumerate(ys):
                for column, x in enumerate(xs):
                    u = math.cos(t) * x + math.sin(t) * y
                    v = -math.sin(t) * x + math.cos(t) * y
                    kernel[row, column] = authors_derivative(j, u - mu1, s1) * authors_derivative(i - j, v - mu2, s2)
            out[-1].append(kernel)
            i, j = (i, j + 1) if j < i else (i + 1, 0)
    return out


def keras_conv(images: Array, filters: Array, stride: tuple[int, int], padding: str) -> Array:
    """images (batch, h, w, f_in), filters (kh, kw, f_in, f_out) -> (batch, h_out, w_out, f_out)."""
    (kh, kw), (h, w) = filters.shape[:2], images.shape[1:3]
    if padding == "same":
        amounts = []
        for size, k, s in ((h, kh, stride[0]), (w, kw, stride[1])):
            total = max(k - s if size % s == 0 else k - size % s, 0)
            amounts.append((total // 2, total - total // 2))
        images = np.pad(images, [(0, 0), *amounts, (0, 0)])
    h_out, w_out = ((images.shape[1 + a] - (kh, kw)[a]) // stride[a] + 1 for a in (0, 1))
    out = np.zeros((len(images), h_out, w_out, filters.shape[3]))
    for row in range(h_out):
        for column in range(w_out):
            top, left = row * stride[0], column * stride[1]
            patch = images[:, top : top + kh, left : left + kw]
            for f in range(filters.shape[3]):
                out[:, row, column, f] = (patch * filters[:, :, :, f]).sum((1, 2, 3))
    return out


def authors_layer(
    variables: Mapping[str, Any],
    images: Array,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int],
    padding: str,
) -> Array:
    """The outputs of their layer for images (batch, h, w, f_in); the separated layer convolves in two steps."""
    kernel_size, stride = ((v, v) if isinstance(v, int) else v for v in (kernel_size, stride))
    outputs = []
    for b, kernels in enumerate(authors_kernels(variables, kernel_size)):
        phi = np.stack(kernels, -1)  # (kh, kw, N)
        if "clWeights" in variables:
            weights = np.asarray(variables["clWeights"], np.float64)[b]  # (f_in, f_out/B, N)
            filters = (phi[:, :, None, None, :] * weights).sum(-1)
            outputs.append(keras_conv(images, filters, stride, padding))
        else:
            first = np.asarray(variables["clWeights1"], np.float64)[b]  # (f_in, N)
            second = np.asarray(variables["clWeights2"], np.float64)[b]  # (1, 1, N, f_out/B)
            between = keras_conv(images, phi[:, :, None, :] * first, stride, padding)
            outputs.append(keras_conv(between, second, (1, 1), padding))
    j = np.concatenate(outputs, -1)
    return j if variables.get("bias") is None else j + np.asarray(variables["bias"], np.float64)


def authors_variables(
    seed: int,
    *,
    f_in: int = 3,
    per_basis: int = 2,
    bases: int = 2,
    order: int = 2,
    separated: bool = False,
    bias: bool = True,
    smallest: float = 0.5,
    negative: bool = False,
) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    n = (order + 1) * (order + 2) // 2
    variables = {
        "sigmas": rng.uniform(smallest, 2, (bases, n, 2)) * (rng.choice([-1, 1], (bases, n, 2)) if negative else 1),
        "centroids": rng.uniform(-1, 1, (bases, n, 2)),
        "thetas": rng.uniform(-np.pi, np.pi, (bases, n)),
    }
    if separated:
        variables["clWeights1"] = rng.normal(size=(bases, f_in, n))
        variables["clWeights2"] = rng.normal(size=(bases, 1, 1, n, per_basis))
    else:
        variables["clWeights"] = rng.normal(size=(bases, f_in, per_basis, n))
    if bias:
        variables["bias"] = rng.normal(size=bases * per_basis)
    return variables


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def compare(variables: dict[str, Any], kernel_size: Any, stride: Any, padding: str, size: tuple[int, int]) -> float:
    """The largest difference of outputs on random images, divided by the largest output."""
    f_in = variables["clWeights" if "clWeights" in variables else "clWeights1"].shape[1]
    images = np.random.default_rng(0).normal(size=(2, *size, f_in))
    converted = from_authors(variables, kernel_size=kernel_size, stride=stride, padding=padding)
    outputs = converted(torch.tensor(images, dtype=torch.get_default_dtype()).permute(0, 3, 1, 2))
    expected = authors_layer(variables, images, kernel_size, stride, padding)
    assert outputs.shape == (2, expected.shape[3], *expected.shape[1:3])
    assert outputs.dtype == torch.get_default_dtype()
    difference = outputs.detach().permute(0, 2, 3, 1).double().numpy() - expected
    return float(np.abs(difference).max() / np.abs(expected).max())


@given(st.data())
def test_authors_layer_in_any_configuration(data):
    side = st.integers(1, 6)
    kernel_size = data.draw(st.one_of(side, st.tuples(side, side)))
    step = st.integers(1, 3)
    variables = authors_variables(
        data.draw(st.integers(0, 2**32 - 1)),
        f_in=data.draw(st.integers(1, 3)),
        per_basis=data.draw(st.integers(1, 3)),
        bases=data.draw(st.integers(1, 3)),
        order=data.draw(st.integers(0, 4)),
        separated=data.draw(st.booleans()),
        bias=data.draw(st.booleans()),
        smallest=data.draw(st.sampled_from([0.01, 0.2, 0.5, 1.5])),
        negative=data.draw(st.booleans()),
    )
    stride = data.draw(st.one_of(step, st.tuples(step, step)))
    padding = data.draw(st.sampled_from(["same", "valid"]))
    size = data.draw(st.tuples(st.integers(7, 9), st.integers(7, 9)))
    with default_dtype(torch.float64):
        assert compare(variables, kernel_size, stride, padding, size) < 1e-9


@pytest.mark.parametrize("negative", [False, True], ids=["positive", "any sign"])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("smallest", [0.2, 0.5])
def test_authors_layer_in_float32(separated, negative, padding, stride, smallest):
    drawn = authors_variables(
        7, bases=3, order=3, per_basis=2, separated=separated, negative=negative, smallest=smallest
    )
    variables = {name: value.astype(np.float32) for name, value in drawn.items()}
    for size in ((9, 9), (8, 10)):
        assert compare(variables, 7, stride, padding, size) < 1e-5


@pytest.mark.parametrize("order", range(5))
@pytest.mark.parametrize("s", [-0.3, -1.0, -2.0])
def test_the_sign_of_sigma(order, s):
    """G_p is odd in sigma for every p, so two negative sigmas of a kernel cancel."""
    for x in (-1.3, 0.0, 0.4, 2.0):
        assert authors_derivative(order, x, s) == pytest.approx(-authors_derivative(order, x, -s), rel=1e-12)


def test_a_negative_sigma_changes_the_sign_of_its_kernels_weights(separated):
    variables = authors_variables(3, order=1, bases=1, separated=separated)
    variables["sigmas"] *= [[[1, 1], [-1, 1], [-1, -1]]]
    converted = from_authors(variables, kernel_size=5)
    positive = from_authors({**variables, "sigmas": np.abs(variables["sigmas"])}, kernel_size=5)
    name, shape = ("beta", (3, 1)) if separated else ("omega", (3,))
    sign = torch.tensor([1.0, -1.0, 1.0]).view(shape)
    assert torch.equal(getattr(converted, name), getattr(positive, name) * sign)
    assert torch.equal(converted.kernels(), positive.kernels())


def test_what_the_shapes_tell(separated):
    variables = authors_variables(0, f_in=5, per_basis=3, bases=4, order=3, separated=separated, bias=False)
    converted = from_authors(variables, kernel_size=(3, 6), stride=(1, 2), padding="valid")
    assert (converted.in_channels, converted.out_channels, converted.bases) == (5, 12, 4)
    assert converted.orders == tuple((j, i - j) for i in range(4) for j in range(i + 1))
    assert (converted.separated, converted.bias) == (separated, None)
    assert (converted.kernel_size, converted.stride, converted.padding) == ((7, 3), (1, 2), (0, 0))
    assert converted.trainable == ("sigma", "mu", "theta")
    torch.testing.assert_close(converted.sigma, torch.tensor(variables["sigmas"], dtype=torch.float32))
    none: dict[str, Any] = {"bias": None}
    assert from_authors(variables | none, kernel_size=3).bias is None


@pytest.mark.parametrize(("smallest", "expected"), [(0.02, 0.01), (0.6, 0.3), (1.0, 0.5), (1.7, 0.5)])
def test_sigma_has_room_below(smallest, expected):
    variables = authors_variables(0, smallest=2)
    variables["sigmas"][0, 0, 1] = -smallest
    assert from_authors(variables, kernel_size=3).sigma_min == pytest.approx(expected)


def test_a_converted_layer_trains():
    converted = from_authors(authors_variables(0, separated=True, smallest=0.01, negative=True), kernel_size=5)
    converted(torch.randn(1, 3, 8, 8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in converted.parameters())


def test_arrays_of_any_kind():
    """Lists, integers, tensors and read-only arrays."""
    variables = authors_variables(0, order=0, bases=1)
    expected = from_authors({**variables, "sigmas": np.ones((1, 1, 2))}, kernel_size=3)
    mixed = {name: value.tolist() for name, value in variables.items()}
    mixed["sigmas"] = np.ones((1, 1, 2), np.uint8)
    mixed["thetas"] = torch.tensor(variables["thetas"])
    mixed["clWeights"] = variables["clWeights"].copy()
    mixed["clWeights"].flags.writeable = False
    converted = from_authors(mixed, kernel_size=3)
    assert all(torch.equal(a, b) for a, b in zip(converted.parameters(), expected.parameters(), strict=True))


# How Keras names the variables of their layer, by version and by way of reading them.
RECORDED = {
    "Keras 2": "ftgd_conv_layer/{}:0",
    "Keras 2, second layer of a model": "model/ftgd_conv_layer_1/{}:0",
    "path in Keras 3": "ftgd_conv_layer/{}",
    "attributes in Keras 3": "{}:0",
}


class Variable:
    """What the recipes of the documentation read of a variable of Keras."""

    def __init__(self, name: str, value: Array) -> None:
        self.name = self.path = name
        self.value = value

    def numpy(self) -> Array:
        return self.value


@pytest.mark.parametrize("recorded", RECORDED.values(), ids=RECORDED.keys())
def test_names_as_keras_gives_them(recorded, separated):
    variables = authors_variables(5, separated=separated)
    listed = [Variable(recorded.format(name), value) for name, value in variables.items()]
    expected = from_authors(variables, kernel_size=3).state_dict()
    converted = from_authors({v.name: v.numpy() for v in listed}, kernel_size=3).state_dict()
    assert all(torch.equal(converted[name], value) for name, value in expected.items())


def test_variables_of_two_layers_are_refused():
    variables = {f"{layer}/{name}:0": np.ones(1) for layer in ("first", "second") for name in ("sigmas", "thetas")}
    message = (
        "variables must be those of one layer, got sigmas twice: first/sigmas:0, first/thetas:0, second/sigmas:0, "
        "second/thetas:0"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        from_authors(variables, kernel_size=3)


SETS = (
    "variables must be sigmas, centroids, thetas, either clWeights or both clWeights1 and clWeights2, and optionally "
    "bias, got "
)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"thetas": ...}, ValueError, SETS + "sigmas, centroids, clWeights, bias"),
        ({"clWeights": ...}, ValueError, SETS + "sigmas, centroids, thetas, bias"),
        (
            {"clWeights": ..., "clWeights1": np.ones((2, 3, 6))},
            ValueError,
            SETS + "sigmas, centroids, thetas, bias, cl",
        ),
        ({"clWeights1": np.ones((2, 3, 6))}, ValueError, SETS + "sigmas, centroids, thetas, clWeights, bias, clWeig"),
        ({"gammas": np.ones(3)}, ValueError, SETS + "sigmas, centroids, thetas, clWeights, bias, gammas"),
        (
            {"sigmas": np.ones((2, 6))},
            ValueError,
            "sigmas must have shape (B, N, 2), got (2, 6)",
        ),
        ({"sigmas": np.ones((2, 6, 3))}, ValueError, "sigmas must have shape (B, N, 2), got (2, 6, 3)"),
        ({"sigmas": np.ones((2, 0, 2))}, ValueError, "sigmas must have shape (B, N, 2), got (2, 0, 2)"),
        (
            {"centroids": np.ones((2, 3, 2))},
            ValueError,
            "centroids must have shape (B, N, 2) with B = 2, N = 6, got (2, 3, 2)",
        ),
        ({"thetas": np.ones((1, 6))}, ValueError, "thetas must have shape (B, N) with B = 2, N = 6, got (1, 6)"),
        (
            {"clWeights": np.ones((3, 2, 6))},
            ValueError,
            "clWeights must have shape (B, f_in, f_out/B, N) with B = 2, N = 6, got (3, 2, 6)",
        ),
        (
            {"clWeights": ..., "clWeights1": np.ones((2, 3, 6)), "clWeights2": np.ones((2, 6, 2))},
            ValueError,
            "clWeights2 must have shape (B, 1, 1, N, f_out/B) with B = 2, N = 6, got (2, 6, 2)",
        ),
        (
            {"clWeights": ..., "clWeights1": np.ones((2, 3, 6)), "clWeights2": np.ones((2, 1, 3, 6, 2))},
            ValueError,
            "clWeights2 must have shape (B, 1, 1, N, f_out/B) with B = 2, N = 6, got (2, 1, 3, 6, 2)",
        ),
        ({"bias": np.ones(5)}, ValueError, "bias must have shape (f_out) with f_out = 4, got (5,)"),
        (
            {"sigmas": np.full((2, 6, 2), np.nan)},
            ValueError,
            "sigmas must be finite, got NaN or infinity, or values beyond torch.float32",
        ),
        (
            {"bias": np.full(4, 1e39)},
            ValueError,
            "bias must be finite, got NaN or infinity, or values beyond torch.float32",
        ),
        ({"sigmas": np.zeros((2, 6, 2))}, ValueError, "sigmas must not be 0, where kernels are not defined"),
        ({"sigmas": np.full((2, 6, 2), 1e-50)}, ValueError, "sigmas must not be 0, where kernels are not defined"),
        (
            {"sigmas": np.full((2, 6, 2), 1e-25)},
            ValueError,
            "variables must make finite filters; with |sigma| down to 1e-25, they overflow torch.float32",
        ),
        ({"thetas": "zero"}, TypeError, "thetas must be an array of real numbers, got dtype <U4"),
        ({"thetas": np.ones((2, 6), complex)}, TypeError, "thetas must be an array of real numbers, got dtype complex"),
        ({"thetas": None}, TypeError, "thetas must be an array of real numbers, got dtype object"),
        ({"thetas": [[1, 2], [3]]}, TypeError, "thetas must be an array of real numbers: "),
        (
            {"thetas": torch.ones(2, 6, requires_grad=True)},
            TypeError,
            "thetas must be an array of real numbers: ",
        ),
    ],
    ids=[
        "no thetas",
        "no weights",
        "one of two weights",
        "both kinds of weights",
        "another variable",
        "sigmas of 2 axes",
        "sigmas of 3",
        "no kernels",
        "N differs",
        "B differs",
        "weights of 3 axes",
        "separated weights of 3 axes",
        "separated weights of size 3",
        "bias",
        "nan",
        "beyond float32",
        "zero",
        "zero in float32",
        "overflow",
        "text",
        "complex",
        "none",
        "ragged",
        "gradients",
    ],
)
def test_wrong_variables(change, error, message):
    variables = {**authors_variables(0), **change}
    variables = {name: value for name, value in variables.items() if value is not ...}
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        from_authors(variables, kernel_size=3)


@pytest.mark.parametrize("n", [2, 4, 5, 7, 9, 11])
def test_kernels_that_make_no_jet(n):
    variables = {name: np.ones(shape) for name, shape in (("sigmas", (1, n, 2)), ("centroids", (1, n, 2)))}
    variables |= {"thetas": np.ones((1, n)), "clWeights": np.ones((1, 1, 1, n))}
    message = f"N must be (K + 1)(K + 2)/2 for an order K, that is 1, 3, 6, 10, ..., got sigmas of N = {n}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        from_authors(variables, kernel_size=3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kernel_size": 0}, ValueError, "kernel_size must be an integer >= 1 or a pair of them, got 0"),
        ({"kernel_size": "3"}, TypeError, "kernel_size must be an integer >= 1 or a pair of them, got '3'"),
        ({"kernel_size": 3, "stride": 0}, ValueError, "stride must be an integer >= 1 or a pair of them, got 0"),
        ({"kernel_size": 3, "padding": 1}, ValueError, "padding must be one of 'same', 'valid', got 1"),
        ({"kernel_size": 3, "padding": "SAME"}, ValueError, "padding must be one of 'same', 'valid', got 'SAME'"),
    ],
    ids=["size 0", "size of text", "stride 0", "padding 1", "padding SAME"],
)
def test_wrong_arguments_for_the_authors_layer(arguments, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        from_authors(authors_variables(0), **arguments)


def test_variables_must_be_a_mapping():
    with pytest.raises(TypeError, match=r"^variables must be a mapping from names to arrays, got list$"):
        from_authors([np.ones(3)], kernel_size=3)  # type: ignore[arg-type]
