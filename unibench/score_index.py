"""What comparisons read of samples, kept beside the index of a store: the scores of each cell.

``<folder>/index-scores.parquet`` has a line for each cell whose scores a comparison has needed,
with the state of its ``samples.jsonl`` at that time; a cell whose samples have changed since is
read again. What the questions were is there once for all cells that were asked the same. Like the
index, the file may be deleted at any time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from unibench import row_index

SHEET = "index-scores.parquet"
FEW = 256  # cells whose scores are kept in memory where no index is open

State = str
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Questions:
    """What a cell was asked, in the order of its task."""

    ids: tuple[str, ...]
    abilities: tuple[str, ...]
    groups: tuple[str, ...]


@dataclass(frozen=True)
class Scores:
    """The scores of a cell, of each sample; NaN where a harness gave none."""

    questions: Questions
    values: Array


Read = Callable[[str], Scores]  # the scores of the cell in a folder, from its samples


@dataclass
class Book:
    """The scores of a store's cells, as far as they were needed.

    Attributes:
        store: its folder.
        known: scores by the folder of their cell, with the state of the samples.
        added: whether some are not in the file yet.
    """

    store: Path
    known: dict[str, tuple[State, Scores]] = field(default_factory=dict)
    added: bool = False

    @classmethod
    def opened(cls, store: Path) -> Book:
        """What the file of a store holds."""
        table = row_index.read_sheet(store, SHEET)
        if table is None:
            return cls(store)
        listed = json.loads(table.schema.metadata[b"questions"])
        asked = [Questions(*map(tuple, one)) for one in listed]
        cells, states = table["cell"].to_pylist(), table["state"].to_pylist()
        which = table["questions"].to_pylist()
        scores = table["scores"].combine_chunks()
        values, ends = scores.values.to_numpy(), scores.offsets.to_numpy()
        known = {
            f"{store}/{cell}": (state, Scores(asked[place], values[ends[line] : ends[line + 1]]))
            for line, (cell, state, place) in enumerate(zip(cells, states, which, strict=True))
        }
        return cls(store, known)

    def of(self, folder: str, state: State, read: Read) -> Scores:
        """The scores of a cell."""
        kept = self.known.get(folder)
        if kept is not None and kept[0] == state:
            return kept[1]
        scores = read(folder)
        self.known[folder] = state, scores
        self.added = True
        return scores

    def keep(self) -> None:
        """Write the file, if there is anything new for it."""
        if not self.added:
            return
        start = f"{self.store}/"
        # others may be gone or changed by now
        kept = {
            folder.removeprefix(start): one
            for folder, one in self.known.items()
            if folder.startswith(start) and _state(folder) == one[0]
        }
        asked = {scores.questions: None for _, scores in kept.values()}
        places = {questions: place for place, questions in enumerate(asked)}
        listed = [(one.ids, one.abilities, one.groups) for one in asked]
        values = [one.values for _, one in kept.values()]
        ends = np.cumsum([0, *map(len, values)], dtype=np.int32)
        table = pa.table({
            "cell": pa.array(list(kept), pa.string()),
            "state": pa.array([state for state, _ in kept.values()], pa.string()),
            "questions": pa.array([places[one.questions] for _, one in kept.values()], pa.int32()),
            "scores": pa.ListArray.from_arrays(ends, np.concatenate([*values, np.empty(0)])),
        })  # fmt: skip
        row_index.write_sheet(
            self.store, SHEET, lambda: table, {b"questions": json.dumps(listed).encode()}
        )


_open: ContextVar[Book | None] = ContextVar("_open", default=None)


@contextmanager
def scores_kept(store: Path) -> Iterator[None]:
    """Inside the block scores come from the file of a store as far as it has them; those that it
    lacked are added at the end.
    """
    book = Book.opened(store)
    token = _open.set(book)
    try:
        yield
    finally:
        _open.reset(token)
        book.keep()


def scores(folder: str, read: Read) -> Scores:
    """The scores of a cell, read once as long as its samples stay what they are.

    Args:
        folder: of the cell.
        read: how they are read.

    Raises:
        FileNotFoundError, NotADirectoryError: it has no samples.
    """
    state = _stated(folder)
    book = _open.get()
    return _remembered(folder, state, read) if book is None else book.of(folder, state, read)


@lru_cache(maxsize=FEW)
def _remembered(folder: str, state: State, read: Read) -> Scores:
    return read(folder)


def _stated(folder: str) -> State:
    state = os.lstat(f"{folder}/samples.jsonl")
    # nobody can set a ctime, so that an edit cannot be hidden
    return f"{state.st_mtime_ns}:{state.st_ctime_ns}:{state.st_size}"


def _state(folder: str) -> Any:
    try:
        return _stated(folder)
    except OSError:
        return None
