"""Answers by hand: held to the record, and told where it no longer bears them out."""

from types import SimpleNamespace

import pytest
from invented import Page, net, nets, save

from gdlayer.report import answers
from gdlayer.report.answers import (
    OF_RECORD,
    STALE,
    UNWRITTEN,
    NotRecordedError,
    Numbers,
    Sentence,
    all_of,
    between,
    minus,
    points,
)
from gdlayer.report.claims import ABOVE, BELOW
from gdlayer.report.loaded import Loaded, load


def table3(folder) -> Loaded:
    return load(folder, "paper", "table3", "tnbc-derived", folder)


def test_numbers_are_those_of_the_record_and_of_the_paper(tmp_path):
    save(tmp_path, *nets(0.2, 0.5))
    record = Numbers(table3(tmp_path), "pixel_accuracy")
    cells = record.across("gaussian-unet", "unet", split=("tile", "group"), dataset=["tnbc-derived"])
    assert [round(minus(case), 1) for case in cells] == [0.2, 0.2]
    assert all_of(cells, ABOVE)
    assert not all_of(cells, BELOW)
    assert record.paper("unet", split="tile") == 94.7
    ours, unet = (record.mean(name, split="tile") for name in ("gaussian-unet", "unet"))
    assert ours - unet == pytest.approx(0.2)
    assert between([-1.24, 0.3]) == "−1.2 to +0.3"
    assert between([0.31, 0.3]) == "+0.3"


def test_what_the_record_lacks_is_said(tmp_path):
    loaded = table3(tmp_path)
    record = Numbers(loaded, "pixel_accuracy")
    with pytest.raises(NotRecordedError, match="no record of unet with"):
        record.mean("unet", split="tile")
    with pytest.raises(NotRecordedError, match="the paper prints no number of unet-bn with"):
        record.paper("unet-bn", split="tile")
    with pytest.raises(NotRecordedError, match="no block of the record decides a case against U-net"):
        minus(record.case("gaussian-unet", "unet", split="tile", dataset="tnbc-derived"))
    (told,) = answers.sentences(loaded)
    assert not told.follows
    assert told.text.startswith("The record lacks what the answer needs: ")


@pytest.mark.parametrize("lead", [0.2, -0.2])
def test_a_sentence_that_the_record_contradicts_is_marked(lead, tmp_path, monkeypatch):
    def sentences(loaded: Loaded) -> list[Sentence]:
        cell = {"split": "tile", "dataset": "tnbc-derived"}
        case = Numbers(loaded, "pixel_accuracy").case("gaussian-unet", "unet", **cell)
        return [
            Sentence(f"It is {points(minus(case))} points better.", minus(case) > 0),
            Sentence("So."),
            Sentence("Reason."),
        ]

    save(tmp_path, *nets(lead, 0.5))
    loaded = table3(tmp_path)
    monkeypatch.setattr(type(loaded.experiment), "answer", SimpleNamespace(sentences=sentences))
    claim = f"It is {lead:.1f} points better.{f' {STALE}' if lead < 0 else ''}"
    shown = answers.answer(loaded)
    told = [("Claim.", claim), ("Here.", "So."), ("Why.", "Reason.")]
    assert [f"<p><b>{part}</b> {text}</p>" in shown for part, text in told] == [True] * 3
    assert "Reason." not in answers.render({"table3": loaded})
    assert '<a href="table3.html">Table 3</a>' in answers.render({"table3": loaded})
    heading = f"- **[Table 3](book/table3.ipynb): {loaded.experiment.page.QUESTION}**"
    assert answers.markdown({"table3": loaded}) == f"{heading} {claim} So."


def test_an_experiment_without_an_answer_says_so(tmp_path, monkeypatch):
    loaded = table3(tmp_path)
    monkeypatch.setattr(type(loaded.experiment), "answer", None)
    assert UNWRITTEN in answers.answer(loaded)
    assert answers.in_words({"table3": loaded}).endswith(UNWRITTEN)


def test_a_run_of_ones_own_says_whose_the_finding_is_and_how_far_it_agrees(tmp_path, monkeypatch):
    """The record itself has nothing to be compared with."""
    kept, own = tmp_path / "kept", tmp_path / "own"
    save(kept, *(net("unet", 0.5 + s / 10, seed=s) for s in range(3)), net("unet-bn", 0.5))
    save(own, net("unet", 0.7), net("unet-bn", 0.9), net("gaussian-unet", 0.5))
    beside = {"table3": load(own, "paper", "table3", "tnbc-derived", kept)}
    written = SimpleNamespace(sentences=lambda loaded: [Sentence(f"Of {len(loaded.records)}."), Sentence("Found.")])
    monkeypatch.setattr(type(beside["table3"].experiment), "answer", written)
    assert f"Claim. Of 4.Here, {OF_RECORD}. Found." in Page(answers.render(beside)).text
    assert answers.in_words(beside) == f"Table 3, {OF_RECORD}: Of 4. Found."
    assert "1 of 2 trials of this run lie within the spread of the record: " in answers.render(beside)
    record = answers.render({"table3": load(kept, "paper", "table3", "tnbc-derived", kept)})
    assert "spread" not in record
    assert OF_RECORD not in record
