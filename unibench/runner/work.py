"""Working off cells, alone or beside any number of other workers on the same folder.

:func:`work` is what the command line, every process of ``work --processes``, and a job on a cluster
call::

    from unibench.compose import compose_cells
    from unibench.identity import cell_of
    from unibench.runner import work

    configs = compose_cells(["method=divprune,fastv", "out=/shared/outputs"], sweep=True)
    outcome = work([cell_of(config) for config in configs])

It may be called by as many processes as there are, on any machines that see the folder; each claims
what is free, takes over from those that died, and returns when nothing is left to do. An
:class:`Executor` answers the samples of one kind of task.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from unibench.engines import HF
from unibench.errors import UsageError, of_file, unknown
from unibench.identity import Cell, settled
from unibench.inference.record import Record, stored
from unibench.inference.row import Row, stored_row
from unibench.plan import survey
from unibench.plan.survey import PlannedCell
from unibench.registry import Card, parts_of, task
from unibench.registry.importing import own_line
from unibench.runner.company import TogetherExecutor, claimed_beside, is_fused, may_join
from unibench.runner.embedded import Embedded
from unibench.runner.harnessed import Harnessed
from unibench.runner.listener import Listener, Silent
from unibench.runner.served import SERVED, Served
from unibench.runner.stopping import Stop
from unibench.store import CellFolder, ClaimedPart, DiskError, Watch, acquire, claim_part, holder
from unibench.store.claim import EXPIRY_SECONDS
from unibench.store.files import disk_errors
from unibench.store.folder import forget_parts
from unibench.store.part import LostClaimError, answered_parts, tidy
from unibench.store.versions import installed

log = logging.getLogger(__name__)
POLL_SECONDS = 0.5


class Executor(Protocol):
    """Answers the samples of one kind of task. It is used by one worker, cells of one model one
    after the other.
    """

    def answer(self, part: ClaimedPart, stop: Stop, listener: Listener) -> object:
        """Answer every sample of the part that ``part.answered()`` lacks, inside ``with
        part.appending(environment)``.

        Each record goes through ``part.append`` as soon as it is there. A task that cannot be split
        refuses ``part.of > 1``. Samples are answered inside ``with stop.answering()``, and no
        further one once ``stop.asked``.

        Raises:
            Exception: anything; the cell is then marked as failed with its traceback, and the work
                goes on.
        """
        ...

    def row(
        self,
        cell: Cell,
        records: Sequence[Record],
        environments: Sequence[Mapping[str, Any]],
        vanilla: Row | None,
    ) -> Row:
        """The row of a cell all of whose samples are there. Nothing is written."""
        ...


@dataclass(frozen=True)
class Failure:
    """A cell without a row.

    Attributes:
        cell: which one.
        error: in one line.
        usage: whether it is the user's to mend, and the line says how.
    """

    cell: Cell
    error: str
    usage: bool


@dataclass
class Outcome:
    """What became of the cells.

    Attributes:
        rows: by key, of the complete cells.
        failures: of the others.
    """

    rows: dict[str, Row] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)


def work(
    cells: Sequence[Cell],
    *,
    executors: Mapping[str, Executor] | None = None,
    listener: Listener | None = None,
    stop: Stop | None = None,
    expiry: float = EXPIRY_SECONDS,
) -> Outcome:
    """Complete cells and the vanilla cells they are compared to.

    A cell that fails keeps its traceback in ``status.json`` and is not tried again (see
    :func:`forgive`).

    Args:
        cells: any, in any order.
        executors: by ``task.kind``, and ``served`` for cells of a serving engine; an
            :class:`Embedded`, a :class:`Harnessed` and a :class:`Served` without it. Hand
            the same ones to several calls and models stay loaded between them.
        listener: is told how it goes.
        stop: lets the caller end it between two samples.
        expiry: seconds without a heartbeat after which another worker counts as dead.

    Returns:
        Rows and failures. It waits for cells that other workers hold.

    Raises:
        DiskError: the folder cannot be written.
        KeyboardInterrupt: the user stopped; everything answered is kept.
    """
    stop, listener = stop or Stop(), listener or Silent()
    with ExitStack() as stack:
        if executors is None:
            harnessed = stack.enter_context(closing(Harnessed()))
            executors = {
                "embedded": Embedded(),
                "harness": harnessed,
                SERVED: stack.enter_context(closing(Served(harnessed))),
            }
        loop = _CellLoop(executors, listener, stop, Watch(expiry))
        for visit in loop.visits(survey(settled(cells))):
            with loop.failures_kept(visit):
                if loop.ended_elsewhere(visit):
                    continue
                executor = loop.executor(visit.cell)
                for part in loop.parts(visit):
                    with closing(part), visit.folder.logged():
                        _check_versions(part)
                        if is_fused(visit.cell) and isinstance(executor, TogetherExecutor):
                            loop.answer_together(part, executor)
                        else:
                            executor.answer(part, stop, listener)
                            stop.heed()  # it may have ended early
                            part.done()
                loop.finish(visit, executor)
    return loop.outcome


def forgive(cells: Sequence[Cell]) -> int:
    """Let failed cells be tried again; returns how many there were."""
    failed = [plan for plan in survey(cells) if CellFolder(plan.cell).failure() is not None]
    for plan in failed:
        CellFolder(plan.cell).status("retry")
    return len(failed)


@dataclass
class _Visit:
    """One visit of the loop to a cell that has not ended.

    Attributes:
        cell, vanilla: the cell, and what it is compared to.
        ended: whether it has a row now, or never will.
        progressed: whether a part of it was answered.
    """

    cell: Cell
    vanilla: Cell | None
    ended: bool = False
    progressed: bool = False

    @property
    def folder(self) -> CellFolder:
        return CellFolder(self.cell)


@dataclass
class _CellLoop:
    """One call of :func:`work`: goes round the cells that have not ended until all have."""

    executors: Mapping[str, Executor]
    listener: Listener
    stop: Stop
    watch: Watch
    outcome: Outcome = field(default_factory=Outcome)
    left: dict[Path, PlannedCell] = field(default_factory=dict)  # that have not ended, by folder

    def visits(self, plans: Sequence[PlannedCell]) -> Iterator[_Visit]:
        """The cells that have not ended, one after the other, again and again."""
        self.left = {plan.cell.folder: plan for plan in plans if not self._ended_before(plan)}
        while self.left:
            progressed = False
            for folder, plan in list(self.left.items()):
                self.stop.heed()
                visit = _Visit(plan.cell, plan.vanilla)
                yield visit
                progressed |= visit.ended or visit.progressed
                if visit.ended:
                    del self.left[folder]
            if self.left and not progressed:
                first = next(iter(self.left))
                self.listener.wait(len(self.left), holder(first, self.watch))
                time.sleep(POLL_SECONDS)

    def _ended_before(self, plan: PlannedCell) -> bool:
        """Whether a cell had ended when the plan was made; its outcome is then noted."""
        if plan.row is not None:
            self._note(CellFolder(plan.cell), plan.row)
        elif plan.state in ("failed", "blocked"):
            self._fail(plan.cell, plan.reason, usage=plan.state == "blocked")
        return plan.state in ("done", "failed", "blocked")

    @contextmanager
    def failures_kept(self, visit: _Visit) -> Iterator[None]:
        """An error inside the block marks the cell as failed, with its traceback."""
        try:
            yield
        except LostClaimError as error:
            log.warning("%s", error)
            visit.progressed = True
        except DiskError:
            raise
        except Exception as error:
            line, usage = _marked(visit.folder, error)
            self._fail(visit.cell, line, usage=usage)
            visit.ended = True

    def ended_elsewhere(self, visit: _Visit) -> bool:
        """Whether others have ended a cell meanwhile, or its vanilla has failed; its outcome is
        then noted.
        """
        row, failure = stored_row(visit.cell), visit.folder.failure()
        if row is not None:
            self._note(visit.folder, row)
        elif failure is not None:
            self._fail(visit.cell, str(failure.get("error")), usage=bool(failure.get("usage")))
        elif lost := [
            failure
            for failure in self.outcome.failures
            if visit.vanilla is not None and failure.cell.key == visit.vanilla.key
        ]:
            self._fail(visit.cell, lost[0].error, usage=lost[0].usage)
        else:
            return False
        visit.ended = True
        return True

    def parts(self, visit: _Visit) -> Iterator[ClaimedPart]:
        """Claim the parts of a cell that are free, one after the other."""
        _set_damaged_row_aside(visit.folder)
        while (part := claim_part(visit.folder, visit.cell.config.shards, self.watch)) is not None:
            yield part
            visit.progressed = True

    def answer_together(self, part: ClaimedPart, executor: TogetherExecutor) -> None:
        """Answer a part, and beside it that of every open cell that may join it.

        Raises:
            Exception: of this cell; those of the others are marked.
        """
        cell = part.folder.cell
        others = [plan.cell for plan in self.left.values() if may_join(cell, plan.cell)]
        with claimed_beside(part, others, self.watch) as beside:
            parts = [part, *beside]
            answered = executor.answer_together(parts, self.stop, self.listener)
            self.stop.heed()
            for number in answered.done:
                parts[number].done()
            for number, error in answered.failed.items():
                if number and not isinstance(error, LostClaimError):
                    _marked(parts[number].folder, error)  # its own visit will tell
        if 0 in answered.failed:
            raise answered.failed[0]

    def executor(self, cell: Cell) -> Executor:
        kind = SERVED if cell.config.engine != HF else cell.config.task.kind
        if kind not in self.executors:
            raise unknown("task kind", kind, self.executors)
        return self.executors[kind]

    def finish(self, visit: _Visit, executor: Executor) -> None:
        """Make the row of a cell once all of its parts are done and vanilla has its own."""
        row = self._row(visit, executor)
        if row is not None:
            self._note(visit.folder, row)
            if is_fused(visit.cell) and not visit.progressed:
                self._told(visit)  # it was answered while another cell was visited
            self.listener.end(row)
            visit.ended = True

    def _told(self, visit: _Visit) -> None:
        """Tell the listener of the samples of a cell that are all there."""
        records = stored(visit.folder.path, visit.folder.samples().values())
        self.listener.begin(visit.cell, len(records), len(records))
        for record in records:
            self.listener.step(record)

    def _row(self, visit: _Visit, executor: Executor) -> Row | None:
        folder, vanilla = visit.folder, visit.vanilla
        expected = answered_parts(folder)
        reference = None if vanilla is None else self.outcome.rows.get(vanilla.key)
        if expected is None or (vanilla is not None and reference is None):
            return None
        with disk_errors(folder.path):
            claim = acquire(folder.path, "finish", self.watch)
        if claim is None:
            return None
        with closing(claim):
            row = stored_row(folder.cell)
            if row is None:
                folder.merge()
                records = stored(folder.path, folder.samples().values())
                if len(records) != expected:
                    # samples were taken away after their part was marked as done
                    forget_parts(folder.path)
                    return None
                row = executor.row(folder.cell, records, folder.environments(), reference)
                folder.finish(row.as_json())
        return row

    def _note(self, folder: CellFolder, row: Row) -> None:
        """Note the row of a complete cell."""
        self.outcome.rows[folder.cell.key] = row
        if Path(row.folder) == folder.path:  # a shared store is never written
            tidy(folder.path, self.watch)

    def _fail(self, cell: Cell, error: str, *, usage: bool) -> None:
        self.outcome.failures.append(Failure(cell, error, usage))
        if not usage:  # what the user can mend is said once, at the end
            self.listener.failed(cell, error)


def _check_versions(part: ClaimedPart) -> None:
    """Refuse to continue a cell under other releases than it was begun with."""
    cell = part.folder.cell
    if cell.config.harness_options.python is None:  # another interpreter has others
        part.folder.check_versions(installed())


def _set_damaged_row_aside(folder: CellFolder) -> None:
    """Take away a row that lacks columns, since a cell that has one counts as complete; it is made
    again from the samples.
    """
    file = folder.path / "metrics.json"
    if folder.row() is not None and stored_row(folder.cell) is None:
        log.warning("%s is damaged and made again from the samples", file)
        with disk_errors(folder.path):
            file.replace(file.with_name("metrics.json.damaged"))


def _marked(folder: CellFolder, error: Exception) -> tuple[str, bool]:
    """Mark a cell as failed, with the traceback of its error; the error in a line, and whether it
    is the user's to mend.
    """
    mistake = error if isinstance(error, UsageError) else of_file(error)
    line = _line(error, folder.cell) if mistake is None else str(mistake)
    usage, trace = mistake is not None, "".join(traceback.format_exception(error))
    folder.open()
    folder.status("failed", error=line, traceback=trace, usage=usage)
    return line, usage


def _line(error: Exception, cell: Cell) -> str:
    """An error as one line; one that passes through a method or a task of the user's begins with
    its file, line and source.
    """
    said = f"{type(error).__name__}: {error}".partition("\n")[0]
    cards: list[Card] = [*parts_of(cell.config.method)]
    if cell.config.task.target is not None:
        cards.append(task(cell.config.task.target))
    own = [card.path for card in cards if card.outside]
    place = own_line(error, own)
    return f"{place}: {said}" if place else said
