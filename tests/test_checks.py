"""Argument checks: what they let through, what they return, and that they need no torch."""

import math
import re
import subprocess
import sys

import numpy as np
import pytest

from gdlayer._plumbing import checks

LETTERS = ("a", "b")


@pytest.mark.parametrize(
    ("check", "value", "returned"),
    [
        (lambda name, value: checks.integer(name, value, 0), 0, 0),
        (checks.positive_int, 1, 1),
        (checks.odd_int, 3, 3),
        (checks.int_pair, 2, (2, 2)),
        (checks.int_pair, [1, 4], (1, 4)),
        (lambda name, value: checks.int_pair(name, value, minimum=0), (0, 1), (0, 1)),
        (checks.positive_number, 1, 1),
        (checks.positive_number, 1e-300, 1e-300),
        (checks.boolean, False, False),
        (lambda name, value: checks.one_of(name, value, LETTERS), "b", "b"),
        (lambda name, value: checks.some_of(name, value, LETTERS), iter("ba"), ("b", "a")),
        (lambda name, value: checks.some_of(name, value, LETTERS), [], ()),
    ],
)
def test_good_values_are_returned(check, value, returned):
    assert check("x", value) == returned


@pytest.mark.parametrize(
    ("check", "value", "error", "message"),
    [
        (lambda name, value: checks.integer(name, value, 0), -1, ValueError, "an integer >= 0, got -1"),
        (checks.positive_int, 0, ValueError, "an integer >= 1, got 0"),
        (checks.positive_int, True, TypeError, "an integer >= 1, got True"),
        (checks.positive_int, 2.0, TypeError, "an integer >= 1, got 2.0"),
        (checks.odd_int, 4, ValueError, "odd, got 4"),
        (checks.odd_int, "3", TypeError, "an integer >= 1, got '3'"),
        (checks.int_pair, (1, 0), ValueError, "an integer >= 1 or a pair of them, got (1, 0)"),
        (checks.int_pair, (1, True), TypeError, "an integer >= 1 or a pair of them, got (1, True)"),
        (checks.int_pair, (1, 2, 3), TypeError, "an integer >= 1 or a pair of them, got (1, 2, 3)"),
        (checks.int_pair, None, TypeError, "an integer >= 1 or a pair of them, got None"),
        (checks.positive_number, 0, ValueError, "a positive number, got 0"),
        (checks.positive_number, math.nan, ValueError, "a positive number, got nan"),
        (checks.positive_number, math.inf, ValueError, "a positive number, got inf"),
        (checks.positive_number, True, TypeError, "a positive number, got True"),
        (checks.boolean, 1, TypeError, "True or False, got 1"),
        (checks.int_pair, np.array([1.0, 2.0]), TypeError, "an integer >= 1 or a pair of them, got array([1., 2.])"),
        (checks.positive_int, np.float64(2), TypeError, f"an integer >= 1, got {np.float64(2)!r}"),
        (checks.positive_int, np.True_, TypeError, f"an integer >= 1, got {np.True_!r}"),
        (checks.positive_number, np.True_, TypeError, f"a positive number, got {np.True_!r}"),
    ],
)
def test_wrong_values_are_quoted(check, value, error, message):
    with pytest.raises(error, match=f"^x must be {re.escape(message)}$"):
        check("x", value)


@pytest.mark.parametrize(
    ("check", "value", "returned"),
    [
        (checks.positive_int, np.int64(2), 2),
        (checks.odd_int, np.uint8(3), 3),
        (lambda name, value: checks.integer_between(name, value, 0, 4), np.int16(4), 4),
        (checks.int_pair, np.int32(2), (2, 2)),
        (checks.int_pair, (np.int64(1), 2), (1, 2)),
        (checks.positive_number, np.float32(0.5), 0.5),
        (checks.positive_number, np.int64(2), 2.0),
        (checks.boolean, np.True_, True),
        (checks.int_pair, np.array([5, 3]), (5, 3)),
        (lambda name, value: checks.one_of(name, value, LETTERS), np.str_("b"), "b"),
        (lambda name, value: checks.some_of(name, value, LETTERS), np.array(["b", "a"]), ("b", "a")),
    ],
)
def test_numpy_values_become_pythons(check, value, returned):
    """As a grid search over np.array([1, 2, 4]) gives them."""
    checked = check("x", value)
    assert checked == returned
    assert not isinstance(checked if not isinstance(checked, tuple) else checked[0], np.generic)


@pytest.mark.parametrize("value", ["c", None, ["a"]])
def test_one_of(value):
    with pytest.raises(ValueError, match=f"^x must be one of 'a', 'b', got {re.escape(repr(value))}$"):
        checks.one_of("x", value, dict.fromkeys(LETTERS))


@pytest.mark.parametrize(("value", "quoted"), [("a", "'a'"), (["a", "c"], "('a', 'c')"), (None, "None")])
def test_some_of(value, quoted):
    with pytest.raises(ValueError, match=f"^x must list some of 'a', 'b', got {re.escape(quoted)}$"):
        checks.some_of("x", value, LETTERS)


def test_checks_do_not_import_torch():
    subprocess.run(
        [sys.executable, "-c", "import sys, gdlayer._plumbing.checks; assert 'torch' not in sys.modules"], check=True
    )
