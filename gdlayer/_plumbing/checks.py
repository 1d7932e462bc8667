"""Checks of arguments: each returns the value, or raises "NAME must be ..., got VALUE". They do without torch.

A value of the wrong type raises TypeError, one out of range ValueError. A string that is no option is a ValueError.
NumPy's integers, floats, booleans and strings are taken as Python's, and returned as those.
"""

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import TypeGuard, TypeVar

import numpy as np

Option = TypeVar("Option")


def is_integer(value: object) -> TypeGuard[int]:
    """Whether ``value`` is an integer, Python's or NumPy's, and not a bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def integer(name: str, value: int, minimum: int) -> int:
    """``value``, an integer that is not a bool and at least ``minimum``."""
    if not is_integer(value):
        raise TypeError(f"{name} must be an integer >= {minimum}, got {value!r}")
    if value < minimum:
        raise ValueError(f"{name} must be an integer >= {minimum}, got {value}")
    return int(value)


def integer_between(name: str, value: int, minimum: int, maximum: int) -> int:
    """``value``, an integer from ``minimum`` to ``maximum``."""
    allowed = f"an integer from {minimum} to {maximum}"
    if not is_integer(value):
        raise TypeError(f"{name} must be {allowed}, got {value!r}")
    if not minimum <= value <= maximum:
        raise ValueError(f"{name} must be {allowed}, got {value}")
    return int(value)


def positive_int(name: str, value: int) -> int:
    """``value``, an integer >= 1."""
    return integer(name, value, 1)


def odd_int(name: str, value: int) -> int:
    """``value``, an odd integer >= 1."""
    value = positive_int(name, value)
    if value % 2 == 0:
        raise ValueError(f"{name} must be odd, got {value}")
    return value


def int_pair(name: str, value: int | tuple[int, int], minimum: int = 1) -> tuple[int, int]:
    """``value`` as a pair: an integer at least ``minimum`` is repeated."""
    given = value.tolist() if isinstance(value, np.ndarray) else value
    pair = (given, given) if is_integer(given) else given
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(map(is_integer, pair)):
        raise TypeError(f"{name} must be an integer >= {minimum} or a pair of them, got {value!r}")
    if min(pair) < minimum:
        raise ValueError(f"{name} must be an integer >= {minimum} or a pair of them, got {value!r}")
    return int(pair[0]), int(pair[1])


def positive_number(name: str, value: float) -> float:
    """``value``, an int or float above zero and finite."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a positive number, got {value!r}")
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a positive number, got {value}")
    return value if isinstance(value, int) else float(value)


def nonnegative_number(name: str, value: float) -> float:
    """``value``, an int or float from zero on and finite."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number >= 0, got {value!r}")
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a number >= 0, got {value}")
    return value if isinstance(value, int) else float(value)


def boolean(name: str, value: bool) -> bool:
    """``value``, True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def one_of(name: str, value: Option, allowed: Iterable[Option]) -> Option:
    """``value``, one of the ``allowed`` strings or other options."""
    options = tuple(allowed)
    if value not in options:
        raise ValueError(f"{name} must be one of {_quoted(options)}, got {value!r}")
    return options[options.index(value)]


def some_of(name: str, value: Iterable[str], allowed: Iterable[str]) -> tuple[str, ...]:
    """``value`` as a tuple: an iterable of some of the ``allowed`` strings, or of none."""
    options = tuple(allowed)
    given = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else value
    if not isinstance(given, tuple) or any(item not in options for item in given):
        raise ValueError(f"{name} must list some of {_quoted(options)}, got {given!r}")
    return tuple(options[options.index(item)] for item in given)


def instance(name: str, value: object, of: type) -> None:
    """That ``value`` is an instance of a class."""
    if not isinstance(value, of):
        raise TypeError(f"{name} must be an instance of {of.__module__}.{of.__qualname__}, got {value!r}")


def _quoted(options: Iterable[object]) -> str:
    return ", ".join(map(repr, options))
