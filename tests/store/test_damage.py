"""Truncated and garbage files, a read-only folder, a full disk: a clear error or a repair, and the
run goes on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.disks import mounted
from tests.support.records import line
from tests.support.workers import Scripted, answer_of, grid
from unibench.cli import main
from unibench.identity import Cell
from unibench.plan import survey
from unibench.registry import ROOT
from unibench.runner import forgive, work
from unibench.store import CellFolder, DiskError

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


@pytest.fixture
def done(tmp_path: Path) -> Cell:
    (cell,) = grid(tmp_path, "method=vanilla", "task.limit=5")
    assert not finish(cell)
    return cell


def damage(file: Path, how: bytes | None) -> None:
    """Overwrite a file, or cut it in the middle."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2] if how is None else how)


@pytest.mark.parametrize("how", [None, *GARBAGE], ids=["cut", "empty", "bytes", "json", "list"])
@pytest.mark.parametrize("name", FILES)
def test_any_damaged_file_of_a_finished_cell_is_mended(
    done: Cell, name: str, how: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(done.folder / name, how)
    before = main(["store", "verify", str(done.folder)])
    main(["store", "repair", str(done.folder)])
    if name == "samples.jsonl":
        assert before == 1
        (done.folder / "metrics.json").unlink(missing_ok=True)
    assert not finish(done)
    samples = CellFolder(done).samples()
    assert [samples[str(number)]["answer"] for number in range(5)] == [
        answer_of(done, str(number)) for number in range(5)
    ]
    assert survey([done])[0].state == "done"
    if name in ("samples.jsonl", "metrics.json"):
        assert main(["store", "verify", str(done.folder)]) == 0, capsys.readouterr().out


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
    assert main(["store", "verify", str(tmp_path)]) == 0


def test_a_torn_line_at_the_end_is_no_damage(tmp_path: Path) -> None:
    (cell,) = grid(tmp_path, "method=vanilla", "task.limit=5")
    folder = CellFolder(cell)
    with folder.appending({"device": "cpu"}):
        folder.append(line(id="0", index=0, answer=answer_of(cell, "0")))
    with (cell.folder / "samples-0.jsonl").open("ab") as stream:
        stream.write(b'{"id": "1", "sco')
    executor = Scripted()
    assert main(["store", "verify", str(tmp_path)]) == 0
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


LOCKLESS = """
import fcntl, sys
def refuse(*args, **kwargs):
    raise OSError(37, "No locks available")
fcntl.flock = fcntl.lockf = refuse
from pathlib import Path
from tests.support.workers import Scripted, grid
from unibench.runner import work
cells = grid(Path(sys.argv[1]), "method=random_pre,divprune", "ratio=0.5,0.8", "seed=0,1", "task.limit=8")
outcome = work(cells, executors={"embedded": Scripted(seconds=0.01)})
sys.exit(0 if len(outcome.rows) == 9 else 1)
"""


def test_two_mount_paths_without_locks_are_one_store(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "second").mkdir()
    if subprocess.run(
        ["mount", "--bind", str(tmp_path / "store"), str(tmp_path / "second")], capture_output=True
    ).returncode:
        (tmp_path / "second").rmdir()
        (tmp_path / "second").symlink_to(tmp_path / "store")
    try:
        environment = {**os.environ, "PYTHONPATH": str(ROOT.parent)}
        paths = [tmp_path / "store", tmp_path / "second"]
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", LOCKLESS, str(path)], cwd=ROOT.parent, env=environment
            )
            for path in paths
        ]
        assert [worker.wait(300) for worker in workers] == [0, 0]
        files = list((tmp_path / "store").rglob("samples*.jsonl"))
        assert len(files) == 9 and all(file.read_bytes().count(b"\n") == 8 for file in files)
    finally:
        subprocess.run(["umount", "-l", str(tmp_path / "second")], capture_output=True)
