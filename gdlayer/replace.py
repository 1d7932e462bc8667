"""Replaces a model's convolutions with Gaussian derivative layers, and such layers with plain convolutions."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, cast

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from gdlayer._plumbing.checks import boolean, instance, int_pair, is_integer, one_of
from gdlayer._plumbing.modes import is_sharded
from gdlayer.conv import GaussianDerivativeConv2d
from gdlayer.fit import fit_filters
from gdlayer.fold import foldable, folded
from gdlayer.padding import Conv2dSame
from gdlayer.synthesis import SynthesizedConv2d, check_finite

TAKEN_OVER = (
    *("in_channels", "out_channels", "stride", "padding", "dilation", "groups"),
    *("padding_mode", "bias", "device", "dtype"),
)
"""Arguments of the new layer that come from the convolution it replaces."""
OTHER_CONVOLUTIONS = nn.Conv1d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d
LISTED = 5
"""Most names that an error message lists."""
PerLayer = Mapping[str, Mapping[str, Any]] | Callable[[str, nn.Conv2d], Mapping[str, Any] | None]


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
        The reason for each convolution that was not replaced, by its name; those of one and three dimensions and
        transposed ones included.
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
    per_layer: PerLayer | None = None,
    growth: str = "warn",
    fit: bool = False,
    steps: int = 0,
    learning_rate: float = 0.1,
    rcond: float = 1e-3,
    **options: Any,
) -> ReplacementReport:
    """Replaces convolutions of ``model`` with Gaussian derivative layers, in place.

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
    >>> model = nn.Sequential(nn.Conv2d(3, 16, 7), nn.Conv2d(16, 32, 3))
    >>> print(replace_conv2d(model, order=2, per_layer={"0": {"order": 4, "bases": 2}}))
    0  2368 -> 886 parameters, random
    1  4640 -> 3134 parameters, random

    A new layer takes over channels, stride, padding, dilation, groups, padding mode, the values of the bias, device,
    dtype and training mode. Its parameters are trainable even if those of the old layer were frozen. A convolution
    used in several places becomes one layer used in the same places, those in plain lists, tuples and dicts included.
    All new layers are built before the model is
    changed, so an error leaves ``model`` as it was. Create the optimiser afterwards: an earlier one holds the old
    parameters.

    Parameters
    ----------
    model : Module
        Changed in place. To keep the old model, pass a ``copy.deepcopy`` of it.
    layers : str, iterable of str, subclass of nn.Conv2d, function of (name, conv), or None
        Which convolutions to replace: names as in ``model.named_modules()``; a type, which includes its subclasses; or
        a function that returns True for those to replace. None means every nn.Conv2d and every
        :class:`~gdlayer.padding.Conv2dSame`, except 1 x 1 convolutions. What is named must be replaced, or nothing is.
        Otherwise, what cannot be replaced is skipped, and the report says why.
    kernel_size : int or (kh, kw), optional
        At least the old size, and larger by an even number; None keeps the old size. The padding grows with it, so
        that output sizes do not change; with "reflect" or "circular" padding, inputs must be large enough for it.
    per_layer : mapping from name to options, or function of (name, conv), optional
        Options of single layers, ``kernel_size`` included, before those that hold for all. The function returns a
        mapping or None.
    growth : "warn", "skip" or "allow"
        What to do where a layer has more parameters than the convolution, as with more kernels than pixels: 10 kernels
        of order 3 for 3 x 3. Those that are named always grow in silence.
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
        If the model has no nn.Conv2d, or ``layers`` leaves none to replace; if a named convolution has hooks, or
        weights that are lazy, complex, computed, or shared with another module, or channels or groups that ``bases``
        does not fit; or if the other arguments do not fit. The message names the convolution, and ``model`` is
        unchanged.

    Warns
    -----
    UserWarning
        If layers grow: how many, and by how much.
    """
    instance("model", model, nn.Module)
    if isinstance(model, nn.Conv2d):
        raise ValueError("model is itself an nn.Conv2d and cannot be replaced in place: put it into an nn.Sequential")
    growth = one_of("growth", growth, ("warn", "skip", "allow"))
    if steps and not fit:
        raise ValueError(f"steps must be 0 unless fit=True, got {steps}")

    places: dict[nn.Conv2d, list[str]] = {}
    skipped: dict[str, str] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, nn.Conv2d):
            places.setdefault(module, []).append(name)
        elif isinstance(module, OTHER_CONVOLUTIONS):
            skipped[name] = f"it is a {type(module).__name__}, and only nn.Conv2d can be replaced"
    chosen, named = _choose(model, places, layers)
    options_of = _options_of(places, {"kernel_size": kernel_size, **options}, per_layer)
    owners = Counter(id(parameter) for module in model.modules() for parameter in module.parameters(recurse=False))

    new: dict[nn.Conv2d, GaussianDerivativeConv2d] = {}
    replaced: list[Replacement] = []
    for conv in chosen:
        name, own = places[conv][0], options_of(conv)
        if obstacle := _obstacle(conv, owners, own, explicit=layers is not None):
            if named:
                raise ValueError(f"{name} cannot be replaced: {obstacle}")
            skipped[name] = obstacle
            continue
        try:
            layer = _successor(conv, own)
            before, after = (sum(parameter.numel() for parameter in module.parameters()) for module in (conv, layer))
            if after > before and growth == "skip" and not named:
                skipped[name] = f"it would grow from {before} to {after} parameters"
                continue
            residual = (
                fit_filters(layer, conv.weight, steps=steps, learning_rate=learning_rate, rcond=rcond) if fit else None
            )
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from error
        new[conv] = layer
        replaced.append(Replacement(tuple(places[conv]), before, after, residual))
    if not places:
        raise ValueError(f"model must have an nn.Conv2d, got {type(model).__name__} without one{_reasons(skipped)}")
    if not new:
        raise ValueError(f"layers must leave an nn.Conv2d to replace, got {layers!r}{_reasons(skipped)}")
    if growth == "warn" and not named:
        _warn_of_growth(replaced)
    for module in list(model.modules()):
        _exchange(vars(module), new, set())
    return ReplacementReport(tuple(replaced), skipped)


def _exchange(value: Any, new: Mapping[nn.Conv2d, nn.Module], seen: set[int]) -> Any:
    """``value`` with new layers in the place of convolutions: lists and dicts are changed, tuples are made anew.

    What a module holds in plain lists or dicts is often used in its ``forward``.
    """
    if isinstance(value, nn.Conv2d):
        return new.get(value, value)
    if not isinstance(value, dict | list | tuple) or id(value) in seen:
        return value
    seen.add(id(value))
    if isinstance(value, tuple):
        items = [_exchange(item, new, seen) for item in value]
        if all(a is b for a, b in zip(items, value, strict=True)):
            return value
        return value._make(items) if hasattr(value, "_make") else tuple(items)  # type: ignore[attr-defined]
    for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
        if (exchanged := _exchange(item, new, seen)) is not item:
            value[key] = exchanged
    return value


def _options_of(
    places: dict[nn.Conv2d, list[str]], common: Mapping[str, Any], per_layer: PerLayer | None
) -> Callable[[nn.Conv2d], dict[str, Any]]:
    """The options of each convolution, its own before the common ones."""
    known = [name for names in places.values() for name in names]
    if isinstance(per_layer, Mapping):
        for name in per_layer:
            if name not in known:
                raise ValueError(f"per_layer must name convolutions of the model, got {name!r}; {_near(name, known)}")
    elif per_layer is not None and not callable(per_layer):
        raise TypeError(f"per_layer must be a mapping or a function, got {per_layer!r}")

    def options_of(conv: nn.Conv2d) -> dict[str, Any]:
        own: dict[str, Any] = {}
        for name in places[conv]:
            own |= (per_layer(name, conv) if callable(per_layer) else (per_layer or {}).get(name)) or {}
        options = {**common, **own}
        for name in TAKEN_OVER:
            if name in options:
                raise TypeError(
                    f"{name} is taken over from each convolution and cannot be given, got {options[name]!r}"
                )
        return options

    return options_of


def _warn_of_growth(replaced: list[Replacement]) -> None:
    grown = [layer for layer in replaced if layer.parameters_after > layer.parameters_before]
    if grown:
        before, after = (sum(getattr(layer, f"parameters_{when}") for layer in grown) for when in ("before", "after"))
        warnings.warn(
            f"{len(grown)} of {len(replaced)} layers have more parameters than the convolutions they replace, "
            f"together {after} instead of {before}: {_some([layer.names[0] for layer in grown])}. A lower order, fewer "
            "bases or separated=True make them smaller, growth='skip' leaves the convolutions",
            stacklevel=3,
        )


def _reasons(skipped: Mapping[str, str]) -> str:
    """One line for each reason to skip a convolution."""
    names: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        names.setdefault(reason, []).append(name)
    return "".join(f"\n  {_some(those)}: {reason}" for reason, those in names.items())


def _some(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _near(name: object, known: list[str]) -> str:
    """The convolutions whose names are like this one, or the first of all."""
    if not known:
        return "it has no convolution"
    close = get_close_matches(str(name), known, LISTED)
    return f"near to it are {_some(close)}" if close else f"its convolutions are {_some(known)}"


def _choose(
    model: nn.Module,
    places: dict[nn.Conv2d, list[str]],
    layers: str | Iterable[str] | type[nn.Conv2d] | Callable[[str, nn.Conv2d], bool] | None,
) -> tuple[list[nn.Conv2d], bool]:
    """The convolutions that ``layers`` selects, in the order of the model, and whether it names them."""
    if layers is None:
        return list(places), False
    if isinstance(layers, type):
        if not issubclass(layers, nn.Conv2d):
            raise TypeError(f"layers must be a subclass of nn.Conv2d if it is a type, got {layers.__name__}")
        return [conv for conv in places if isinstance(conv, layers)], False
    if callable(layers):
        return [conv for conv, names in places.items() if any(layers(name, conv) for name in names)], False
    wanted = (layers,) if isinstance(layers, str) else layers
    if not isinstance(wanted, Iterable):
        raise TypeError(f"layers must be names, a type or a function, got {layers!r}")
    modules = dict(model.named_modules(remove_duplicate=False))
    known = [name for names in places.values() for name in names]
    wanted = tuple(wanted)
    for name in wanted:
        if not isinstance(name, str) or name not in modules:
            raise ValueError(f"layers must name modules of the model, got {name!r}; {_near(name, known)}")
        if not isinstance(modules[name], nn.Conv2d):
            kind = type(modules[name]).__name__
            raise ValueError(f"{name} must be an nn.Conv2d, got {kind}; {_near(name, known)}")
    return [conv for conv, names in places.items() if any(name in wanted for name in names)], True


def _obstacle(conv: nn.Conv2d, owners: Counter[int], options: Mapping[str, Any], explicit: bool) -> str | None:
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
    if not explicit:
        if type(conv) not in (nn.Conv2d, Conv2dSame):
            return f"it is a {type(conv).__name__}, which may compute something else"
        if conv.kernel_size == (1, 1):
            return "its kernel is 1 x 1"
    bases = options.get("bases", 1)
    if is_integer(bases) and bases > 0 and conv.out_channels % bases:
        return f"bases={bases} does not divide its {conv.out_channels} output channels"
    if is_integer(bases) and bases > 0 and max(bases, conv.groups) % min(bases, conv.groups):
        return f"bases={bases} neither divides its {conv.groups} groups nor is a multiple of them"
    return None


def _successor(conv: nn.Conv2d, options: dict[str, Any]) -> GaussianDerivativeConv2d:
    """A new layer with the configuration, bias and training mode of ``conv``."""
    kernel_size = options.pop("kernel_size")
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


def deploy(model: nn.Module, algorithm: str = "auto", *, fold_batch_norm: bool = False) -> nn.Module:
    """A copy of ``model`` in which plain convolutions replace all layers that compute their filters.

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

    These layers are the subclasses of :class:`~gdlayer.synthesis.SynthesizedConv2d`: the Gaussian derivative layer and
    the layers it is compared with. Each is replaced with the result of its ``deploy()``, modules of torch alone: one
    nn.Conv2d, with a padding module before it where "same" padding is not the same on both sides, or three in a row for
    a separated layer that is cheaper so, see
    :meth:`GaussianDerivativeConv2d.deploy() <gdlayer.GaussianDerivativeConv2d.deploy>`. Outputs are the same. A layer
    used in several places becomes one module used in the same places. Hooks on these layers are not copied.

    Parameters
    ----------
    model : Module
        Not changed. It may itself be such a layer.
    algorithm : "auto" or "dense"
        "dense" makes one convolution of each layer; "auto" leaves that to the layer.
    fold_batch_norm : bool
        Folds each nn.BatchNorm2d, or nn.SyncBatchNorm, into the convolution before it, ours or an nn.Conv2d, and leaves
        an nn.Identity in its place. torch.fx must be able to trace the model, in evaluation mode. A normalisation is
        left as it is where it has no running statistics, where something else reads the output of the convolution, or
        where one of the two is called more than once.

    Returns
    -------
    Module
        On the same device, in the same dtype and the same training mode.

    Raises
    ------
    ValueError
        If a parameter of one of these layers is NaN or infinite: the message gives its path in ``model``. If parameters
        are sharded over processes, unless ``model`` is itself a layer; or if ``fold_batch_norm`` is asked of a model in
        training mode, or of one that torch.fx cannot trace.
    """
    instance("model", model, nn.Module)
    one_of("algorithm", algorithm, ("auto", "dense"))
    boolean("fold_batch_norm", fold_batch_norm)
    if isinstance(model, SynthesizedConv2d):
        return model.deploy(algorithm)
    if any(map(is_sharded, model.parameters())):
        raise ValueError(
            f"model must have whole parameters, got a {type(model).__name__} that is sharded over processes: get its "
            "full state dict by torch.distributed.checkpoint.state_dict, load it into a model that is not sharded, and "
            "deploy that"
        )
    layers = {name: module for name, module in model.named_modules() if isinstance(module, SynthesizedConv2d)}
    for name, layer in layers.items():
        check_finite(layer, name)
    deployed = {id(layer): layer.deploy(algorithm) for layer in layers.values()}
    for conv, norm in foldable(model) if fold_batch_norm else ():
        deployed[id(conv)] = folded(deployed[id(conv)] if id(conv) in deployed else deepcopy(conv), norm)
        deployed[id(norm)] = nn.Identity().train(norm.training)
    plain = deepcopy(model, deployed)
    modes = {name: module.training for name, module in model.named_modules(remove_duplicate=False)}
    for name, module in plain.named_modules(remove_duplicate=False):  # copies of an fx.GraphModule forget theirs
        module.training = modes.get(name, module.training)
    return plain
