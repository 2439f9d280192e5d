"""Every page of the guide is a program that prints what it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.guide import differences, executed, skeleton, steps
from unibench.registry import ROOT

PAGES = sorted((ROOT.parent / "docs" / "guide").glob("*.md"))
QUICK = "quickstart"  # the one that each submission runs


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page,
            id=page.stem,
            marks=pytest.mark.ci_slow if page.stem == QUICK else pytest.mark.slow,
        )
        for page in PAGES
    ],
)
def test_a_page_prints_what_it_shows(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not differences(text, executed(text)), "run: python -m tools.guide " + str(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_that_prints_shows_its_output(page: Path) -> None:
    shown = [step.shown for step in steps(page.read_text(encoding="utf-8")) if step.shown]
    assert shown and all(block.text.strip() for block in shown)


def test_numbers_keys_and_paths_are_not_compared() -> None:
    old = "kept 16 of 64, 3.2 s  /tmp/a/b.json 0f3a41c2d5e6f708\n--------\n"
    new = "kept 8 of 64, 11.0 s /home/me/b.json ffffa1c2d5e6f708\n---\n\n"
    assert skeleton(old) == skeleton(new)
    assert skeleton(old) != skeleton(new.replace("kept", "lost"))
