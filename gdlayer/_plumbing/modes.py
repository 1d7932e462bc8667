"""Modes of torch that change how a layer is computed: autocast, a compiler, a tracer; and what spares its time."""

import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor  # torch documents it under this name alone
from torch.fx import Proxy, Tracer

P = ParamSpec("P")
T = TypeVar("T")
FunctionType = TypeVar("FunctionType", bound=torch.autograd.Function)


def autocast_on(device: torch.device) -> bool:
    """Whether torch rounds operands on this device; never on "meta", which torch.is_autocast_enabled refuses."""
    return device.type != "meta" and torch.is_autocast_enabled(device.type)


def autocast_off(device: torch.device) -> AbstractContextManager[Any]:
    """Computes in the precision of the operands: filters need float32 or better, also under autocast."""
    return torch.autocast(device.type, enabled=False) if autocast_on(device) else nullcontext()


def compiling() -> bool:
    """Whether torch.compile or torch.export records the operations."""
    return torch.compiler.is_compiling()


def tracing() -> bool:
    """Whether torch.jit.trace, or the ONNX exporter that uses it, records the operations."""
    return torch.jit.is_tracing()  # type: ignore[reportPrivateImportUsage]


def as_leaf(module: nn.Module, x: Proxy) -> Any:
    """The call of ``module`` with x as one node of the graph that torch.fx traces, as of torch's own layers.

    Raises
    ------
    TypeError
        If ``module`` is itself what is traced: then there is no graph around it.
    """
    path = cast(Tracer, x.tracer).path_of_module(module)
    if not path:
        raise TypeError(f"torch.fx must trace a model around {type(module).__name__}, got the layer itself")
    return x.tracer.create_proxy("call_module", path, (x,), {})


def recorded() -> bool:
    """Whether anything records the operations, or transforms them as torch.func does."""
    if compiling() or tracing():
        return True
    # torch.func does not say whether it is at work, and its tensors look like any others.
    return torch._C._functorch.peek_interpreter_stack() is not None  # type: ignore[reportAttributeAccessIssue]


def of_whole_parameters(method: Callable[P, T]) -> Callable[P, T]:
    """Decorator for a module's method: it sees all of parameters that are sharded over processes, as by FSDP2.

    Then every process must call it. Gradients go back to the shards.
    """

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return method(*args, **kwargs)
        shards = [
            (module._parameters, name, parameter)
            for module in cast(nn.Module, args[0]).modules()
            for name, parameter in module._parameters.items()
            if is_sharded(parameter)
        ]
        try:
            for parameters, name, parameter in shards:
                parameters[name] = cast(Any, parameter).full_tensor().clone()  # which a projection may change
            return method(*args, **kwargs)
        finally:
            for parameters, name, parameter in shards:
                parameters[name] = parameter

    return call


def is_sharded(tensor: Any) -> bool:
    """Whether it is a DTensor, of which each process holds a part."""
    return hasattr(tensor, "full_tensor")


def has_values(*tensors: Tensor) -> bool:
    """Whether their numbers can be read, and a question about them recorded by nobody."""
    return not recorded() and not any(t.is_meta or isinstance(t, FakeTensor) for t in tensors)


def with_known_signature(function: type[FunctionType]) -> type[FunctionType]:
    """Class decorator for autograd functions: stores the signature of ``forward``, for which torch asks at every call.

    To find it anew takes some 5 % of a training step of a small layer.
    """
    function.forward.__signature__ = inspect.signature(function.forward)  # type: ignore[attr-defined]
    return function
