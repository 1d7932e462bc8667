"""Between free-form filters and Gaussian derivative layers, and from the authors' Keras layer."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parameter import is_lazy

from gdlayer.checks import int_pair, one_of, positive_number
from gdlayer.conv import GaussianDerivativeConv2d
from gdlayer.synthesis import Conv2dSame, SynthesizedConv2d, check_finite

SWEEPS = 50
"""Of alternating least squares, once the geometry is settled."""

FAINT = 1e-2
"""Norm, as part of the largest, below which a kernel of a basis is not normalised."""


def fit_filters(
    layer: GaussianDerivativeConv2d,
    filters: Tensor,
    *,
    bias: Tensor | None = None,
    steps: int = 0,
    learning_rate: float = 0.1,
    rcond: float = 1e-3,
) -> float:
    r"""Sets ``layer`` so that its filters come as near to the given ones as least squares can bring them.

    With filters W and kernels :math:`\phi`, basis b takes its own :math:`f_{out}/B` consecutive filters and

    .. math:: \min_\omega \sum_{j, i} \Big\| W_j^i - \sum_n \omega^{b,i}_{j,n} \phi^{b,n} \Big\|^2

    which is linear for given geometry: the solution with the least :math:`\sum_n \|\omega_n \phi_n\|^2`, by singular
    values. A separated layer, :math:`\omega^{b,i}_{j,n} = \lambda^b_{j,n} \beta^{b,i}_n`, starts at the product nearest
    to the full solution for each n, and solves for lambda and beta in turn; that ends in a local minimum.

    With ``steps``, the geometry descends by Adam, and the weights are solved for anew at each step (variable
    projection, Golub and Pereyra, 1973): where they are optimal, the gradient is that at constant weights. The best
    step is kept. Nothing is random.

    Parameters
    ----------
    layer : GaussianDerivativeConv2d
        Changed in place, on any device and in any dtype; the work is done on the CPU in float64.
    filters : (f_out, f_in, h, w)
        Those smaller than the layer's ``kernel_size`` stand in the centre of a frame of zeros, so the difference must
        be even. With "same" padding at stride 1 the larger filter does what the smaller did.
    bias : (f_out,), optional
        Copied; without it the layer keeps its own.
    steps : int
        Steps of the geometry, as far as the layer trains it; 0 leaves it as it is.
    learning_rate : float
        Of Adam: about the pixels and radians of a step.
    rcond : float
        Singular values of the normalised kernels below ``rcond`` times the largest count as zero: the more, the
        smaller the weights, and the larger the residual.

    Returns
    -------
    float
        :math:`\|W - \hat W\| / \|W\|` for the filters that the layer now has, in its dtype; 0 if W = 0.

    Raises
    ------
    ValueError
        If shapes do not fit, a filter is not finite, ``steps`` is negative or finds nothing to train, or the layer has
        no bias to set. Then the layer is as before.
    """
    target = _framed(layer, filters)
    if bias is not None and (layer.bias is None or bias.shape != layer.bias.shape):
        expected = "None, as the layer has none" if layer.bias is None else f"of shape {tuple(layer.bias.shape)}"
        raise ValueError(f"bias must be {expected}, got shape {tuple(bias.shape)}")
    model = deepcopy(layer).to("cpu", torch.float64)
    geometry = [parameter for parameter in (model.raw_sigma, model.mu, model.theta) if parameter.requires_grad]
    if steps < 0 or (steps > 0 and not geometry):
        raise ValueError(f"steps must be 0, or positive and some of the geometry trainable, got {steps}")
    rcond = positive_number("rcond", rcond)
    optimiser = torch.optim.Adam(geometry or [target], lr=positive_number("learning_rate", learning_rate))
    scale = float(target.norm()) or 1.0
    lowest, best = math.inf, model.state_dict()
    if model.separated:
        _start_separated(model, target, rcond)
    with torch.enable_grad():
        for step in range(steps + 1):
            _solve_weights(model, target, rcond)
            loss = ((model.filters() - target) / scale).square().sum()
            if loss < lowest:
                lowest, best = float(loss.detach()), deepcopy(model.state_dict())
            if step < steps:
                optimiser.zero_grad()
                loss.backward(inputs=geometry)
                optimiser.step()
    model.load_state_dict(best)
    _solve_weights(model, target, rcond, SWEEPS)
    layer.load_state_dict(model.state_dict())
    if layer.bias is not None and bias is not None:
        with torch.no_grad():
            layer.bias.copy_(bias)
    return float((layer.filters().detach().to(target) - target).norm()) / scale


def _framed(layer: GaussianDerivativeConv2d, filters: Tensor) -> Tensor:
    """The filters on the layer's grid, in float64 on the CPU."""
    expected = (layer.out_channels, layer.in_channels, *layer.kernel_size)
    frame = [full - given for full, given in zip(expected, filters.shape, strict=False)]
    if filters.ndim != 4 or any(frame[:2]) or any(extra < 0 or extra % 2 for extra in frame[2:]):
        raise ValueError(
            f"filters must have shape {expected}, or less by even numbers in the last two, got {tuple(filters.shape)}"
        )
    if not bool(filters.isfinite().all()):
        raise ValueError("filters must be finite")
    top, left = frame[2] // 2, frame[3] // 2
    return F.pad(filters.detach().to("cpu", torch.float64), (left, left, top, top))


