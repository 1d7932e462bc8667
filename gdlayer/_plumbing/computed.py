"""A tensor that is computed at every access: a change in place would change nothing, so it raises."""

from typing import Any

import torch
from torch import Tensor


class Computed(Tensor):
    """Reads as any tensor, and so do its results. Its memory cannot be written, through a view or ``detach`` neither.

    ``a *= b`` and its like make a new tensor, as for numbers in Python: ``layer.sigma *= 2`` assigns the product.
    """

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.__name__
        subject = next(iter((*args, *kwargs.values())), None)
        in_place = name.endswith("_") and not name.endswith("__") and name != "requires_grad_"  # changes no value
        changes = name in ("__setitem__", "__set__") or in_place
        if (changes and isinstance(subject, cls)) or isinstance(kwargs.get("out"), cls):
            raise RuntimeError(
                "this tensor is computed at every access and cannot be changed in place: assign a new one, as in "
                "layer.sigma = layer.sigma.clamp(max=2.0), or change a clone()"
            )
        with torch.DisableTorchFunctionSubclass():
            result = func(*args, **kwargs)
            views = type(result) is Tensor and isinstance(subject, cls) and _same_memory(result, subject)
            return result.as_subclass(cls) if views else result

    def _not_in_place(self, other: Any) -> Any:
        return NotImplemented  # so Python takes the operation that makes a new tensor

    __iadd__ = __isub__ = __imul__ = __itruediv__ = __ifloordiv__ = __imod__ = __ipow__ = _not_in_place

    def plain(self) -> Tensor:
        """The same memory as a tensor that lets itself be changed."""
        return self.as_subclass(Tensor)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.plain().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: Any) -> Tensor:
        return self.plain().__deepcopy__(memo)

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return repr(self.plain())


def _same_memory(a: Tensor, b: Tensor) -> bool:
    return a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
