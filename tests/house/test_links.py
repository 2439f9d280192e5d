"""Links of the documents lead somewhere; `make docs` checks anchors and references as well."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from unibench.registry import ROOT
from unibench.tasks.synthvqa import SynthVQA

TOP = ROOT.parent
PAGES = sorted([*TOP.glob("*.md"), *(TOP / "docs").rglob("*.md"), *(TOP / ".github").rglob("*.md")])
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)\s#]+)")
SAMPLE = re.compile(r"\btest-[\w-]*\d{8}-\w+")
FENCED = re.compile(r"^```.*?^```|^    [^\n]*$", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TOP)))
def test_every_link_to_a_file_has_one(page: Path) -> None:
    text = FENCED.sub("", page.read_text(encoding="utf-8"))
    broken = [link for link in LINK.findall(text) if not (page.parent / link).exists()]
    assert not broken


def test_every_page_of_the_menu_is_there() -> None:
    named = re.findall(r"([\w/]+\.md)\b", (TOP / "mkdocs.yml").read_text(encoding="utf-8"))
    assert named and all((TOP / "docs" / page).is_file() for page in named)
    pages = {str(page.relative_to(TOP / "docs")) for page in (TOP / "docs").rglob("*.md")}
    assert {page for page in pages if not page.startswith("cards/")} <= set(named)


def test_samples_that_examples_name_exist() -> None:
    texts = [*PAGES, *(ROOT / "cli").glob("*.py")]
    named = {name for file in texts for name in SAMPLE.findall(file.read_text(encoding="utf-8"))}
    assert named and named <= {sample.id for sample in SynthVQA().samples(200)}


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the site has an environment of its own: make docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", tmp_path]
    run = subprocess.run(command, cwd=TOP, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
