"""The paper's claims of Table 1, by invented records."""

import re

import pytest
from invented import as_in_the_paper, judged_of, record, trial_of

from gdlayer.experiments.table1.claims import comparable_margin
from gdlayer.report.claims import BY_CONSTRUCTION, FAILS, HOLDS, TOO_FEW, UNTESTABLE, Row


def test_the_margin_is_the_papers_own_difference():
    """93.1 and 91.4 at 60,000 images."""
    assert comparable_margin() == pytest.approx(1.7)


def test_results_like_the_papers_get_the_verdicts_that_its_numbers_deserve(tmp_path):
    """Three of its own cells contradict "higher"."""
    rows = judged_of(tmp_path, *as_in_the_paper())
    contradicted = {"Ours-few, 1,000 images", "Ours-separated, 1,000 images", "Ours-separated, 60,000 images"}
    assert len(rows["higher"]) == 15
    for row in rows["higher"]:
        assert row.verdict == (FAILS if row.case in contradicted else HOLDS), row
        assert ("own numbers say otherwise" in row.why) == (row.case in contradicted)
        assert row.paper.split()[0] == row.here.split()[0]
        assert "same support: Free-form 7×7 +" in row.why
        assert "more than its support" in row.why
        assert re.match("5 (of 10 )?seeds; p ≤ 0.001<br>", row.why)
        assert row.why.endswith("pooled: not run yet")
    assert rows["higher"][0][:5] == (
        "Ours, 1,000 images",
        "+0.6 (DAU)",
        "+0.6 [+0.6, +0.6] (DAU)",
        HOLDS,
        "5 of 10 seeds; p ≤ 0.001<br>the paper&#39;s +1.7 (Free-form 3×3), +1.1 (RFNN), +0.6 (DAU) inside<br>"
        "same support: Free-form 7×7 +2.7 [+2.7, +2.7], more than its support<br>pooled: not run yet",
    )
    assert [(row.case.split(",")[0], row.verdict) for row in rows["best"]] == [
        (layer, HOLDS) for layer in ("Ours", "Ours-separated", "Ours", "Ours-few", "Ours")
    ]
    assert [row.verdict for row in rows["fully-trained"]] == [HOLDS] * 5
    assert "more than one trained scale" in rows["fully-trained"][0].why
    assert [row.verdict for row in rows["competitive"]] == [HOLDS] * 5
    # the largest difference lies at the margin itself
    assert [row.verdict for row in rows["comparable"][:4]] == [HOLDS] * 4
    assert rows["comparable"][4].paper == "−1.7 (Ours)"


def test_controls_tell_why(tmp_path):
    """A free-form layer of the same support does better, and with pooling the lead is gone."""
    pooled = [
        record(layer, 1000, s, (80 + s + shift) / 100 + 1e-5 * (s * s % 3), network="pooled")
        for layer, shift in (("ours", 0), ("free-form", 1.5), ("rfnn", -1), ("dau", -1))
        for s in range(3)
    ]
    rows = judged_of(tmp_path, *as_in_the_paper(control=6.0), *pooled)
    first = rows["higher"][0]
    assert first.verdict == HOLDS
    assert "same support: Free-form 7×7 −4.3 [−4.3, −4.3], less than its support gives" in first.why
    assert "pooled: Free-form 3×3 −1.5 [−1.5, −1.5], the other way there" in first.why
    assert "pooled: RFNN +1.0 [+1.0, +1.0], there too" in rows["competitive"][0].why
    assert "pooled: not run yet" in rows["higher"][5].why
    assert "less than one trained scale" in rows["fully-trained"][0].why


def test_a_reduced_budget_decides_nothing_however_many_seeds(tmp_path):
    rows = judged_of(tmp_path, *as_in_the_paper(profile="quick"))
    compared = [row for name in ("higher", "best", "fully-trained", "comparable", "competitive") for row in rows[name]]
    assert {row.verdict for row in compared} == {UNTESTABLE}
    assert {row.why for row in compared} == {"reduced budget"}
    assert all("‡" in row.here for row in compared)


def test_two_seeds_decide_nothing(tmp_path):
    rows = judged_of(tmp_path, *as_in_the_paper(seeds=2))
    assert {row.verdict for row in rows["higher"]} == {TOO_FEW}
    assert re.match(
        r"2 of 10 seeds; .* to run<br>same support: Free-form 7×7 .*\], too few seeds<br>", rows["higher"][0].why
    )


def test_what_is_not_run_yet_says_how_long_it_takes(tmp_path):
    some = [r for r in as_in_the_paper() if r["trial"]["layer"] in ("ours", "rfnn") and r["trial"]["n_train"] <= 5000]
    rows = judged_of(tmp_path, *some)
    ours, later = rows["higher"][0], rows["higher"][2]
    assert (ours.verdict, ours.here) == (TOO_FEW, "—")
    assert ours.why.startswith("not run yet; ")
    assert re.search(r"(h|min) to run<br>", ours.why)
    assert (later.verdict, later.here) == (TOO_FEW, "—")
    assert rows["fully-trained"][0].verdict == HOLDS
    # decided without the others: one that fails is enough
    worse = [
        r | {"metrics": {"test_accuracy": 0.5 + r["trial"]["seed"] / 500}}
        for r in some
        if trial_of(r["trial"]).layer == "ours"
    ]
    rows = judged_of(tmp_path, *worse)
    assert rows["higher"][0].verdict == FAILS
    assert rows["higher"][0].here.endswith("(RFNN)")


def test_parameters_are_counted(tmp_path):
    pooled = [
        record(layer, 1000, network="pooled", parameters=count)
        for layer, count in (("ours", 100), ("ours-few", 70), ("ours-separated", 80))
    ]
    rows = judged_of(tmp_path, *as_in_the_paper(), *pooled)
    assert rows["fewer"] == [
        Row("Ours-separated and Ours, unpooled", "—", "8,410 and 12,810", HOLDS, "counted", BY_CONSTRUCTION),
        Row("Ours-separated and Ours-few, unpooled", "—", "8,410 and 11,810", HOLDS, "counted", BY_CONSTRUCTION),
        Row("Ours-separated and Ours, pooled", "—", "80 and 100", HOLDS, "counted", BY_CONSTRUCTION),
        Row("Ours-separated and Ours-few, pooled", "—", "80 and 70", FAILS, "counted", BY_CONSTRUCTION),
    ]
    unpooled, with_pooling = rows["third-less"]
    assert (unpooled.paper, unpooled.here, unpooled.verdict) == ("33.3 % fewer", "34.3 % fewer", HOLDS)
    assert "were chosen so" in unpooled.why
    assert (with_pooling.here, with_pooling.verdict) == ("20.0 % fewer", FAILS)
    assert "others would give another share" in with_pooling.why


def test_pairs_left_out_are_told(tmp_path):
    records = as_in_the_paper()
    for made_up in records:
        if made_up["trial"]["seed"] >= 3 and trial_of(made_up["trial"]).layer in ("ours", "dau"):
            made_up["machine"] = made_up["machine"] | {"device": "cuda"}
    rows = judged_of(tmp_path, *records)
    assert rows["higher"][0].why.startswith("3 of 10 seeds (CPU only); p")
    assert rows["fully-trained"][0].why.startswith("3 of 10 seeds; p")
