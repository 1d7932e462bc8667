"""The paper's equations as literal loops over numbers: slow, plain, and independent of torch and of gdlayer."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
NUMPY_PAD = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def hermite(p: int, x: float) -> float:
    """H_p(x), the series of section 2."""
    factorial = math.factorial
    return sum(
        (-1) ** i * factorial(p) / (factorial(i) * factorial(p - 2 * i)) * (2 * x) ** (p - 2 * i)
        for i in range(p // 2 + 1)
    )


def gaussian_derivative(p: int, x: float, sigma: float) -> float:
    """G_p(x, sigma)."""
    gaussian = math.exp(-(x**2) / (2 * sigma**2)) / math.sqrt(2 * math.pi * sigma**2)
    return (-1 / (math.sqrt(2) * sigma)) ** p * hermite(p, x / (math.sqrt(2) * sigma)) * gaussian


def kernel(order: tuple[int, int], sigma: Array, mu: Array, theta: float, kernel_size: tuple[int, int]) -> Array:
    """G_pq of eq. (1) on a centred grid: x_1 along columns, x_2 along rows."""
    rows, columns = kernel_size
    out = np.empty(kernel_size)
    for row in range(rows):
        for column in range(columns):
            x1, x2 = column - (columns - 1) / 2, row - (rows - 1) / 2
            u1 = x1 * math.cos(theta) + x2 * math.sin(theta)
            u2 = -x1 * math.sin(theta) + x2 * math.cos(theta)
            out[row, column] = gaussian_derivative(order[0], u1 - mu[0], sigma[0]) * gaussian_derivative(
                order[1], u2 - mu[1], sigma[1]
            )
    return out


def keras_same(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Padding (before, after) as TensorFlow's documentation words it, by cases on size modulo stride."""
    extent = (kernel - 1) * dilation + 1
    total = max(extent - (size % stride or stride), 0)
    return total // 2, total - total // 2


def pad(
    image: Array,
    kernel_size: tuple[int, int],
    stride: tuple[int, int],
    padding: str | int | tuple[int, int],
    dilation: tuple[int, int],
    padding_mode: str,
) -> Array:
    """An image (h, w), padded."""
    if padding == "same":
        amount = [keras_same(*axis) for axis in zip(image.shape, kernel_size, stride, dilation, strict=True)]
    else:
        pair = {"valid": (0, 0)}[padding] if isinstance(padding, str) else padding
        pair = (pair, pair) if isinstance(pair, int) else pair
        amount = [(p, p) for p in pair]
    return np.pad(image, amount, mode=NUMPY_PAD[padding_mode])  # type: ignore[call-overload]


def correlate(image: Array, kernel: Array, stride: tuple[int, int], dilation: tuple[int, int]) -> Array:
    """Cross-correlation wherever the dilated kernel fits, every stride-th position."""
    (h, w), (kh, kw) = image.shape, kernel.shape
    extent = ((kh - 1) * dilation[0] + 1, (kw - 1) * dilation[1] + 1)
    tops = range(0, h - extent[0] + 1, stride[0])
    lefts = range(0, w - extent[1] + 1, stride[1])
    out = np.empty((len(tops), len(lefts)))
    for row, top in enumerate(tops):
        for column, left in enumerate(lefts):
            patch = image[top : top + extent[0] : dilation[0], left : left + extent[1] : dilation[1]]
            out[row, column] = (kernel * patch).sum()
    return out


def full_layer(
    images: Sequence[Array], weight: Array, kernels: Array, stride: tuple[int, int], dilation: tuple[int, int]
) -> Array:
    """Eq. (3), eq. (2) at B = 1. Padded images I_i, weight[b, j, i, n], kernels[b, n] -> J (f_out, h_out, w_out)."""
    feature_maps = []
    for b in range(weight.shape[0]):
        for j in range(weight.shape[1]):
            total = 0
            for i, image in enumerate(images):
                combination = np.zeros(kernels.shape[-2:])
                for n in range(weight.shape[3]):
                    combination += weight[b, j, i, n] * kernels[b, n]
                total = total + correlate(image, combination, stride, dilation)
            feature_maps.append(total)
    return np.stack(feature_maps)


def separated_layer(
    images: Sequence[Array],
    beta: Array,
    lam: Array,
    kernels: Array,
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> Array:
    """Eq. (4) for each basis. Padded images I_i, beta[b, n, i], lam[b, j, n], kernels[b, n] -> J (f_out, ...)."""
    feature_maps = []
    for b in range(lam.shape[0]):
        intermediate = []
        for n in range(lam.shape[2]):
            total = 0
            for i, image in enumerate(images):
                total = total + beta[b, n, i] * correlate(image, kernels[b, n], stride, dilation)
            intermediate.append(total)
        for j in range(lam.shape[1]):
            feature_maps.append(sum(lam[b, j, n] * intermediate[n] for n in range(lam.shape[2])))
    return np.stack(feature_maps)
