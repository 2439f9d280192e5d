"""The page holds everything in itself, and nothing that was said in the results can act in it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.page._results import ABILITY, EVIL, hostile
from unibench import frame as frames
from unibench.cli import main
from unibench.page.gallery import differences
from unibench.store import manifest


class Reader(HTMLParser):
    """Elements, their attributes and their text, as a browser reads them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        inside = self.elements[-1][0] if self.elements else ""
        (self.scripts if inside == "script" and not self.scripts else self.texts).append(data)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def page(results: Path) -> Reader:
    assert main(["report", "--html", f"out={results}", f"to={results / 'page'}"]) == 0
    return Reader((results / "page" / "index.html").read_text())


def test_what_was_said_is_text(page: Reader) -> None:
    assert (
        sum(EVIL in text for text in page.texts) >= 2 * 3
    )  # question, truth and answer of both samples that differ
    assert any(ABILITY in text for text in page.texts)
    assert [tag for tag, _ in page.elements].count("script") == 1
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)


def test_the_page_needs_nothing_beside_itself(page: Reader) -> None:
    addresses = [
        value or ""
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "action", "srcset", "poster", "data")
    ]
    assert any(address.startswith("data:image/") for address in addresses)
    assert all(address.startswith(("data:image/", "#")) for address in addresses)
    assert not {"link", "iframe", "object", "embed", "base", "form"} & {
        tag for tag, _ in page.elements
    }
    styles = " ".join(
        [
            *page.texts,
            *(value or "" for _, attributes in page.elements for value in attributes.values()),
        ]
    )
    assert not re.search(r"url\((?!#)|@import", styles)


def test_no_script_but_the_own_may_run(page: Reader) -> None:
    (policy,) = [
        attributes["content"]
        for tag, attributes in page.elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    (script,) = page.scripts
    rules = dict(rule.strip().split(" ", 1) for rule in str(policy).split(";"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"


def test_every_cell_says_where_it_comes_from(page: Reader, results: Path) -> None:
    text = "".join(page.texts)
    cells = frames.load(results).drop_duplicates("key")
    assert len(cells) == 3
    for folder in cells["folder"]:
        assert f"{folder}/samples.jsonl" in text
        assert (
            Path(folder, "config.yaml").read_text() in text
            and Path(folder, "env.json").read_text() in text
        )


def test_the_gallery_shows_what_was_lost_and_won_and_nothing_else(results: Path) -> None:
    found = list(differences(frames.load(results), 4))
    assert [(one.sample, one.won) for one in found] == [("s0001", False), ("s0002", True)]
    assert {(one.before, one.after, one.truth) for one in found} == {("plain", EVIL, EVIL)}
    assert found[0].question == f"1 {EVIL}" and len(found[0].pictures) == 2 and not found[0].remark
    assert len(list(differences(frames.load(results), 1))) == 1


def test_pictures_that_are_gone_or_others_are_said_to_be(tmp_path: Path) -> None:
    out = hostile(tmp_path)
    (tmp_path / "data" / "questions.jsonl").write_text("")
    one, other = differences(frames.load(out), 4)
    assert "not those that this cell was asked about" in one.remark and one.remark == other.remark
    assert one.pictures == () and one.after == EVIL
    for file in out.rglob("identity.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "data": "files:0123"}))
        manifest.write(file.parent, {})
    one, _ = differences(frames.build(out.rglob("metrics.json")), 4)
    assert "not those that this cell was asked about" in one.remark


def test_no_results_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--html", f"out={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert "no finished cell" in error and error.count("\n") == 1
