"""One bit flipped anywhere in a store is found by verify, named with its file, and stops no other cell."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.security._stores import honest, reseal
from tests.stats._cells import ENVIRONMENT
from tests.support.records import record
from unibench.cli import main
from unibench.compose import compose_cells
from unibench.errors import UsageError
from unibench.identity import cell_of
from unibench.recheck import recheck
from unibench.store import CellFolder, cells_below, export, import_, manifest, merge, repair, verify
from unibench.store.data import UnreadableError
from unibench.store.files import replace
from unibench.store.lines import line_of, parsed
from unibench.store.unpack import LIMITS

REPLY = {"request": "0123", "reply": {"choices": [{"message": {"content": "yes"}}]}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of finished cells with every file that a cell may have, and one half answered."""
    out = honest(tmp_path_factory.mktemp("whole"))
    for cell in cells_below(out):
        with_more(cell)
    words = ["model=tiny_qwen2_5_vl", "method=divprune", "ratio=0.5", "task.limit=4", f"out={out}"]
    folder = CellFolder(cell_of(compose_cells(words, sweep=False)[0]))
    with folder.appending(ENVIRONMENT):
        for number in range(2):
            folder.append(record(id=f"s{number}", index=number).as_json())
        folder.note(peak_mib=3.0)
    assert recheck(out).problems == []
    return out


def with_more(cell: Path) -> None:
    """The further files of a cell that a harness asked and that was repaired once."""
    (cell / "run.log").write_text("2026-01-01 INFO unibench: asked\n")
    (cell / "judge.jsonl").write_bytes(line_of(REPLY))
    (cell / "samples.damaged").write_bytes(b"{torn\n")
    (cell / "harness.json").write_text("{}")
    reseal(cell)


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "out"))


def files_of(store: Path) -> list[Path]:
    """All but what says who works on a cell, which is made again where it is damaged."""
    return sorted(file for file in store.rglob("*") if file.is_file())


