"""The judged claims as HTML."""

from invented import FULL, Page, as_in_the_paper, save

from gdlayer.report import judgements
from gdlayer.report.loaded import load


def test_render(tmp_path):
    save(tmp_path, *as_in_the_paper())
    loaded = load(tmp_path, "paper", "table1", FULL, tmp_path)
    shown = Page(judgements.render(loaded))
    assert shown.rows[0] == ["claim", "paper", "here", "verdict", "why"]
    assert shown.rows[1][0].startswith("“the proposed layers obtain higher accuracy values")
    assert "(section 3)|The paper's other layers, one by one." in shown.rows[1][0]
    assert "Parameters: Free-form 3×3 9,770, RFNN 10,810, DAU 42,010, Ours 12,810" in shown.rows[1][0]
    assert shown.rows[2][:4] == ["Ours − Free-form 3×3, 1,000 images", "+1.7", "+1.7 [+1.7, +1.7]", "above"]
    assert "(Holm)" in shown.text
    assert "tuned" not in shown.text  # no search is recorded
    assert len(shown.rows) == 1 + 6 + 45 + 5 + 10 + 10 + 4 + 2
