"""Generated parts of the documentation: tables of the README and of the guide come from the cards.

``python -m tools.documents`` rewrites them; a test fails when they are stale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from unibench import registry
from unibench.cli.listing import describe
from unibench.compose import options

ROOT = Path(__file__).resolve().parents[1]
README, GUIDE = ROOT / "README.md", ROOT / "docs" / "methods.md"


def methods_table() -> str:
    """The methods, in short."""
    everywhere = set(describe("method", "vanilla")["families"])

    def line(name: str, card: dict[str, Any]) -> list[str]:
        families = "all" if set(card["families"]) == everywhere else ", ".join(card["families"])
        return [name, card["summary"], card["venue"], ", ".join(card["needs"]), families]

    titles = ("method", "what it keeps", "venue", "needs", "families")
    return _table(titles, (line(name, describe("method", name)) for name in registry.methods()))


def needs_table() -> str:
    """What each method needs, where it cuts, and its defaults."""

    def line(name: str, card: dict[str, Any]) -> list[str]:
        defaults = ", ".join(
            f"{key}={_default(value)}" for key, value in card["parameters"].items()
        )
        wants = [f"{want} (some families)" for want in card["wants"]]
        return [
            name,
            card["paper"] or "",
            card["venue"],
            ", ".join([*card["needs"], *wants]),
            ", ".join(card["layers"]),
            "yes" if card["FlashAttention"] else "no",
            "yes",  # held for all methods by the tests of batches
            "adaptive" if card["adaptive"] else "exact",
            f"`{defaults}`" if defaults else "",
        ]

    titles = (
        *("method", "paper", "venue", "needs", "cuts at", "FlashAttention", "batch", "count"),
        "defaults",
    )
    return _table(titles, (line(name, describe("method", name)) for name in registry.methods()))


def models_table() -> str:
    """The models."""

    def line(name: str, card: dict[str, Any]) -> list[str]:
        source = card["checkpoint"] or "in the repository"
        return [name, card["family"], source, ", ".join(card["pixels"])]

    titles = ("model", "family", "checkpoint", "pixel presets")
    return _table(titles, (line(name, describe("model", name)) for name in options("model")))


def _table(titles: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; an empty cell is a dash."""
    rows = [list(titles), ["---"] * len(titles)]
    rows += [[cell or "-" for cell in line] for line in lines]
    text = [" | ".join(row) for row in rows]
    text[1] = "|".join(rows[1])
    return "\n".join(f"|{line}|" if line == text[1] else f"| {line} |" for line in text)


def _default(value: Any) -> str:
    """The default of a parameter as the command line has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value).replace("|", "\\|")


TABLES: dict[Path, dict[str, Callable[[], str]]] = {
    README: {"methods": methods_table, "models": models_table},
    GUIDE: {"needs": needs_table},
}
"""The tables of each page, by the name that stands around them."""


def filled(page: Path, text: str) -> str:
    """The text of a page with the generated parts between ``<!-- name -->`` and ``<!-- /name -->``
    made anew.
    """
    for name, table in TABLES[page].items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, _, rest = text.partition(start)
        _, found, after = rest.partition(end)
        assert found, f"{page.name} has no place for {name}"
        text = f"{before}{start}{table()}\n{end}{after}"
    return text


if __name__ == "__main__":
    for page in TABLES:
        page.write_text(filled(page, page.read_text(encoding="utf-8")), encoding="utf-8")
