"""From trials to blocks: which runs are held against one another, and the difference that they show."""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

from gdlayer._plumbing.extras import extra
from gdlayer.report.cells import KIND, Selector, select
from gdlayer.report.differences import NO_PRIOR, Difference, Prior, difference, typical

with extra("report"):
    import pandas as pd


class Estimate(NamedTuple):
    """A difference in percentage points, and the kind of the runs that it was made of."""

    difference: Difference
    kind: tuple[str, ...]
    left_out: int
    """Blocks of another kind: never averaged with these."""


def blocks_of(trials: pd.DataFrame, row: Selector, by: str = "layer", alike: Sequence[str] = KIND) -> pd.DataFrame:
    """The blocks of a row of a table, one a line, indexed by kind, machine and seed; a column per value of ``by``.

    Parameters
    ----------
    trials : as :func:`gdlayer.report.cells.per_trial` gives them
    row : selector of a cell and metric but for ``by``
    by : the column that is compared
    alike : what a kind is
    """
    return select(trials, row).pivot(index=[*alike, "machine", "seed"], columns=by, values="value")


def typical_variance(trials: pd.DataFrame, metric: str, row: Sequence[str]) -> Prior:
    """The prior of an experiment: of the differences of every two layers, in every row of its tables.

    Parameters
    ----------
    trials : as :func:`gdlayer.report.cells.per_trial` gives them
    metric : str
    row : the columns that name a row
    """
    variances = []
    for _, found in select(trials, {"metric": metric}).groupby([*row, *KIND]):
        blocks = found.pivot(index=["machine", "seed"], columns="layer", values="value")
        for one, other in combinations(blocks, 2):
            values = (blocks[one] - blocks[other]).dropna().to_numpy(float)
            if len(values) > 1:
                variances.append((float(values.var(ddof=1)), len(values) - 1.0))
    return typical(variances)


def estimate(
    blocks: pd.DataFrame, one: str, other: str, prior: Prior = NO_PRIOR, overlap: float = 0.0
) -> Estimate | None:
    """The mean of ``one`` minus ``other`` over the blocks that have both, see :func:`~.differences.difference`.

    Only blocks of one kind are averaged: of the kind with the most.

    Parameters
    ----------
    blocks : as :func:`blocks_of` gives them
    one, other : columns
    prior, overlap :
        As for :func:`~.differences.difference`.

    Returns
    -------
    Estimate, or None if no block has both
    """
    both = blocks.dropna(subset=[one, other]) if {one, other} <= {*blocks} else blocks.iloc[:0]
    if both.empty:
        return None
    *alike, _, _ = blocks.index.names
    counts = Counter(key[: len(alike)] for key in both.index.tolist())
    kind = max(sorted(counts), key=lambda kind: counts[kind])
    found = difference(blocks.xs(kind, level=alike), one, other, prior, overlap)
    return found and Estimate(found, kind, counts.total() - found.blocks)
