"""Generated parts of the documentation: tables of the guide and a page for each method come from
the cards.

``python -m tools.documents`` rewrites them; a test fails when they are stale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from unibench import cite, registry
from unibench.cli.listing import describe
from unibench.compose import options

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
METHODS, MODELS = ROOT / "docs" / "methods.md", ROOT / "docs" / "models.md"
CARDS = ROOT / "docs" / "cards"
PICTURES = ROOT / "docs" / "assets" / "kept"
GOLDEN = ROOT / "tests" / "golden"
CODE_URL = "https://github.com/unibench/unibench/blob/main"


def methods_table() -> str:
    """The methods, in short."""
    everywhere = set(describe("method", "vanilla")["families"])

    def line(name: str, card: dict[str, Any]) -> list[str]:
        families = "all" if set(card["families"]) == everywhere else ", ".join(card["families"])
        link = f"[{name}](cards/{name}.md)"
        return [link, card["summary"], card["venue"], ", ".join(card["needs"]), families]

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


def cards() -> dict[Path, str]:
    """The page of each method."""
    return {CARDS / f"{name}.md": _page(name) for name in registry.methods()}


def _page(name: str) -> str:
    card, source = describe("method", name), registry.method(name).path
    said = [f"# {name}", card["summary"].replace("``", "`")]
    if (PICTURES / f"{name}.jpg").is_file():
        said.append(
            f"![What {name} keeps of a photograph](../assets/kept/{name}.jpg){{ .kept }}\n\n"
            "*Left: the photograph. Right: the tokens that are kept at a ratio of 0.75, on a tiny"
            " model. Where a method merges, or cuts inside the language model, these are the places"
            " that reach the last layer.*"
        )
    if card["why"]:
        said.append(_prose(card["why"]))
    needs = ", ".join(card["needs"]) or "nothing but the tokens"
    facts = [
        ("Paper", _prose(card["paper"] or "none")),
        ("Official code", _prose(card["code"] or "none")),
        ("Needs", needs),
        ("Cuts at", ", ".join(card["layers"])),
        ("FlashAttention", "yes" if card["FlashAttention"] else "no"),
        ("Count", "adaptive" if card["adaptive"] else "exact"),
        ("Families", ", ".join(card["families"])),
        ("Golden cases", _golden(name, official=not (card["code"] or "none").startswith("none"))),
        ("Source", f"[`methods/{source.name}`]({CODE_URL}/methods/{source.name})"),
    ]
    said.append(_table(facts[0], ([f"**{key}**", value] for key, value in facts[1:])))
    said += ["## Use", "```console", f"$ unibench method={name} ratio=0.889", "```"]
    if card["parameters"]:
        defaults = card["parameters"].items()
        rows = [[f"`method.{key}`", f"`{_default(value)}`"] for key, value in defaults]
        said += ["## Parameters and official defaults", _table(("parameter", "default"), rows)]
    if card.get("meaning"):
        said.append(_prose(card["meaning"]))
    for title in ("deviations", "finding", "cost", "weights"):
        if card.get(title):
            said += [f"## {title.capitalize()}", _prose(card[title])]
    numbers = cite.of_method(name)
    if numbers:
        said += ["## Cite", "```bibtex"]
        said += [cite.reference(number).bibtex() for number in numbers] + ["```"]
    return _joined(said)


def _joined(said: Sequence[str]) -> str:
    """Blocks with an empty line between them, but none inside a fence."""
    text, inside = "", False
    for piece in said:
        fence = piece.startswith("```")
        text += piece + ("\n" if inside or fence else "\n\n")
        if fence:
            text += "\n" if inside else ""
            inside = not inside
    return text.rstrip("\n") + "\n"


def _golden(name: str, *, official: bool) -> str:
    """How many stored results of the official code hold a method, or of a reference, where there
    is none.
    """
    known = yaml.safe_load((GOLDEN / "map.yaml").read_text(encoding="utf-8"))
    folders = [folder for folder, entry in known.items() if entry["method"] == name]
    cases = 0
    for folder in folders:
        cases += sum(file.suffix != ".md" for file in (GOLDEN / "cases" / folder).iterdir())
    if not cases:
        return "none; held by the tests that every method passes"
    where = ", ".join(f"`{folder}`" for folder in folders)
    source = (
        "the official code" if official else "a reference, since no official code could be had,"
    )
    return f"{cases} files of results of {source} in {where}; a test answers them"


def _prose(text: str) -> str:
    """Text of a docstring as Markdown."""
    return text.replace("``", "`").replace("|", "\\|")


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
    METHODS: {"methods": methods_table, "needs": needs_table},
    MODELS: {"models": models_table},
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
    CARDS.mkdir(exist_ok=True)
    for page, text in cards().items():
        page.write_text(text, encoding="utf-8")
