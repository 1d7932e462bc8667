"""Metadata of the replication report as ReScience C wants it: ``rescience.py metadata.yaml``.

From CITATION.cff, pyproject.toml and the record. What nobody has yet (addresses, DOIs, editors, dates) stays empty.
"""

import sys
import tomllib
from pathlib import Path
from typing import Any

import yaml
from build_book import ROOT

from gdlayer.report import overview, replication

BIBLIOGRAPHY = ROOT / "book" / "references.bib"
ORIGINAL = "penaudpolge2022fully"
"""The paper's key in the bibliography."""


def metadata() -> dict[str, Any]:
    """The fields of ReScience's ``metadata.yaml``, in its order and form."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    paper = citation["references"][0]
    authors = [f"{author['given-names']} {author['family-names']}" for author in paper["authors"]]
    return {
        "title": f"[Re] {paper['title']}",
        "authors": [
            {"name": author["name"], "orcid": None, "email": None, "affiliations": "1,*"}
            for author in citation["authors"]
        ],
        "affiliations": [{"code": 1, "name": "", "address": ""}],
        "keywords": ", ".join([*citation["keywords"], "Python"]),
        "code": [{"url": project.get("urls", {}).get("Repository")}, {"doi": citation.get("doi")}, {"swh": None}],
        "data": [{"url": None}, {"doi": None}],
        "replication": [
            {"cite": f"{', '.join(authors)}. {paper['title']}. {paper['conference']['name']}, {paper['year']}."},
            {"bib": ORIGINAL},
            {"url": paper["url"]},
            {"doi": paper.get("doi")},
        ],
        "abstract": replication.abstract(overview.load_all(ROOT / "data" / "results", "fullest")),
        "bibliography": BIBLIOGRAPHY.name,
        "type": "Replication",
        "domain": "Computer Vision",
        "language": "Python",
        "review": [{"url": None}],
        "contributors": [{"name": None, "orcid": None, "role": role} for role in ("editor", "reviewer", "reviewer")],
        "dates": [{"received": None}, {"accepted": None}, {"published": None}],
        "article": [{"number": None}, {"doi": None}, {"url": None}],
        "journal": [{"name": "ReScience C"}, {"issn": "2430-3658"}, {"volume": None}, {"issue": None}],
    }


def write(path: Path) -> None:
    text = yaml.safe_dump(metadata(), sort_keys=False, allow_unicode=True, width=100)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
