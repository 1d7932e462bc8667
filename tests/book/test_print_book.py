"""The book as PDF: the page that is printed, and how. The book itself is printed by ``make pdf``, not here."""

from pathlib import Path

import print_book
import pytest
from build_book import BookError
from playwright.sync_api import Browser, Page

PAGE = """<html><body><div id="jb-print-docs-body"><h1>Title</h1></div><article>
  <section><h1>Preface</h1><div class="toctree-wrapper">
    <span id="document-book/one"></span><section><h2><span class="section-number">1. </span>One<a>#</a></h2>
      <p>see <a id="other" href="two.html">two</a>, <a id="own" href="#here">here</a>
        and <a id="cites" href="book/preface.html#id1">[2022]</a></p><p id="here">here</p></section>
    <span id="document-book/two"></span><section><h2>Two</h2>
      <div class="citation" id="id1">cited</div><div class="citation" id="id2">not cited</div></section>
  </div></section></article></body></html>"""


@pytest.fixture
def page(browser: Browser):
    page = browser.new_page(viewport={"width": print_book.WIDTH, "height": 900})
    yield page
    page.close()


def test_without_a_browser_it_says_so_and_writes_nothing(monkeypatch, capsys, tmp_path: Path):
    monkeypatch.setattr(print_book, "BROWSERS", ("no-such-browser", "nor-this"))
    assert not print_book.print_all(tmp_path / "pdf")
    assert capsys.readouterr().out == "no PDF was made: there is none of no-such-browser, nor-this\n"
    assert list(tmp_path.iterdir()) == []


def test_explorers_are_printed_as_their_still_picture(monkeypatch, tmp_path: Path):
    """Their scripts would draw sliders; addresses are as from the folder above."""
    text = (print_book.ROOT / "book" / "explorers.md").read_text("utf-8")
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "preface.html").write_text(text, "utf-8")
    monkeypatch.setattr(print_book, "render", lambda *_: tmp_path)
    printed = print_book.one_page(tmp_path).read_text("utf-8")
    assert "<script" not in printed
    assert "noscript" not in printed
    assert '<img src="_static/explorers/still.png"' in printed
    assert "../_static" not in printed


def test_the_title_page_has_authors_version_and_date(page: Page):
    page.set_content(PAGE)
    page.evaluate(print_book.TITLE_PAGE, print_book.title_page())
    authors, version = page.locator("h1:text('Title') ~ .byline").all_text_contents()
    assert authors == "The gdlayer developers"
    assert version == f"Version {print_book.gdlayer.__version__}, record of {print_book.newest()}"


def test_one_chapter_alone_has_its_references_and_no_dead_link(page: Page):
    page.set_content(PAGE)
    page.evaluate(print_book.LINKS)
    page.evaluate(print_book.ALONE, "book/one")
    page.evaluate(print_book.LINKS)
    assert page.title() == "One"
    assert page.locator("h1, h2, h3").all_text_contents() == ["One#", "References"]
    assert page.locator(".citation").all_text_contents() == ["cited"]
    assert page.locator("p a").evaluate_all("links => links.map((link) => link.id)") == ["own", "cites"]
    assert "see two, here" in page.locator("p").first.inner_text()


def test_links_lead_to_places_of_the_page_or_elsewhere(page: Page):
    page.set_content(
        "<article><figcaption>Figure <a></a> To save: <a download='a.svg' href='a.svg'>a.svg</a>.</figcaption>"
        "<a href='one.html'>1</a><a href='two.html#there'>2</a><a href='https://forge.test/a.html'>3</a>"
        "<a href='../_static/a.json'>4</a><a href='gone.html'>5</a><a href='#gone'>6</a>"
        "<i id='document-book/one'></i><i id='there'></i></article>"
    )
    page.evaluate(print_book.LINKS)
    links = page.locator("a[href]").evaluate_all("links => links.map((link) => link.getAttribute('href'))")
    assert links == ["#document-book/one", "#there", "https://forge.test/a.html"]
    assert page.locator("article").text_content() == "Figure 123456"


def test_what_is_too_wide_is_drawn_smaller_and_tables_are_unfolded(page: Page, tmp_path: Path):
    page.set_content(
        "<article><details><summary>more</summary><div style='overflow: auto'><p style='width: 800px'>wide</p></div>"
        "</details><div class='tag_hide-input'><details><p>code</p></details></div></article>"
    )
    print_book.print_page(page, tmp_path / "page.pdf")
    assert page.locator("details").evaluate_all("found => found.map((details) => details.open)") == [True, False]
    scrolled = page.locator("article details > div")
    assert scrolled.evaluate("div => div.scrollWidth - div.clientWidth") <= 1
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF-")


def test_what_would_be_too_small_to_read_is_an_error(page: Page, tmp_path: Path):
    page.set_content("<article><div style='overflow: auto'><p style='width: 3000px'>wide</p></div></article>")
    with pytest.raises(BookError, match=r"^page\.pdf: something is \d\.\d times as wide as a page$"):
        print_book.print_page(page, tmp_path / "page.pdf")
    assert not (tmp_path / "page.pdf").exists()
