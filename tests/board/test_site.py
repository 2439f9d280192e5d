"""The board shows certificates that hold what they say, and no word of theirs acts on a page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.board._site import EVIL, board
from tests.kit._certificates import MINI
from unibench import UsageError
from unibench.board import Site, build
from unibench.kit import standard


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(standard.STANDARDS, MINI.name, MINI)
        return board(tmp_path_factory.mktemp("board"))


def test_a_certificate_that_does_not_hold_is_named_and_left_out(site: Site) -> None:
    (place,) = site.refused
    assert place == "broken" and "statistics" in site.refused[place]
    assert "broken" in site.index.read_text()


def test_a_method_has_one_page_with_its_versions(site: Site) -> None:
    (page,) = site.methods
    text = page.read_text()
    assert "2026-01-01" in text and "2025-01-01" in text and "class First" in text


def test_toy_models_are_marked(site: Site) -> None:
    assert "Toy models" in site.index.read_text() and "Toy models" in site.methods[0].read_text()


def test_words_of_a_certificate_are_text(site: Site) -> None:
    for page in (site.index, *site.methods):
        text = page.read_text()
        assert EVIL not in text and "onerror=alert(1)>" not in text.replace("&gt;", "")
        assert "Content-Security-Policy" in text


def test_pages_load_nothing(site: Site) -> None:
    for page in (site.index, *site.methods):
        links = re.findall(r"(?:src|href)=\"([^\"]+)\"", page.read_text())
        assert all(not re.match(r"[a-z]+:|//", link) for link in links)


def test_a_folder_without_a_certificate_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no certificate"):
        build(tmp_path, tmp_path / "site")
