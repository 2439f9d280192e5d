"""Pictures of a page, as a person sees it at a desk and on a phone, by day and by night.

python -m tests.page.photographs page/index.html results/explorer
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.page._browser import DESKTOP, PHONE, look, opened, photograph, settled, visit, waited

# the first sample of a method that scores tokens, as by a click
SCORED = """[...document.querySelectorAll("#samples li")]
    .find(line => line.textContent.includes("fastv"))?.click()"""
SECTIONS = ("summary", "scores", "plots", "compare", "recommend", "gallery", "figures")
BY_NIGHT = ("plots", "gallery", "figures")
SHOW = """(document.getElementById(arguments[0]) ?? document.querySelector(`.${arguments[0]}`))
    .scrollIntoView()"""


def main(page: Path, to: Path) -> None:
    """Write ``<section>-<desktop|phone>-<light|dark>.png``; by night the plots and samples alone.
    ``figures`` are the pictures of a sample.
    """
    with tempfile.TemporaryDirectory() as profile:
        browser = opened(Path(profile))
        try:
            for name, size in (("desktop", DESKTOP), ("phone", PHONE)):
                for light in ("light", "dark"):
                    look(browser, size, light)
                    visit(browser, page.absolute().as_uri())
                    browser.execute_script(SCORED)
                    settled(browser)
                    for section in SECTIONS if light == "light" else BY_NIGHT:
                        browser.execute_script(SHOW, section)
                        waited(browser)
                        photograph(browser, to / f"{section}-{name}-{light}.png")
        finally:
            browser.quit()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
