"""Training sets of a chosen size."""

import numpy as np
from numpy.typing import ArrayLike


def balanced_subset(labels: ArrayLike, n: int | np.integer, seed: int | np.integer) -> np.ndarray:
    """Draw `n` items with every class equally often, so that smaller draws lie inside larger ones.

    The items of each class are put in random order and dealt in rounds, one of every class a round, the
    classes of a round in random order. The subset is the first `n` of that list; hence class counts differ by
    at most one (until a class runs out, which then has given all it has), and with the same seed
    `balanced_subset(labels, 1000, seed)` is the beginning of `balanced_subset(labels, 5000, seed)`.
    The random bits are those of PCG64 itself, which NumPy guarantees not to change.

    Parameters
    ----------
    labels : array_like of int, shape (m,)
        Class of each item.
    n : int
        Number of items, 1 to m.
    seed : int
        Not negative.

    Returns
    -------
    ndarray of int64, shape (n,)
        Distinct indices into `labels`, in the order dealt.

    Raises
    ------
    ValueError
        A parameter is not as above.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(f"labels have shape {labels.shape} and dtype {labels.dtype}, allowed are (m,) integers")
    if not _is_integer(n) or not 1 <= n <= len(labels):
        raise ValueError(f"n is {n!r}, allowed are integers from 1 to {len(labels)}")
    if not _is_integer(seed) or seed < 0:
        raise ValueError(f"seed is {seed!r}, allowed are integers from 0 on")
    keys = np.random.PCG64(seed).random_raw(len(labels))
    by_class = np.lexsort((keys, labels))  # grouped by class, in random order inside each
    counts = np.unique(labels, return_counts=True)[1]
    rounds = np.concatenate([np.arange(count) for count in counts])
    return by_class[np.lexsort((keys[by_class], rounds))][:n].astype(np.int64)


def _is_integer(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
