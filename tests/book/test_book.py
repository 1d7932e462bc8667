"""The sources of the book, checked without building it, and the offline check itself."""

import re
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
import yaml
from build_book import configuration
from check_offline import check_offline, main
from pybtex.database import parse_file

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"
NOTEBOOKS = sorted(BOOK.glob("*.ipynb"))
CHAPTERS = sorted([*NOTEBOOKS, *BOOK.glob("*.md")])
CODE_WIDTH = 78  # the text column shows about 80 characters before it scrolls
PAPER_REFERENCES = 24

# A path of one machine: below a home or temporary folder, or any /a/b that is no part of a URL, a tag or a formula.
MACHINE_PATH = re.compile(
    r"""(?<![\w.:/~$*<>+=\\)\]}-]) (?: /(?:home|root|tmp|Users|mnt)\b | /[A-Za-z_][\w.-]*/[\w.-]+ | [A-Z]:\\\w )""",
    re.VERBOSE,
)
CITE = re.compile(r"\{cite(?::\w+)?\}`([^`]+)`")


def name(path: Path) -> str:
    return path.name


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def text_outputs(cell: Any) -> list[str]:
    """Everything in the outputs of a code cell that is text, whatever its format."""
    texts = []
    for output in cell.outputs:
        texts.append(output.get("text", ""))
        for mime, data in output.get("data", {}).items():
            if isinstance(data, str) and (mime.startswith("text/") or mime == "image/svg+xml"):
                texts.append(data)
    return texts


def prose(path: Path) -> str:
    if path.suffix == ".md":
        return path.read_text("utf-8")
    return "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")


def toc_files(node: Any) -> list[str]:
    """All `file` and `root` entries of a table of contents, in order."""
    if isinstance(node, list):
        return [file for item in node for file in toc_files(item)]
    if isinstance(node, dict):
        own = [value for key, value in node.items() if key in ("root", "file")]
        return own + [file for key, value in node.items() if key not in ("root", "file") for file in toc_files(value)]
    return []


