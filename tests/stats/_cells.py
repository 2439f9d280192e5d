"""Finished cells with given answers, as the runner leaves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.records import record
from unibench.compose import compose_cells
from unibench.identity import cell_of, vanilla_of
from unibench.inference.record import Record
from unibench.inference.row import row_of, stored_row
from unibench.store import CellFolder

ENVIRONMENT = {"device": "cpu", "code": "test"}


def finished(
    out: Path,
    scores: Sequence[float],
    *overrides: str,
    milliseconds: float = 10.0,
    per_picture: int = 1,
    task: str = "synthvqa",
    more: Mapping[str, Any] | None = None,
) -> Path:
    """The folder of a cell of the tiny model whose samples have these scores, and ``more``; answers
    are right or wrong words.

    Vanilla must be there before its drop can be taken: give it first.
    """
    (config,) = compose_cells(
        ["model=tiny_qwen2_5_vl", f"task={task}", f"out={out}", *overrides], sweep=False
    )
    cell = cell_of(config)
    records = [
        replace(_sample(number, score, milliseconds, per_picture), **(more or {}))
        for number, score in enumerate(scores)
    ]
    folder = CellFolder(cell)
    with folder.appending(ENVIRONMENT):
        for sample in records:
            folder.append(sample.as_json())
    folder.merge()
    vanilla = None if cell.method == "vanilla" else stored_row(vanilla_of(cell))
    folder.finish(row_of(cell, records, [ENVIRONMENT], vanilla, "accuracy").as_json())
    return folder.path


def _sample(number: int, score: float, milliseconds: float, per_picture: int) -> Record:
    times = ("total_ms", "vision_ms", "prefill_ms", "method_ms", "decode_ms")
    return record(
        id=f"s{number:04d}",
        index=number,
        ability="counting" if number % 2 else "reading",
        group=f"picture{number // per_picture}",
        answer="Yes." if score else "no",
        score=float(score),
        **dict.fromkeys(times, milliseconds),
    )