def flip(file: Path, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


def check_found(store: Path, file: Path, bit: int) -> None:
    """Flip a bit, and have it found and named; then flip it back."""
    flip(file, bit)
    try:
        named = {problem.file for problem in recheck(store).problems}
        assert file in named, (file.name, bit, named)
        assert all(place.parent == file.parent for place in named if place != file)
    finally:
        flip(file, bit)


def bits(store: Path, count: int, seed: int) -> list[tuple[Path, int]]:
    """Places over all files: as many of a small file as of a large one."""
    drawn, files = random.Random(seed), files_of(store)
    return [
        (file, drawn.randrange(8 * file.stat().st_size))
        for file in (files[number % len(files)] for number in range(count))
    ]


def test_a_flipped_bit_of_a_store_is_named(out: Path) -> None:
    for file, bit in bits(out, len(files_of(out)), seed=0):
        check_found(out, file, bit)


def test_an_identity_without_one_of_its_entries_is_named(out: Path) -> None:
    cell = next(cell for cell in cells_below(out) if (cell / "metrics.json").exists())
    file = cell / "identity.json"
    whole = json.loads(file.read_text(encoding="utf-8"))
    entries = [(name,) for name in whole]
    entries += [
        (name, inner) for name, part in whole.items() if isinstance(part, dict) for inner in part
    ]
    for name, *inner in entries:
        damaged = json.loads(json.dumps(whole))
        part = damaged[name] if inner else damaged
        del part[inner[0] if inner else name]
        file.write_text(json.dumps(damaged), encoding="utf-8")
        assert file in {problem.file for problem in recheck(out).problems}, (name, inner)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_a_thousand_flipped_bits_of_a_store_are_named(seed: int, out: Path) -> None:
    for file, bit in bits(out, 100, seed + 1):
        check_found(out, file, bit)


def test_every_bit_of_a_line_and_of_a_manifest_counts(out: Path) -> None:
    line = line_of(record(id="a").as_json())
    assert parsed(line[:-1]) is not None
    for bit in range(8 * len(line)):
        flipped = bytearray(line)
        flipped[bit // 8] ^= 1 << bit % 8
        *lines, torn = bytes(flipped).split(b"\n")
        assert not any(map(parsed, lines)) and (torn or bit // 8 < len(line) - 1)
    (cell, *_) = (cell for cell in cells_below(out) if (cell / "metrics.json").exists())
    for bit in range(0, 8 * (cell / manifest.NAME).stat().st_size, 97):
        flip(cell / manifest.NAME, bit)
        assert next(manifest.faults(cell), None) is not None, bit
        flip(cell / manifest.NAME, bit)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_damage_of_a_store_ends_in_a_traceback(
    data: st.DataObject, whole: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = Path(shutil.copytree(whole, tmp_path_factory.mktemp("fuzz") / "out"))
    try:
        for _ in range(data.draw(st.integers(1, 3))):
            damage(data, data.draw(st.sampled_from(files_of(store))))
        for words in (
            ["store", "verify", str(store)], ["store", "index", str(store)], ["report", f"out={store}"],
            ["store", "export", str(store), str(store.parent / "a.tar.gz")],
            ["store", "import", str(store.parent / "a.tar.gz"), str(store.parent / "b")],
            ["store", "merge", str(store), str(store.parent / "c")],
            ["store", "repair", str(store)],
        ):  # fmt: skip
            assert main(words) in (0, 1, 2), words
        left = [problem for problem in verify(store) if "cannot be read" not in problem.what]
        assert all(problem.file.name in ("identity.json", "config.yaml") for problem in left), left
    finally:
        shutil.rmtree(store.parent)


def damage(data: st.DataObject, file: Path) -> None:
    """Something that disks, copies and people do to a file."""
    content = file.read_bytes()
    size = len(content)
    kind = data.draw(
        st.sampled_from(["cut", "empty", "zeros", "noise", "twice", "gone", "json", "folder"])
    )
    start = data.draw(st.integers(0, max(0, size - 1)))
    if kind == "gone":
        file.unlink()
    elif kind == "folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(
            {
                "cut": content[:start],
                "empty": b"",
                "zeros": content[:start] + bytes(size - start),
                "noise": content[:start] + data.draw(st.binary(max_size=20)) + content[start:],
                "twice": content + content,
                "json": json.dumps(data.draw(VALUES)).encode(),
            }[kind]
        )


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_no_archive_ends_in_a_traceback_or_enters_damaged(
    data: st.DataObject, whole: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("archive")
    export(whole, place / "a.tar.gz")
    damage(data, place / "a.tar.gz")
    code = main(["store", "import", str(place / "a.tar.gz"), str(place / "b")])
    assert code in (0, 2)
    if code == 0:
        assert recheck(place / "b").problems == []
    else:
        assert list(cells_below(place / "b")) == []


EDITS: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "a file cut": (lambda at: os.truncate(at / "run.log", 5), "run.log", "has 5 bytes, and had"),
    "a file gone": (lambda at: (at / "env.json").unlink(), "env.json", "is missing"),
    "a file edited": (
        lambda at: (at / "config.yaml").write_text((at / "config.yaml").read_text().replace("seed: 0", "seed: 1")),
        "config.yaml", "its SHA-256 is another",
    ),
    "a file added": (lambda at: (at / "harness.json").write_text("{}"), "harness.json", "was added after"),
    "a line gone": (
        lambda at: (at / "samples.jsonl").write_bytes(b"".join((at / "samples.jsonl").read_bytes().splitlines(True)[1:])),
        "samples.jsonl", "bytes, and had",  # and the row is not what the others give
    ),
    "the manifest edited": (lambda at: (at / "manifest.json").write_text("{}"), "manifest.json", "is damaged or was edited"),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_damage_is_named_by_cell_file_and_kind_and_mended(edit: str, tmp_path: Path) -> None:
    store = honest(tmp_path, ("vanilla", "divprune"))
    (cell,) = (cell for cell in cells_below(store) if "divprune" in str(cell))
    (cell / "run.log").write_text("2026-01-01 INFO unibench: asked\n")
    reseal(cell)
    change, name, what = EDITS[edit]
    change(cell)
    found = {(problem.file, problem.what) for problem in recheck(store).problems}
    assert any(file == cell / name and what in said for file, said in found), found
    assert {file.parent for file, _ in found} == {cell}
    if edit != "a file added":
        assert manifest.changed(cell) is not None
    assert repair(store) > 0
    assert not (cell / "metrics.json").exists() and not (cell / manifest.NAME).exists()
    assert recheck(store).problems == [] or edit in ("a file edited", "a line gone")


def test_a_cell_that_lost_its_description_keeps_no_other_from_being_mended(out: Path) -> None:
    (half,) = (cell for cell in cells_below(out) if not (cell / "metrics.json").exists())
    others = [cell for cell in cells_below(out) if cell != half]  # before it and behind it
    damaged = (half / "config.yaml", half / "identity.json", *(one / "env.json" for one in others))
    for file in damaged:
        file.unlink()
    assert repair(out) == len(others)
    assert {problem.file for problem in recheck(out).problems} == {
        half / "config.yaml",
        half / "identity.json",
    }


def test_a_cell_that_cannot_be_mended_keeps_no_other_from_it(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, *_ = (cell for cell in cells_below(out) if (cell / "metrics.json").exists())
    for cell in (first, second):
        (cell / "env.json").write_bytes(b"{")
    move = Path.replace

    def refused(file: Path, target: Path) -> Path:
        if first in file.parents:
            raise PermissionError(13, "Permission denied", str(file))
        return move(file, target)

    monkeypatch.setattr(Path, "replace", refused)
    with pytest.raises(UsageError, match=f"{first.name}.*cannot be written"):
        repair(out)
    monkeypatch.undo()
    assert not (second / "env.json").exists() and (second / "env.json.damaged").exists()


def test_a_log_may_grow_and_not_be_cut(out: Path) -> None:
    (cell, *_) = (cell for cell in cells_below(out) if (cell / "metrics.json").exists())
    with (cell / "run.log").open("a") as log:
        log.write("a later line\n")
    assert recheck(out).problems == [] and manifest.changed(cell) is None
    os.truncate(cell / "run.log", 3)
    assert {problem.file.name for problem in recheck(out).problems} == {"run.log"}


def test_results_of_an_earlier_version_are_read_recomputed_and_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = honest(tmp_path, ("vanilla", "divprune"))
    for cell in cells_below(store):
        lines = [json.loads(line) for line in (cell / "samples.jsonl").read_bytes().splitlines()]
        text = "".join(
            json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n" for line in lines
        )
        (cell / "samples.jsonl").write_text(text)
        (cell / manifest.NAME).unlink()
    checked = recheck(store)
    assert checked.problems == [] and len(checked.unsealed) == 2
    assert main(["store", "verify", str(store)]) == 0
    assert "2 cells of an earlier version: no manifest" in capsys.readouterr().out
    file = next(cells_below(store)) / "metrics.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "score": 0.999}))
    assert any(problem.file == file for problem in recheck(store).problems)


def test_a_kill_before_the_row_leaves_no_damage(tmp_path: Path) -> None:
    store = honest(tmp_path, ("vanilla",))
    (cell,) = cells_below(store)
    (cell / "metrics.json").unlink()
    (cell / "env.json").write_text(json.dumps([{**ENVIRONMENT, "device": "another"}]))
    assert recheck(store).problems == []


def test_a_copy_keeps_the_manifest_and_a_merge_of_replies_renews_it(
    out: Path, tmp_path: Path
) -> None:
    export(out, tmp_path / "a.tar.gz")
    import_(tmp_path / "a.tar.gz", tmp_path / "b")
    merge(tmp_path / "b", tmp_path / "c")
    assert recheck(tmp_path / "c").problems == [] and recheck(tmp_path / "c").unsealed == []
    (cell, *_) = (cell for cell in cells_below(out) if (cell / "metrics.json").exists())
    replace(cell / "judge.jsonl", line_of(REPLY) + line_of({**REPLY, "request": "4567"}))
    reseal(cell)
    merge(out, tmp_path / "c")
    assert recheck(tmp_path / "c").problems == []
    copy = tmp_path / "c" / cell.relative_to(out)
    assert b"4567" in (copy / "judge.jsonl").read_bytes()


def test_a_manifest_is_of_the_files_that_a_cell_may_have(out: Path) -> None:
    (cell, *_) = (cell for cell in cells_below(out) if (cell / "metrics.json").exists())
    assert set(manifest.read(cell) or ()) == {*LIMITS} - {manifest.NAME}
    (cell / manifest.NAME).write_bytes(b"[]")
    with pytest.raises(UnreadableError, match="is damaged"):
        manifest.read(cell)


def test_a_damaged_cell_stops_no_other(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (first, *_) = (cell for cell in cells_below(out) if (cell / "metrics.json").exists())
    for file in first.iterdir():
        file.write_bytes(b"\x00\xff")
    problems = recheck(out).problems
    assert {problem.file.parent for problem in problems} == {first}
    assert main(["report", f"out={out}"]) == 0 and "0.75" in capsys.readouterr().out
