"""The paper's claims of Table 2, by invented records."""

from collections import Counter
from typing import Any

from invented import judged_of, vgg

from gdlayer.report.claims import FAILS, HOLDS, UNDECIDED, Row


def pictures(seeds: int = 3, **shift: float) -> list[dict[str, Any]]:
    return [
        vgg(layer, 0.9 + move / 100 + s / 50 + 1e-5 * (s * s % 3), 0.8 + move / 100 + s / 50, seed=s, parameters=count)
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
    rows = judged_of(tmp_path, *pictures(), experiment="table2", datasets="cats-vs-dogs-200")
    verdicts = {row.case: row.verdict for row in rows["better"]}
    assert verdicts == {
        **{f"Ours 7×7, random start, {part}, scratch": HOLDS for part in ("val", "test")},
        **{f"Ours 3×3, random start, {part}, scratch": FAILS for part in ("val", "test")},
        **{f"Ours 7×7, fitted start, {part}, scratch": FAILS for part in ("val", "test")},
        **{f"Ours 3×3, fitted start, {part}, scratch": HOLDS for part in ("val", "test")},
        **dict.fromkeys((row.case for row in rows["better"] if row.case.endswith(", squeezenet")), UNDECIDED),
        "VGG16, ImageNet weights": UNDECIDED,
    }
    assert sum(case.endswith(", squeezenet") for case in verdicts) == 8
    first = next(row for row in rows["better"] if row.case == "Ours 7×7, random start, test, scratch")
    assert (first.paper, first.here) == ("+0.8", "+0.5 [+0.5, +0.5]")
    assert "same support: Ours 3×3, random start −0.5 [−0.5, −0.5], less than free filters" in first.why
    assert first.why.endswith("696 parameters for 448")
    assert rows["better"][-1] == Row("VGG16, ImageNet weights", "—", "—", UNDECIDED, "not run yet: not at hand here")
    included = {row.case: (row.paper, row.verdict) for row in rows["included"]}
    assert included.pop("VGG16, ImageNet weights") == ("—", UNDECIDED)
    run = {case: found for case, found in included.items() if case.endswith("scratch")}
    assert set(run.values()) == {("+4.4", HOLDS)}
    assert len(run) == 4
    assert {verdict for case, (_, verdict) in included.items() if case not in run} == {UNDECIDED}
    same_start = {row.case: row.why for row in rows["included"]}
    random, fitted = "Free-form 3×3, random start +1.0 [+1.0, +1.0]", "Free-form 3×3, trained on +2.0 [+2.0, +2.0]"
    assert f"{random}, a free layer gains" in same_start["Ours 7×7, random start, test, scratch"]
    assert f"{fitted}, a free layer gains" in same_start["Ours 3×3, fitted start, test, scratch"]


def test_table_2_keeps_the_sources_apart(tmp_path):
    imagenet = [r | {"trial": r["trial"] | {"source": "imagenet"}} for r in pictures()]
    rows = judged_of(tmp_path, *imagenet, experiment="table2", datasets="cats-vs-dogs-200")
    verdicts = Counter((row.case.split(", ")[-1], row.verdict) for row in rows["better"])
    assert verdicts == {
        ("imagenet", HOLDS): 4,
        ("imagenet", FAILS): 4,
        ("scratch", UNDECIDED): 8,
        ("squeezenet", UNDECIDED): 8,
    }
    assert all(row.why.startswith("not run yet") for row in rows["better"] if not row.case.endswith("imagenet"))
