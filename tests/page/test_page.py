"""The explorer is one folder, and nothing that was said in the results can act in it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.page._results import ABILITY, EVIL, SCORES, hostile
from tests.security._stores import reseal
from unibench import frame as frames
from unibench.cli import main
from unibench.page import details
from unibench.page.build import LIBRARIES, SCRIPTS
from unibench.page.details import LONGEST, clipped


class Reader(HTMLParser):
    """Elements, their attributes and their text, as a browser reads them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text = text
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] == "script" and self.scripts:
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)

    @property
    def data(self) -> dict[str, Any]:
        (text,) = (text for attributes, text in self.scripts if "type" in attributes)
        found: dict[str, Any] = json.loads(text)
        return found


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def folder(results: Path) -> Path:
    to = results.parent / "page"
    assert main(["page", f"out={results}", f"to={to}"]) == 0
    return to


@pytest.fixture(scope="module")
def page(folder: Path) -> Reader:
    return Reader((folder / "index.html").read_text(encoding="utf-8"))


def script(file: Path) -> Any:
    """What a script of the folder hands over."""
    found = re.fullmatch(r'explorer\.take\("\w+", (.*)\);\n', file.read_text(encoding="utf-8"))
    assert found is not None
    return json.loads(found[1])


def cell_of(page: Reader, folder: Path, method: str) -> tuple[Any, Any]:
    """The details of a method's only cell, and what it was asked."""
    cells = page.data["cells"]
    number, questions, _ = cells["detail"][cells["method"].index(method)]
    asked = None if questions is None else script(folder / "details" / f"questions{questions}.js")
    return script(folder / "details" / f"cell{number}.js"), asked


def test_what_was_said_is_text(page: Reader, folder: Path) -> None:
    for file in folder.rglob("*.js"):
        assert "<" not in file.read_text(encoding="utf-8"), file
    assert "<img src=x" not in page.text and ABILITY not in page.text
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    told, asked = cell_of(page, folder, "divprune")
    assert EVIL in [answer for _, answer, *_ in told["samples"]]
    assert asked["asked"]["s0001"][:3] == [ABILITY, f"1 {EVIL}", EVIL]


def test_the_page_asks_nobody_but_its_folder(page: Reader) -> None:
    addresses = [
        value or ""
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "action", "srcset", "poster", "data")
    ]
    assert addresses and all(address.startswith("#") for address in addresses)
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.elements}
    styles = page.text[page.text.index("<style>") : page.text.index("</style>")]
    assert not re.search(r"url\((?!#)|@import", styles)


def test_no_script_but_those_of_the_page_may_run(page: Reader) -> None:
    (policy,) = [
        str(attributes["content"])
        for tag, attributes in page.elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    own = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    assert len(own) == len(LIBRARIES) + len(SCRIPTS)
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in own]
    assert rules["script-src"].split() == ["'self'", *(f"'sha256-{one}'" for one in digests)]
    assert rules["default-src"] == "'none'" and rules["img-src"] == "'self' data:"


def test_the_libraries_are_carried_with_their_licences(page: Reader, folder: Path) -> None:
    assert "Copyright SpryMedia Limited" in page.text
    assert page.text.count("University of Washington Interactive Data Lab") >= 3
    assert (folder / "index.html").stat().st_size < 3_000_000


def test_every_cell_says_where_it_comes_from(page: Reader, folder: Path, results: Path) -> None:
    cells = frames.load(results).drop_duplicates("key")
    assert len(cells) == 4
    for method, place in zip(cells["method"], cells["folder"], strict=True):
        told, _ = cell_of(page, folder, method)
        assert told["folder"] == place
        assert told["config"] == Path(place, "config.yaml").read_text()
        assert told["environment"] == Path(place, "env.json").read_text()


def test_the_gallery_has_every_answer_that_differs_and_no_other(page: Reader, folder: Path) -> None:
    told, asked = cell_of(page, folder, "divprune")
    # all four: where the score is the same, the answer is another
    assert [(name, score) for name, _, score, *_ in told["samples"]] == [
        ("s0000", 1.0), ("s0001", 0.0), ("s0002", 1.0), ("s0003", 0.0),
    ]  # fmt: skip
    assert {entry[4][1] for entry in asked["asked"].values()} == {1.0, 0.0}
    assert cell_of(page, folder, "fastv")[0]["samples"] == []


