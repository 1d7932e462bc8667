"""Converts the variables of the authors' Keras layer."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from gdlayer._plumbing.checks import int_pair, one_of
from gdlayer.conv import GaussianDerivativeConv2d

VARIABLES: dict[str, tuple[str | int, ...]] = {
    "sigmas": ("B", "N", 2),
    "centroids": ("B", "N", 2),
    "thetas": ("B", "N"),
    "clWeights": ("B", "f_in", "f_out/B", "N"),
    "clWeights1": ("B", "f_in", "N"),
    "clWeights2": ("B", 1, 1, "N", "f_out/B"),
    "bias": ("f_out",),
}
"""Names and shapes of the variables of the authors' Keras layer."""


def from_authors(
    variables: Mapping[str, ArrayLike],
    *,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: str = "same",
) -> GaussianDerivativeConv2d:
    r"""A layer with the same outputs, channels first, as the authors' Keras layer with these variables.

    Where the variables come from, for ``keras_layer = FTGDConvLayer(...)`` that has been called once::

        variables = {v.name: v.numpy() for v in keras_layer.variables}  # Keras 2
        variables = {v.path: v.numpy() for v in keras_layer.variables}  # Keras 3

    Keras 3 lists no variable that a layer makes with tensorflow.Variable, as theirs does. Their attributes hold them::

        names = ("sigmas", "centroids", "thetas", "clWeights", "bias")
        made = tensorflow.nest.flatten([getattr(keras_layer, name) for name in names])
        variables = {v.name: v.numpy() for v in made if v is not None}

    >>> import numpy as np
    >>> from gdlayer import from_authors
    >>> rng = np.random.default_rng(0)
    >>> variables = {
    ...     "ftgd_conv_layer/sigmas:0": rng.uniform(0.5, 2, (4, 10, 2)),
    ...     "ftgd_conv_layer/centroids:0": rng.uniform(-1, 1, (4, 10, 2)),
    ...     "ftgd_conv_layer/thetas:0": rng.uniform(-np.pi, np.pi, (4, 10)),
    ...     "ftgd_conv_layer/clWeights1:0": rng.normal(size=(4, 3, 10)),
    ...     "ftgd_conv_layer/clWeights2:0": rng.normal(size=(4, 1, 1, 10, 4)),
    ... }
    >>> layer = from_authors(variables, kernel_size=7)
    >>> layer.in_channels, layer.out_channels, layer.bases, layer.separated, len(layer.orders)
    (3, 16, 4, True, 10)

    Both layers sample eq. (1), order the kernels in the same way, (p, q) = (j, i - j) for i = 0, ..., K and
    j = 0, ..., i, and pad in the same way. Three differences are compensated:

    - Their sigma may be negative: their constraint bounds only the norm of all sigmas together. In the formula for
      :math:`G_p`, the product :math:`(-1/\sqrt 2\sigma)^p H_p(x/\sqrt 2\sigma)` is even in sigma, as both factors have
      the parity of p, and :math:`1/\sigma` is odd. Hence :math:`G_p(x, -\sigma) = -G_p(x, \sigma)` for every p. The new
      layer has :math:`|\sigma|`, and if exactly one of a kernel's two sigmas is negative, its mixing weights change
      sign.
    - Their sigma has no lower bound. The new layer's ``sigma_min`` is half the smallest :math:`|\sigma|`, at most 0.5.
    - Their grid runs from -int(k/2) to int(k/2), which is k + 1 points if k is even, and rows and columns are
      exchanged. See ``kernel_size``.

    Parameters
    ----------
    variables : mapping from name to array
        ``sigmas`` (B, N, 2), ``centroids`` (B, N, 2), ``thetas`` (B, N); ``clWeights`` (B, f_in, f_out/B, N), or
        ``clWeights1`` (B, f_in, N) and ``clWeights2`` (B, 1, 1, N, f_out/B), which make the layer separated; and
        ``bias`` (f_out,), absent or None if the layer has no bias. B, N, f_in, f_out and K follow from the shapes.
        Names may be as Keras gives them, "ftgd_conv_layer/sigmas:0": what stands before the last "/" and ":0" is left
        out.
    kernel_size : int or pair
        The value given to their layer, whose pair means (columns, rows). The new layer's ``kernel_size`` is
        (rows, columns), and k + 1 for an even k.
    stride : int or pair
    padding : "same" or "valid"

    Returns
    -------
    GaussianDerivativeConv2d
        On torch's default device and in its default dtype; all parameters are trainable.

    Raises
    ------
    ValueError, TypeError
        If a variable is missing, unknown, given twice, of the wrong shape, not real or not finite; if a sigma is zero
        or so small that kernels overflow; if N is not (K + 1)(K + 2)/2; or if ``kernel_size``, ``stride`` or
        ``padding`` is none of the values above.
    """
    columns, rows = int_pair("kernel_size", kernel_size)
    one_of("padding", padding, ("same", "valid"))
    arrays, sizes = _arrays(variables)
    order = (math.isqrt(8 * sizes["N"] + 1) - 3) // 2
    if (order + 1) * (order + 2) // 2 != sizes["N"]:
        raise ValueError(
            f"N must be (K + 1)(K + 2)/2 for an order K, that is 1, 3, 6, 10, ..., got sigmas of N = {sizes['N']}"
        )
    sigma = arrays["sigmas"]
    smallest = float(sigma.abs().min())
    if smallest == 0:
        raise ValueError("sigmas must not be 0, where kernels are not defined")
    layer = GaussianDerivativeConv2d(
        sizes["f_in"],
        sizes["f_out"],
        (rows | 1, columns | 1),
        order=order,
        bases=sizes["B"],
        separated="clWeights1" in arrays,
        stride=stride,
        padding=padding,
        bias="bias" in arrays,
        sigma_min=min(0.5, smallest / 2),
    )
    sign = sigma.sign().prod(-1)  # (B, N)
    layer.sigma = sigma.abs()
    with torch.no_grad():
        layer.mu.copy_(arrays["centroids"])
        layer.theta.copy_(arrays["thetas"])
        if layer.separated:
            layer.beta.copy_(arrays["clWeights1"].mT * sign[:, :, None])
            layer.lam.copy_(arrays["clWeights2"][:, 0, 0].mT)
        else:
            layer.omega.copy_(arrays["clWeights"].transpose(1, 2) * sign[:, None, None, :])
        if layer.bias is not None:
            layer.bias.copy_(arrays["bias"])
        if not bool(layer.filters().isfinite().all()):
            raise ValueError(
                f"variables must make finite filters; with |sigma| down to {smallest:.3g}, they overflow {sigma.dtype}"
            )
    return layer