def test_table_of_contents_lists_every_chapter_once():
    listed = toc_files(yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8")))
    assert sorted(listed) == [path.relative_to(ROOT).with_suffix("").as_posix() for path in CHAPTERS]


def test_configuration_names_files_that_exist():
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    sphinx = config["sphinx"]["config"]
    static = [ROOT / folder for folder in sphinx["html_static_path"]]
    styles = [entry if isinstance(entry, str) else entry[0] for entry in sphinx["html_css_files"]]
    for file in (*styles, sphinx["mathjax_path"]):
        assert any((folder / file).is_file() for folder in static), file
    for file in config["bibtex_bibfiles"]:
        assert (ROOT / file).is_file(), file
    assert config["execute"] == {"execute_notebooks": "off", "stderr_output": "error"}


def test_the_repository_has_its_address_from_one_place(tmp_path: Path):
    """pyproject.toml; without one there the book has neither link nor button."""
    shutil.copy(ROOT / "_config.yml", tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project]", "utf-8")
    config = yaml.safe_load(configuration(tmp_path))
    assert "announcement" not in config["sphinx"]["config"]["html_theme_options"]
    yours = yaml.safe_load(configuration(tmp_path, "quick"))["sphinx"]["config"]["html_theme_options"]["announcement"]
    assert yours.startswith("This is the book of your own run, profile quick: ")
    assert config["repository"]["url"] == ""
    assert not any(key.startswith("use_") and key.endswith("_button") for key in config["html"])
    (tmp_path / "pyproject.toml").write_text('[project.urls]\nRepository = "https://forge.test/a/b"', "utf-8")
    config = yaml.safe_load(configuration(tmp_path))
    assert config["repository"]["url"] == "https://forge.test/a/b"
    assert config["html"]["use_repository_button"] is config["html"]["use_issues_button"] is True


def test_the_citation_repeats_the_address():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation.get("repository-code") == project.get("urls", {}).get("Repository")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebook_is_valid(path: Path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5), "cells need ids: nbformat 4.5"
    ids = [cell.get("id") for cell in notebook.cells]
    assert all(ids)
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebook_ran_once_from_top_to_bottom(path: Path):
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert cells
    assert all(cell.source.strip() for cell in cells), "empty code cell"
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebook_has_no_error_and_nothing_on_stderr(path: Path):
    for cell in read(path).cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error", f"{cell.id}: {output.ename}"
            assert output.get("name") != "stderr", f"{cell.id}: {output.text}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebook_code_fits_the_column(path: Path):
    wide = [
        f"{cell.id}: {line}"
        for cell in read(path).cells
        if cell.cell_type == "code"
        for line in cell.source.splitlines()
        if len(line) > CODE_WIDTH
    ]
    assert not wide, "\n".join(wide)


def test_answers_for_users_start_with_what_the_package_needs(monkeypatch: pytest.MonkeyPatch):
    for module in ("IPython", "pandas"):
        monkeypatch.setitem(sys.modules, module, None)
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    start = next(cell for cell in read(BOOK / "howto.ipynb").cells if cell.cell_type == "code")
    try:
        exec(start.source, {})
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebook_finds_its_files_from_any_folder(path: Path):
    assert not [cell.id for cell in read(path).cells if cell.cell_type == "code" and "../" in cell.source]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_a_figure_has_a_number_a_caption_and_an_alternative_text(path: Path):
    for cell in read(path).cells:
        formats = {mime for output in cell.get("outputs", []) for mime in output.get("data", {})}
        if formats & {"image/png", "image/svg+xml"}:
            figure = cell.metadata.get("mystnb", {})
            assert figure["figure"]["name"].startswith("fig-"), cell.id
            assert figure["figure"]["caption"], cell.id
            assert figure["image"]["alt"], cell.id


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_chapter_shows_no_path_of_a_machine(path: Path):
    texts = [prose(path)]
    if path.suffix == ".ipynb":
        for cell in read(path).cells:
            if cell.cell_type == "code":
                texts += [cell.source, *text_outputs(cell)]
    for text in texts:
        assert str(ROOT) not in text
        found = MACHINE_PATH.search(text)
        assert not found, text[max(0, found.start() - 40) : found.end() + 40]


@pytest.mark.parametrize(
    "text",
    ["/home/me", "('/root')", "file '/srv/x/y.csv'", "at /opt/site-packages/torch", r"C:\Users", "/tmp", "\n/mnt/data"],
)
def test_machine_paths_are_found(text: str):
    assert MACHINE_PATH.search(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://doi.org/10.1/x", "data/results/table1.csv", "f_{out}/B", "(K + 1)(K + 2)/2", "</td></tr>", "a / b / c",
        "../_static/a/b.css", "mean/std", "1/sigma/2", "$x$/pixel/s", "~/cache/gdlayer",
    ],
)  # fmt: skip
def test_other_slashes_are_no_machine_path(text: str):
    assert not MACHINE_PATH.search(text)


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_chapter_starts_with_its_title(path: Path):
    text = prose(path)
    without_code = re.sub(r"^(`{3,}|:{3,}).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)
    assert text.startswith("# ")
    assert len(re.findall(r"^# ", without_code, flags=re.MULTILINE)) == 1


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_citations_are_in_the_bibliography(path: Path):
    keys = {key.strip() for keys in CITE.findall(prose(path)) for key in keys.split(",")}
    assert keys <= set(parse_file(BOOK / "references.bib").entries)


def test_bibliography_numbers_the_references_as_the_paper_does():
    """`bibliography.md` numbers the first 24 entries of `references.bib`, in its order."""
    entries = list(parse_file(BOOK / "references.bib").entries)
    numbered = re.findall(r"^(\d+)\. \{cite:t\}`(\w+)`$", (BOOK / "bibliography.md").read_text("utf-8"), re.MULTILINE)
    assert numbered == [(str(n), key) for n, key in enumerate(entries[:PAPER_REFERENCES], start=1)]
    assert len(numbered) == PAPER_REFERENCES
    assert "penaudpolge2022fully" in entries[PAPER_REFERENCES:]


def test_every_reference_is_cited_and_complete():
    bibliography = parse_file(BOOK / "references.bib")
    cited = {key.strip() for path in CHAPTERS for keys in CITE.findall(prose(path)) for key in keys.split(",")}
    assert set(bibliography.entries) <= cited
    for key, entry in bibliography.entries.items():
        assert entry.persons.get("author"), key
        fields = {"article": ["journal", "volume", "pages"], "inproceedings": ["booktitle"], "misc": ["eprint"]}
        for field in ["title", "year", *fields[entry.type]]:
            assert entry.fields.get(field), f"{key}: {field}"


# The offline check


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A tiny book without a fault."""
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "font.woff2").write_bytes(b"")
    (tmp_path / "_static" / "more.css").write_text("/* @import 'https://cdn.test/x.css'; url(gone.png) */", "utf-8")
    (tmp_path / "_static" / "style.css").write_text(
        '@import "more.css"; a { src: url(font.woff2?v=1#iefix) } b { background: url("data:image/svg+xml,x") }',
        "utf-8",
    )
    (tmp_path / "_static" / "my plot.png").write_bytes(b"")
    (tmp_path / "index.html").write_text(
        '<link rel="stylesheet" href="_static/style.css?v=2"><link rel="canonical" href="https://book.test/">'
        '<meta http-equiv="refresh" content="0; url=page.html">'
        '<a href="https://doi.org/10.1/x">paper</a><a href="page.html#top">next</a><a href="mailto:a@b.test">mail</a>'
        '<img src="_static/my%20plot.png" srcset="_static/my%20plot.png 2x"><img src="data:image/png;base64,AA==">'
        '<script>const later = "https://cdn.test/lib.js"; fetch(later)</script><svg><use href="#a" /></svg>',
        "utf-8",
    )
    (tmp_path / "page.html").write_text("<h1 id=top>Page</h1>", "utf-8")
    return tmp_path


def test_a_local_book_is_offline(site: Path, capsys: pytest.CaptureFixture[str]):
    assert check_offline(site) == ([], 2, 5)
    assert main([str(site)]) == 0
    assert capsys.readouterr().out == "offline: 2 pages load 5 local files, none remote, none missing\n"


@pytest.mark.parametrize(
    ("html", "fault"),
    [
        ('<script src="https://cdn.test/a.js"></script>', "loads https://cdn.test/a.js"),
        ('<img src="//cdn.test/a.png">', "loads //cdn.test/a.png"),
        ('<IMG SRC="HTTP://cdn.test/a.png"/>', "loads HTTP://cdn.test/a.png"),
        ('<img src="x.png" srcset="https://cdn.test/a.png 2x">', "loads https://cdn.test/a.png"),
        ('<link rel="preload stylesheet" href="https://cdn.test/a.css">', "loads https://cdn.test/a.css"),
        ('<link rel="icon" href="https://cdn.test/a.ico">', "loads https://cdn.test/a.ico"),
        ('<link rel="preconnect" href="https://fonts.test">', "loads https://fonts.test"),
        ("<style>@import 'https://cdn.test/a.css';</style>", "loads https://cdn.test/a.css"),
        ("<style>@import url(https://cdn.test/a.css);</style>", "loads https://cdn.test/a.css"),
        ('<p style="background: url(//cdn.test/a.png)">', "loads //cdn.test/a.png"),
        ('<iframe src="https://cdn.test/"></iframe>', "loads https://cdn.test/"),
        ('<object data="https://cdn.test/a.svg"></object>', "loads https://cdn.test/a.svg"),
        ('<svg><image xlink:href="https://cdn.test/a.png"/></svg>', "loads https://cdn.test/a.png"),
        ('<video poster="https://cdn.test/a.png"></video>', "loads https://cdn.test/a.png"),
        ('<script type="module">import a from "https://cdn.test/a.js"</script>', "loads https://cdn.test/a.js"),
        ('<script>import("https://cdn.test/a.js")</script>', "loads https://cdn.test/a.js"),
        ('<meta http-equiv="Refresh" content="0; URL=https://cdn.test/">', "loads https://cdn.test/"),
        ('<script src="gone.js?v=1"></script>', "missing gone.js?v=1"),
        ('<a href="gone.html#top">gone</a>', "missing gone.html#top"),
        ('<a href="index.html#gone">gone</a>', "no such place index.html#gone"),
        (
            '<a href="#gone">gone</a><a href="#top">here</a><a href="#">top</a><a href="#kernel.p=2">state</a>',
            "no such place #gone",
        ),
        ('<img src="/_static/style.css">', "absolute address /_static/style.css"),
        ('<a href="file:///a/b">gone</a>', "absolute address file:///a/b"),
        ('<img src="../">', "outside the book: ../"),
    ],
)
def test_a_fault_is_named(site: Path, capsys: pytest.CaptureFixture[str], html: str, fault: str):
    (site / "x.png").write_bytes(b"")
    (site / "deep").mkdir()
    (site / "page.html").write_text(f"<h1 id=top>Page</h1>{html}", "utf-8")
    assert check_offline(site)[0] == [f"page.html: {fault}"]
    assert main([str(site)]) == 1
    assert capsys.readouterr().out == f"page.html: {fault}\n"


def test_a_style_sheet_is_read_too(site: Path):
    (site / "_static" / "more.css").write_text(
        '@import url("https://fonts.test/a.css"); i { src: url( gone.woff2 ) }', "utf-8"
    )
    faults = ["_static/more.css: loads https://fonts.test/a.css", "_static/more.css: missing gone.woff2"]
    assert check_offline(site)[0] == faults


def test_an_empty_folder_is_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(ValueError, match=r"no \.html file under"):
        check_offline(tmp_path)
    assert main([str(tmp_path)]) == 1
    assert main([]) == 2
    assert "usage:" in capsys.readouterr().err


# The build


def test_the_book_ships_what_its_pages_need(html: Path):
    """Nobody but a browser's tools reads source maps, and the icons come from the theme's font."""
    faults, pages, _ = check_offline(html)
    assert not faults
    assert pages > len(CHAPTERS)
    shipped = {path.name for path in html.rglob("*")}
    assert not [name for name in shipped if name.endswith(".map") or name.startswith("fontawesome.js")]
    assert "fa-solid-900.woff2" in shipped
