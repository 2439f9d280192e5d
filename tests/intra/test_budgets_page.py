"""The page on budgets says what the methods do."""

from __future__ import annotations

from pathlib import Path

from tools.budgets import main

DOCS = Path(__file__).parents[2] / "docs"


def test_the_generated_table_is_current() -> None:
    page = (DOCS / "budgets.md").read_text(encoding="utf-8")
    generated = page.partition("<!-- generated -->\n")[2].partition("\n<!-- end -->")[0]
    assert generated == main(), "run python -m tools.budgets"