@torch.no_grad()
def _solve_weights(model: GaussianDerivativeConv2d, target: Tensor, rcond: float, sweeps: int = 1) -> None:
    """Sets the mixing weights for the present geometry; those of a separated layer by sweeps from where they are."""
    target = target.view(model.bases, -1, model.in_channels, target[0, 0].numel())  # (B, f_out/B, f_in, M), M = kh kw
    kernels = model.kernels().flatten(2)  # (B, N, M)
    if not model.separated:
        model.weight.copy_(_least_squares(kernels, target.flatten(1, 2), rcond).view_as(model.weight))
        return
    for _ in range(sweeps):
        rows = model.beta[:, :, :, None] * kernels[:, :, None]  # (B, N, f_in, M)
        model.lam.copy_(_least_squares(rows.flatten(2), target.flatten(2), rcond))
        rows = model.lam.mT[:, :, :, None] * kernels[:, :, None]  # (B, N, f_out/B, M)
        model.beta.copy_(_least_squares(rows.flatten(2), target.transpose(1, 2).flatten(2), rcond).mT)


@torch.no_grad()
def _start_separated(model: GaussianDerivativeConv2d, target: Tensor, rcond: float) -> None:
    """Sets lambda and beta to the product that is nearest, for each kernel, to the full layer's least squares."""
    b, f_in, n = model.bases, model.in_channels, len(model.orders)
    full = _least_squares(model.kernels().flatten(2), target.view(b, -1, target[0, 0].numel()), rcond)
    left, size, right = torch.linalg.svd(full.view(b, -1, f_in, n).movedim(-1, 1), full_matrices=False)
    model.lam.copy_((left[..., 0] * size[..., :1]).mT)
    model.beta.copy_(right[..., 0, :])


def _least_squares(rows: Tensor, target: Tensor, rcond: float) -> Tensor:
    """c (..., R, N) such that c @ rows is nearest to the target, for rows (..., N, M) and target (..., R, M).

    Rows are normalised, but not lifted if fainter than FAINT: such a kernel has left the grid, and a weight of 1e80
    would bring it back.
    """
    norm = rows.norm(dim=-1, keepdim=True)  # (..., N, 1)
    norm = norm.maximum(FAINT * norm.amax(-2, keepdim=True)).clamp_min(torch.finfo(rows.dtype).tiny)
    solution = torch.linalg.lstsq((rows / norm).mT, target.mT, rcond=rcond, driver="gelsd").solution
    return (solution / norm).mT


TAKEN_OVER = ("in_channels", "out_channels", "stride", "padding", "dilation", "padding_mode", "bias", "device", "dtype")
"""What a convolution tells its replacement."""


@dataclass(frozen=True)
class Replacement:
    r"""One convolution that :func:`replace_conv2d` has replaced.

    Attributes
    ----------
    names : tuple of str
        Every path in the model that leads to it: more than one if it is shared.
    parameters_before, parameters_after : int
        Numbers that the old and the new layer hold, trainable or not, bias included.
    residual : float or None
        :math:`\|W - \hat W\| / \|W\|` for the old filters W and the new :math:`\hat W`; None if they are random.
    """

    names: tuple[str, ...]
    parameters_before: int
    parameters_after: int
    residual: float | None


