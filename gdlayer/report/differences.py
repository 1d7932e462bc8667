"""Differences between the layers of a table: their intervals, their chances, and what could have been found."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gdlayer.extras import extra
from gdlayer.report.cells import KIND, Selector, main_kind, select

with extra("report"):
    import pandas as pd
    from scipy import stats

LEVEL = 0.95
POWER = 0.8
HOMOGENEITY = 0.05
"""Level of the test of equal variances; below it nothing is pooled."""


@dataclass(frozen=True)
class Difference:
    """A mean difference in percentage points, estimated within blocks.

    Attributes
    ----------
    mean : float
    error : float
        Its standard error; NaN for one block.
    freedom : float
        Degrees of freedom of the error.
    blocks : int
        Seeds that both layers have.
    pooled : bool
        Whether the error is that of all layers of the table row, or of these two alone.
    """

    mean: float
    error: float
    freedom: float
    blocks: int
    pooled: bool

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval by Student's t."""
        half = float(stats.t.ppf((1 + LEVEL) / 2, self.freedom)) * self.error
        return self.mean - half, self.mean + half

    @property
    def detectable(self) -> float:
        r"""The smallest true difference that a two-sided test at 5 % finds in 80 % of all repetitions.

        .. math:: (t_{0.975, \nu} + t_{0.8, \nu}) \, s_{\bar d}
        """
        return float(stats.t.ppf([(1 + LEVEL) / 2, POWER], self.freedom).sum()) * self.error

    def chance_of_more(self, bound: float) -> float:
        """p value of the hypothesis that the true difference is ``bound`` or less, against that it is more."""
        return float(stats.t.sf((self.mean - bound) / self.error, self.freedom))

    def chance_of_less(self, bound: float) -> float:
        """p value of the hypothesis that the true difference is ``bound`` or more, against that it is less."""
        return float(stats.t.cdf((self.mean - bound) / self.error, self.freedom))


def blocks_of(trials: pd.DataFrame, cell: Selector, layers: Sequence[str]) -> pd.DataFrame:
    """A row per block and a column per layer, in percent; NaN where a trial is missing.

    Only trials of one kind are compared: of the kind with the most.

    Parameters
    ----------
    trials : as :func:`gdlayer.report.cells.per_trial` gives them
    cell : selector of what the layers are compared in, and of a metric
    layers : the columns
    """
    chosen = select(trials, cell)
    if (most := main_kind(chosen)) is not None:
        chosen = select(chosen, dict(zip(KIND, most, strict=True)))
    return chosen.pivot(index=["machine", "seed"], columns="layer", values="value").reindex(columns=list(layers))


def difference(blocks: pd.DataFrame, one: str, other: str) -> Difference | None:
    r"""The mean of ``one`` minus ``other`` over the blocks that have both; None without one.

    A block holds all layers of one seed, run on one machine, so that differences within it are free of what seed and
    machine do to all layers. With layers l and blocks b, the values are taken as :math:`y_{lb} = \mu_l + \beta_b +
    \epsilon_{lb}`, and the error of a difference over n blocks is

    .. math:: s_{\bar d} = s \sqrt{2 / n}, \qquad
        s^2 = \frac{\sum_{lb} (y_{lb} - \bar y_l - \bar y_b + \bar y)^2}{(L - 1)(n - 1)}

    over all L layers, where their residuals have equal variances by Levene's test, which needs three blocks; otherwise
    over the two alone, which is the paired t test.

    Parameters
    ----------
    blocks : frame with a row per block and a column per layer, in percent; NaN where a trial is missing
    one, other : columns
    """
    pairs = blocks.loc[blocks[[one, other]].notna().all(axis="columns"), [one, other]]
    if pairs.empty:
        return None
    complete = blocks.loc[pairs.index].dropna(axis="columns")
    pooled = len(pairs) > 2 and complete.shape[1] > 2 and _equal_variances(complete)
    variance, freedom = _residual_variance(complete if pooled else pairs)
    mean = float((pairs[one] - pairs[other]).to_numpy().mean())
    return Difference(mean, float(np.sqrt(2 * variance / len(pairs))), freedom, len(pairs), pooled)


def holm(chances: Sequence[float]) -> list[float]:
    """The p values of several comparisons, corrected so that any false one has the level of a single one (Holm, 1979).

    The smallest of m is multiplied by m, the next by m - 1, and so on; none becomes smaller than the one before it.
    """
    order = np.argsort(chances)
    steps = np.asarray(chances, float)[order] * np.arange(len(chances), 0, -1)
    corrected = np.empty(len(chances))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1) if len(chances) else steps
    return corrected.tolist()


def _residuals(blocks: pd.DataFrame) -> np.ndarray:
    """What neither layer nor block explains, (n, L)."""
    y = blocks.to_numpy(float)
    return y - y.mean(0, keepdims=True) - y.mean(1, keepdims=True) + y.mean()


def _residual_variance(blocks: pd.DataFrame) -> tuple[float, float]:
    """s^2 and its degrees of freedom; NaN for one block."""
    n, layers = blocks.shape
    freedom = (layers - 1) * (n - 1)
    return (float((_residuals(blocks) ** 2).sum()) / freedom, freedom) if freedom else (np.nan, np.nan)


def _equal_variances(blocks: pd.DataFrame) -> bool:
    return float(stats.levene(*_residuals(blocks).T).pvalue) > HOMOGENEITY
