"""Opens each page of a built book in headless Chromium: `python workflow/check_scripts.py _build/html`.

Lists each script error; exits 1 if there is any. Where there is no Chromium it says so and exits 0.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
UNCAUGHT = re.compile(r'CONSOLE[:(]\d+\)?\] "(Uncaught .*?)", source: (\S+ \(\d+\))', re.DOTALL)


def script_errors(browser: str, page: Path) -> list[str]:
    """What no script of the page caught, with the file and line it comes from.

    Raises
    ------
    RuntimeError
        If the browser shows no page.
    """
    with tempfile.TemporaryDirectory() as profile:
        shown = subprocess.run(
            [
                *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
                *("--enable-logging=stderr", "--log-level=0", f"--user-data-dir={profile}"),
                *("--virtual-time-budget=5000", "--dump-dom", page.resolve().as_uri()),
            ],
            capture_output=True,
            text=True,
            timeout=120,
        )
    if shown.returncode or "<body" not in shown.stdout:
        raise RuntimeError(f"{browser} shows no {page}:\n{shown.stderr}")
    return [f"{message} at {place}" for message, place in UNCAUGHT.findall(shown.stderr)]


def main(html: Path) -> int:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"SKIPPED: no script error was looked for, there is none of {', '.join(BROWSERS)}")
        return 0
    pages = sorted(html.glob("*.html")) + sorted(html.glob("book/*.html"))
    faults = [f"{page.relative_to(html)}: {error}" for page in pages for error in script_errors(browser, page)]
    print(*faults or [f"{len(pages)} pages without a script error"], sep="\n")
    return 1 if faults or not pages else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
