"""Differences within blocks: against scipy's tests, the analysis of variance, and repeated draws."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gdlayer.report.differences import NO_PRIOR, Difference, Prior, average, difference, holm, typical


def blocks(n: int, layers: int, rng: np.random.Generator, noise: float | list[float] = 0.3) -> pd.DataFrame:
    """Values of additive layers and seeds, with noise."""
    y = 90 + np.arange(layers) * 0.5 + rng.normal(size=(n, 1)) + rng.normal(size=(n, layers)) * noise
    return pd.DataFrame(y, columns=[f"layer {i}" for i in range(layers)])


@pytest.mark.parametrize("n", [2, 3, 10])
def test_two_layers_are_the_paired_t_test(n):
    table = blocks(n, 2, np.random.default_rng(n))
    found = difference(table, "layer 1", "layer 0")
    assert found is not None
    expected = stats.ttest_rel(table["layer 1"], table["layer 0"])
    assert found.blocks == n
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    above = stats.ttest_rel(table["layer 1"], table["layer 0"] - 0.7, alternative="greater")
    assert found.chance_of_more(-0.7) == pytest.approx(above.pvalue)
    assert found.chance_of_less(-0.7) == pytest.approx(1 - above.pvalue)


@pytest.mark.parametrize(("freedom", "variance"), [(6.0, 0.25), (2.5, 3.0)])
def test_typical_finds_the_prior_that_variances_are_drawn_from(freedom, variance):
    rng = np.random.default_rng(0)
    f = rng.integers(2, 10, 20_000).astype(float)
    true = freedom * variance / rng.chisquare(freedom, f.size)
    found = typical(zip(true * rng.chisquare(f) / f, f, strict=True))
    assert found == pytest.approx((variance, freedom), rel=0.06)


def test_typical_solves_its_equations():
    """Against the moments of log s^2, with f = 4: digamma and trigamma by their series."""
    s2 = np.array([0.1, 0.5, 0.2, 2.0, 0.9])
    z, tri, di = np.log(s2), np.pi**2 / 6 - 1, 1 - np.euler_gamma  # psi'(2), psi(2)
    found = typical((v, 4.0) for v in s2)
    half = found.freedom / 2
    trigamma = sum(1 / (half + i) ** 2 for i in range(200_000)) + 1 / (half + 200_000)
    assert trigamma == pytest.approx(z.var(ddof=1) - tri, rel=1e-4)
    digamma = -np.euler_gamma + sum(1 / (i + 1) - 1 / (i + half) for i in range(200_000)) + (half - 1) / 200_000
    assert np.log(found.variance) == pytest.approx(z.mean() - di + np.log(2) + digamma - np.log(half), abs=1e-4)
    same = typical([(0.3, 4.0)] * 5)  # these vary less than chance would have it
    assert same.freedom == 20
    assert typical([(0.3, 4.0), (0.0, 4.0)]) == NO_PRIOR


def test_the_variance_is_moderated_and_grows_with_overlap():
    table = blocks(5, 2, np.random.default_rng(1))
    values = table["layer 1"] - table["layer 0"]
    found = difference(table, "layer 1", "layer 0", Prior(0.5, 6.0), 1 / 3)
    assert found is not None
    variance = (4 * values.var() + 6 * 0.5) / 10
    assert (found.freedom, found.blocks) == (10, 5)
    assert found.deviation == pytest.approx(np.sqrt(variance))
    assert found.error == pytest.approx(np.sqrt(variance * (1 / 5 + 1 / 3)))
    one = difference(table.head(1), "layer 1", "layer 0", Prior(0.5, 6.0))
    assert one is not None
    assert np.isnan(one.error)


def test_the_average_is_welchs():
    """As of two independent samples, but for the half and the sign."""
    rng = np.random.default_rng(2)
    a, b = rng.normal(1, 1, 5), rng.normal(2, 3, 9)
    one, other = (Difference(x.mean(), stats.sem(x), len(x) - 1, len(x), x.std(ddof=1)) for x in (a, b))
    found = average([one, other])
    chance = stats.ttest_ind(a, -b, equal_var=False)[1]
    assert found.mean == pytest.approx((a.mean() + b.mean()) / 2)
    assert found.chance_of_more(0) == pytest.approx(0.5 * np.asarray(chance).item())


def test_only_blocks_with_both_count():
    table = blocks(6, 3, np.random.default_rng(3))
    table.loc[0, "layer 0"] = table.loc[1, "layer 2"] = np.nan
    found = difference(table, "layer 1", "layer 0")
    assert found is not None
    assert found.blocks == 5
    assert found.mean == pytest.approx((table["layer 1"] - table["layer 0"])[1:].mean())
    table["layer 1"] = np.nan
    assert difference(table, "layer 1", "layer 0") is None


def test_one_block_has_no_interval():
    table = blocks(1, 3, np.random.default_rng(4))
    found = difference(table, "layer 1", "layer 0")
    assert found is not None
    assert found.mean == pytest.approx(table["layer 1"][0] - table["layer 0"][0])
    assert np.isnan(found.interval).all()
    assert np.isnan(found.detectable())


@pytest.mark.parametrize("comparisons", [1, 9])
def test_four_of_five_repetitions_find_the_detectable_difference(comparisons):
    """As one of several: with the correction of the clearest."""
    n, rng = 10, np.random.default_rng(5)
    true = Difference(0.0, np.sqrt(2 * 0.3**2 / n), 9, n, False).detectable(comparisons)
    found = [
        difference(pd.DataFrame({"a": true + rng.normal(size=n) * 0.3, "b": rng.normal(size=n) * 0.3}), "a", "b")
        for _ in range(2000)
    ]
    hits = np.mean([d is not None and comparisons * d.chance_of_more(0) < 0.025 for d in found])
    assert hits == pytest.approx(0.8, abs=0.04)


def test_blocks_that_all_agree_leave_no_doubt():
    found = Difference(1.0, 0.0, 4, 5, 1.0)
    assert (found.chance_of_more(0.5), found.chance_of_less(0.5)) == (0, 1)
    assert (found.chance_of_more(1.5), found.chance_of_less(1.5)) == (1, 0)
    assert (found.chance_of_more(1.0), found.chance_of_less(1.0)) == (0.5, 0.5)


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_rejects_what_its_steps_reject(chances):
    corrected = holm(chances)
    assert all(c >= p for c, p in zip(corrected, chances, strict=True))
    assert all(c <= min(1, len(chances) * p) or p > 1 / len(chances) for c, p in zip(corrected, chances, strict=True))
    m, rejected = len(chances), set()
    for k, i in enumerate(sorted(range(m), key=chances.__getitem__)):
        if chances[i] > 0.05 / (m - k):
            break
        rejected.add(i)
    assert {i for i, c in enumerate(corrected) if c <= 0.05} >= rejected
    assert {i for i, c in enumerate(corrected) if c < 0.05 * (1 - 1e-9)} <= rejected


def test_holm_by_hand():
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([]) == []
