"""``store rekey``: a row is lifted only after its samples were seen to be answered as before."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.records import line
from unibench import identity
from unibench.cli import main
from unibench.code.closure import Code
from unibench.compose import compose_cells
from unibench.identity import Cell, cell_of, vanilla_of
from unibench.store import CellFolder, index, verify
from unibench.store.rekey import LEAST, Group, rekey

Sample = dict[str, Any]
Change = Callable[[Sample], Sample]
METHODS = ("method=vanilla", "method=divprune", "method=divprune ratio=0.5")


class Edited(Code):
    """The code of another day: its engine has another digest."""

    def digest(self, roots) -> str:  # type: ignore[no-untyped-def]
        wanted = tuple(roots)
        return "of-another-day" if wanted == identity.ENGINE else super().digest(wanted)


@contextmanager
def another_day() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity, "_CODE", Edited(outside=identity.OUTSIDE))
        yield


def cell(out: Path, words: str, limit: int = 30) -> Cell:
    overrides = ["model=tiny_qwen2_5_vl", f"out={out}", f"task.limit={limit}", *words.split()]
    (config,) = compose_cells(overrides, sweep=False)
    return cell_of(config)


def sample(number: int, digests: bool) -> Sample:
    named = {"prompt_digest": f"p{number}", "pixel_digest": f"q{number}"} if digests else {}
    return line(id=str(number), index=number, last="g4A=", **named)


def finished(cell: Cell, digests: bool = True, change: Change = lambda sample: sample) -> Path:
    """A finished cell, as the runner leaves it."""
    folder, count = CellFolder(cell), cell.config.task.limit or 0
    with folder.appending({"device": "cpu (x86_64)", "code": "1"}):
        for number in range(count):
            folder.append(change(sample(number, digests)))
    folder.merge()
    row = {"n": count, "score_100": 100.0, "vanilla_100": 100.0, "notes": [], "key": cell.key,
           "model": cell.config.model.name, "method": cell.method, "task": "synthvqa"}  # fmt: skip
    folder.finish(row)
    return folder.path


class Asked:
    """Answers cells from what they should say; remembers which."""

    def __init__(self, change: Change = lambda sample: sample) -> None:
        self.change, self.cells = change, list[Cell]()

    def __call__(self, cells: Sequence[Cell]) -> Any:
        self.cells += cells
        for each in cells:
            if CellFolder(each).row() is None:
                finished(each, change=self.change)
        return SimpleNamespace(failures=[])


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with another_day():
        for words in METHODS:
            finished(cell(tmp_path / "out", words))
    return tmp_path / "out"


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def lifted(store: Path, ask: Any, **options: Any) -> dict[str, Group]:
    return {group.method: group for group in rekey(store, ask, **options)}


def test_equal_samples_lift_every_cell_of_a_group_and_leave_the_old_ones(store: Path) -> None:
    before = contents(store)
    groups = lifted(store, Asked())
    assert [(len(group.cells), len(group.lifted)) for group in groups.values()] == [(1, 1), (2, 2)]
    after = contents(store)
    assert {file: after[file] for file in before} == before
    for words in METHODS:
        folder = CellFolder(cell(store, words))
        row, samples = folder.row(), folder.samples()
        assert row is not None and row["key"] == folder.cell.key and len(samples) == 30
        assert [entry["answer"] for entry in samples.values()] == ["yes"] * 30
        assert json.loads((folder.path / "identity.json").read_text()) == folder.cell.identity
    assert not verify(store) and len(index(store)) == 6


def test_a_lifted_row_says_from_where_on_which_samples_and_what_was_compared(store: Path) -> None:
    lifted(store, Asked())
    with another_day():
        old = cell(store, METHODS[1]).key
    row = CellFolder(cell(store, METHODS[1])).row()
    assert row is not None
    said = row["lifted"]
    assert said["key"] == old and said["asked"] >= LEAST and not said["all"]
    assert said["samples"] == [str(number) for number in range(said["asked"] // 2)]
    assert said["compared"] == ["prompt_digest", "pixel_digest", "last", "answer", "score"]
    (note,) = row["notes"]
    assert f"lifted from {old}" in note and "asked again gave the same" in note
    samples = CellFolder(cell(store, METHODS[1])).samples()
    assert all(entry["notes"] == [note] for entry in samples.values())


def test_nothing_is_asked_twice(store: Path) -> None:
    lifted(store, Asked())
    again = Asked()
    assert lifted(store, again) == {} and not again.cells


def test_twenty_samples_of_a_group_are_asked_in_a_store_of_their_own(store: Path) -> None:
    ask = Asked()
    groups = lifted(store, ask)
    assert all(group.asked >= LEAST for group in groups.values())
    assert [each.config.task.limit for each in ask.cells] == [20, 10, 10]
    assert all(not each.folder.is_relative_to(store) for each in ask.cells)


def test_prompts_are_asked_in_whole_batches(tmp_path: Path) -> None:
    with another_day():
        finished(cell(tmp_path, "method=vanilla batch_size=8", 40))
    ask = Asked()
    lifted(tmp_path, ask)
    assert [each.config.task.limit for each in ask.cells] == [24]


def test_of_fewer_samples_all_are_asked_and_the_row_says_so(tmp_path: Path) -> None:
    with another_day():
        finished(cell(tmp_path, "method=vanilla", 7))
    groups = lifted(tmp_path, Asked())
    row = CellFolder(cell(tmp_path, "method=vanilla", 7)).row()
    assert groups["vanilla"].asked == 7 and row is not None and row["lifted"]["all"]
    assert "(all there are)" in row["notes"][0]


@pytest.mark.parametrize(
    ("column", "value"),
    [("prompt_digest", "x"), ("pixel_digest", "x"), ("last", "AAA="), ("answer", "no"), ("score", 0.0)],
)  # fmt: skip
def test_one_sample_that_differs_leaves_the_whole_group(
    store: Path, column: str, value: Any
) -> None:
    def change(sample: Sample) -> Sample:
        return {**sample, column: value} if sample["id"] == "7" else sample

    before = contents(store)
    groups = lifted(store, Asked(change))
    assert not any(group.lifted for group in groups.values())
    assert contents(store) == before
    reasons = [*groups["vanilla"].reasons.values()]
    assert f"{column} of sample 7 differs today" in reasons[0]


def test_what_earlier_records_lack_is_not_compared_and_the_row_says_what_was(
    tmp_path: Path,
) -> None:
    with another_day():
        finished(cell(tmp_path, "method=vanilla"), digests=False)
    groups = lifted(tmp_path, Asked())
    assert groups["vanilla"].compared == ("last", "answer", "score")
    row = CellFolder(cell(tmp_path, "method=vanilla")).row()
    assert row is not None and row["lifted"]["compared"] == ["last", "answer", "score"]


def test_digests_of_another_hash_are_not_compared(tmp_path: Path) -> None:
    with another_day():
        finished(
            cell(tmp_path, "method=vanilla"),
            change=lambda sample: {**sample, "pixel_digest": "of blake2b"},  # it had no name
        )

    groups = lifted(tmp_path, Asked(lambda sample: {**sample, "pixel_digest": "xxh3:1"}))
    assert groups["vanilla"].compared == ("prompt_digest", "last", "answer", "score")


def test_a_failure_leaves_the_group_with_its_reason(store: Path) -> None:
    def ask(cells: Sequence[Cell]) -> Any:
        return SimpleNamespace(failures=[SimpleNamespace(error="no GPU")])

    groups = lifted(store, ask)
    assert not any(group.lifted for group in groups.values())
    assert "asking again failed: no GPU" in next(iter(groups["vanilla"].reasons.values()))


def test_a_method_is_lifted_only_beside_its_vanilla(tmp_path: Path) -> None:
    with another_day():
        finished(cell(tmp_path, "method=divprune"))
    groups = lifted(tmp_path, Asked())
    (reason,) = groups["divprune"].reasons.values()
    assert "vanilla, which it is compared to, has no row" in reason


def test_a_method_is_not_lifted_beside_another_score_of_vanilla(store: Path) -> None:
    other = CellFolder(cell(store, "method=vanilla"))
    finished(other.cell)
    row = other.row()
    other.finish({**(row or {}), "score_100": 50.0})
    groups = lifted(store, Asked())
    assert all("vanilla scored 100.0" in reason for reason in groups["divprune"].reasons.values())


def test_other_data_is_no_matter_of_code(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "questions.jsonl").write_text('{"image": "a", "question": "b", "answer": "c"}\n')
    words = f"method=vanilla task=folder task.data={data}"
    with another_day():
        finished(cell(tmp_path / "out", words))
    (data / "questions.jsonl").write_text('{"image": "a", "question": "b", "answer": "d"}\n')
    groups = lifted(tmp_path / "out", Asked())
    assert [*groups["vanilla"].reasons.values()] == ["not only the code differs today: data"]


def test_a_cell_that_was_begun_under_its_present_key_is_left_alone(store: Path) -> None:
    folder = CellFolder(cell(store, "method=vanilla"))
    with folder.appending({"device": "cpu", "code": "2"}):
        folder.append(sample(0, True))
    groups = lifted(store, Asked())
    assert "has samples of its own" in next(iter(groups["vanilla"].reasons.values()))
    assert len(folder.samples()) == 1


def test_a_file_that_a_stored_cell_names_is_not_opened_unless_the_command_names_it(
    tmp_path: Path,
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from unibench import Method\nclass Mine(Method):\n    def score(self, ctx): return 1\n"
    )
    out, name = tmp_path / "out", f"{file}:Mine"
    with another_day():
        finished(cell(out, "method=vanilla"))
        finished(cell(out, f"method={name}"))
    assert "is not opened unless" in next(iter(lifted(out, Asked())["mine"].reasons.values()))
    assert len(lifted(out, Asked(), trusted=[name])["mine"].lifted) == 1


def test_a_cell_of_schema_2_is_lifted_if_its_files_are_the_same(tmp_path: Path) -> None:
    from unibench.store import schema2

    new = cell(tmp_path, "method=vanilla")
    stored = {**schema2.identity_of(new), "schema": 2, "engine": 1, "source": "a", "data": "code:b"}
    finished(replace(new, identity=stored, key=identity.key_of(stored)))
    assert len(lifted(tmp_path, Asked())["vanilla"].lifted) == 1
    stored["model"] = {**stored["model"], "weights": "files:other"}
    out = tmp_path / "other"
    config = replace(new.config, out=str(out))
    finished(replace(new, config=config, identity=stored, key=identity.key_of(stored)))
    reasons = lifted(out, Asked())["vanilla"].reasons
    assert [*reasons.values()] == ["not only the code differs today: model"]


def test_the_command_asks_a_real_model_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["method=divprune", "ratio=0.889", "task.limit=3", f"out={tmp_path}"]
    with another_day():
        assert main(["model=tiny_qwen2_5_vl", *words]) == 0
    pruned = cell(tmp_path, "method=divprune ratio=0.889", 3)
    assert CellFolder(pruned).row() is None
    assert main(["store", "rekey", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "tiny_qwen2_5_vl x divprune x synthvqa: 1 of 1 cell lifted" in out
    assert CellFolder(pruned).row() is not None and CellFolder(vanilla_of(pruned)).row() is not None
    assert main(["model=tiny_qwen2_5_vl", *words]) == 0  # nothing is left to answer
