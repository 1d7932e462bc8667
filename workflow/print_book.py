"""``make pdf``: the whole book and its replication report as PDF, ``_build/pdf/book.pdf`` and ``replication.pdf``.

All chapters are built on one page, which Chromium prints: the mathematics, figures and tables are those of the book.
Without Chromium it says so and writes nothing.
"""

import argparse
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

import yaml
from build_book import ROOT, BookError, render
from playwright.sync_api import Error, Page, sync_playwright

import gdlayer

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
REPORT = "book/replication"
WIDTH = 665
"""CSS pixels: A4 without the margins of print.css."""
PATIENCE = 600_000
"""Milliseconds that the page may take to load, which has the mathematics of the whole book; some seconds, as a rule."""
SMALLEST = 0.6
"""What does not fit the column is drawn smaller, but not more than this: 9 pt becomes 5.4 pt."""
EXPLORERS = re.compile(r'<script src="\.\./_static/explorers/.*?</script>')
STILL = re.compile(r"<noscript>(\s*<p>The explorers.*?)</noscript>", re.DOTALL)

TITLE_PAGE = """(lines) => {
    const title = document.querySelector("#jb-print-docs-body h1");
    title.insertAdjacentHTML("afterend", lines.map((line) => `<p class="byline">${line}</p>`).join(""));
}"""

ALONE = """(name) => {
    const chapter = document.getElementById(`document-${name}`).nextElementSibling;
    const links = [...chapter.querySelectorAll("a[href^='#']")];
    const target = (link) => document.getElementById(decodeURIComponent(link.hash.slice(1)));
    const cited = new Set(links.map(target).filter((found) => found?.matches(".citation")));
    chapter.insertAdjacentHTML("beforeend", "<section><h3>References</h3></section>");
    chapter.lastElementChild.append(...cited);
    chapter.querySelector(".section-number").remove();
    document.title = chapter.firstElementChild.firstChild.textContent;
    document.querySelector("#jb-print-docs-body").remove();
    document.querySelector("article").replaceChildren(chapter);
}"""
"""Leaves one chapter, with the references that it cites."""

LINKS = r"""() => {
    for (const link of document.querySelectorAll("figcaption a[download]")) {
        for (const part of [link.previousSibling, link.nextSibling, link]) part.remove(); // "To save: figure.svg."
    }
    for (const link of document.querySelectorAll("article a[href]")) {
        const [, page, place] = link.getAttribute("href").match(/^(?:book\/)?(\w+)\.html(?:#(.+))?$/) ?? [];
        if (page) link.setAttribute("href", `#${place ?? `document-book/${page}`}`);
        const address = link.getAttribute("href");
        const leads = address.startsWith("#")
            ? document.getElementById(decodeURIComponent(address.slice(1)))
            : /^https?:/.test(address);
        if (!leads) link.replaceWith(...link.childNodes);
    }
}"""
"""Lets links to other pages lead to their place on this one; those that lead nowhere become plain text."""

UNFOLD = """document.querySelectorAll(':not(.tag_hide-input) > details').forEach((details) => (details.open = true))"""
"""Opens tables and solutions; the code of figures is left out."""

FIT = """() => {
    let least = 1;
    for (const element of document.querySelectorAll("article *:not(mjx-container *, svg *)")) {
        const scale = element.clientWidth / element.scrollWidth;
        if (getComputedStyle(element).overflowX === "visible" || !element.clientWidth || scale > 0.998) continue;
        element.style.zoom = scale;
        least = Math.min(least, scale);
    }
    return least;
}"""
"""Shrinks what is wider than its place, such as a wide table; the smallest scale that was needed."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("_build/pdf"))
    options = parser.parse_args()
    try:
        if print_all(options.folder):
            print(f"the book and the report as PDF: {options.folder.resolve()}")
    except (BookError, OSError, Error) as error:
        print(f"error: no PDF was made: {error}", file=sys.stderr)
        return 1
    return 0


def browser_here() -> str | None:
    """The path of a Chromium, if there is one."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def print_all(folder: Path) -> bool:
    """Writes ``book.pdf`` and ``replication.pdf``; says so and returns False where there is no Chromium.

    Raises
    ------
    BookError
        If the book cannot be built, or something in it does not fit a page.
    """
    program = browser_here()
    if program is None:
        print(f"no PDF was made: there is none of {', '.join(BROWSERS)}")
        return False
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        html = one_page(Path(scratch))
        with (
            sync_playwright() as playwright,
            playwright.chromium.launch(executable_path=program, args=["--no-sandbox"]) as browser,
        ):
            page = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
            page.goto(html.as_uri(), timeout=PATIENCE)
            page.evaluate("Promise.resolve(window.MathJax?.startup?.promise)")
            page.evaluate(LINKS)
            page.evaluate(TITLE_PAGE, title_page())
            print_page(page, folder / "book.pdf")
            page.evaluate(ALONE, REPORT)
            page.evaluate(LINKS)
            print_page(page, folder / "replication.pdf")
    return True


def one_page(scratch: Path) -> Path:
    """The page with all chapters; a still picture in the place of the explorers, as where there is no JavaScript."""
    folder = render(scratch, None, "singlehtml")
    text = (folder / "book" / "preface.html").read_text(encoding="utf-8")
    text = STILL.sub(r"\1", EXPLORERS.sub("", text)).replace('"../_static/', '"_static/')
    page = folder / "index.html"  # its links are as from here, where Sphinx has a page that leads to it
    page.write_text(text, encoding="utf-8")
    return page


def title_page() -> list[str]:
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    return [config["author"], f"Version {gdlayer.__version__}, record of {newest()}"]


def newest() -> str:
    """The date of the newest record: what the book shows is not younger."""
    records = (ROOT / "data" / "results").glob("*/*/*/*.json")
    return max(json.loads(path.read_text(encoding="utf-8"))["started"] for path in records)[: len("2022-10-16")]


def print_page(page: Page, path: Path) -> None:
    page.emulate_media(media="print")
    page.evaluate(UNFOLD)
    least = page.evaluate(FIT)
    if least < SMALLEST:
        raise BookError(f"{path.name}: something is {1 / least:.1f} times as wide as a page")
    page.pdf(path=path, prefer_css_page_size=True, print_background=True, outline=True, tagged=True)


if __name__ == "__main__":
    sys.exit(main())
