"""The built book in a browser: each page on three screens in two themes, the search, and the explorers."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect

BOOK = Path(__file__).parents[2] / "book"
PAGES = [f"book/{path.stem}.html" for path in sorted((*BOOK.glob("*.ipynb"), *BOOK.glob("*.md")))]
PAGES += ["genindex.html", "search.html"]
FAULTS = Path(__file__).with_name("page_faults.js").read_text("utf-8")
GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text("utf-8"))
WIDE, MIDDLE, NARROW, HEIGHT = 1280, 1024, 360, 900
HEAVIEST = 4_000_000  # bytes that a page may load
SETTLED = "Promise.resolve(window.MathJax?.startup?.promise).then(() => new Promise(requestAnimationFrame))"

Open = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser, html: Path) -> Iterator[Open]:
    """Opens a page of the book; afterwards no script may have failed and nothing been asked for elsewhere."""
    faults: list[str] = []

    def said(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            faults.append(f"{message.type}: {message.text}")

    def asked(request: Request) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            faults.append(f"request: {request.url}")

    contexts = []

    def open_page(name: str, width: int = WIDE, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": HEIGHT}, offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(f"script: {error}"))
        page.on("console", said)
        page.on("request", asked)
        path, *rest = name.partition("?" if "?" in name else "#")
        page.goto((html / path).as_uri() + "".join(rest))
        page.add_style_tag(content="* { transition: none !important }")
        page.evaluate(SETTLED)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults, "\n".join(faults)


def lasting_faults(page: Page, wide: bool) -> list[str]:
    """What stays wrong with a page: a busy machine may still be laying it out for a new width."""
    for patience in (0, 100, 400, 2000):  # ms
        page.wait_for_timeout(patience)
        page.evaluate(SETTLED)
        faults: list[str] = page.evaluate(FAULTS, {"wide": wide})
        if not faults:
            break
    return faults


# Every page


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_all_of_itself(opened: Open, name: str):
    page = opened(name)
    for width in (WIDE, MIDDLE, NARROW):
        page.set_viewport_size({"width": width, "height": HEIGHT})
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            expect(page.locator("html")).to_have_attribute("data-theme", theme)
            faults = lasting_faults(page, wide=width == WIDE)
            assert not faults, "\n".join((f"{width} px, {theme}:", *faults))
    loaded = page.evaluate("performance.getEntriesByType('resource').map((entry) => new URL(entry.name).pathname)")
    assert sum(Path(unquote(path)).stat().st_size for path in loaded if path.startswith("/")) < HEAVIEST


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<div style='width: 2000px'>long</div>", "the page is 20"),
        ("<div style='overflow: hidden'><p style='width: 2000px'>long</p></div>", 'cut: <p class=""> long'),
        ("<p style='margin-left: -40px'>left</p>", 'cut: <p class=""> left'),
        (
            "<div style='overflow: auto'><p style='width: 2000px'>long</p></div>",
            'scrolls without a sign: <div class=""> long',
        ),
        ("<div class='more-right' style='overflow: auto'><p style='width: 2000px'>long</p></div>", ""),
        (
            "<mjx-container class='more-right' style='display: block; overflow: auto'>"
            "<b style='display: block; width: 2000px'>x = y</b></mjx-container>",
            'a display does not fit: <div class="bd-article-container"> x = y',
        ),
        ("<img src='data:image/gif;base64,R0lGODlhAQABAAAAACw=' alt=''>", "no alternative text: "),
        ("<mjx-merror>no such macro</mjx-merror>", 'formula: <mjx-merror class=""> no such macro'),
        ("<p>short</p>", ""),
    ],
)
def test_faults_are_named(browser: Browser, body: str, fault: str):
    page = browser.new_page(viewport={"width": WIDE, "height": HEIGHT})
    page.set_content(f"<body style='margin: 0'><div class='bd-article-container'>{body}</div>")
    found = page.evaluate(FAULTS, {"wide": True})
    page.close()
    assert found[0].startswith(fault) if fault else found == []


def test_the_search_answers(opened: Open):
    page = opened("search.html?q=hermite")
    expect(page.locator("#search-results")).to_contain_text("Gaussian derivatives by Hermite polynomials")


# The results: numbers, records, files


@pytest.mark.parametrize("chapter", ["table1", "table2", "table3"])
def test_a_number_leads_to_its_records(opened: Open, chapter: str):
    page = opened(f"book/{chapter}.html")
    number = page.locator("table.results td a").first
    number.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/records.html#*")
    place = page.locator(":target")
    expect(place).to_be_in_viewport()
    records = place.locator("xpath=ancestor::tr/following-sibling::tr[1]")
    expect(records).to_contain_text("seed 0")
    expect(records).to_contain_text("torch")


def test_a_number_leads_to_its_records_by_touch_and_without_scripts(browser: Browser, html: Path):
    context = browser.new_context(
        java_script_enabled=False, has_touch=True, viewport={"width": NARROW, "height": HEIGHT}
    )
    page = context.new_page()
    page.goto((html / "book/table1.html").as_uri())
    page.locator("table.results td a").first.tap()
    page.wait_for_url("**/records.html#table1-fashion-mnist-free-form-n1000")
    context.close()


def test_the_command_of_a_cell_can_be_copied(opened: Open):
    page = opened("book/records.html", NARROW, has_touch=True, is_mobile=True)
    box = page.locator("table.records div.highlight").first
    command = box.locator("pre").inner_text()
    assert command.startswith("python -m gdlayer.experiments cell table1 --layer=free-form --dataset=fashion-mnist ")
    button = box.get_by_role("button")
    expect(button).to_have_css("opacity", "1")  # nothing hovers here
    button.tap()
    expect(button).to_have_class(re.compile("success"))
    page.evaluate("document.querySelector('main').prepend(document.createElement('textarea'))")
    page.locator("main textarea").focus()
    page.keyboard.press("ControlOrMeta+V")
    expect(page.locator("main textarea")).to_have_value(command)


def test_a_table_can_be_saved(opened: Open):
    page = opened("book/table1.html")
    with page.expect_download() as saved:
        page.get_by_role("link", name="table1.csv").click()
    assert saved.value.suggested_filename == "table1.csv"
    head, *rows = saved.value.path().read_text("utf-8").splitlines()
    committed = (BOOK.parent / "data/results/paper/table1.csv").read_text("utf-8").splitlines()
    assert head == committed[0]
    assert {*rows} == {row for row in committed[1:] if ",unpooled," in row}


@pytest.mark.parametrize(("chapter", "count"), [("table1", 4), ("table3", 1), ("overview", 2)])
def test_figures_can_be_saved(opened: Open, html: Path, chapter: str, count: int):
    page = opened(f"book/{chapter}.html")
    links = page.locator("figcaption a[download]")
    expect(links).to_have_count(count)
    for link in links.all():
        name = link.inner_text()
        assert link.get_attribute("download") == name
        assert re.fullmatch(r"fig-[\w-]+\.svg", name)
        drawn = (
            html / "_images" / unquote(urlsplit(link.get_attribute("href") or "").path).rpartition("/")[2]
        ).read_text("utf-8")
        assert "<svg" in drawn
        assert "<dc:date>" not in drawn  # the same at every execution


# The explorers


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_kernels_agree_with_the_package(opened: Open):
    page = opened("book/explorers.html")
    for case in GOLDEN["shapes"]:
        found = page.evaluate(
            """({ shape, size, points, step }) => {
                const samples = gaussian.kernel(shape, size);
                const response = [...explorer.respond(samples, size)];
                return {
                    kernel: [...samples],
                    spectrum: [...gaussian.spectrum(samples, size, points)],
                    response: response.filter((_, k) => k % 96 % step === 0 && Math.floor(k / 96) % step === 0),
                    ...gaussian.errors(shape, size),
                };
            }""",
            {**case, **GOLDEN},
        )
        for name, values in found.items():
            close(values, case[name])


def test_mixtures_agree_with_the_package(opened: Open):
    page = opened("book/explorers.html")
    for case in GOLDEN["mixtures"]:
        found = page.evaluate(
            """({ basis, scale, size, shares, step }) => {
                const shapes = basis === "jet" ? gaussian.jet(3) : trained.shapes;
                const kernels = shapes.map((shape) => gaussian.kernel(gaussian.scaled(shape, scale), size));
                const filter = gaussian.mixture(kernels, shares);
                const response = [...explorer.respond(filter, size)];
                return {
                    filter: [...filter],
                    response: response.filter((_, k) => k % 96 % step === 0 && Math.floor(k / 96) % step === 0),
                };
            }""",
            {**case, **GOLDEN},
        )
        for name, values in found.items():
            close(values, case[name])


def drawn(page: Page, explorer: str, title: str) -> str:
    """A picture, all of its pixels."""
    page.evaluate(SETTLED)
    canvas = page.locator(f"#{explorer}-explorer figure canvas[aria-label^='{title}']")
    return canvas.evaluate("(canvas) => canvas.toDataURL()")


def state(page: Page) -> str:
    return page.evaluate("location.hash")


def test_keys_move_a_slider_and_the_address_keeps_it(opened: Open):
    page = opened("book/explorers.html")
    before = drawn(page, "kernel", "response")
    page.get_by_label("p, order along u").press("ArrowRight")
    page.get_by_label("σ₁, scale along u").press("ArrowLeft")
    assert state(page) == "#kernel.p=2&kernel.sigma1=1.95"
    moved = drawn(page, "kernel", "response")
    assert moved != before
    again = opened("book/explorers.html" + state(page))
    assert drawn(again, "kernel", "response") == moved
    again.locator("#kernel-explorer").get_by_role("button", name="Reset").click()
    assert state(again) == ""
    assert drawn(again, "kernel", "response") == before


def test_touch_moves_a_slider(opened: Open):
    page = opened("book/explorers.html", NARROW, has_touch=True)
    slider = page.get_by_label("θ, angle")
    slider.tap(position={"x": 1, "y": 10})
    assert state(page).startswith("#kernel.theta=-1")


def test_errors_are_told_as_by_the_package(opened: Open):
    case = GOLDEN["shapes"][1]  # sigma of 0.3 and 0.5
    shape = {**case["shape"], "theta": 40, "size": 7}
    page = opened("book/explorers.html#" + "&".join(f"kernel.{name}={value}" for name, value in shape.items()))
    sampling, truncation = page.evaluate(
        "(shape) => Object.values(gaussian.errors({ ...shape, theta: (40 * Math.PI) / 180 }, 7))", shape
    )
    told = page.locator("#kernel-explorer .errors")
    expect(told).to_have_text(f"Sampling error {sampling:.1%}. Truncation {truncation:.1%}.".replace("%", " %"))
    page.get_by_label("p, order along u").fill("3")
    expect(told).to_contain_text(", undersampled")
    page.get_by_label("σ₁, scale along u").fill("5")
    expect(told).to_contain_text(", truncated")


def test_a_wrong_address_is_mended(opened: Open):
    page = opened("book/explorers.html#kernel.p=99&kernel.q=x&kernel.size=-3&kernel.sigma1=NaN&mixer.basis=7&no.such=1")
    shown = [page.get_by_label(label).input_value() for label in ("p, order along u", "q, order", "σ₁, scale")]
    assert shown == ["4", "0", "2"]
    assert page.locator("[name='kernel.size']").input_value() == "1"
    assert page.locator("[name='mixer.basis']").input_value() == "1"


def test_presets_mix_different_filters(opened: Open):
    page = opened("book/explorers.html")
    filters = []
    for preset in ("edge", "line", "corner", "blob", "trained"):
        page.get_by_role("button", name=preset).click()
        filters.append(drawn(page, "mixer", "filter"))
    assert all(one != other for k, one in enumerate(filters) for other in filters[:k])
    assert "mixer.basis=1" in state(page)


def test_links_of_the_page_set_the_sliders(opened: Open):
    page = opened("book/explorers.html#kernel.p=3")
    page.get_by_role("link", name="long and turned").click()
    expect(page.get_by_label("θ, angle")).to_have_value("50")  # the page hears of the new address a moment later
    expect(page.get_by_label("p, order along u")).to_have_value("1")


def test_without_scripts_a_still_picture_stands_there(browser: Browser, html: Path):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((html / "book/explorers.html").as_uri())
    still = page.get_by_role("img", name="A first derivative of a Gaussian")
    expect(still).to_be_visible()
    context.close()
