"""Truncated and garbage files, a read-only folder, a full disk: a clear error or a repair, and the
run goes on.
"""

from __future__ import annotations

import errno
import multiprocessing
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.support.disks import mounted
from tests.support.records import line
from tests.support.workers import Scripted, answer_of, grid
from unibench.cli import main
from unibench.identity import Cell
from unibench.plan import survey
from unibench.runner import forgive, work
from unibench.store import CellFolder, DiskError, verify

FILES = (
    "config.yaml",
    "identity.json",
    "env.json",
    "status.json",
    "samples.jsonl",
    "metrics.json",
    "run.log",
)
GARBAGE = (b"", b"\x00\xff\x13 garbage\n\x80", b'{"id": 7}\n', b"[1, 2]\n")


def finish(cell: Cell, executor: Scripted | None = None) -> list[str]:
    """Errors of a run of one cell."""
    forgive([cell])
    return [
        failure.error
        for failure in work([cell], executors={"embedded": executor or Scripted()}).failures
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cell, Path]:
    """A finished cell, and a copy of its folder."""
    place = tmp_path_factory.mktemp("made")
    (cell,) = grid(place / "out", "method=vanilla", "task.limit=5")
    assert not finish(cell)
    return cell, Path(shutil.copytree(cell.folder, place / "copy"))


@pytest.fixture
def done(made: tuple[Cell, Path]) -> Cell:
    """A finished cell, as it was before anything happened to it."""
    cell, copy = made
    shutil.rmtree(cell.config.out)
    shutil.copytree(copy, cell.folder)
    return cell


def damage(file: Path, how: bytes | None) -> None:
    """Overwrite a file, or cut it in the middle."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2] if how is None else how)


@pytest.mark.parametrize("how", [None, *GARBAGE], ids=["cut", "empty", "bytes", "json", "list"])
@pytest.mark.parametrize("name", FILES)
def test_any_damaged_file_of_a_finished_cell_is_mended(
    done: Cell, name: str, how: bytes | None
) -> None:
    damage(done.folder / name, how)
    before = bool(verify(done.folder))
    main(["store", "repair", str(done.folder)])
    if name == "samples.jsonl":
        assert before
        (done.folder / "metrics.json").unlink(missing_ok=True)
    assert not finish(done)
    samples = CellFolder(done).samples()
    assert [samples[str(number)]["answer"] for number in range(5)] == [
        answer_of(done, str(number)) for number in range(5)
    ]
    assert survey([done])[0].state == "done"
    if name in ("samples.jsonl", "metrics.json"):
        assert verify(done.folder) == []


@pytest.mark.parametrize("how", [None, *GARBAGE], ids=["cut", "empty", "bytes", "json", "list"])
@pytest.mark.parametrize(
    "name",
    [
        "config.yaml",
        "identity.json",
        "status.json",
        "samples-0.jsonl",
        "claim-0-of-1.0",
        "split",
        "done-0-of-1",
    ],
)
def test_any_damaged_file_of_an_unfinished_cell_is_mended(
    tmp_path: Path, name: str, how: bytes | None
) -> None:
    (cell,) = grid(tmp_path, "method=vanilla", "task.limit=5")

    def killed(part: object, sample: str) -> None:
        if sample == "3":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finish(cell, Scripted(killed))
    (cell.folder / name).touch()
    damage(cell.folder / name, how)
    (plan,) = survey([cell])
    assert plan.state in ("partial", "missing", "blocked")
    if plan.state == "blocked":
        assert "store repair" in plan.reason
        assert any("store repair" in error for error in finish(cell)), (
            "a damaged line stops the cell until it is set aside"
        )
        main(["store", "repair", str(cell.folder)])
    errors = [
        failure.error
        for failure in work([cell], executors={"embedded": Scripted()}, expiry=0.5).failures
    ]
    assert not errors
    assert {sample: entry["answer"] for sample, entry in CellFolder(cell).samples().items()} == {
        str(number): answer_of(cell, str(number)) for number in range(5)
    }
    assert verify(tmp_path) == []


def test_a_torn_line_at_the_end_is_no_damage(tmp_path: Path) -> None:
    (cell,) = grid(tmp_path, "method=vanilla", "task.limit=5")
    folder = CellFolder(cell)
    with folder.appending({"device": "cpu"}):
        folder.append(line(id="0", index=0, answer=answer_of(cell, "0")))
    with (cell.folder / "samples-0.jsonl").open("ab") as stream:
        stream.write(b'{"id": "1", "sco')
    executor = Scripted()
    assert verify(tmp_path) == []
    assert not finish(cell, executor) and [name for _, name in executor.asked] == list("1234")


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", "1m") as disk:
        yield disk


def test_a_read_only_folder_stops_the_work_with_one_line(read_only: Path) -> None:
    cells = grid(read_only, "task.limit=5")
    subprocess.run(["mount", "-o", "remount,ro", str(read_only)], check=True)
    with pytest.raises(DiskError, match="cannot be written; set out=<folder>"):
        work(cells, executors={"embedded": Scripted()})
    subprocess.run(["mount", "-o", "remount,rw", str(read_only)], check=True)
    assert len(work(cells, executors={"embedded": Scripted()}).rows) == 2


def test_a_full_disk_stops_the_work_and_the_same_command_continues(read_only: Path) -> None:
    cells = grid(read_only, "method=vanilla", "task.limit=300")
    (read_only / "filler").write_bytes(b"x" * ((1 << 20) - 40_000))
    executor = Scripted()
    with pytest.raises(DiskError, match="disk is full.*same command continues"):
        work(cells, executors={"embedded": executor})
    before = len(CellFolder(cells[0]).samples())
    (read_only / "filler").unlink()
    outcome = work(cells, executors={"embedded": executor})
    assert 0 < before < 300 and outcome.rows[cells[0].key].n == 300
    assert len(executor.asked) <= 301, "at most the sample that found no room was answered twice"


def work_without_locks(store: Path) -> None:
    """Fill a grid's store on a file system that has no locks."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    grids = ("method=random_pre,divprune", "ratio=0.5,0.8", "seed=0,1", "task.limit=8")
    with patch("fcntl.flock", refuse), patch("fcntl.lockf", refuse):
        cells = grid(store, *grids)
        outcome = work(cells, executors={"embedded": Scripted(seconds=0.01)})
    assert len(outcome.rows) == 9


def test_two_mount_paths_without_locks_are_one_store(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "second").mkdir()
    if subprocess.run(
        ["mount", "--bind", str(tmp_path / "store"), str(tmp_path / "second")], capture_output=True
    ).returncode:
        (tmp_path / "second").rmdir()
        (tmp_path / "second").symlink_to(tmp_path / "store")
    context = multiprocessing.get_context("fork")
    try:
        workers = [
            context.Process(target=work_without_locks, args=(tmp_path / place,))
            for place in ("store", "second")
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0]
        files = list((tmp_path / "store").rglob("samples*.jsonl"))
        assert len(files) == 9 and all(file.read_bytes().count(b"\n") == 8 for file in files)
    finally:
        subprocess.run(["umount", "-l", str(tmp_path / "second")], capture_output=True)
