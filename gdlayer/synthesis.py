"""Convolutions whose filters are computed from other parameters: what they all share with nn.Conv2d."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Self, TypedDict, cast

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from gdlayer._plumbing.checks import int_pair, one_of, positive_int
from gdlayer._plumbing.modes import as_leaf, autocast_off, of_whole_parameters
from gdlayer._plumbing.padding import PADDING_MODES, padding_of
from gdlayer._plumbing.state import OwnState
from gdlayer.padding import padded_conv2d
from gdlayer.plain import plain_conv2d

DTYPES = torch.float16, torch.bfloat16, torch.float32, torch.float64
"""In which the parameters of a layer may be made."""


class ConvOptions(TypedDict, total=False):
    """Keyword arguments that a layer passes on to :class:`SynthesizedConv2d`."""

    stride: int | tuple[int, int]
    padding: str | int | tuple[int, int]
    dilation: int | tuple[int, int]
    padding_mode: str


class SynthesizedConv2d(OwnState):
    r"""A cross-correlation :math:`J_j = \sum_i W_j^i * I_i + c_j` with filters W computed at every call.

    Subclasses define :meth:`filters`, and ``mixing``, the names of the mixing weights: none is called ``weight``, which
    others' code takes for the filters. Sizes, strides, padding and bias follow nn.Conv2d, with two
    differences. ``padding`` is "same" unless given, where nn.Conv2d has 0. And "same", which nn.Conv2d refuses above
    stride 1, gives ceil(in / stride) for every stride, as in Keras; where the padding is odd, the extra row or column
    goes to the bottom and right.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_size : int or (kh, kw)
        Odd or even.
    stride, dilation : int or pair
    padding : "same", "valid", int or pair
    padding_mode : "zeros", "reflect", "replicate" or "circular"
    bias : bool

    Raises
    ------
    ValueError, TypeError
        If an argument is not what its entry allows; the message quotes it.
    """

    bias: nn.Parameter | None
    groups: int = 1
    """As of nn.Conv2d; a subclass may set more."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = "same",
        dilation: int | tuple[int, int] = 1,
        *,
        padding_mode: str = "zeros",
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if dtype is not None:
            one_of("dtype", dtype, DTYPES)
        self.register_load_state_dict_post_hook(_after_loading)
        self.in_channels = positive_int("in_channels", in_channels)
        self.out_channels = positive_int("out_channels", out_channels)
        self.kernel_size = int_pair("kernel_size", kernel_size)
        self.stride = int_pair("stride", stride)
        self.dilation = int_pair("dilation", dilation)
        self.padding = padding_of(padding)
        self.padding_mode = one_of("padding_mode", padding_mode, PADDING_MODES)
        self.register_parameter(
            "bias", nn.Parameter(torch.zeros(self.out_channels, device=device, dtype=dtype)) if bias else None
        )

    def __getattr__(self, name: str) -> Any:
        if name == "weight":
            raise AttributeError(self._no_weight())
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        """As torch has it; there is no ``weight`` to set, and constants keep their values.

        Loaders that build a model on "meta" put uninitialised memory in the place of buffers that are in no state dict.
        """
        if name == "weight":
            raise AttributeError(self._no_weight())
        super().__setattr__(name, value)
        if name in self.__dict__.get("_non_persistent_buffers_set", ()):
            self._set_constants()

    def _no_weight(self) -> str:
        mixing = f" and {' and '.join(self.mixing)} for the mixing weights" if self.mixing else ""
        return (
            f"{type(self).__name__} has no weight, as its filters are computed: use filters() for the filters{mixing}; "
            "deploy() the layer first for code that fuses it or expects its filters"
        )

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """As torch has it, to move and convert a module; constants are made anew where the parameters then are."""
        super()._apply(fn, recurse)
        for name, parameter in self.named_parameters(recurse=False):
            if parameter.is_complex():
                raise TypeError(f"{name} must be real, got {parameter.dtype}")
        self._set_constants()
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles hold no constants: they are computed anew."""
        left_out = self._non_persistent_buffers_set
        buffers = {name: buffer for name, buffer in self._buffers.items() if name not in left_out}
        return {**{name: value for name, value in vars(self).items() if name != "_constants"}, "_buffers": buffers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._set_constants()

    @abstractmethod
    def filters(self) -> Tensor:
        """The dense filters W (f_out, f_in/groups, kh, kw), computed in float32 or better also under autocast."""

    def meaning(self) -> dict[str, Any]:
        return {"kernel_size": self.kernel_size}

    def _set_constants(self) -> None:
        """Sets the buffers that are no parameters and in no state dict, on the device of the parameters.

        It is called again after a conversion, and after a state dict is loaded: layers that come from the "meta" device
        have uninitialised memory in their place.
        """

    def forward(self, x: Tensor) -> Tensor:
        """x (..., f_in, h, w) -> J (..., f_out, h_out, w_out), cross-correlated with :meth:`filters`."""
        if isinstance(x, Proxy):
            return as_leaf(self, x)
        with autocast_off(x.device):
            filters = self.filters()
        return padded_conv2d(
            x,
            filters,
            self.bias,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            padding_mode=self.padding_mode,
        )

    @torch.no_grad()
    @of_whole_parameters
    def deploy(self, algorithm: str = "auto") -> nn.Module:
        """Modules of torch alone with the present filters and the same outputs; this layer does not change.

        It is one nn.Conv2d, if padding is the same on both sides. If not, as with "same" for an even kernel, or at
        stride 2, it is an nn.Sequential of a padding module and nn.Conv2d (:func:`~gdlayer.plain.plain_conv2d`). With
        ``padding=kernel_size // 2`` in the place of "same", the layer is one nn.Conv2d at stride 2 too.

        If parameters are sharded over processes, every process must call it, and gets the whole of the filters.

        Parameters
        ----------
        algorithm : "auto" or "dense"

        Raises
        ------
        ValueError
            If a parameter is NaN or infinite: the message names it.
        """
        one_of("algorithm", algorithm, ("auto", "dense"))
        check_finite(self)
        return self._padded(self.filters(), self.bias, self.groups).train(self.training)

    def _padded(self, filters: Tensor, bias: Tensor | None, groups: int) -> nn.Module:
        """A plain convolution with these filters and the layer's stride, padding and dilation."""
        return plain_conv2d(
            filters,
            bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=groups,
            padding_mode=self.padding_mode,
        )

    def extra_repr(self) -> str:
        count = sum(p.numel() for p in self.parameters() if p.requires_grad)
        size = self.in_channels // self.groups * self.out_channels * self.kernel_size[0] * self.kernel_size[1]
        dense = size + (self.out_channels if self.bias is not None else 0)
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding!r}, dilation={self.dilation}, "
            f"{f'groups={self.groups}, ' if self.groups > 1 else ''}padding_mode={self.padding_mode!r}, "
            f"bias={self.bias is not None}, parameters={count} (Conv2d: {dense})"
        )


def _after_loading(module: nn.Module, incompatible_keys: Any) -> None:
    cast(SynthesizedConv2d, module)._set_constants()


def check_finite(module: nn.Module, path: str = "") -> None:
    """Raises ValueError if a parameter of ``module`` is NaN or infinite; ``path`` is the module's name in a model."""
    for name, parameter in module.named_parameters(prefix=path):
        broken = int((~parameter.isfinite()).sum())
        if broken:
            raise ValueError(f"{name} must be finite, got {broken} of {parameter.numel()} values NaN or infinite")
