"""Cells that are answered in company: the same part of all open cells of one setting, each under a
claim of its own.

A cell in company is a cell like any other. It has its file of samples and its marks, and whoever
continues it may do so alone or beside others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from unibench.errors import UsageError
from unibench.identity import APART, Cell
from unibench.runner.listener import Listener
from unibench.runner.stopping import Stop
from unibench.store import CellFolder, ClaimedPart, Watch, claim_part
from unibench.store.versions import installed

MOST = 256  # cells that one process holds a claim and a file of


@dataclass(frozen=True)
class Answered:
    """What became of parts that were to be answered together, by number.

    Attributes:
        done: every sample is there.
        failed: why a part cannot be answered. A part that is neither is left to a later visit.
    """

    done: frozenset[int]
    failed: dict[int, Exception]


@runtime_checkable
class TogetherExecutor(Protocol):
    """An executor that answers many cells at once."""

    def answer_together(
        self, parts: Sequence[ClaimedPart], stop: Stop, listener: Listener
    ) -> Answered:
        """Answer every sample that the parts lack, each sample in all cells that lack it.

        Args:
            parts: of cells of one setting, one of each. The first is done or fails.
            stop, listener: as of :meth:`unibench.runner.Executor.answer`.

        Raises:
            KeyboardInterrupt: the work is to end.
            Exception: a sample cannot be asked at all, whichever the method.
        """
        ...


def is_fused(cell: Cell) -> bool:
    """Whether a cell is answered together with others."""
    return cell.config.fuse != APART


def may_join(cell: Cell, other: Cell) -> bool:
    """Whether two cells may be answered together: they differ in what is compared alone."""
    same = cell.setting == other.setting and cell.config.out == other.config.out
    # the device by name: one key may mean two loadings
    return same and cell.key != other.key and cell.loaded == other.loaded


@contextmanager
def claimed_beside(
    part: ClaimedPart, others: Iterable[Cell], watch: Watch
) -> Iterator[list[ClaimedPart]]:
    """For the length of the block, the same part of other cells, as far as it is free.

    Args:
        part: claimed.
        others: cells that may join it; those that have ended or failed stay out.
        watch: what this worker has seen of the others.
    """
    with ExitStack() as stack:
        parts: list[ClaimedPart] = []
        for cell in others:
            folder = CellFolder(cell)
            if len(parts) == MOST:
                break
            if folder.row() is not None or folder.failure() is not None:
                continue
            found = claim_part(folder, part.of, watch, only=part.number)
            if found is None:
                continue
            stack.enter_context(closing(found))
            # a cell that was begun under another number of shards is divided otherwise
            if found.of == part.of and _may_go_on(folder):
                parts.append(found)
        yield parts


def _may_go_on(folder: CellFolder) -> bool:
    """Whether a cell is continued under the releases that are here; one that is not is refused when
    it is visited by itself.
    """
    try:
        folder.check_versions(installed())
    except UsageError:
        return False
    return True
