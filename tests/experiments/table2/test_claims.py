"""The paper's claims of Table 2, by invented records."""

from collections import Counter
from typing import Any

import pytest
from invented import judged_of, save, vgg

from gdlayer.report import judgements
from gdlayer.report.claims import FAILS, HOLDS, TOO_FEW, UNTESTABLE, Row
from gdlayer.report.conclusion import answer
from gdlayer.report.loaded import load


def pictures(source: str, seeds: int = 3) -> list[dict[str, Any]]:
    return [
        vgg(
            layer,
            0.9 + move / 100 + s / 50 + 1e-5 * (s * s % 3),
            0.8 + move / 100 + s / 50,
            source,
            seed=s,
            parameters=count,
        )
        for layer, move, count in (
            ("source", 0.0, 999),
            ("free-form", 1.0, 448),
            ("free-form-original", 2.0, 448),
            ("ours-7x7", 1.5, 696),
            ("ours-7x7-fitted", 1.0, 696),
            ("ours-3x3", 0.5, 696),
            ("ours-3x3-fitted", 2.5, 696),
        )
        for s in range(seeds)
    ]


def test_table_2_holds_like_against_like(tmp_path):
    rows = judged_of(tmp_path, *pictures("squeezenet"), experiment="table2", datasets="cats-vs-dogs-200")
    verdicts = {row.case: row.verdict for row in rows["better"]}
    assert verdicts == {
        **{f"Ours 7×7, random start, {part}, squeezenet": HOLDS for part in ("val", "test")},
        **{f"Ours 3×3, random start, {part}, squeezenet": FAILS for part in ("val", "test")},
        **{f"Ours 7×7, fitted start, {part}, squeezenet": FAILS for part in ("val", "test")},
        **{f"Ours 3×3, fitted start, {part}, squeezenet": HOLDS for part in ("val", "test")},
        **dict.fromkeys((row.case for row in rows["better"] if row.case.endswith(", scratch")), UNTESTABLE),
        "VGG16, ImageNet weights": UNTESTABLE,
    }
    assert sum(case.endswith(", scratch") for case in verdicts) == 8
    first = next(row for row in rows["better"] if row.case == "Ours 7×7, random start, test, squeezenet")
    assert (first.paper, first.here) == ("+0.8", "+0.5 [+0.5, +0.5]§¶")
    assert "the paper's +0.8 lies <b>outside</b> [+0.5, +0.5]" in first.why
    assert "same support: Ours 3×3, random start −0.5 [−0.5, −0.5]§¶, less than free filters" in first.why
    assert first.why.endswith("696 parameters for 448")
    absent = Row("VGG16, ImageNet weights", "—", "—", UNTESTABLE, "its ImageNet weights are not at hand here")
    assert rows["better"][-1] == rows["included"][-1] == absent
    included = {row.case: (row.paper, row.verdict) for row in rows["included"]}
    run = {case: found for case, found in included.items() if case.endswith("squeezenet")}
    assert set(run.values()) == {("+4.4", HOLDS)}
    assert len(run) == 4
    assert {verdict for case, (_, verdict) in included.items() if case not in run} == {UNTESTABLE}
    same_start = {row.case: row.why for row in rows["included"]}
    random, fitted = "Free-form 3×3, random start +1.0 [+1.0, +1.0]§¶", "Free-form 3×3, trained on +2.0 [+2.0, +2.0]§¶"
    assert f"{random}, a free layer gains" in same_start["Ours 7×7, random start, test, squeezenet"]
    assert f"{fitted}, a free layer gains" in same_start["Ours 3×3, fitted start, test, squeezenet"]


def test_table_2_keeps_the_sources_apart(tmp_path):
    rows = judged_of(tmp_path, *pictures("imagenet"), experiment="table2", datasets="cats-vs-dogs-200")
    verdicts = Counter((row.case.split(", ")[-1], row.verdict) for row in rows["better"])
    assert verdicts == {
        ("imagenet", HOLDS): 4,
        ("imagenet", FAILS): 4,
        ("scratch", UNTESTABLE): 8,
        ("squeezenet", TOO_FEW): 8,
    }
    assert all(row.why.startswith("not run yet") for row in rows["better"] if row.case.endswith("squeezenet"))
    assert all("§" not in row.here for row in rows["better"])


@pytest.mark.parametrize(
    ("learned", "reason"),
    [
        (0.99951, "the network before knows 100.0 % of its training pictures: nothing is left to learn"),
        (0.95, "the network before was not trained on ImageNet"),
        (None, "the network before was not trained on ImageNet"),
    ],
)
def test_a_source_that_was_trained_here_decides_nothing(tmp_path, learned, reason):
    records = pictures("scratch")
    for made in records:
        made["curve"][-1] |= {} if learned is None else {"train_accuracy": learned}
    rows = judged_of(tmp_path, *records, experiment="table2", datasets="cats-vs-dogs-200")
    own = [row for row in (*rows["better"], *rows["included"]) if row.case.endswith("scratch")]
    assert {(row.verdict, row.why) for row in own} == {(UNTESTABLE, reason)}
    assert all("§¶" in row.here for row in own)


def test_questions_are_put_to_the_sources_that_can_answer(tmp_path):
    save(tmp_path, *pictures("squeezenet"), *pictures("scratch"))
    loaded = load(tmp_path, "paper", "table2", "cats-vs-dogs-200", tmp_path)
    start, support = (answer(question) for claim in judgements.judged_claims(loaded) for question in claim.questions)
    assert "scratch" not in start + support
    assert "above (Free-form 3×3, trained on, squeezenet; Ours 3×3, fitted start, squeezenet)" in start
    assert "below (Ours 7×7, fitted start, squeezenet)" in start
    assert "above (Ours 7×7, random start, squeezenet), below (Ours 7×7, fitted start, squeezenet)" in support
