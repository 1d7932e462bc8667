"""Differences within blocks: against scipy's tests, the analysis of variance, and repeated draws."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gdlayer.report.differences import Difference, difference, holm


def blocks(n: int, layers: int, rng: np.random.Generator, noise: float | list[float] = 0.3) -> pd.DataFrame:
    """Values of additive layers and seeds, with noise."""
    y = 90 + np.arange(layers) * 0.5 + rng.normal(size=(n, 1)) + rng.normal(size=(n, layers)) * noise
    return pd.DataFrame(y, columns=[f"layer {i}" for i in range(layers)])


def test_two_blocks_are_too_few_to_pool():
    """They hardly tell the spread of a layer."""
    found = difference(blocks(2, 4, np.random.default_rng(6)), "layer 1", "layer 0")
    assert found is not None
    assert not found.pooled


@pytest.mark.parametrize("n", [2, 3, 10])
def test_two_layers_are_the_paired_t_test(n):
    table = blocks(n, 2, np.random.default_rng(n))
    found = difference(table, "layer 1", "layer 0")
    assert found is not None
    expected = stats.ttest_rel(table["layer 1"], table["layer 0"])
    assert found.blocks == n
    assert not found.pooled
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    above = stats.ttest_rel(table["layer 1"], table["layer 0"] - 0.7, alternative="greater")
    assert found.chance_of_more(-0.7) == pytest.approx(above.pvalue)
    assert found.chance_of_less(-0.7) == pytest.approx(1 - above.pvalue)


def test_pooled_error_is_that_of_the_two_way_analysis_of_variance():
    table = blocks(5, 4, np.random.default_rng(2))
    found = difference(table, "layer 3", "layer 0")
    assert found is not None
    assert found.pooled
    design = [
        [1.0, *(layer == j for j in range(1, 4)), *(block == b for b in range(1, 5))]
        for block in range(5)
        for layer in range(4)
    ]
    x, y = np.array(design, float), table.to_numpy().ravel()
    coefficients, (rest,), *_ = np.linalg.lstsq(x, y)
    variance = rest / (len(y) - x.shape[1])
    error = np.sqrt(variance * np.linalg.inv(x.T @ x)[3, 3])
    assert found.mean == pytest.approx(coefficients[3])
    assert found.error == pytest.approx(error)
    assert found.freedom == len(y) - x.shape[1]


def test_a_layer_of_another_variance_is_not_pooled():
    table = blocks(10, 4, np.random.default_rng(2), noise=[0.3, 0.3, 0.3, 30])
    found = difference(table, "layer 1", "layer 0")
    assert found is not None
    assert not found.pooled
    expected = stats.ttest_rel(table["layer 1"], table["layer 0"]).confidence_interval(0.95)
    assert found.interval == pytest.approx(tuple(expected))


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
    found = Difference(1.0, 0.0, 4, 5, False)
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
