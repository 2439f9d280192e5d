"""Cells travel between stores as they are; merging loses nothing and says where two stores
disagree.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.workers import Scripted, grid
from unibench.cli import main
from unibench.errors import UsageError
from unibench.runner import forgive, work
from unibench.store import (
    CellFolder,
    ClaimedPart,
    Watch,
    acquire,
    export,
    import_,
    index,
    merge,
    verify,
)
from unibench.store.lines import line_of

GRID = ("method=divprune,fastv", "ratio=0.5,0.8", "task.limit=6")


def finish(out: Path, *overrides: str, executor: Scripted | None = None) -> None:
    work(grid(out, *(overrides or GRID)), executors={"embedded": executor or Scripted()})


def contents(out: Path) -> dict[str, list[dict[str, object]]]:
    return {
        cell.folder.name: list(CellFolder(cell).samples().values()) for cell in grid(out, *GRID)
    }


def half(part: ClaimedPart, sample: str) -> None:
    if part.folder.cell.method != "vanilla" and sample == "3":
        raise ValueError("half")


def odd(part: ClaimedPart, sample: str) -> None:
    if part.folder.cell.method == "fastv":
        raise ValueError("no fastv")


def test_a_store_goes_into_one_file_and_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(tmp_path / "a")
    assert main(["store", "export", str(tmp_path / "a"), str(tmp_path / "a.tar.gz")]) == 0
    assert main(["store", "import", str(tmp_path / "a.tar.gz"), str(tmp_path / "b")]) == 0
    assert "5 cells in" in (out := capsys.readouterr().out) and "5 new cells, 0 grown" in out
    assert contents(tmp_path / "b") == contents(tmp_path / "a")
    assert {entry.state for entry in index(tmp_path / "b")} == {"done"} and len(
        index(tmp_path / "b")
    ) == 5
    assert import_(tmp_path / "a.tar.gz", tmp_path / "b").same == 5
    assert verify(tmp_path / "b") == []
    executor = Scripted()
    finish(tmp_path / "b", executor=executor)
    assert not executor.asked


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(b"no archive")
    with pytest.raises(UsageError, match="is no archive"):
        import_(tmp_path / "x.tar.gz", tmp_path / "b")
    with pytest.raises(UsageError, match="holds no cell"):
        export(tmp_path, tmp_path / "y.tar.gz")


def test_two_halves_merge_to_a_whole(tmp_path: Path) -> None:
    finish(tmp_path / "a", executor=Scripted(half))
    finish(tmp_path / "b", executor=Scripted(odd))
    merged = merge(tmp_path / "b", tmp_path / "a")
    assert (merged.new, merged.grown, merged.conflicts) == (0, 2, [])
    executor = Scripted()
    forgive(grid(tmp_path / "a", *GRID))
    finish(tmp_path / "a", executor=executor)
    assert sorted(name for _, name in executor.asked) == ["3", "3", "4", "4", "5", "5"], (
        "only what neither had"
    )
    finish(tmp_path / "whole")
    assert contents(tmp_path / "a") == contents(tmp_path / "whole")


def test_stores_that_disagree_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(tmp_path / "a")
    finish(tmp_path / "b")
    file = grid(tmp_path / "b", *GRID)[0].folder / "samples.jsonl"
    lines = [json.loads(line) for line in file.read_bytes().splitlines()]
    lines[0]["answer"] += " other"
    file.write_bytes(b"".join(map(line_of, lines)))
    before = contents(tmp_path / "a")
    assert main(["store", "merge", str(tmp_path / "b"), str(tmp_path / "a")]) == 1
    assert "another answer there; the one here stays" in capsys.readouterr().out
    assert contents(tmp_path / "a") == before


def test_prune_removes_what_is_asked_for_and_nothing_that_is_worked_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(tmp_path, executor=Scripted(half))
    finish(tmp_path, "method=random_pre", "task.limit=6")
    claim = acquire(
        grid(tmp_path, "method=fastv", "ratio=0.5", "task.limit=6")[0].folder, "0-of-1", Watch()
    )
    assert claim is not None
    assert main(["store", "prune", str(tmp_path), "--failed"]) == 0
    said = capsys.readouterr().out
    assert "3 folders would be removed" in said and len(index(tmp_path)) == 6
    assert sum(": ValueError: half" in line for line in said.splitlines()) == 3  # and why
    assert main(["store", "prune", str(tmp_path), "--failed", "--yes"]) == 0
    assert sorted(entry.state for entry in index(tmp_path)) == ["done", "done", "failed"]
    claim.close()


def test_prune_knows_cells_that_the_present_code_would_not_write(tmp_path: Path) -> None:
    finish(tmp_path)
    cell = grid(tmp_path, *GRID)[0].folder
    cell.rename(cell.with_name("0123456789abcdef"))
    assert len(verify(tmp_path)) == 1 and main(["store", "verify", str(tmp_path)]) == 1
    assert main(["store", "prune", str(tmp_path), "--outdated", "--yes"]) == 0
    assert len(index(tmp_path)) == 4 and verify(tmp_path) == []


def test_the_index_is_the_sum_of_its_cells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(tmp_path)
    assert main(["store", "index", str(tmp_path)]) == 0
    assert "5 cells, 30 samples: 5 done" in capsys.readouterr().out
