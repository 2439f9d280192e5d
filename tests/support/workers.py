"""A stand-in for models: answers are a hash of cell and sample, so that whole grids take seconds."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.records import record, row
from unibench.compose import compose_cells
from unibench.identity import Cell, cell_of
from unibench.inference.record import Record, stored
from unibench.inference.row import Row
from unibench.runner import Listener, Stop
from unibench.store import ClaimedPart

HERE = {"device": "cpu", "code": "test"}


def grid(out: Path, *overrides: str) -> list[Cell]:
    return [cell_of(config) for config in compose_cells([*overrides, f"out={out}"], sweep=True)]


def answer_of(cell: Cell, sample: str) -> str:
    return hashlib.blake2b(f"{cell.key}/{sample}".encode(), digest_size=4).hexdigest()


@dataclass
class Scripted:
    """An :class:`unibench.runner.Executor` of ``task.limit`` samples named by their number.

    Attributes:
        before: called before each sample; may raise.
        seconds: that a sample takes.
        asked: every sample answered, by cell.
    """

    before: Callable[[ClaimedPart, str], None] = lambda part, sample: None
    seconds: float = 0.0
    asked: list[tuple[str, str]] = field(default_factory=list)

    def answer(self, part: ClaimedPart, stop: Stop, listener: Listener) -> None:
        cell, done = part.folder.cell, part.answered()
        listener.begin(cell, len(done), cell.config.task.limit)
        for sample in stored(part.folder.path, done.values()):
            listener.step(sample)
        with part.appending(HERE), stop.answering():
            for index in range(cell.config.task.limit or 0):
                name = str(index)
                if not part.contains(name) or name in done:
                    continue
                if stop.asked:
                    break
                self.before(part, name)
                time.sleep(self.seconds)
                self.asked.append((cell.key, name))
                answered = record(
                    id=name, index=index, score=index % 2, answer=answer_of(cell, name)
                )
                part.append(answered.as_json())
                listener.step(answered)

    def row(
        self,
        cell: Cell,
        records: Sequence[Record],
        environments: Sequence[Mapping[str, Any]],
        vanilla: Row | None,
    ) -> Row:
        assert (vanilla is None) == (cell.method == "vanilla")
        return row(cell, records, vanilla)
