"""The paper's claims of Table 2, by invented records."""

from collections import Counter
from typing import Any

from invented import rows_by_claim, save, vgg

from gdlayer.report import judgements
from gdlayer.report.claims import ABOVE, BELOW, TOO_FEW, UNTESTABLE
from gdlayer.report.conclusion import answer
from gdlayer.report.loaded import load
from gdlayer.trials.plan import plan
from gdlayer.trials.registry import experiments

LIKE = experiments()["table2"].choices["paper_like"]["value"]
OURS = ("ours-7x7", "ours-7x7-fitted", "ours-3x3", "ours-3x3-fitted")


def pictures(source: str, seeds: int = 3, further: dict[str, float] | None = None) -> list[dict[str, Any]]:
    """All seven layers of the paper's kinds, and ``further`` ones with their difference from the network before."""
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
            *((layer, move, 6) for layer, move in (further or {}).items()),
        )
        for s in range(seeds)
    ]


def test_table_2_holds_like_against_like(tmp_path):
    rows = rows_by_claim(tmp_path, *pictures("squeezenet"), experiment="table2", datasets="cats-vs-dogs-200")
    verdicts = {row.case: row.verdict for row in rows["better"]}
    assert verdicts == {
        "Ours 7×7, random start, squeezenet": ABOVE,
        "Ours 3×3, random start, squeezenet": BELOW,
        "Ours 7×7, fitted start, squeezenet": BELOW,
        "Ours 3×3, fitted start, squeezenet": ABOVE,
        **{case: TOO_FEW for case in verdicts if ", vgg16-" in case},
    }
    first = next(row for row in rows["better"] if row.case == "Ours 7×7, random start, squeezenet")
    assert (first.paper, first.here) == ("+0.8", "+0.5 [+0.5, +0.5]§¶")
    assert "the paper's +0.8 lies <b>outside</b> [+0.5, +0.5]" in first.why
    assert first.why.endswith("696 parameters for 448")
    included = {row.case: (row.paper, row.verdict) for row in rows["included"]}
    run = {case: found for case, found in included.items() if case.endswith("squeezenet")}
    assert set(run.values()) == {("+4.4", ABOVE)}
    assert len(run) == 4
    assert {verdict for case, (_, verdict) in included.items() if case not in run} == {TOO_FEW}
    same_start = {row.case: row.why for row in rows["included"]}
    random, fitted = (
        f"Free-form 3×3, {start} against the network before +" for start in ("random start", "trained on")
    )
    assert f"{random}1.0 [+1.0, +1.0]§¶, above" in same_start["Ours 7×7, random start, squeezenet"]
    assert f"{fitted}2.0 [+2.0, +2.0]§¶, above" in same_start["Ours 3×3, fitted start, squeezenet"]


def test_two_layers_that_both_fail_to_train_say_nothing_of_either(tmp_path):
    made = pictures("squeezenet")
    for record in made:
        if record["trial"]["layer"] in ("free-form", "ours-7x7"):
            record["metrics"] = {name: value - 0.15 for name, value in record["metrics"].items()}
    rows = rows_by_claim(tmp_path, *made, experiment="table2", datasets="cats-vs-dogs-200")
    found = {row.case: (row.verdict, row.why) for row in rows["better"]}
    reason = "both end more than 10 points below the network before"
    assert found["Ours 7×7, random start, squeezenet"] == (UNTESTABLE, reason)
    assert found["Ours 3×3, random start, squeezenet"][0] == ABOVE


def test_table_2_keeps_the_sources_apart(tmp_path):
    planned = plan("paper", "table2", ["cats-vs-dogs-200"])
    rows = rows_by_claim(tmp_path, *pictures("vgg16-average"), experiment="table2", datasets="cats-vs-dogs-200")
    verdicts = Counter((row.case.split(", ")[-1], row.verdict) for row in rows["better"])
    assert verdicts == {
        ("vgg16-average", ABOVE): 2,
        ("vgg16-average", BELOW): 2,
        **{
            (source, TOO_FEW): sum(t.cell == (layer, source) for layer in OURS for t in planned if t.seed == 0)
            for source in {t.cell[1] for t in planned if t.layer in OURS} - {"vgg16-average"}
        },
    }
    assert rows["better"][0].case == "Ours 7×7, fitted start, squeezenet"
    assert all(row.why.startswith("not run yet") for row in rows["better"] if row.case.endswith("squeezenet"))
    assert all("§" not in row.here for row in rows["better"])


def test_a_source_that_was_trained_here_decides_nothing(tmp_path):
    rows = rows_by_claim(tmp_path, *pictures("scratch"), experiment="table2", datasets="cats-vs-dogs-200")
    own = [row for row in (*rows["better"], *rows["included"]) if row.case.endswith("scratch")]
    assert {(row.verdict, row.why) for row in own} == {(UNTESTABLE, "the network before was not trained on ImageNet")}
    assert all("§¶" in row.here for row in own)


def test_questions_are_put_to_the_sources_that_can_answer(tmp_path):
    further = {"head-on": 0.5, "gain-bias": 2.0, "free-form-7x7": 1.5, "ours-7x7-fixed": 0.5}
    save(tmp_path, *pictures("squeezenet"), *pictures("scratch"), *pictures(LIKE, further=further))
    loaded = load(tmp_path, "paper", "table2", "cats-vs-dogs-200", tmp_path)
    asked = {question.text: answer(question) for claim in judgements.judgements(loaded) for question in claim.questions}
    assert "scratch" not in " ".join(asked.values())
    matters, is_input, geometry, start, support, more = asked.values()
    assert matters.endswith(f"head trained on: above (Free-form 3×3, trained on, {LIKE} +1.5).")
    assert is_input.endswith(f"network before: above (gain and bias per channel, {LIKE} +2.0).")
    assert geometry.endswith(f"after the fit: above (Ours 7×7, fitted start, {LIKE} +0.5).")
    assert more.endswith(f"start from the old ones: below (Ours 7×7, fitted start, {LIKE} −0.5).")
    assert "Free-form 3×3, trained on, squeezenet" in start.split("below")[0]
    assert "Ours 7×7, fitted start, squeezenet" in start.split("below")[1]
    assert "above (Ours 7×7, random start, squeezenet" in support
