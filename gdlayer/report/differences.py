"""Differences between the layers of a table: their intervals, their chances, and what could have been found."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from gdlayer._plumbing.extras import extra

with extra("report"):
    import pandas as pd
    from scipy import optimize, stats
    from scipy.special import digamma, polygamma

ALPHA = 0.025
"""Level of a test to one side: that of a 95 % interval."""
POWER = 0.8


class Prior(NamedTuple):
    """The typical variance of a difference, and the degrees of freedom that it counts for."""

    variance: float
    freedom: float


NO_PRIOR = Prior(1.0, 0.0)
"""With it, every variance is that of its own blocks."""


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
    deviation : float
        Standard deviation of one block's difference.
    """

    mean: float
    error: float
    freedom: float
    blocks: int
    deviation: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval by Student's t."""
        half = float(stats.t.ppf(1 - ALPHA, self.freedom)) * self.error
        return self.mean - half, self.mean + half

    def prediction(self, trials: int) -> tuple[float, float]:
        r"""The 95 % interval of a mean over m further trials, :math:`\bar d \pm t \sqrt{s_{\bar d}^2 + s^2 / m}`."""
        half = float(stats.t.ppf(1 - ALPHA, self.freedom)) * float(np.hypot(self.error, self.deviation / trials**0.5))
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


def typical(variances: Iterable[tuple[float, float]]) -> Prior:
    r"""The prior that the variances of many comparisons share, from each one's :math:`s^2` and degrees of freedom f.

    The variances are taken as drawn from :math:`1 / \sigma^2 \sim \chi^2_{f_0} / (f_0 s_0^2)`. With
    :math:`z = \log s^2 - \psi(f / 2) + \log(f / 2)` and :math:`\psi` the digamma function,

    .. math:: \psi'(f_0 / 2) = \mathrm{Var}(z) - \overline{\psi'(f / 2)}, \qquad
        \log s_0^2 = \bar z + \psi(f_0 / 2) - \log(f_0 / 2)

    (Smyth, 2004, section 6.2). Where z varies less than chance would have it, :math:`f_0` is the sum of all f, which
    also is its upper bound. Variances of zero are left out.
    """
    found = [pair for pair in variances if min(pair) > 0]
    if len(found) < 2:
        return NO_PRIOR
    s2, f = np.array(found).T
    z = np.log(s2) - digamma(f / 2) + np.log(f / 2)
    spread = z.var(ddof=1) - polygamma(1, f / 2).mean()
    f0 = f.sum()
    if spread > polygamma(1, f0 / 2):
        root = optimize.root_scalar(lambda x: np.log(polygamma(1, np.exp(x)) / spread), bracket=(-20, np.log(f0 / 2)))
        f0 = 2 * np.exp(root.root)
    return Prior(float(np.exp(z.mean() + digamma(f0 / 2) - np.log(f0 / 2))), float(f0))


def difference(
    blocks: pd.DataFrame, one: str, other: str, prior: Prior = NO_PRIOR, overlap: float = 0.0
) -> Difference | None:
    r"""The mean of ``one`` minus ``other`` over the n blocks that have both; None without one.

    A block holds all layers of one seed, run on one machine, so that differences within it are free of what seed and
    machine do to all layers. Their variance is moderated (Smyth, 2004), the average of the blocks' own and the prior's,

    .. math:: s^2 = \frac{(n - 1) \hat s^2 + f_0 s_0^2}{n - 1 + f_0}, \qquad
        s_{\bar d}^2 = s^2 \Big(\frac{1}{n} + \frac{n_{test}}{n_{train}}\Big)

    with :math:`n - 1 + f_0` degrees of freedom.

    Parameters
    ----------
    blocks : frame with a row per block and a column per layer, in percent; NaN where a trial is missing
    one, other : columns
    prior : as :func:`typical` gives it
    overlap : float
        The last fraction, where the blocks are folds with overlapping training sets (Nadeau and Bengio, 2003).
    """
    values = (blocks[one] - blocks[other]).dropna().to_numpy(float)
    n = len(values)
    if not n:
        return None
    own = float(values.var(ddof=1)) if n > 1 else 0.0
    freedom = n - 1 + prior.freedom if n > 1 else 0.0
    variance = ((n - 1) * own + prior.freedom * prior.variance) / freedom if freedom else np.nan
    error = float(np.sqrt(variance * (1 / n + overlap)))
    return Difference(float(values.mean()), error, freedom, n, float(np.sqrt(variance)))


def average(found: Sequence[Difference]) -> Difference:
    r"""The mean of independent differences, its degrees of freedom by Welch and Satterthwaite."""
    squares = np.array([one.error for one in found]) ** 2
    freedom = squares.sum() ** 2 / (squares**2 / [one.freedom for one in found]).sum()
    mean = float(np.mean([one.mean for one in found]))
    blocks = min(one.blocks for one in found)
    deviation = float(np.linalg.norm([one.deviation for one in found])) / len(found)
    return Difference(mean, float(np.sqrt(squares.sum())) / len(found), float(freedom), blocks, deviation)


def holm(chances: Sequence[float]) -> list[float]:
    """The p values of several comparisons, corrected so that any false one has the level of a single one (Holm, 1979).

    The smallest of m is multiplied by m, the next by m - 1, and so on; none becomes smaller than the one before it.
    """
    order = np.argsort(chances)
    steps = np.asarray(chances, float)[order] * np.arange(len(chances), 0, -1)
    corrected = np.empty(len(chances))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1) if len(chances) else steps
    return corrected.tolist()
