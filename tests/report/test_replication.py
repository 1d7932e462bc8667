"""The replication report: what it says beside the tables of the chapters."""

from pathlib import Path

import pytest
from invented import FULL, SAMPLE, Page, as_in_the_paper, made_of, nets, record, save, sought, vgg

from gdlayer.report import overview, replication
from gdlayer.report.claims import ABOVE
from gdlayer.report.judgements import judgements
from gdlayer.report.loaded import Loaded

DATASETS = f"table1={FULL} table2=cats-vs-dogs-200 table3=tnbc-derived ablations={FULL}"


def everything(folder: Path, profile: str = "fullest") -> dict[str, Loaded]:
    return overview.load_all(folder, profile, DATASETS, folder)


@pytest.fixture
def tables(tmp_path):
    """Table 1 as the paper has it; Table 3 with five seeds of each network."""
    save(tmp_path, *as_in_the_paper(), *nets(-0.2, 0.5))
    return everything(tmp_path)


def test_the_abstract_counts_runs_and_has_every_answer(tables):
    count = sum(len(loaded.records) for loaded in tables.values())
    hours = sum(r["seconds"] for loaded in tables.values() for r in loaded.records) / 3600
    told = replication.abstract(tables)
    assert f"From {count} training runs ({hours:.1f} hours of training)" in told
    for loaded in tables.values():
        assert f" {loaded.experiment.title}: " in told
    assert "<" not in told
    assert told.endswith(replication.summary(tables))


def test_the_summary_counts_cases_and_keeps_apart_what_was_chosen(tables, tmp_path):
    claims = [claim for loaded in tables.values() for claim in judgements(loaded) if claim.of_paper]
    rows = [row for claim in claims for row in claim.rows]
    holding = sum(row.verdict == ABOVE for row in rows if not row.tag)
    told = replication.summary(tables)
    assert told.startswith(f"The {len(claims)} claims together: ")
    assert f"above in {holding}" in told
    chosen = sum(bool(row.tag) for row in rows)
    assert told.endswith(f"; {chosen} further cases are decided by construction, without training.")
    (tmp_path / "empty").mkdir()
    assert "above" not in replication.summary(everything(tmp_path / "empty"))


def test_every_claim_of_the_paper_is_in_the_scope(tables):
    rows = Page(replication.scope(tables)).rows[1:]
    assert [row[0] for row in rows] == [loaded.experiment.title for loaded in tables.values()]
    for row, loaded in zip(rows, tables.values(), strict=True):
        for quotes in loaded.experiment.quotes.values():
            assert all(quote.text in row[2] for quote in quotes)


def test_every_choice_is_named(tables):
    for row, loaded in zip(Page(replication.choices(tables)).rows[1:], tables.values(), strict=True):
        assert row[1].split(", ") == [name.replace("_", " ") for name in loaded.experiment.choices]


def test_what_cannot_be_tested_has_its_reason(tmp_path):
    save(tmp_path, vgg("ours-7x7", 0.9, 0.972, profile="quick"), vgg("free-form", 0.9, 0.9, profile="quick"))
    told = replication.untested(everything(tmp_path))
    assert "<li>Table 2: the network before was not trained on ImageNet (Ours 7×7, fitted start, scratch; " in told


def test_the_statement_tells_what_all_runs_were_made_with(tmp_path):
    later = record("rfnn", 5000, 1, seconds=7200.0, started="2022-10-19T09:00:00+00:00", precision="bf16")
    later["git"] = {"commit": "1" * 40, "dirty": True}
    save(tmp_path, record("ours"), later)
    shown = Page(replication.statement(everything(tmp_path)))
    assert shown.rows[1:3] == [
        ["Table 1, paper", "2", "2", "2.0", "2022-10-16", "2022-10-19"],
        ["all", "2", "2", "2.0", "2022-10-16", "2022-10-19"],
    ]
    facts = {row[0]: row[1] for row in shown.rows[4:]}
    assert facts["commits"] == "0000000, 1111111 with changes"
    assert facts["versions"] == "gdlayer 0.1.0, python 3.12.0, torch 2.4.0, numpy 2.0.0"
    assert facts["machines"] == "a CPU, Linux x86_64, cpu, 2 cores, 1 per run"
    assert facts["data, with the first digits of its SHA256"] == "invented, 000000000000"
    assert "bf16" in facts["precision"]
    assert "fp32" in facts["precision"]


def test_searches_and_checks_are_runs_too(tmp_path):
    save(tmp_path, made_of(sought()))
    found = replication.runs(overview.load_all(tmp_path, "smoke", f"table1={SAMPLE}", tmp_path))
    assert {title: len(records) for title, records in found.items()} == {"rates of Table 1, smoke": 1}


def test_before_the_first_run_the_statement_says_so(tmp_path):
    assert "No run has been made yet." in replication.statement(everything(tmp_path))
