"""Proves that a built book opens without a network: `python workflow/check_offline.py _build/html`.

Lists each resource that a page loads from elsewhere, and each local one that is missing; exits 1 if there is any.
Links that a reader may click can point anywhere, but a link to a local file needs that file, and one to a place in a
page that place; ``#name=value`` is the state of an explorer.
"""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Attributes whose URL a browser fetches by itself, by tag; "*" is any tag.
LOADING = {
    "*": ("src", "poster", "background"),
    "object": ("data",),
    "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
    "feimage": ("href", "xlink:href"),
}
LINK_RELATIONS = {
    "stylesheet", "icon", "apple-touch-icon", "mask-icon", "manifest",
    "preload", "modulepreload", "prefetch", "prerender", "preconnect", "dns-prefetch",
}  # fmt: skip
TEMPLATE = "webpack-macros.html"  # the theme's Jinja sources, which it copies along; no page shows them
CSS_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
CSS_URL = re.compile(
    r"""@import\s+(["'])(?P<imported>.*?)\1
      | url\(\s*(?: (["'])(?P<quoted>.*?)\3 | (?P<bare>[^"')\s][^)]*?) )\s*\)""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
JS_IMPORT = re.compile(r"""(?:\bfrom|\bimport)\s*\(?\s*(["'])((?:https?:)?//[^"']+)\1""")
REFRESH = re.compile(r"""url\s*=\s*["']?([^"'\s]+)""", re.IGNORECASE)


def css_urls(css: str) -> Iterator[str]:
    """Every address that a style sheet imports or shows."""
    for match in CSS_URL.finditer(CSS_COMMENT.sub("", css)):
        yield match["imported"] or match["quoted"] or match["bare"] or ""


class _Page(HTMLParser):
    """Collects `loaded`, the addresses that a page fetches, `linked`, those a reader can follow, and its `places`."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []
        self.places: set[str] = set()
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value}
        if "id" in values:
            self.places.add(values["id"])
        for name in (*LOADING["*"], *LOADING.get(tag, ())):
            if name in values:
                self.loaded.append(values[name])
        for name in ("srcset", "imagesrcset"):
            for candidate in re.split(r",\s+", values.get(name, "")):
                self.loaded += candidate.split()[:1]
        self.loaded += css_urls(values.get("style", ""))
        if tag == "link" and "href" in values and LINK_RELATIONS & set(values.get("rel", "").lower().split()):
            self.loaded.append(values["href"])
        if tag == "meta" and values.get("http-equiv", "").lower() == "refresh":
            self.loaded += REFRESH.findall(values.get("content", ""))
        if tag in ("a", "area") and "href" in values:
            self.linked.append(values["href"])
        self._inside = tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._inside = ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self.loaded += css_urls(data)
        elif self._inside == "script":
            self.loaded += [address for _, address in JS_IMPORT.findall(data)]


def check_offline(html: Path) -> tuple[list[str], int, int]:
    """Check every page and style sheet under a folder.

    Parameters
    ----------
    html : Path
        The folder of the built book.

    Returns
    -------
    faults : list of str
        One line per fault, `file: what is wrong`, each once and sorted.
    pages : int
        Pages read.
    resources : int
        Different local files that they load.

    Raises
    ------
    ValueError
        If the folder holds no page.
    """
    faults: set[str] = set()
    resources: set[Path] = set()

    def check(source: Path, address: str, *, loads: bool) -> None:
        address = address.strip()
        parts = urlsplit(address)
        name = source.relative_to(html).as_posix()
        remote = parts.netloc or parts.scheme in ("http", "https", "ws", "wss", "ftp")
        if remote:
            if loads:
                faults.add(f"{name}: loads {address}")
            return
        if parts.scheme not in ("", "file") or not parts.path:  # data:, blob:, mailto:, #fragment
            return
        if parts.scheme == "file" or parts.path.startswith("/"):
            faults.add(f"{name}: absolute address {address}")
            return
        target = (source.parent / unquote(parts.path)).resolve()
        if not target.exists():
            faults.add(f"{name}: missing {address}")
        elif not target.is_relative_to(html):
            faults.add(f"{name}: outside the book: {address}")
        elif loads:
            resources.add(target)

    html = html.resolve()
    pages = sorted(p for p in html.rglob("*.html") if not p.name.endswith(TEMPLATE))
    if not pages:
        raise ValueError(f"no .html file under {html}")
    read: dict[Path, _Page] = {}
    for path in pages:
        read[path] = page = _Page()
        page.feed(path.read_text("utf-8"))
        page.close()
    for path, page in read.items():
        for address in page.loaded:
            check(path, address, loads=True)
        for address in page.linked:
            check(path, address, loads=False)
            parts = urlsplit(address)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            place = unquote(parts.fragment)
            local = not (parts.scheme or parts.netloc) and target in read
            if local and place and "=" not in place and place not in read[target].places:
                faults.add(f"{path.relative_to(html).as_posix()}: no such place {address}")
    for path in html.rglob("*.css"):
        for address in css_urls(path.read_text("utf-8")):
            check(path, address, loads=True)
    return sorted(faults), len(pages), len(resources)


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1:
        print("usage: check_offline.py HTML_DIRECTORY", file=sys.stderr)
        return 2
    try:
        faults, pages, resources = check_offline(Path(arguments[0]))
    except ValueError as error:
        faults, pages, resources = [str(error)], 0, 0
    for fault in faults:
        print(fault)
    if not faults:
        print(f"offline: {pages} pages load {resources} local files, none remote, none missing")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
