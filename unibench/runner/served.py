"""Having a serving engine answer the samples of embedded tasks, in a process of its environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from unibench import engines
from unibench.errors import UsageError
from unibench.harness import HarnessProcess
from unibench.harness.job import write_job
from unibench.identity import Cell
from unibench.inference.record import Record
from unibench.inference.row import Row, row_of
from unibench.runner.children import StandingChild
from unibench.runner.embedded import load_task
from unibench.runner.listener import Listener, announce
from unibench.runner.questions import refuse_control_words_of, samples_of
from unibench.runner.stopping import Stop
from unibench.store import ClaimedPart

SERVED = "served"  # its name among executors
CHILD = "unibench.serving.child"
QUIET = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


class Served:
    """An :class:`unibench.runner.Executor` whose child, with vLLM imported, stays for the next
    cell.
    """

    def __init__(self) -> None:
        self._child = StandingChild()

    def answer(self, part: ClaimedPart, stop: Stop, listener: Listener) -> None:
        """Have what is missing answered, all at once."""
        cell, done = part.folder.cell, part.answered()
        wanted = self._missing(part, done)
        if not wanted:
            return
        part.folder.open()
        job = cell.folder.absolute() / "job.json"
        write_job([cell], job, {"wanted": wanted})
        with self._child.at_work(cell):
            events = self._process_of(cell).take(job, cell.folder / "run.log", "answered")
            self._samples(part, events, done, stop, listener)

    def _missing(self, part: ClaimedPart, done: Mapping[str, Any]) -> list[str]:
        """The ids of the samples still to be answered, looked at before anything is loaded.

        Raises:
            UsageError: one cannot be asked, or there are none at all.
        """
        cell = part.folder.cell
        task = load_task(cell)
        refuse_control_words_of(task, cell)
        names = [sample.id for _, sample in samples_of(task, cell.config.task)]
        if not names:
            raise UsageError(f"task {cell.config.task.name} has no samples")
        return [name for name in names if part.contains(name) and name not in done]

    def _samples(
        self,
        part: ClaimedPart,
        events: Iterator[dict[str, Any]],
        done: Mapping[str, Any],
        stop: Stop,
        listener: Listener,
    ) -> None:
        """Keep the records that the child sends, until all are there."""
        (begun,) = islice(events, 1)
        announce(part, done.values(), part.folder.cell.config.task.limit, listener)
        with part.appending(begun["environment"]), stop.answering():
            for event in events:
                if event["event"] == "sample":
                    record = Record.from_json(event["record"])
                    part.append(record.as_json())
                    listener.step(record)
                if stop.asked:
                    break

    def row(
        self,
        cell: Cell,
        records: Sequence[Record],
        environments: Sequence[Mapping[str, Any]],
        vanilla: Row | None,
    ) -> Row:
        """See :func:`unibench.inference.row.row_of`."""
        return row_of(cell, records, environments, vanilla, load_task(cell).metric)

    def close(self) -> None:
        """End the child."""
        self._child.close()

    def _process_of(self, cell: Cell) -> HarnessProcess:
        """The child of a cell; another one where the interpreter differs."""
        python = engines.interpreter(cell.config)
        return self._child.named(
            python, lambda: HarnessProcess(python, QUIET, CHILD, "serve.python", "serving engine")
        )
