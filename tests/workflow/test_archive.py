"""The archive's parts. Its book is built twice by ``make archive`` itself, which takes too long here."""

import json
import shutil
import subprocess
import tarfile

import archive
import pytest
import yaml

import gdlayer


@pytest.fixture
def target(tmp_path):
    """A folder with what the metadata describe, but for the book."""
    for name in archive.COPIED:
        shutil.copy(archive.ROOT / name, tmp_path)
    for name in (f"{archive.NAME}-py3-none-any.whl", f"{archive.NAME}.tar.gz", "codemeta.json"):
        (tmp_path / name).write_bytes(b"12345")
    return tmp_path


def test_equal_sources_give_equal_tarballs_without_times_and_owners(tmp_path):
    one, other = tmp_path / "one.tar.gz", tmp_path / "other.tar.gz"
    archive.pack(one)
    archive.pack(other)
    assert one.read_bytes() == other.read_bytes()
    with tarfile.open(one) as packed:
        entries = packed.getmembers()
    assert {(entry.uid, entry.gid, entry.uname, entry.mtime) for entry in entries} == {(0, 0, "", int(archive.EPOCH))}
    names = {entry.name for entry in entries}
    assert f"{archive.NAME}/gdlayer/conv.py" in names
    assert all(name.startswith(f"{archive.NAME}/") for name in names)
    assert {entry.name for entry in entries if entry.mode == 0o755} == {
        f"{archive.NAME}/{name}" for name in (".ci/run", "workflow/slurm_test.sh")
    }


def test_the_source_of_an_unpacked_tarball_is_all_but_what_was_built(tmp_path, monkeypatch):
    """Also inside another project's repository."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    root = tmp_path / "unpacked"
    monkeypatch.setattr(archive, "ROOT", root)
    kept = [root / name for name in ("Makefile", "gdlayer/conv.py")]
    built = [root / name for name in ("_build/html/index.html", ".venv/bin/python", "gdlayer/__pycache__/conv.pyc")]
    for path in (*kept, *built):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert archive.tracked() == sorted(kept)


def test_the_crate_names_every_part_and_its_size(target):
    crate = archive.crate(target)
    entities = {entity["@id"]: entity for entity in crate["@graph"]}
    root = entities["./"]
    assert len(entities) == len(crate["@graph"])
    for part in root["hasPart"]:
        entity = entities[part["@id"]]
        if entity["@type"] != "Dataset":
            assert entity["contentSize"] == str((target / part["@id"]).stat().st_size)
    parts = {part["@id"] for part in root["hasPart"]}
    assert {"book/", "article/", "record/", "Containerfile", "CITATION.cff"} <= parts
    assert entities[root["citation"]["@id"]]["name"] == "Fully trainable Gaussian derivative convolutional layer"
    assert json.loads(json.dumps(crate)) == crate


def test_pdfs_are_a_part_where_they_were_printed(target):
    def parts():
        return {entity["@id"] for entity in archive.crate(target)["@graph"]}

    assert "pdf/" not in parts()
    (target / "pdf").mkdir()
    assert "pdf/" in parts()


def test_codemeta_and_citation_agree():
    about = archive.codemeta()
    citation = yaml.safe_load((archive.ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert about["version"] == citation["version"] == gdlayer.__version__
    assert about["license"].endswith(citation["license"])
    assert "codeRepository" not in about  # there is no address yet


def test_books_are_compared_byte_by_byte(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, page in ((one, "same"), (other, "sama")):
        folder.mkdir()
        (folder / "page.html").write_text(page)
        (folder / "index.html").write_text("index")
    (other / "more.html").touch()
    assert archive.unequal(one, other) == ["more.html", "page.html"]
    assert archive.unequal(one, one) == []