def test_a_picture_is_written_once_and_its_kept_places_are_numbers(
    page: Reader, folder: Path
) -> None:
    (file,) = (folder / "pictures").iterdir()
    assert Image.open(file).format == "WEBP"
    told, asked = cell_of(page, folder, "divprune")
    assert {name for entry in asked["asked"].values() for name in entry[3]} == {file.name}
    *_, kept, layout, count, _ = told["samples"][0]
    assert (base64.b64decode(kept), count) == (bytes([0b00100000]), told["samples"][0][5])
    assert asked["layouts"][layout] == [[0, [[0, 2, 2, [0.0, 0.0, 1.0, 1.0]]]]]


def test_scores_of_tokens_are_handed_on_where_they_are_stored(page: Reader, folder: Path) -> None:
    told, asked = cell_of(page, folder, "dart")
    layer, low, high, values = told["samples"][0][6]
    assert (layer, low, high) == (2, 0.25, 0.5)
    assert len(base64.b64decode(values)) == 2 * len(SCORES)
    assert asked["asked"]["s0000"][4][5] is None  # of vanilla
    told, _ = cell_of(page, folder, "divprune")
    assert told["samples"][0][6] is None and told["scored"] is False


def test_marks_and_the_best_control_come_from_the_command_lines_functions(
    page: Reader, results: Path
) -> None:
    lines = page.data["lines"]
    number = lines["method"].index("divprune")
    whole = frames.whole(frames.load(results)).set_index("method")
    assert lines["score_100"][number] == whole.loc["divprune", "score_100"]
    assert lines["low"][number] == pytest.approx(whole.loc["divprune", "low"], rel=1e-5)
    first, second, n, difference, *_ = page.data["pairs"][0]
    assert lines["method"][first] == "vanilla" and n == 4
    wanted = whole.loc[lines["method"][second], "score_100"] - whole.loc["vanilla", "score_100"]
    assert difference == pytest.approx(wanted)


def test_pictures_that_are_gone_or_others_are_said_to_be(tmp_path: Path) -> None:
    out = hostile(tmp_path)
    (tmp_path / "data" / "questions.jsonl").write_text("")
    found = details.write(frames.load(out), tmp_path / "page")
    assert any("not those that this cell was asked about" in one for one in found.remarks)
    assert not list((tmp_path / "page" / "pictures").iterdir())
    assert sorted(one.differ for one in found.cells.values()) == [0, 0, 4, 4]
    for file in out.rglob("identity.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "data": "files:0123"}))
        reseal(file.parent)  # whoever edits on purpose writes another manifest
    found = details.write(frames.build(out.rglob("metrics.json")), tmp_path / "page")
    assert any("not those that this cell was asked about" in one for one in found.remarks)


def test_what_an_earlier_page_left_is_removed_and_nothing_else(
    results: Path, tmp_path: Path
) -> None:
    (tmp_path / "details").mkdir()
    old, mine = tmp_path / "details" / "cell99.js", tmp_path / "details" / "mine.js"
    for file in (old, mine):
        file.write_text("x")
    assert main(["page", f"out={results}", f"to={tmp_path}"]) == 0
    assert mine.exists() and not old.exists()


def test_nothing_is_written_through_a_linked_folder(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "pictures").symlink_to(tmp_path / "elsewhere")
    assert main(["page", f"out={results}", f"to={tmp_path / 'page'}"]) == 2
    error = capsys.readouterr().err
    assert "is a link" in error and error.count("\n") == 1
    assert not list((tmp_path / "elsewhere").iterdir())


def test_samples_beyond_what_a_page_reads_are_counted(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(details, "SAMPLES", 8)
    found = details.write(frames.load(results), tmp_path)
    assert len(found.cells) == 2 and found.left == 2


def test_a_long_answer_is_cut_and_says_so() -> None:
    assert clipped("a" * 100_000) == "a" * LONGEST + " ... (96,000 more signs)"


def test_the_page_is_a_report_too(results: Path, tmp_path: Path) -> None:
    assert main(["report", "--html", f"out={results}", f"to={tmp_path / 'page'}"]) == 0
    assert (tmp_path / "page" / "index.html").is_file()


def test_no_results_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["page", f"out={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert "no finished cell" in error and error.count("\n") == 1
