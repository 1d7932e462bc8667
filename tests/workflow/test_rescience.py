"""Metadata of the replication report: what ReScience's template asks for, and what the report itself says."""

import re

import nbformat
import pytest
import rescience
import yaml
from pybtex.database import parse_file

CHAPTER = nbformat.read(rescience.ROOT / "book" / "replication.ipynb", 4)
FIELDS = {
    "title": str,
    "authors": ["name", "orcid", "email", "affiliations"],
    "affiliations": ["code", "name", "address"],
    "keywords": str,
    "code": ["url", "doi", "swh"],
    "data": ["url", "doi"],
    "replication": ["cite", "bib", "url", "doi"],
    "abstract": str,
    "bibliography": str,
    "type": str,
    "domain": str,
    "language": str,
    "review": ["url"],
    "contributors": ["name", "orcid", "role"],
    "dates": ["received", "accepted", "published"],
    "article": ["number", "doi", "url"],
    "journal": ["name", "issn", "volume", "issue"],
}
"""Of metadata.yaml in the template of ReScience C: a text, or the names in a list."""
RECORDS = ("authors", "affiliations", "contributors")
"""Lists of entries that have all the names; in the others each entry has one."""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("article") / "metadata.yaml"
    rescience.write(path)
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_fields_are_those_of_the_template_in_its_form(written):
    assert list(written) == list(FIELDS)
    for field, names in FIELDS.items():
        if isinstance(names, list):
            entries = [list(entry) for entry in written[field]]
            assert entries == ([names] * len(entries) if field in RECORDS else [[name] for name in names]), field
        else:
            assert isinstance(written[field], names), field
            assert written[field], field


def test_there_is_a_contact_and_the_roles_that_the_template_fills_in(written):
    codes = {str(entry["code"]) for entry in written["affiliations"]}
    for author in written["authors"]:
        *own, contact = author["affiliations"].split(",")
        assert (contact, codes >= {*own}) == ("*", True)
    assert [entry["role"] for entry in written["contributors"]] == ["editor", "reviewer", "reviewer"]
    assert written["type"] == "Replication"


def test_nothing_is_invented_that_nobody_has(written):
    assert {entry[name] for entry in written["authors"] for name in ("orcid", "email")} == {None}
    empty = [
        value for field in ("code", "data", "article", "dates") for part in written[field] for value in part.values()
    ]
    assert {*empty} == {None}


def test_the_original_article_is_in_the_bibliography(written):
    (_, key, url, _) = (value for part in written["replication"] for value in part.values())
    entry = parse_file(rescience.BIBLIOGRAPHY).entries[key]
    assert written["bibliography"] == rescience.BIBLIOGRAPHY.name
    assert entry.fields["url"] == url
    assert written["title"] == "[Re] " + re.sub("[{}]", "", entry.fields["title"])


def test_the_report_has_the_same_title_authors_keywords_and_abstract(written):
    head = CHAPTER.cells[0].source
    title, authors, *_ = head.split("\n\n")
    assert title == f"# {written['title']}"
    assert authors == ", ".join(author["name"] for author in written["authors"])
    assert head.endswith(f"\n: {written['keywords']}")
    shown = next(cell.outputs[0] for cell in CHAPTER.cells if cell.get("outputs"))
    assert shown.data["text/html"] == f"<p>{written['abstract']}</p>".replace("'", "&#39;")
