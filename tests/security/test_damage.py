"""Half-done work is invisible, and a line of samples that is no whole line is asked again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stats._cells import finished
from tests.support.records import line as lined
from tests.support.workers import Scripted, answer_of, grid
from unibench import frame as frames
from unibench.cli import main
from unibench.identity import Cell
from unibench.inference.record import COLUMNS, Record, RecordError
from unibench.inference.row import Row, row_of
from unibench.plan import rows_below
from unibench.runner import forgive, work
from unibench.store import CellFolder, Watch, acquire, cells_below, repair, verify
from unibench.store.claim import holder
from unibench.store.lines import ENVIRONMENT, OPTIONAL, REQUIRED, environment_of, line_of, parsed


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out: Path = tmp_path_factory.mktemp("made")
    finished(out, [1.0, 1.0, 0.0, 0.0], "method=vanilla", "task.limit=4")
    finished(out, [1.0, 0.0, 0.0, 0.0], "method=divprune", "ratio=0.75", "task.limit=4")
    return out


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "out"))


HIDDEN = (".import-abcdefgh", ".removed-abcdefgh", ".anything", "tiny_qwen2_5_vl/.removed-0123")


def test_no_reader_counts_what_is_hidden(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def seen() -> list[str]:
        capsys.readouterr()
        for words in (
            ["report", f"out={out}", "format=csv"],
            ["compare", "divprune", "vanilla", f"out={out}"],
            ["recommend", "--max-drop", "99", f"out={out}"],
            ["store", "index", str(out)],
            ["store", "prune", str(out), "--failed", "--partial"],
            [
                "plan",
                "model=tiny_qwen2_5_vl",
                "method=divprune",
                "ratio=0.75",
                "task.limit=4",
                f"out={out}",
            ],
        ):
            assert main(words) == 0, words
        return [
            capsys.readouterr().out,
            str(len(frames.load(out))),
            str(len(list(rows_below(out)))),
        ]

    before = seen()
    for name in HIDDEN:
        place = out / name / "tiny_qwen2_5_vl"
        place.parent.mkdir(parents=True)
        shutil.copytree(out / "tiny_qwen2_5_vl", place, ignore=shutil.ignore_patterns(".*"))
        for file in place.rglob("metrics.json"):
            file.write_text(
                json.dumps({**json.loads(file.read_text()), "score": 0.0, "score_100": 0.0})
            )
    assert seen() == before
    assert main(["report", "--html", f"out={out}", f"to={tmp_path / 'page'}"]) == 0
    page = (tmp_path / "page" / "index.html").read_text()
    assert not [name for name in HIDDEN if name in page]


def test_leftovers_are_named_and_removed_by_the_next_write(out: Path) -> None:
    left = out / ".removed-0123" / "x"
    left.mkdir(parents=True)
    (cell, *_) = cells_below(out)
    torn = cell / ".metrics.json.0123456789abcdef.tmp"
    torn.write_text("{")
    assert {problem.file for problem in verify(out)} == {left.parent, torn}
    repair(out)
    assert not left.exists() and not torn.exists() and verify(out) == []


def test_what_somebody_works_on_is_no_leftover(out: Path) -> None:
    busy = out / ".import-busy"
    busy.mkdir()
    claim = acquire(busy, "import", Watch())
    assert claim is not None
    repair(out)
    assert busy.exists() and verify(out) == []
    claim.close()
    repair(out)
    assert busy.exists(), "it was made a moment ago, so that its maker may yet claim it"
    os.utime(busy, (0, 0))
    repair(out)
    assert not busy.exists()


class Real(Scripted):
    """Made-up answers, and the row that a run makes of them."""

    def row(
        self,
        cell: Cell,
        records: Sequence[Record],
        environments: Sequence[Mapping[str, Any]],
        vanilla: Row | None,
    ) -> Row:
        return row_of(cell, records, environments, vanilla, "accuracy")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
KEEP = object()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Cell:
    """A finished cell, and its files as they were beside it."""
    place = tmp_path_factory.mktemp("whole")
    (cell,) = grid(place / "out", "method=vanilla", "task.limit=3")
    assert not work([cell], executors={"embedded": Real()}).failures
    shutil.copytree(cell.folder, place / "whole")
    return cell


def check_mended(cell: Cell) -> None:
    """Whatever was damaged: no error but a named one, and after a repair the cell is whole again."""
    for verb in ("verify", "repair", "index"):
        assert main(["store", verb, str(cell.folder)]) in (0, 1), verb
    forgive([cell])
    outcome = work([cell], executors={"embedded": Real()})
    assert not outcome.failures, outcome.failures
    samples = CellFolder(cell).samples()
    assert {name: one["answer"] for name, one in samples.items()} == {
        str(number): answer_of(cell, str(number)) for number in range(3)
    }
    assert verify(cell.folder) == []


@pytest.mark.parametrize("field", [*REQUIRED])
def test_a_line_that_lacks_a_field_is_set_aside_and_asked_again(field: str, whole: Cell) -> None:
    restored(whole)
    file = whole.folder / "samples.jsonl"
    first, *others = file.read_bytes().splitlines(keepends=True)
    lacking = {name: value for name, value in json.loads(first).items() if name != field}
    file.write_bytes(line_of(lacking) + b"".join(others))
    assert [problem.what for problem in verify(whole.folder)] == ["line 1 is damaged"]
    assert repair(whole.folder) == 1
    executor = Real()
    assert not work([whole], executors={"embedded": executor}).failures
    assert [name for _, name in executor.asked] == ["0"]
    check_mended(whole)


def restored(cell: Cell) -> None:
    """Put the files of a finished cell back."""
    shutil.rmtree(cell.folder)
    shutil.copytree(Path(cell.config.out).parent / "whole", cell.folder)


@pytest.mark.slow
@settings(max_examples=150)
@given(
    field=st.sampled_from([*REQUIRED, *OPTIONAL, "environment"]),
    value=JSON,
    line=st.integers(0, 2),
    stage=st.sampled_from(["done", "rowless", "writer"]),
)
def test_any_value_of_any_field_is_kept_or_asked_again(
    field: str, value: Any, line: int, stage: str, whole: Cell
) -> None:
    restored(whole)
    file = whole.folder / "samples.jsonl"
    samples = [json.loads(one) for one in file.read_bytes().splitlines()]
    samples[line][field] = value
    lines = [json.dumps(sample).encode() + b"\n" for sample in samples]
    if stage == "writer":
        file.unlink()
        (whole.folder / "samples-0.jsonl").write_bytes(b"".join(lines))
    else:
        file.write_bytes(b"".join(lines))
    if stage != "done":
        (whole.folder / "metrics.json").unlink()
    if parsed(lines[line]) is not None and stage == "done":
        return  # another value of the right type: what a row is checked against
    before = CellFolder(whole).samples() if all(map(parsed, lines)) else None
    repair(whole.folder)
    forgive([whole])
    outcome = work([whole], executors={"embedded": Real()})
    assert not outcome.failures, outcome.failures
    if before is None:
        check_mended(whole)


@pytest.mark.slow
@settings(max_examples=150)
@given(
    name=st.sampled_from(["env.json", "status.json", "samples.jsonl", "split", "done-0-of-1", "claim-0-of-1.0"]),
    content=st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()),
    rowless=st.booleans(),
)  # fmt: skip
def test_any_content_of_any_file_is_mended(
    name: str, content: bytes, rowless: bool, whole: Cell
) -> None:
    restored(whole)
    (whole.folder / name).write_bytes(content)
    if rowless:
        (whole.folder / "metrics.json").unlink()
    repair(whole.folder)
    if not rowless:
        (whole.folder / "metrics.json").unlink(missing_ok=True)
    work([whole], executors={"embedded": Real()}, expiry=0.2)
    check_mended(whole)


def test_a_line_is_whole_where_it_makes_a_record() -> None:
    assert set(COLUMNS) == {*REQUIRED, *OPTIONAL}
    for field in COLUMNS:
        lacking = {name: value for name, value in lined(id="a").items() if name != field}
        if field in REQUIRED:
            with pytest.raises(RecordError):
                Record.from_json(lacking)
        else:
            assert Record.from_json(lacking) and parsed(line_of(lacking)) is not None


@settings(max_examples=300)
@given(field=st.sampled_from(COLUMNS), value=JSON)
def test_every_whole_line_makes_a_record(field: str, value: Any) -> None:
    values = parsed(json.dumps({**lined(id="a"), field: value}).encode())
    assert values is None or Record.from_json(values)


def test_a_sample_without_a_score_is_damage_where_no_harness_scores_it(whole: Cell) -> None:
    restored(whole)
    file = whole.folder / "samples.jsonl"
    first, *others = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(line_of({**json.loads(first), "score": None}) + b"".join(others))
    assert [problem.what for problem in verify(whole.folder)] == ["line 1 is damaged"]
    repair(whole.folder)
    check_mended(whole)


@pytest.mark.parametrize("field", [*ENVIRONMENT, *OPTIONAL])
def test_a_number_or_text_of_another_type_is_damage(field: str) -> None:
    wrong = {"x": []}
    if field in ENVIRONMENT:
        assert environment_of(line_of({"environment": {field: wrong}})) is None
    else:
        assert (
            parsed(line_of(lined(id="a")))
            and parsed(line_of({**lined(id="a"), field: wrong})) is None
        )


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b'{"id": ' * 100_000,
        json.dumps(lined(id="a", score=float("nan"))).encode(),
        json.dumps(lined(id="a", kept=True)).encode(),
        json.dumps(lined(id="a", tflops=1e300)).encode(),
        json.dumps(lined(id="a", run=10**9)).encode(),
        json.dumps(lined(id="a", answer="\ud800")).encode(),
        b'{"id": "a", "score": ' + b"9" * 5000 + b"}",
    ],
    ids=["deep list", "deep mapping", "no number", "a truth value", "huge", "many runs", "half a pair", "digits"],
)  # fmt: skip
def test_a_line_that_a_reader_could_not_bear_is_damage(line: bytes) -> None:
    assert parsed(line) is None


@pytest.mark.parametrize("name", ["claim-0-of-1.²", "samples-².jsonl", "claim-[.0", "claim-*.0"])
def test_a_file_of_an_odd_name_is_nobodys(name: str, whole: Cell) -> None:
    restored(whole)
    (whole.folder / name).write_bytes(b"x")
    assert holder(whole.folder, Watch()) in (None, "?:?")
    check_mended(whole)
