"""``make archive``: one directory for a repository that gives DOIs, ``_build/archive/gdlayer-VERSION``.

It holds the wheel, the source, the built book, the record with its tables, the replication report's metadata, the lock
files, the container recipe, checksums and metadata (RO-Crate 1.1, CodeMeta 2.0, CITATION.cff); and the book and the
report as PDF where there is a Chromium to print them. The book is built a second time, from the packed
source, and must be byte-identical.
"""

import argparse
import filecmp
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
from pathlib import Path
from typing import Any

import rescience
import yaml
from build_book import BookError, place_beside
from playwright.sync_api import Error
from print_book import newest, print_all

import gdlayer

ROOT = Path(__file__).parents[1]
NAME = f"gdlayer-{gdlayer.__version__}"
COPIED = (
    *("README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "environment.yml", "workflow/Containerfile"),
    *(
        "requirements.lock",
        "requirements-cpu.lock",
        "requirements-cuda.lock",
        "requirements-cluster.lock",
        "requirements-lab.lock",
    ),
)
NOT_SOURCE = {".git", ".venv", "_build", "results", "__pycache__", ".snakemake", ".hypothesis"}
"""Names of what is no source, where no git says what is."""
EPOCH = "315532800"
"""1980-01-01, the earliest time that a wheel can hold: equal sources give equal files."""
TITLES = {
    "wheel": "Installable package",
    "source": "Source: package, book, tests, record",
    "book": "The rendered book, for reading without a network",
    "article": "Metadata and bibliography of the replication report, in the form of ReScience C",
    "pdf": "The book and its replication report, as PDF",
    "record": "The record: a JSON file for each trial, with commit, seed, versions, machine and seconds; tables as CSV",
}
VALIDATORS = ("cffconvert", "roc-validator")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("_build/archive") / NAME, metavar="DIR")
    parser.add_argument("--validate", action="store_true", help=f"check the metadata with {' and '.join(VALIDATORS)}")
    options = parser.parse_args()
    try:
        with place_beside(options.output) as scratch:
            write(scratch)
            if options.validate:
                validate(scratch)
            shutil.rmtree(options.output, ignore_errors=True)
            shutil.copytree(scratch, options.output)
    except (BookError, OSError, Error, subprocess.CalledProcessError) as error:
        print(f"error: no archive was made: {error}", file=sys.stderr)
        return 1
    print(f"the archive: {options.output.resolve()}")
    return 0