def _arrays(variables: Mapping[str, ArrayLike]) -> tuple[dict[str, Tensor], dict[str | int, int]]:
    """The checked variables in torch's default dtype, and the sizes B, N, f_in, f_out/B and f_out."""
    if not isinstance(variables, Mapping):
        raise TypeError(f"variables must be a mapping from names to arrays, got {type(variables).__name__}")
    variables = _by_short_name(variables)
    given = [name for name in variables if name != "bias" or variables[name] is not None]
    mixing = {"clWeights"} if "clWeights" in given else {"clWeights1", "clWeights2"}
    if {*given} - {"bias"} != {"sigmas", "centroids", "thetas"} | mixing:
        raise ValueError(
            "variables must be sigmas, centroids, thetas, either clWeights or both clWeights1 and clWeights2, "
            f"and optionally bias, got {', '.join(map(str, given)) or 'none'}"
        )
    arrays: dict[str, Tensor] = {}
    sizes: dict[str | int, int] = {1: 1, 2: 2}
    for name, axes in VARIABLES.items():
        if name not in given:
            continue
        try:
            array = np.asarray(variables[name])
        except (TypeError, ValueError, RuntimeError) as error:
            raise TypeError(f"{name} must be an array of real numbers: {error}") from error
        if array.dtype.kind not in "fiu":
            raise TypeError(f"{name} must be an array of real numbers, got dtype {array.dtype}")
        known = {axis: sizes[axis] for axis in axes if axis in sizes and isinstance(axis, str)}
        expected = tuple(sizes.setdefault(axis, size) for axis, size in zip(axes, array.shape, strict=False))
        if array.ndim != len(axes) or array.shape != expected or array.size == 0:
            where = " with " + ", ".join(f"{axis} = {size}" for axis, size in known.items()) if known else ""
            raise ValueError(f"{name} must have shape ({', '.join(map(str, axes))}){where}, got {array.shape}")
        if "f_out/B" in sizes:
            sizes["f_out"] = sizes["B"] * sizes["f_out/B"]
        arrays[name] = torch.from_numpy(array.astype(np.float64)).to(torch.get_default_dtype())
        if not bool(arrays[name].isfinite().all()):
            raise ValueError(f"{name} must be finite, got NaN or infinity, or values beyond {arrays[name].dtype}")
    return arrays, sizes


def _by_short_name(variables: Mapping[str, ArrayLike]) -> dict[str, ArrayLike]:
    """The variables by the last part of their names: "sigmas" for "model/ftgd_conv_layer/sigmas:0"."""
    named: dict[str, ArrayLike] = {}
    for name, value in variables.items():
        short = str(name).rpartition("/")[2].removesuffix(":0")
        if short in named:
            raise ValueError(f"variables must be those of one layer, got {short} twice: {', '.join(variables)}")
        named[short] = value
    return named