@dataclass(frozen=True)
class ReplacementReport:
    """What :func:`replace_conv2d` has done; printed, a table.

    Attributes
    ----------
    replaced : tuple of Replacement
    skipped : dict of str to str
        Name and reason of each nn.Conv2d that was left because it cannot be replaced.
    """

    replaced: tuple[Replacement, ...]
    skipped: dict[str, str]

    def __str__(self) -> str:
        rows = []
        for layer in self.replaced:
            fit = "random" if layer.residual is None else f"residual {layer.residual:.3g}"
            rows.append(
                (" = ".join(layer.names), f"{layer.parameters_before} -> {layer.parameters_after} parameters, {fit}")
            )
        rows += [(name, f"skipped: {reason}") for name, reason in self.skipped.items()]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:{width}}  {text}" for name, text in rows)


def replace_conv2d(
    model: nn.Module,
    layers: str | Iterable[str] | type[nn.Conv2d] | Callable[[str, nn.Conv2d], bool] | None = None,
    *,
    kernel_size: int | tuple[int, int] | None = None,
    fit: bool = False,
    steps: int = 0,
    learning_rate: float = 0.1,
    rcond: float = 1e-3,
    **options: Any,
) -> ReplacementReport:
    """Puts Gaussian derivative layers in the place of convolutions, in ``model`` itself.

    A new layer takes over channels, stride, padding, dilation, padding mode, the values of the bias, device, dtype and
    training mode. It trains as any new layer does, even where the old one was frozen. A convolution used in several
    places becomes one layer in the same places. All new layers are built before the first is put in, so that an error
    leaves ``model`` as it was. An optimiser made before holds the old parameters: make it afterwards.

    Parameters
    ----------
    model : Module
        Changed in place; copy.deepcopy keeps the old one.
    layers : str, iterable of str, subclass of nn.Conv2d, function of (name, conv), or None
        Names as in ``model.named_modules()``; a type, with its subclasses; or a function that is true for what shall
        be replaced. None stands for every nn.Conv2d, and every Conv2dSame that :func:`deploy` has made, apart from
        those that cannot be replaced, and from 1 x 1 kernels, where there is nothing to derive: they are skipped, and
        the report says why.
    kernel_size : int or (kh, kw), optional
        Larger than the old one by even numbers or equal to it, which is what None means. The padding grows with it,
        so that output sizes stay; "reflect" and "circular" then need inputs as large as their padding.
    fit : bool
        Brings the filters as near to the old ones as :func:`~gdlayer.convert.fit_filters` can, from the random
        geometry. Otherwise they are random, as ``init`` says.
    steps, learning_rate, rcond :
        As :func:`~gdlayer.convert.fit_filters`: ``steps`` moves the geometry as well.
    **options :
        ``order``, ``bases``, ``separated``, ``trainable`` and what else
        :class:`~gdlayer.conv.GaussianDerivativeConv2d` takes that the convolution does not say.

    Returns
    -------
    ReplacementReport

    Raises
    ------
    ValueError, TypeError
        If ``layers`` chooses nothing; if a chosen convolution has groups, hooks, or weights that are lazy, complex,
        computed or shared with another module; or if the other arguments do not fit it. The message names it, and
        ``model`` is as before.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from gdlayer.convert import replace_conv2d
    >>> model = nn.Sequential(nn.Conv2d(3, 16, 7, padding=3), nn.ReLU(), nn.Conv2d(16, 8, 1))
    >>> report = replace_conv2d(model, fit=True, bases=4, separated=True)
    >>> print(report)  # doctest: +ELLIPSIS
    0  2368 -> 496 parameters, residual 0...
    2  skipped: its kernel is 1 x 1
    >>> model(torch.ones(1, 3, 32, 32)).shape
    torch.Size([1, 8, 32, 32])
    """
    if isinstance(model, nn.Conv2d):
        raise ValueError("model is itself an nn.Conv2d and cannot be replaced in place: put it into an nn.Sequential")
    for name in TAKEN_OVER:
        if name in options:
            raise TypeError(f"{name} is taken over from each convolution and cannot be given, got {options[name]!r}")
    if steps and not fit:
        raise ValueError(f"steps must be 0 unless fit=True, got {steps}")

    places: dict[nn.Conv2d, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, nn.Conv2d):
            places.setdefault(module, []).append(name)
    owners = Counter(id(parameter) for module in model.modules() for parameter in module.parameters(recurse=False))
    chosen: list[nn.Conv2d] = []
    skipped: dict[str, str] = {}
    for conv in places if layers is None else _choose(model, places, layers):
        name = places[conv][0]
        obstacle = _obstacle(conv, owners, explicit=layers is not None)
        if obstacle is None:
            chosen.append(conv)
        elif layers is None:
            skipped[name] = obstacle
        else:
            raise ValueError(f"{name} cannot be replaced: {obstacle}")
    if not chosen:
        reasons = "".join(f"; {name}: {reason}" for name, reason in skipped.items())
        raise ValueError(f"layers must choose at least one nn.Conv2d of the model, got {layers!r}{reasons}")

    new: dict[nn.Module, GaussianDerivativeConv2d] = {}
    replaced = []
    for conv in chosen:
        try:
            layer = new[conv] = _successor(conv, kernel_size, options)
            residual = (
                fit_filters(layer, conv.weight, steps=steps, learning_rate=learning_rate, rcond=rcond) if fit else None
            )
        except (TypeError, ValueError) as error:
            raise type(error)(f"{places[conv][0]}: {error}") from error
        before, after = (sum(parameter.numel() for parameter in module.parameters()) for module in (conv, layer))
        replaced.append(Replacement(tuple(places[conv]), before, after, residual))
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child in new:
                parent._modules[name] = new[child]
    return ReplacementReport(tuple(replaced), skipped)


