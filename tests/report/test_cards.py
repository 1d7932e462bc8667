"""The answers of the experiments in short."""

import pytest
from invented import FULL, Page, as_in_the_paper, net, nets, save

from gdlayer.report import cards
from gdlayer.report.cards import card, counted, number, word
from gdlayer.report.claims import (
    ABOVE,
    AGAINST,
    BELOW,
    FOR,
    OPEN,
    TOO_FEW,
    UNDECIDED,
    UNTESTABLE,
    Measured,
    Row,
)
from gdlayer.report.loaded import Loaded, load


@pytest.mark.parametrize(
    ("verdicts", "told"),
    [
        ([ABOVE, ABOVE], "Yes"),
        ([BELOW], "No"),
        ([ABOVE, BELOW], "In part"),
        ([TOO_FEW, ABOVE], "In part"),
        ([BELOW, UNDECIDED], "In part"),
        ([TOO_FEW, UNDECIDED], "Not clear"),
        ([TOO_FEW, TOO_FEW], "Too few runs so far"),
        ([UNTESTABLE], "Cannot be tested here"),
        ([], "Not judged"),
    ],
)
def test_the_answer_in_a_word(verdicts, told):
    says = {ABOVE: FOR, BELOW: AGAINST}
    assert word([Row("", "", "", verdict, "", says=says.get(verdict, OPEN)) for verdict in verdicts]) == told


def test_cases_are_counted_the_most_frequent_first():
    assert counted([ABOVE]) == "above"
    assert counted([TOO_FEW, ABOVE, ABOVE]) == "above in 2 of 3 cases, too few seeds in 1"
    assert counted([]) == "no case"


def test_the_number_is_of_a_case_that_is_decided():
    few, untestable, clear = (
        Row(name, "—", f"+{i}.0", verdict, "", measured=Measured(i, (i, i), None))
        for i, (name, verdict) in enumerate((("few", TOO_FEW), ("other", UNTESTABLE), ("clear", UNDECIDED)))
    )
    assert number([untestable, few, clear]) == "clear: +2.0 percentage points"
    assert number([untestable, few]) == "few: +0.0 percentage points"
    assert number([untestable, Row("never run", "—", "—", TOO_FEW, "")]) == ""
    assert number([clear._replace(paper="+1.1")]) == "clear: +2.0 percentage points; the paper's +1.1"


def table3(folder) -> Loaded:
    return load(folder, "paper", "table3", "tnbc-derived", folder)


def test_an_answer_goes_with_the_record(tmp_path):
    before = card(table3(tmp_path))
    assert (before.word, before.number, before.colour) == ("Too few runs so far", "", "open")
    assert before.further == []  # nothing of it is run
    save(tmp_path, *nets(0.2, 0.5))
    after = card(table3(tmp_path))
    assert (after.word, after.cases, after.colour) == ("Yes", "above in 2 of 2 cases", "holds")
    assert after.number.startswith("TNBC, resolution-degraded copy, by tile: +0.2 [")
    assert after.number.endswith("the paper's −0.3")


def test_what_an_answer_is_not_complete_without(tmp_path):
    save(tmp_path, *nets(-0.2, 0.5))
    normalised, small = card(table3(tmp_path)).further
    assert normalised.startswith("Is it the layer? Gaussian U-net against U-net with BN (control): below in 2 of 2")
    assert small.startswith("Is it the layer? Gaussian U-net against U-net, small: ")


def test_cards_and_the_table_of_the_readme(tmp_path):
    save(tmp_path, *as_in_the_paper())
    tables = {"table1": load(tmp_path, "paper", "table1", FULL, tmp_path), "table3": table3(tmp_path)}
    shown = Page(cards.render(tables)).text
    assert "Is the layer more accurate than earlier layers on Fashion-MNIST?" in shown
    assert "In part: above in 41 of 45 cases, below in 4." in shown
    assert '<a href="table3.html">Table 3</a>' in cards.render(tables)
    assert "<a " not in cards.answer(tables["table1"])
    _, _, first, second = cards.markdown(tables).splitlines()
    assert first.startswith("| [Table 1](book/table1.ipynb): Is the layer more")
    assert (
        "| **In part**: above in 41 of 45 cases, below in 4 | Ours − Free-form 3×3, 1,000 images: +1.7 [+1.7" in first
    )
    assert second.endswith("| **Too few runs so far**: too few seeds in 2 of 2 cases | — |")


def test_a_run_of_ones_own_closes_with_how_far_it_agrees(tmp_path):
    """The record itself has nothing to be compared with."""
    kept, own = tmp_path / "kept", tmp_path / "own"
    save(kept, *(net("unet", 0.5 + s / 10, seed=s) for s in range(3)), net("unet-bn", 0.5))
    save(own, net("unet", 0.7), net("unet-bn", 0.9), net("gaussian-unet", 0.5))
    beside = {"table3": load(own, "paper", "table3", "tnbc-derived", kept)}
    assert "1 of 2 trials of this run lie within the spread of the record: " in cards.render(beside)
    assert "spread" not in cards.render({"table3": load(kept, "paper", "table3", "tnbc-derived", kept)})
