"""Cells that are answered together: the answers of each alone, claims and resumption as ever."""

from __future__ import annotations

import functools
import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.workers import grid
from unibench.compose import compose_cells
from unibench.errors import UsageError
from unibench.fused import Fusion
from unibench.inference.record import Record
from unibench.inference.together import company
from unibench.methods.fastv import FastV
from unibench.plan import survey
from unibench.runner import Embedded, Outcome, Stop, work
from unibench.runner.listener import Silent
from unibench.store import CellFolder, Watch, claim_part

# at layer 0, with attention of the tower, inside the decoder, merging, and one that is alone
METHODS = "method=divprune,visionzip,fastv,prumerge,mustdrop"
COMMON = (METHODS, "ratio=0.5,0.889", "task.limit=3", "timing=false")
FUSED = (*COMMON, "fuse=cells")
Records = dict[tuple[str, str], list[Record]]


def records(outcome: Outcome) -> Records:
    """The records of each cell, without what says how they were answered."""
    found = {}
    for row in outcome.rows.values():
        lines = (Path(row.folder) / "samples.jsonl").read_text().splitlines()
        each = [Record.from_json(json.loads(line)) for line in lines]
        found[row.method, row.budget] = [replace(one, run=0, beside="") for one in each]
    return found


@pytest.fixture(scope="module")
def embedded() -> Embedded:
    """Keeps the model loaded from test to test."""
    return Embedded()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, embedded: Embedded) -> Records:
    cells = grid(tmp_path_factory.mktemp("alone"), *COMMON)
    outcome = work(cells, executors={"embedded": embedded})
    assert not outcome.failures
    return records(outcome)


def test_a_grid_answered_together_has_the_records_of_cells_answered_alone(
    tmp_path: Path, embedded: Embedded, alone: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = grid(tmp_path, *FUSED)
    core, passes = type(embedded.model_of(cells[0]).family.core), list[Any]()
    plain = core.get_image_features

    @functools.wraps(plain)  # generate() reads the signature
    def counted(*args: Any, **kwargs: Any) -> Any:
        passes.append(args)
        return plain(*args, **kwargs)

    monkeypatch.setattr(core, "get_image_features", counted)
    outcome = work(cells, executors={"embedded": embedded})
    assert not outcome.failures and records(outcome) == alone and len(alone) == 11
    assert len(passes) == 3 * (1 + 2), "once for each sample, and for each of mustdrop's two cells"
    for row in outcome.rows.values():
        assert row.total_s is row.prefill_ms is row.method_ms is None


def test_a_sample_says_which_cells_stood_beside_it(tmp_path: Path, embedded: Embedded) -> None:
    words = ("method=divprune,fastv", "task.limit=2", "timing=false", "fuse=cells")
    outcome = work(grid(tmp_path, *words), executors={"embedded": embedded})
    keys = set(outcome.rows)
    assert len(keys) == 3
    for plan in survey(grid(tmp_path, *words)):
        (where,) = json.loads((plan.cell.folder / "env.json").read_text())
        for sample in CellFolder(plan.cell).samples().values():
            assert set(company(where["fused"], sample["beside"])) == keys


def test_a_cell_that_was_begun_alone_goes_on_in_company(
    tmp_path: Path, embedded: Embedded, alone: Records
) -> None:
    (vanilla, early, *_) = survey(grid(tmp_path, "method=divprune", "ratio=0.5", *FUSED[2:]))
    answered: list[str] = []
    stop = Stop()

    class Once(Silent):
        def step(self, record: Record) -> None:
            answered.append(record.id)
            stop.received = 2  # as Ctrl-C

    with pytest.raises(KeyboardInterrupt):
        work([early.cell], executors={"embedded": embedded}, listener=Once(), stop=stop)
    assert answered and len(CellFolder(vanilla.cell).samples()) == 1
    outcome = work(grid(tmp_path, *FUSED), executors={"embedded": embedded})
    assert records(outcome) == alone
    assert [one["run"] for one in CellFolder(early.cell).samples().values()] == [0, 1, 1]


def test_a_cell_that_another_worker_holds_is_left_out(
    tmp_path: Path, embedded: Embedded, alone: Records
) -> None:
    words = ("method=divprune,fastv", "ratio=0.5", *FUSED[2:])
    (held,) = grid(tmp_path, "method=fastv", "ratio=0.5", *FUSED[2:])
    part = claim_part(CellFolder(held), 1, Watch())
    assert part is not None
    stop = Stop()

    class Waiting(Silent):
        def wait(self, cells: int, holder: str | None) -> None:
            assert cells == 1
            stop.received = 2

    with closing(part), pytest.raises(KeyboardInterrupt):
        executors = {"embedded": embedded}
        work(grid(tmp_path, *words), executors=executors, listener=Waiting(), stop=stop)
    states = {plan.cell.method: plan.state for plan in survey(grid(tmp_path, *words))}
    assert states == {"vanilla": "done", "divprune": "done", "fastv": "missing"}
    outcome = work(grid(tmp_path, *words), executors={"embedded": embedded})
    assert all(alone[key] == found for key, found in records(outcome).items())


def test_a_method_that_fails_leaves_the_others_their_answers(
    tmp_path: Path, embedded: Embedded, alone: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(method: FastV, ctx: Any) -> Any:
        raise ValueError("no such luck")

    monkeypatch.setattr(FastV, "score", broken)
    words = ("method=divprune,fastv", "ratio=0.5", *FUSED[2:])
    outcome = work(grid(tmp_path, *words), executors={"embedded": embedded})
    (failure,) = outcome.failures
    assert failure.cell.method == "fastv" and failure.error.endswith("ValueError: no such luck")
    assert "in broken" in (CellFolder(failure.cell).failure() or {})["traceback"]
    assert {key[0] for key in records(outcome)} == {"vanilla", "divprune"}
    assert all(alone[key] == found for key, found in records(outcome).items())


def test_memory_that_runs_out_halves_the_rows(
    tmp_path: Path, embedded: Embedded, alone: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, sizes = Fusion._answered, list[int]()

    def small(self: Fusion, prompt: Any, wanted: Any, *more: Any) -> Any:
        sizes.append(len(wanted))
        if len(wanted) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, prompt, wanted, *more)

    monkeypatch.setattr(Fusion, "_answered", small)
    words = ("method=divprune,fastv,visionzip", "ratio=0.5", *FUSED[2:])
    outcome = work(grid(tmp_path, *words), executors={"embedded": embedded})
    assert sizes == [4, 2, 2] + [2, 2] * 2
    assert all(alone[key] == found for key, found in records(outcome).items())


def test_fused_cells_have_a_key_of_their_own_and_the_others_keep_theirs(tmp_path: Path) -> None:
    plain, fused = (grid(tmp_path, *words, "method=divprune")[0] for words in (COMMON, FUSED))
    assert "fuse" not in plain.identity and fused.identity["fuse"] == "cells"
    assert plain.key != fused.key and plain.setting != fused.setting
    (other,) = grid(tmp_path, "method=divprune", *FUSED[2:], "fuse_rows=2")
    assert other.identity == grid(tmp_path, "method=divprune", *FUSED[2:])[0].identity


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "add timing=false"),
        (("timing=false", "batch_size=2"), "leave batch_size=2 out"),
    ],
)
def test_what_cannot_be_answered_together_is_refused(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        compose_cells(["method=divprune", "fuse=cells", *words], sweep=False)