def _choose(
    model: nn.Module,
    places: dict[nn.Conv2d, list[str]],
    layers: str | Iterable[str] | type[nn.Conv2d] | Callable[[str, nn.Conv2d], bool],
) -> list[nn.Conv2d]:
    """The convolutions that ``layers`` means, in the model's order."""
    if isinstance(layers, type):
        if not issubclass(layers, nn.Conv2d):
            raise TypeError(f"layers must be a subclass of nn.Conv2d if it is a type, got {layers.__name__}")
        return [conv for conv in places if isinstance(conv, layers)]
    if callable(layers):
        return [conv for conv, names in places.items() if any(layers(name, conv) for name in names)]
    wanted = (layers,) if isinstance(layers, str) else layers
    if not isinstance(wanted, Iterable):
        raise TypeError(f"layers must be names, a type or a function, got {layers!r}")
    modules = dict(model.named_modules(remove_duplicate=False))
    wanted = tuple(wanted)
    for name in wanted:
        if not isinstance(name, str) or name not in modules:
            raise ValueError(f"layers must name modules of the model, got {name!r}; {_known(places)}")
        if not isinstance(modules[name], nn.Conv2d):
            raise ValueError(f"{name} must be an nn.Conv2d, got {type(modules[name]).__name__}; {_known(places)}")
    return [conv for conv, names in places.items() if any(name in wanted for name in names)]


def _known(places: dict[nn.Conv2d, list[str]]) -> str:
    names = ", ".join(repr(name) for names in places.values() for name in names)
    return f"its convolutions are {names}" if names else "it has no convolution"


def _obstacle(conv: nn.Conv2d, owners: Counter[int], explicit: bool) -> str | None:
    """Why a convolution cannot be replaced, or is not worth it unless asked for explicitly."""
    weight = conv._parameters.get("weight")
    if weight is None:
        return "its weight is computed from other parameters"
    if is_lazy(weight):
        return "it is lazy: run the model once before"
    if conv.groups != 1:
        return f"it has {conv.groups} groups, not 1"
    if not weight.is_floating_point():
        return f"its dtype is {weight.dtype}, not a real one"
    if conv._forward_hooks or conv._forward_pre_hooks or conv._backward_hooks or conv._backward_pre_hooks:
        return "it has hooks, which would be lost: remove them before"
    if any(owners[id(parameter)] > 1 for parameter in conv.parameters()):
        return "it shares a parameter with another module"
    if explicit:
        return None
    if type(conv) not in (nn.Conv2d, Conv2dSame):
        return f"it is a {type(conv).__name__}, which may compute something else"
    return "its kernel is 1 x 1" if conv.kernel_size == (1, 1) else None


