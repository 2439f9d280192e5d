"""Hooks of the site (``mkdocs.yml``): links out of ``docs`` go to the repository, and the pages of
the methods enter the menu by themselves.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY = "https://github.com/unibench/unibench/blob/main"
LINK = re.compile(r"(\]\()((?:\.\./)+[^)\s]+)(\))")


def on_config(config: Any) -> Any:
    """Every method's page goes below "Cards", pages that the menu does not name below "Running"."""
    pages = sorted((ROOT / "docs" / "cards").glob("*.md"))
    entries = [{page.stem: f"cards/{page.name}"} for page in pages]
    sections = {title: menu for section in config["nav"] for title, menu in section.items()}
    for menu in sections.values():
        for entry in menu if isinstance(menu, list) else ():
            if isinstance(entry, dict) and entry.get("Cards") == "cards/":
                entry["Cards"] = entries
    named = str(config["nav"])
    others = sorted((ROOT / "docs").glob("*.md"))
    sections["Running and results"] += [page.name for page in others if page.name not in named]
    return config


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """A link to a file outside of ``docs`` leads to it in the repository; if there is no such file
    it is left alone, so that the strict build names it.
    """
    folder = (ROOT / "docs" / page.file.src_uri).parent

    def outward(match: re.Match[str]) -> str:
        path, _, anchor = match[2].partition("#")
        target = (folder / path).resolve()
        if target.is_relative_to(ROOT / "docs") or not target.exists():
            return match[0]
        link = f"{REPOSITORY}/{target.relative_to(ROOT)}" + (f"#{anchor}" if anchor else "")
        return f"{match[1]}{link}{match[3]}"

    return LINK.sub(outward, markdown)
