"""Replaces a model's convolutions with Gaussian derivative layers, and such layers with plain convolutions."""

from collections import Counter
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from gdlayer.checks import int_pair, one_of
from gdlayer.conv import GaussianDerivativeConv2d
from gdlayer.fit import fit_filters
from gdlayer.padding import Conv2dSame
from gdlayer.synthesis import SynthesizedConv2d, check_finite

TAKEN_OVER = (
    *("in_channels", "out_channels", "stride", "padding", "dilation", "groups"),
    *("padding_mode", "bias", "device", "dtype"),
)
"""Arguments of the new layer that come from the convolution it replaces."""


@dataclass(frozen=True)
class Replacement:
    r"""One convolution that :func:`replace_conv2d` replaced.

    Attributes
    ----------
    names : tuple of str
        Its paths in the model; more than one if the module is used in several places.
    parameters_before, parameters_after : int
        Number of parameters of the old and of the new layer, trainable or not, bias included.
    residual : float or None
        :math:`\|W - \hat W\| / \|W\|` for the old filters W and the new :math:`\hat W`; None without ``fit``.
    """

    names: tuple[str, ...]
    parameters_before: int
    parameters_after: int
    residual: float | None


@dataclass(frozen=True)
class ReplacementReport:
    """Which convolutions :func:`replace_conv2d` replaced and which it skipped. Prints as a table.

    Attributes
    ----------
    replaced : tuple of Replacement
    skipped : dict of str to str
        The reason for each nn.Conv2d that was not replaced, by its name.
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
    """Replaces convolutions of ``model`` with Gaussian derivative layers, in place.

    A new layer takes over channels, stride, padding, dilation, groups, padding mode, the values of the bias, device,
    dtype and training mode. Its parameters are trainable even if those of the old layer were frozen. A convolution
    used in several places becomes one layer used in the same places. All new layers are built before the model is
    changed, so an error leaves ``model`` as it was. Create the optimiser afterwards: an earlier one holds the old
    parameters.

    Parameters
    ----------
    model : Module
        Changed in place. To keep the old model, pass a ``copy.deepcopy`` of it.
    layers : str, iterable of str, subclass of nn.Conv2d, function of (name, conv), or None
        Which convolutions to replace: names as in ``model.named_modules()``; a type, which includes its subclasses; or
        a function that returns True for those to replace. None means every nn.Conv2d and every
        :class:`~gdlayer.padding.Conv2dSame`, except 1 x 1 convolutions and those that cannot be replaced; these are
        skipped, and the report says why.
    kernel_size : int or (kh, kw), optional
        At least the old size, and larger by an even number; None keeps the old size. The padding grows with it, so
        that output sizes do not change; with "reflect" or "circular" padding, inputs must be large enough for it.
    fit : bool
        Fits the new filters to the old ones with :func:`~gdlayer.fit_filters`, starting from random geometry. Without
        it the new filters are random, drawn as the option ``init`` says.
    steps, learning_rate, rcond :
        Passed on to :func:`~gdlayer.fit_filters`; ``steps`` > 0 requires ``fit``.
    **options :
        Other arguments of :class:`~gdlayer.GaussianDerivativeConv2d`, such as ``order``, ``bases``, ``separated`` or
        ``trainable``.

    Returns
    -------
    ReplacementReport

    Raises
    ------
    ValueError, TypeError
        If ``layers`` selects no convolution; if a selected convolution has hooks, or weights that are lazy,
        complex, computed, or shared with another module; or if the other arguments do not fit it. The message names
        the convolution, and ``model`` is unchanged.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from gdlayer import replace_conv2d
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

    new: dict[nn.Conv2d, GaussianDerivativeConv2d] = {}
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
    parents = {name: model.get_submodule(name.rpartition(".")[0]) for conv in new for name in places[conv]}
    for conv, layer in new.items():
        for name in places[conv]:
            setattr(parents[name], name.rpartition(".")[2], layer)
    return ReplacementReport(tuple(replaced), skipped)


def _choose(
    model: nn.Module,
    places: dict[nn.Conv2d, list[str]],
    layers: str | Iterable[str] | type[nn.Conv2d] | Callable[[str, nn.Conv2d], bool],
) -> list[nn.Conv2d]:
    """The convolutions that ``layers`` selects, in the order of the model."""
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
    """Why a convolution is not replaced, or None; some are replaced only if selected explicitly."""
    weight = dict(conv.named_parameters(recurse=False)).get("weight")
    if weight is None:
        return "its weight is computed from other parameters"
    if is_lazy(weight):
        return "it is lazy: run the model once before"
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
    """A new layer with the configuration, bias and training mode of ``conv``."""
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
        groups=conv.groups,
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


def deploy(model: nn.Module, algorithm: str = "auto") -> nn.Module:
    """A copy of ``model`` in which plain convolutions replace all layers that compute their filters.

    These layers are the subclasses of :class:`~gdlayer.synthesis.SynthesizedConv2d`: the Gaussian derivative layer and
    the layers it is compared with. Each is replaced with the result of its ``deploy()``, modules of torch alone: one
    nn.Conv2d, or three in a row for a separated layer that is cheaper so, see
    :meth:`GaussianDerivativeConv2d.deploy() <gdlayer.GaussianDerivativeConv2d.deploy>`. Outputs are the same. A layer
    used in several places becomes one module used in the same places. Hooks on these layers are not copied.

    Parameters
    ----------
    model : Module
        Not changed. It may itself be such a layer.
    algorithm : "auto" or "dense"
        "dense" makes one convolution of each layer; "auto" leaves that to the layer.

    Returns
    -------
    Module
        On the same device, in the same dtype and the same training mode.

    Raises
    ------
    ValueError
        If a parameter of one of these layers is NaN or infinite. The message gives its path in ``model``.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from gdlayer import GaussianDerivativeConv2d, deploy
    >>> model = nn.Sequential(GaussianDerivativeConv2d(3, 16, 5), nn.ReLU())
    >>> plain = deploy(model)
    >>> plain[0]
    Conv2d(3, 16, kernel_size=(5, 5), stride=(1, 1), padding=(2, 2))
    >>> x = torch.rand(1, 3, 32, 32)
    >>> torch.allclose(plain(x), model(x), atol=1e-6)
    True
    """
    one_of("algorithm", algorithm, ("auto", "dense"))
    layers = {name: module for name, module in model.named_modules() if isinstance(module, SynthesizedConv2d)}
    for name, layer in layers.items():
        check_finite(layer, name)
    return deepcopy(model, {id(layer): layer.deploy(algorithm) for layer in layers.values()})