def _successor(
    conv: nn.Conv2d, kernel_size: int | tuple[int, int] | None, options: dict[str, Any]
) -> GaussianDerivativeConv2d:
    """A new layer with the configuration, the bias and the mode of ``conv``."""
    stride, dilation, old = (cast(tuple[int, int], pair) for pair in (conv.stride, conv.dilation, conv.kernel_size))
    new = old if kernel_size is None else int_pair("kernel_size", kernel_size)
    grown = [to - size for to, size in zip(new, old, strict=True)]
    if any(extra < 0 or extra % 2 for extra in grown):
        raise ValueError(f"kernel_size must be {old}, that of the convolution, or larger by even numbers, got {new}")
    padding = cast(str | tuple[int, int], conv.padding)
    if padding == "same":
        if any(g and d * (k - 1) + 1 < s for g, d, k, s in zip(grown, dilation, old, stride, strict=True)):
            raise ValueError(
                f"kernel_size must be {old}, that of the convolution, got {new}: padding='same' would move "
                f"the filters, as the old ones are smaller than the stride, {stride}"
            )
    else:
        at_first = (0, 0) if isinstance(padding, str) else padding
        top, left = (p + d * extra // 2 for p, d, extra in zip(at_first, dilation, grown, strict=True))
        padding = top, left
    layer = GaussianDerivativeConv2d(
        conv.in_channels,
        conv.out_channels,
        new,
        stride=stride,
        padding=padding,
        dilation=dilation,
        padding_mode=conv.padding_mode,
        bias=conv.bias is not None,
        device=conv.weight.device,
        dtype=conv.weight.dtype,
        **options,
    )
    if layer.bias is not None and conv.bias is not None:
        with torch.no_grad():
            layer.bias.copy_(conv.bias)
    return layer.train(conv.training)


def deploy(model: nn.Module) -> nn.Module:
    """A copy of ``model`` with plain convolutions in the place of all layers that synthesise their filters.

    Every :class:`~gdlayer.synthesis.SynthesizedConv2d`, the Gaussian derivative layer and those it is compared with,
    becomes what its own ``deploy()`` gives: nn.Conv2d, or its subclass Conv2dSame where padding is "same" and the
    stride is not 1. Outputs are equal. A layer used in several places stays one. Hooks on these layers are not copied.

    Parameters
    ----------
    model : Module
        Left as it is. It may itself be such a layer.

    Returns
    -------
    Module
        On the same device, in the same dtype and the same training mode.

    Raises
    ------
    ValueError
        If a parameter of one of these layers is NaN or infinite: the message names it by its path in ``model``.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from gdlayer import GaussianDerivativeConv2d
    >>> from gdlayer.convert import deploy
    >>> model = nn.Sequential(GaussianDerivativeConv2d(3, 16, 5), nn.ReLU())
    >>> plain = deploy(model)
    >>> plain[0]
    Conv2d(3, 16, kernel_size=(5, 5), stride=(1, 1), padding=same)
    >>> x = torch.rand(1, 3, 32, 32)
    >>> torch.allclose(plain(x), model(x))
    True
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, SynthesizedConv2d)}
    for name, layer in layers.items():
        check_finite(layer, name)
    return deepcopy(model, {id(layer): layer.deploy() for layer in layers.values()})


AUTHORS_VARIABLES: dict[str, tuple[str | int, ...]] = {
    "sigmas": ("B", "N", 2),
    "centroids": ("B", "N", 2),
    "thetas": ("B", "N"),
    "clWeights": ("B", "f_in", "f_out/B", "N"),
    "clWeights1": ("B", "f_in", "N"),
    "clWeights2": ("B", 1, 1, "N", "f_out/B"),
    "bias": ("f_out",),
}
"""Names and shapes in the authors' Keras layer."""


def from_authors(
    variables: Mapping[str, ArrayLike],
    *,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] = 1,
    padding: str = "same",
) -> GaussianDerivativeConv2d:
    r"""The layer that computes, channels first, what the authors' Keras layer computes with these variables.

    Both sample eq. (1), enumerate the orders alike, (p, q) = (j, i - j) for i = 0, ..., K and j = 0, ..., i, and pad
    alike. There are three differences, and none is left in the outputs:

    - Nothing there keeps a sigma positive: the constraint bounds the norm of them all. By the formula for
      :math:`G_p`, in which :math:`(-1/\sqrt 2\sigma)^p` and :math:`H_p(x/\sqrt 2\sigma)` have the parity of p in sigma
      and the factor :math:`1/\sigma` is odd, :math:`G_p(x, -\sigma) = -G_p(x, \sigma)` for every p. So the layer has
      :math:`|\sigma|`, and a kernel's mixing weights change sign if one of its two sigmas is negative.
    - Nor does anything keep it away from zero. ``sigma_min`` becomes half the smallest :math:`|\sigma|`, at most 0.5.
    - Its grid runs from -int(k/2) to int(k/2) for every k, and has rows and columns exchanged. See ``kernel_size``.

    Parameters
    ----------
    variables : mapping from name to array
        ``sigmas`` (B, N, 2), ``centroids`` (B, N, 2), ``thetas`` (B, N); ``clWeights`` (B, f_in, f_out/B, N), or
        ``clWeights1`` (B, f_in, N) and ``clWeights2`` (B, 1, 1, N, f_out/B), which make the layer separated; and
        ``bias`` (f_out,), absent or None where there is none. B, N, f_in, f_out and K follow from the shapes.
    kernel_size : int or pair
        As given to their layer. An even k samples k + 1 points there: the new layer has that odd size. A pair stands
        for (columns, rows) there: the new layer's ``kernel_size`` is (rows, columns).
    stride : int or pair
    padding : "same" or "valid"

    Returns
    -------
    GaussianDerivativeConv2d
        On torch's default device and in its default dtype, with everything trainable.

    Raises
    ------
    ValueError, TypeError
        If a variable is missing, unknown, of another shape, not real or not finite, a sigma is zero or so small that
        kernels overflow, N is not (K + 1)(K + 2)/2, or an argument is none of these.

    Examples
    --------
    >>> import numpy as np
    >>> from gdlayer.convert import from_authors
    >>> rng = np.random.default_rng(0)
    >>> variables = {  # {v.name.removesuffix(":0"): v.numpy() for v in keras_layer.variables}
    ...     "sigmas": rng.uniform(0.5, 2, (4, 10, 2)),
    ...     "centroids": rng.uniform(-1, 1, (4, 10, 2)),
    ...     "thetas": rng.uniform(-np.pi, np.pi, (4, 10)),
    ...     "clWeights1": rng.normal(size=(4, 3, 10)),
    ...     "clWeights2": rng.normal(size=(4, 1, 1, 10, 4)),
    ... }
    >>> layer = from_authors(variables, kernel_size=7)
    >>> layer.in_channels, layer.out_channels, layer.bases, layer.separated, len(layer.orders)
    (3, 16, 4, True, 10)
    """
    columns, rows = int_pair("kernel_size", kernel_size)
    one_of("padding", padding, ("same", "valid"))
    arrays, sizes = _authors_arrays(variables)
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
            layer.weight.copy_(arrays["clWeights"].transpose(1, 2) * sign[:, None, None, :])
        if layer.bias is not None:
            layer.bias.copy_(arrays["bias"])
        if not bool(layer.filters().isfinite().all()):
            raise ValueError(
                f"variables must make finite filters; with |sigma| down to {smallest:.3g}, they overflow {sigma.dtype}"
            )
    return layer


def _authors_arrays(variables: Mapping[str, ArrayLike]) -> tuple[dict[str, Tensor], dict[str | int, int]]:
    """The variables in torch's default dtype, and the sizes B, N, f_in, f_out/B and f_out."""
    if not isinstance(variables, Mapping):
        raise TypeError(f"variables must be a mapping from names to arrays, got {type(variables).__name__}")
    given = [name for name in variables if name != "bias" or variables[name] is not None]
    mixing = {"clWeights"} if "clWeights" in given else {"clWeights1", "clWeights2"}
    if {*given} - {"bias"} != {"sigmas", "centroids", "thetas"} | mixing:
        raise ValueError(
            "variables must be sigmas, centroids, thetas, either clWeights or both clWeights1 and clWeights2, "
            f"and optionally bias, got {', '.join(map(str, given)) or 'none'}"
        )
    arrays: dict[str, Tensor] = {}
    sizes: dict[str | int, int] = {1: 1, 2: 2}
    for name, axes in AUTHORS_VARIABLES.items():
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
