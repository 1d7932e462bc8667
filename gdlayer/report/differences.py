"""Differences between the layers of a table: their intervals, their chances, and what could have been found."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gdlayer.extras import extra

with extra("report"):
    import pandas as pd
    from scipy import optimize, stats

ALPHA = 0.025
"""Level of a test to one side: that of a 95 % interval."""
POWER = 0.8
HOMOGENEITY = 0.25
"""Level of the test of equal variances, below which nothing is pooled: as high as Bancroft (1964) has it, since few
blocks seldom show that variances differ."""


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
        half = float(stats.t.ppf(1 - ALPHA, self.freedom)) * self.error
        return self.mean - half, self.mean + half

    def detectable(self, comparisons: int = 1) -> float:
        r"""The smallest true difference :math:`\delta` that one of m comparisons finds in 80 % of all repetitions.

        .. math:: P(T > t_{1 - 0.025 / m, \nu}) = 0.8, \qquad T \sim t_\nu(\delta / s_{\bar d}) \text{, noncentral}

        A test at 2.5 % to that side, with the correction that :func:`holm` makes of the clearest of m.
        """
        if np.isnan(self.error):
            return np.nan
        critical = stats.t.ppf(1 - ALPHA / comparisons, self.freedom)

        def lacking(errors: float) -> float:
            return POWER - float(stats.nct.sf(critical, self.freedom, errors))

        return float(optimize.root_scalar(lacking, bracket=(0, 10 * critical)).root) * self.error

    def chance_of_more(self, bound: float) -> float:
        """p value of the hypothesis that the true difference is ``bound`` or less, against that it is more."""
        return float(stats.t.sf(self._errors_above(bound), self.freedom))

    def chance_of_less(self, bound: float) -> float:
        """p value of the hypothesis that the true difference is ``bound`` or more, against that it is less."""
        return float(stats.t.cdf(self._errors_above(bound), self.freedom))

    def _errors_above(self, bound: float) -> float:
        """How many standard errors the mean lies above a bound; infinitely many where all blocks agree."""
        gap = self.mean - bound
        return gap / self.error if self.error else np.copysign(np.inf, gap) if gap else 0.0


def difference(blocks: pd.DataFrame, one: str, other: str) -> Difference | None:
    r"""The mean of ``one`` minus ``other`` over the blocks that have both; None without one.

    A block holds all layers of one seed, run on one machine, so that differences within it are free of what seed and
    machine do to all layers. With layers l and blocks b, the values are taken as :math:`y_{lb} = \mu_l + \beta_b +
    \epsilon_{lb}`, and the error of a difference over n blocks is

    .. math:: s_{\bar d} = s \sqrt{2 / n}, \qquad
        s^2 = \frac{\sum_{lb} (y_{lb} - \bar y_l - \bar y_b + \bar y)^2}{(L - 1)(n - 1)}

    over all L layers, where their residuals have equal variances by Bartlett's test, which is asked of three blocks or
    more; otherwise over the two alone, which is the paired t test.

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
    """By Bartlett's test, which sees unequal variances of few blocks too; none may be zero."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(stats.bartlett(*_residuals(blocks).T).pvalue) > HOMOGENEITY
