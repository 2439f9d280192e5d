"""Workers on one folder: what one leaves another finishes; failures stay where they are; nothing is
answered twice.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.support.workers import Scripted, answer_of, grid
from unibench.errors import UsageError
from unibench.plan import survey
from unibench.runner import Outcome, Stop, forgive, work
from unibench.runner.listener import Silent
from unibench.store import CellFolder, ClaimedPart, Watch, claim_part, index
from unibench.store.claim import acquire

GRID = ("method=divprune,fastv", "ratio=0.5,0.8", "task.limit=6")


def states(out: Path, *overrides: str) -> dict[str, str]:
    return {plan.cell.folder.parent.name: plan.state for plan in survey(grid(out, *overrides))}


def finish(cells: list, executor: Scripted | None = None) -> Outcome:  # type: ignore[type-arg]
    return work(cells, executors={"embedded": executor or Scripted()})


def test_all_cells_and_vanilla_are_worked_off_and_planned_as_they_are(tmp_path: Path) -> None:
    expected = {"vanilla", "divprune@0.5", "divprune@0.8", "fastv@0.5", "fastv@0.8"}
    assert states(tmp_path, *GRID) == dict.fromkeys(expected, "missing")
    executor = Scripted()
    outcome = finish(grid(tmp_path, *GRID), executor)
    assert len(outcome.rows) == 5 and not outcome.failures and len(executor.asked) == 30
    assert states(tmp_path, *GRID) == dict.fromkeys(expected, "done")
    assert not finish(grid(tmp_path, *GRID), executor).failures and len(executor.asked) == 30
    for plan in survey(grid(tmp_path, *GRID)):
        for name, sample in CellFolder(plan.cell).samples().items():
            assert sample["answer"] == answer_of(plan.cell, name)
        assert not [
            file.name
            for file in plan.cell.folder.iterdir()
            if file.name.startswith(("claim", "done-", "split", "samples-", "."))
        ]


def test_a_failed_cell_keeps_its_traceback_and_the_others_go_on(tmp_path: Path) -> None:
    def broken(part: ClaimedPart, sample: str) -> None:
        if part.folder.cell.folder.parent.name == "fastv@0.5" and sample == "3":
            raise ValueError("no such luck\nreally")

    outcome = finish(grid(tmp_path, *GRID), Scripted(broken))
    (failure,) = outcome.failures
    assert (
        failure.error == "ValueError: no such luck" and not failure.usage and len(outcome.rows) == 4
    )
    status = json.loads((failure.cell.folder / "status.json").read_text())
    assert "in broken" in status["traceback"] and len(CellFolder(failure.cell).samples()) == 3
    assert states(tmp_path, *GRID)["fastv@0.5"] == "failed"

    executor = Scripted()
    assert [failure.error for failure in finish(grid(tmp_path, *GRID), executor).failures] == [
        "ValueError: no such luck"
    ]
    assert not executor.asked, "a failed cell is tried again only when that is asked for"
    assert forgive(grid(tmp_path, *GRID)) == 1
    assert states(tmp_path, *GRID)["fastv@0.5"] == "partial"
    assert not finish(grid(tmp_path, *GRID), executor).failures
    assert [name for _, name in executor.asked] == ["3", "4", "5"]


def test_without_vanilla_nothing_can_be_compared(tmp_path: Path) -> None:
    def broken(part: ClaimedPart, sample: str) -> None:
        if part.folder.cell.method == "vanilla":
            raise UsageError("vanilla cannot be had")

    outcome = finish(grid(tmp_path, *GRID), Scripted(broken))
    assert {failure.error for failure in outcome.failures} == {"vanilla cannot be had"} and len(
        outcome.failures
    ) == 5
    planned = states(tmp_path, *GRID)
    assert planned.pop("vanilla") == "failed" and set(planned.values()) == {"blocked"}


def test_a_cell_of_an_unknown_kind_fails_alone(tmp_path: Path) -> None:
    outcome = work(grid(tmp_path, "task.limit=1"), executors={"embeded": Scripted()})
    assert "unknown task kind 'embedded'. Did you mean embeded?" in outcome.failures[0].error


def test_a_worker_waits_for_others_and_takes_over_what_they_leave(tmp_path: Path) -> None:
    cells = grid(tmp_path, "task.limit=4")
    part = claim_part(CellFolder(survey(cells)[0].cell), 1, Watch())
    assert part is not None

    class Waiting(Silent):
        def wait(self, cells: int, holder: str | None) -> None:
            assert cells == 2 and holder is not None
            part.close()

    executor = Scripted()
    outcome = work(cells, executors={"embedded": executor}, listener=Waiting())
    assert len(outcome.rows) == 2 and len(executor.asked) == 8


def test_who_lost_its_claim_leaves_the_cell_to_its_successor(tmp_path: Path) -> None:
    cells = grid(tmp_path, "method=vanilla", "task.limit=5")

    def stolen(part: ClaimedPart, sample: str) -> None:
        if [name for _, name in executor.asked] == ["0", "1"]:
            successor = acquire(part.folder.path, "0-of-1", Gone())
            assert successor is not None
            threading.Timer(0.5, successor.close).start()

    class Gone(Watch):
        def dead(self, file: Path, content: bytes) -> bool:
            return True

    executor = Scripted(stolen)
    outcome = work(cells, executors={"embedded": executor})
    assert not outcome.failures and outcome.rows[cells[0].key].n == 5
    assert Counter(name for _, name in executor.asked) == {
        "0": 1,
        "1": 1,
        "2": 2,
        "3": 1,
        "4": 1,
    }, "2 was answered, not written, and answered again"


@pytest.mark.parametrize("shards", [1, 3, 8])
def test_split_or_not_a_cell_holds_the_same(tmp_path: Path, shards: int) -> None:
    cells = grid(tmp_path, "task.limit=30", f"shards={shards}")
    assert not finish(cells).failures
    samples = CellFolder(cells[0]).samples()
    assert list(samples) == [str(number) for number in range(30)]
    whole = grid(tmp_path / "whole", "task.limit=30")
    finish(whole)
    assert samples == CellFolder(whole[0]).samples()


def test_another_number_of_workers_finishes_a_split_cell(tmp_path: Path) -> None:
    def killed(part: ClaimedPart, sample: str) -> None:
        if part.number == 5:
            raise KeyboardInterrupt

    cells = grid(tmp_path, "method=vanilla", "task.limit=40", "shards=8")
    executor = Scripted(killed)
    with pytest.raises(KeyboardInterrupt):
        finish(cells, executor)
    before = len(executor.asked)
    assert 0 < before < 40
    second = Scripted(seconds=0.01)
    workers = [
        threading.Thread(
            target=finish, args=(grid(tmp_path, "method=vanilla", "task.limit=40"), second)
        )
        for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert CellFolder(cells[0]).row()["n"] == 40 and before + len(second.asked) == 40  # type: ignore[index]


def test_samples_that_vanish_are_answered_again(tmp_path: Path) -> None:
    cells = grid(tmp_path, "method=vanilla", "task.limit=5")
    folder = CellFolder(cells[0])
    finish(cells)
    file = folder.path / "samples.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:2]))
    (folder.path / "metrics.json").unlink()
    (folder.path / "split").write_text("1")
    (folder.path / "done-0-of-1").write_text("5")
    executor = Scripted()
    assert finish(cells, executor).rows[cells[0].key].n == 5
    assert [name for _, name in executor.asked] == ["2", "3", "4"]


def test_the_first_signal_finishes_the_sample(tmp_path: Path) -> None:
    stop = Stop()
    cells = grid(tmp_path, "method=vanilla", "task.limit=9")

    def interrupted(part: ClaimedPart, sample: str) -> None:
        if sample == "4":
            stop._signal(2, None)

    with pytest.raises(KeyboardInterrupt):
        work(cells, executors={"embedded": Scripted(interrupted)}, stop=stop)
    folder = CellFolder(cells[0])
    assert list(folder.samples()) == list("01234")
    with closing(claim_part(folder, 1, Watch())) as part:  # type: ignore[type-var]
        assert part is not None, "the claim was let go"


def test_the_second_signal_stops_at_once(tmp_path: Path) -> None:
    stop = Stop()
    cells = grid(tmp_path, "method=vanilla", "task.limit=9")

    def interrupted(part: ClaimedPart, sample: str) -> None:
        if sample == "4":
            stop._signal(2, None)
            stop._signal(2, None)

    with pytest.raises(KeyboardInterrupt):
        work(cells, executors={"embedded": Scripted(interrupted)}, stop=stop)
    assert list(CellFolder(cells[0]).samples()) == list("0123")
    assert finish(cells).rows[cells[0].key].n == 9


def _work_alone(out: Path, overrides: tuple[str, ...]) -> None:
    finish(grid(out, *overrides))


@pytest.mark.parametrize(
    "moment", ["unibench.store.folder.forget_parts", "unibench.store.claim.Claim.close"]
)
def test_what_a_worker_killed_right_after_the_row_leaves_is_removed(
    moment: str, tmp_path: Path
) -> None:
    def killed() -> None:
        with patch(
            moment,
            lambda _: (
                os.kill(os.getpid(), signal.SIGKILL)
                if list(tmp_path.rglob("metrics.json"))
                else None
            ),
        ):
            finish(grid(tmp_path, *one))

    one = ("method=vanilla", "task.limit=3")
    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert list(tmp_path.rglob("metrics.json")) and list(tmp_path.rglob("claim-*"))
    executor = Scripted()
    assert len(finish(grid(tmp_path, *one), executor).rows) == 1 and not executor.asked
    assert not [
        file for pattern in ("claim-*", "done-*", "split") for file in tmp_path.rglob(pattern)
    ]


@pytest.mark.parametrize(
    ("workers", "seeds"), [(4, 1), pytest.param(8, 83, marks=pytest.mark.slow)]
)
def test_many_writers_on_one_store_leave_what_one_would(
    tmp_path: Path, workers: int, seeds: int
) -> None:
    """The large one: 8 writers, 999 cells and their vanilla."""
    grids = (
        "method=random_pre,random_intra,divprune,fastv",
        "ratio=0.5,0.6,0.8",
        f"seed=range({seeds})",
        "task.limit=3",
    )
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_work_alone, args=(tmp_path, grids)) for _ in range(workers)
    ]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        entries = index(tmp_path)
        assert all(entry.samples == entry.row["n"] == 3 for entry in entries if entry.row), (
            "a row is there with its samples or not at all"
        )
        processes[0].join(0.2)
    assert all(process.exitcode == 0 for process in processes)
    entries = index(tmp_path)
    assert len(entries) == 12 * seeds + 1 and {entry.state for entry in entries} == {"done"}
    lines = sum(file.read_bytes().count(b"\n") for file in tmp_path.rglob("samples*.jsonl"))
    assert lines == sum(entry.samples for entry in entries) == 3 * len(entries)
    assert {entry.folder.name for entry in entries} == {
        plan.cell.key for plan in survey(grid(tmp_path, *grids))
    }