def write(target: Path) -> None:
    """Fills an empty folder.

    Raises
    ------
    BookError
        If the book cannot be built, or the packed source gives another one.
    """
    source = target / f"{NAME}.tar.gz"
    pack(source)
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["tar", "-xzf", source, "-C", scratch], check=True)
        unpacked = Path(scratch, NAME)
        make_wheel(unpacked, target)
        for root, html in ((ROOT, target / "book"), (unpacked, Path(scratch, "html"))):
            build_book(root, html)
        if differing := unequal(target / "book", Path(scratch, "html")):
            raise BookError(f"the packed source gives another book: {', '.join(differing[:5])}")
    print_all(target / "pdf")
    (target / "article").mkdir()
    rescience.write(target / "article" / "metadata.yaml")
    shutil.copy(rescience.BIBLIOGRAPHY, target / "article")
    shutil.copytree(ROOT / "data", target / "record")
    for name in COPIED:
        shutil.copy(ROOT / name, target)
    write_json(target / "codemeta.json", codemeta())
    write_json(target / "ro-crate-metadata.json", crate(target))
    sums = [f"{sha256(path)}  {path.relative_to(target).as_posix()}\n" for path in files(target)]
    (target / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")


def tracked() -> list[Path]:
    """The files of the source, as git has them; in an unpacked source, all but what was built there."""
    if not (ROOT / ".git").exists():
        return [path for path in files(ROOT) if not NOT_SOURCE & {*path.relative_to(ROOT).parts}]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return sorted(ROOT / name for name in listed.stdout.split("\0") if name)


def pack(path: Path) -> None:
    """The source as a tarball, without times and owners."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for file in tracked():
            entry = tarfile.TarInfo(f"{NAME}/{file.relative_to(ROOT).as_posix()}")
            content = file.read_bytes()
            entry.size, entry.mtime = len(content), int(EPOCH)
            entry.mode = 0o755 if os.access(file, os.X_OK) else 0o644
            archive.addfile(entry, io.BytesIO(content))
    path.write_bytes(gzip.compress(packed.getvalue(), mtime=0))


def make_wheel(source: Path, target: Path) -> None:
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-build-isolation", "--wheel-dir", target, source),
        ],
        env=os.environ | {"SOURCE_DATE_EPOCH": EPOCH},
        check=True,
    )


def build_book(root: Path, html: Path) -> None:
    command = [sys.executable, root / "workflow" / "build_book.py", html]
    built = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True)
    if built.returncode:
        raise BookError(built.stderr)


def unequal(one: Path, other: Path) -> list[str]:
    """Files that only one of two folders has, or that differ."""
    names = [{path.relative_to(folder).as_posix() for path in files(folder)} for folder in (one, other)]
    _, mismatches, errors = filecmp.cmpfiles(one, other, names[0] & names[1], shallow=False)
    return sorted([*(names[0] ^ names[1]), *mismatches, *errors])


def codemeta() -> dict[str, Any]:
    """CodeMeta 2.0, from pyproject.toml and CITATION.cff."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    paper = citation["references"][0]
    described = {
        "@context": "https://doi.org/10.5063/schema/codemeta-2.0",
        "@type": "SoftwareSourceCode",
        "name": project["name"],
        "description": citation["abstract"].strip(),
        "version": gdlayer.__version__,
        "license": f"https://spdx.org/licenses/{project['license']}",
        "programmingLanguage": "Python",
        "runtimePlatform": f"Python {project['requires-python']}",
        "softwareRequirements": project["dependencies"],
        "keywords": project["keywords"],
        "author": [{"@type": "Organization", "name": author["name"]} for author in citation["authors"]],
        "referencePublication": {"@type": "ScholarlyArticle", "name": paper["title"], "url": paper["url"]},
    }
    address = project.get("urls", {}).get("Repository")
    return described | ({"codeRepository": address} if address else {})


def crate(target: Path) -> dict[str, Any]:
    """RO-Crate 1.1: the parts of the archive, and the paper that they are about."""
    about = codemeta()
    author = {"@id": "#authors", "@type": "Organization", "name": about["author"][0]["name"]}
    paper = {"@id": about["referencePublication"]["url"], **about["referencePublication"]}
    licence = {"@id": about["license"], "@type": "CreativeWork", "name": "MIT License"}
    folders = [name for name in ("book", "pdf", "article", "record") if name != "pdf" or (target / "pdf").exists()]
    parts = [
        {"@id": f"{NAME}-py3-none-any.whl", "@type": "File", "name": TITLES["wheel"]},
        {"@id": f"{NAME}.tar.gz", "@type": ["File", "SoftwareSourceCode"], "name": TITLES["source"]},
        *({"@id": f"{name}/", "@type": "Dataset", "name": TITLES[name]} for name in folders),
        *({"@id": Path(name).name, "@type": "File", "name": Path(name).name} for name in (*COPIED, "codemeta.json")),
    ]
    for part in parts:
        if part["@type"] != "Dataset":
            part["contentSize"] = str((target / part["@id"]).stat().st_size)
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": NAME,
        "description": about["description"],
        "datePublished": newest(),
        "license": {"@id": licence["@id"]},
        "author": {"@id": author["@id"]},
        "citation": {"@id": paper["@id"]},
        "hasPart": [{"@id": part["@id"]} for part in parts],
    }
    descriptor = {
        "@id": "ro-crate-metadata.json",
        "@type": "CreativeWork",
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        "about": {"@id": "./"},
    }
    graph = [descriptor, root, author, paper, licence, *parts]
    return {"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": graph}


def validate(target: Path) -> None:
    """Lets others' validators judge the metadata, in an environment of their own.

    They need a network: that of RO-Crate fetches the vocabulary. Says so where they cannot be had.
    """
    with tempfile.TemporaryDirectory() as scratch:
        venv.create(scratch, with_pip=True)
        pip = [f"{scratch}/bin/pip", "install", "-qq", "--disable-pip-version-check", *VALIDATORS]
        if subprocess.run(pip).returncode:
            print(f"not validated: {' and '.join(VALIDATORS)} cannot be installed here")
            return
        subprocess.run([f"{scratch}/bin/cffconvert", "--validate", "-i", target / "CITATION.cff"], check=True)
        command = [f"{scratch}/bin/rocrate-validator", "validate", "--profile-identifier", "ro-crate-1.1"]
        subprocess.run([*command, "--no-paging", target], check=True)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
