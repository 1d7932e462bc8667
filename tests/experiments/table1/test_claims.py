"""The paper's claims of Table 1, by invented records."""

import re

from invented import as_in_the_paper, record, rows_by_claim, trial_of

from gdlayer.report.claims import (
    ABOVE,
    AGAINST,
    BELOW,
    BY_CONSTRUCTION,
    FAILS,
    FOR,
    HOLDS,
    TOO_FEW,
    UNTESTABLE,
    counted,
)


def test_results_like_the_papers_get_the_verdicts_that_its_numbers_deserve(tmp_path):
    """Four of its own differences contradict "higher"."""
    rows = rows_by_claim(tmp_path, *as_in_the_paper())
    few, separated = "Ours-few − DAU, {} images", "Ours-separated − {}, {} images"
    contradicted = {
        few.format("1,000"),
        separated.format("RFNN", "1,000"),
        separated.format("DAU", "1,000"),
        separated.format("DAU", "60,000"),
    }
    assert len(rows["higher"]) == 45
    for row in rows["higher"]:
        assert row.verdict == (BELOW if row.case in contradicted else ABOVE), row
        assert row.says == (AGAINST if row.case in contradicted else FOR)
        assert ("own numbers say otherwise" in row.why) == (row.case in contradicted)
        assert row.paper == row.here.split()[0]
        assert row.printed is not None
        assert row.printed.inside
        assert re.match("5 (of 10 )?seeds; p ≤ 0.001", row.why)
        assert row.why.endswith("pooled: not run yet")
    assert [row.verdict for row in rows["fully-trained"]] == [ABOVE] * 5
    assert {row.says for row in rows["competitive"]} == {FOR}
    assert [(row.paper, row.verdict) for row in rows["comparable"][:5]] == [
        ("−1.6", BELOW),
        ("+0.4", ABOVE),
        ("−1.2", BELOW),
        ("−0.8", BELOW),
        ("−1.7", BELOW),
    ]


def test_the_pooled_network_is_told_beside(tmp_path):
    pooled = [
        record(layer, 1000, s, (80 + s + shift) / 100 + 1e-5 * (s * s % 3), network="pooled")
        for layer, shift in (("ours", 0), ("free-form", 1.5), ("rfnn", -1), ("dau", -1))
        for s in range(3)
    ]
    rows = rows_by_claim(tmp_path, *as_in_the_paper(), *pooled)
    assert "pooled: Free-form 3×3 −1.5 [−1.5, −1.5], below" in rows["higher"][0].why
    assert "pooled: RFNN +1.0 [+1.0, +1.0], above" in rows["competitive"][0].why
    assert "pooled: not run yet" in rows["higher"][1].why


def test_a_reduced_budget_decides_nothing_however_many_seeds(tmp_path):
    rows = rows_by_claim(tmp_path, *as_in_the_paper(profile="quick"))
    compared = [row for name in ("higher", "fully-trained", "comparable", "competitive") for row in rows[name]]
    assert {row.verdict for row in compared} == {UNTESTABLE}
    assert {row.why for row in compared} == {"reduced budget"}
    assert all("‡" in row.here for row in compared)


def test_two_seeds_decide_nothing(tmp_path):
    rows = rows_by_claim(tmp_path, *as_in_the_paper(seeds=2))
    assert {row.verdict for row in rows["higher"]} == {TOO_FEW}
    assert re.match(r"2 of 10 seeds; .* to run<br>", rows["higher"][0].why)


def test_what_is_not_run_yet_says_how_long_it_takes(tmp_path):
    some = [r for r in as_in_the_paper() if r["trial"]["layer"] in ("ours", "rfnn") and r["trial"]["n_train"] <= 5000]
    rows = rows_by_claim(tmp_path, *some)
    free, rfnn = rows["higher"][0], rows["higher"][5]
    assert (free.verdict, free.here) == (TOO_FEW, "—")
    assert free.why.startswith("not run yet; ")
    assert re.search(r"(h|min) to run<br>", free.why)
    assert rfnn.verdict == rows["fully-trained"][0].verdict == ABOVE


def test_parameters_are_counted(tmp_path):
    pooled = [
        record(layer, 1000, network="pooled", parameters=count)
        for layer, count in (("ours", 100), ("ours-few", 70), ("ours-separated", 80))
    ]
    rows = rows_by_claim(tmp_path, *as_in_the_paper(), *pooled)
    assert rows["fewer"] == [
        counted("Ours-separated and Ours, unpooled", "—", "8,410 and 12,810", HOLDS, "counted", BY_CONSTRUCTION),
        counted("Ours-separated and Ours-few, unpooled", "—", "8,410 and 11,810", HOLDS, "counted", BY_CONSTRUCTION),
        counted("Ours-separated and Ours, pooled", "—", "80 and 100", HOLDS, "counted", BY_CONSTRUCTION),
        counted("Ours-separated and Ours-few, pooled", "—", "80 and 70", FAILS, "counted", BY_CONSTRUCTION),
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
    rows = rows_by_claim(tmp_path, *records)
    assert rows["higher"][10].why.startswith("3 of 10 seeds (CPU only); p")
    assert rows["fully-trained"][0].why.startswith("3 of 10 seeds; p")
