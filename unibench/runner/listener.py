"""Who is told how a run goes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from unibench.identity import Cell
from unibench.inference.record import Record, stored
from unibench.inference.row import Row
from unibench.store import ClaimedPart


class Listener(Protocol):
    """Hears of each cell and sample; one cell at a time."""

    def begin(self, cell: Cell, done: int, total: int | None) -> None:
        """A cell, or a part of it, is started or continued; ``done`` samples are there."""
        ...

    def step(self, record: Record) -> None:
        """A sample was answered (or found answered)."""
        ...

    def end(self, row: Row) -> None:
        """The cell is complete."""
        ...

    def failed(self, cell: Cell, error: str) -> None:
        """The cell ended in an error; the work goes on with the next."""
        ...

    def wait(self, cells: int, holder: str | None) -> None:
        """What is left, that many cells, is in the hands of other workers, ``holder`` being one."""
        ...


class Silent:
    """A listener that says nothing."""

    def begin(self, cell: Cell, done: int, total: int | None) -> None: ...

    def step(self, record: Record) -> None: ...

    def end(self, row: Row) -> None: ...

    def failed(self, cell: Cell, error: str) -> None: ...

    def wait(self, cells: int, holder: str | None) -> None: ...


def announce(
    part: ClaimedPart, done: Collection[Mapping[str, Any]], total: int | None, listener: Listener
) -> None:
    """Tell of a part that is started or continued, and of the samples that are there."""
    listener.begin(part.folder.cell, len(done), total)
    for record in stored(part.folder.path, done):
        listener.step(record)
