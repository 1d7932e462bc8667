"""The book, built once for all tests that look at it, and a browser."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from build_book import build
from filelock import FileLock
from playwright.sync_api import Browser, sync_playwright
from print_book import BROWSERS, browser_here


@pytest.fixture(scope="session")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built book, which the workers of pytest-xdist share."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    html = folder / "html"
    with FileLock(folder / "html.lock"):
        if not html.exists():
            build(tmp_path_factory.mktemp("book"), None).rename(html)
    return html


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium without a network."""
    program = browser_here()
    if program is None:
        pytest.skip(f"no page of the book was looked at: there is none of {', '.join(BROWSERS)}")
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=program, args=["--no-sandbox"]) as opened,
    ):
        yield opened
