"""Training sets of a chosen size."""

import numpy as np
from numpy.typing import ArrayLike

from gdlayer._plumbing.checks import integer, integer_between


def balanced_subset(labels: ArrayLike, n: int | np.integer, seed: int | np.integer) -> np.ndarray:
    """Draw `n` items with every class equally often, so that smaller draws lie inside larger ones.

    The items of each class are put in random order and dealt in rounds. A round has one item of each class, the
    classes in random order. The subset is the first `n` of that list. So the counts of the classes differ by at most
    one (until a class has no item left), and with the same seed `balanced_subset(labels, 1000, seed)` is the
    beginning of `balanced_subset(labels, 5000, seed)`.
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
    TypeError, ValueError
        A parameter is not as above.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers of shape (m,), got shape {labels.shape} and dtype {labels.dtype}")
    n = integer_between("n", int(n) if isinstance(n, np.integer) else n, 1, len(labels))
    seed = integer("seed", int(seed) if isinstance(seed, np.integer) else seed, 0)
    keys = np.random.PCG64(seed).random_raw(len(labels))
    by_class = np.lexsort((keys, labels))  # grouped by class, in random order inside each
    counts = np.unique(labels, return_counts=True)[1]
    rounds = np.concatenate([np.arange(count) for count in counts])
    return by_class[np.lexsort((keys[by_class], rounds))][:n].astype(np.int64)
