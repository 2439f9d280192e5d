"""Generated parts of the documentation: the README's tables come from the cards.

``python -m tools.documents`` rewrites them; a test fails when they are stale.
"""

from __future__ import annotations

from pathlib import Path

from unibench import registry
from unibench.cli.listing import describe
from unibench.compose import options

README = Path(__file__).resolve().parents[1] / "README.md"


def methods_table() -> str:
    """Markdown table of the methods."""
    lines = ["| method | what it keeps | paper | text aware | families |", "|---|---|---|---|---|"]
    everywhere = set(describe("method", "vanilla")["families"])
    for name in sorted(registry.methods()):
        card = describe("method", name)
        families = "all" if set(card["families"]) == everywhere else ", ".join(card["families"])
        lines.append(
            f"| {name} | {card['summary']} | {card['paper'] or '-'} |"
            f" {'yes' if card['text aware'] else 'no'} | {families} |"
        )
    return "\n".join(lines)


def models_table() -> str:
    """Markdown table of the models."""
    lines = ["| model | family | checkpoint | pixel presets |", "|---|---|---|---|"]
    for name in options("model"):
        card = describe("model", name)
        source = card["checkpoint"] or "in the repository"
        lines.append(f"| {name} | {card['family']} | {source} | {', '.join(card['pixels'])} |")
    return "\n".join(lines)


def filled(text: str) -> str:
    """The text with the generated parts between ``<!-- name -->`` and ``<!-- /name -->`` made
    anew.
    """
    for name, table in (("methods", methods_table()), ("models", models_table())):
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, _, rest = text.partition(start)
        _, found, after = rest.partition(end)
        assert found, f"the README has no place for {name}"
        text = f"{before}{start}{table}\n{end}{after}"
    return text


if __name__ == "__main__":
    README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8")
