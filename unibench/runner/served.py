"""Having a serving engine answer the samples of embedded tasks, in a process of its environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from unibench import engines
from unibench.errors import UsageError
from unibench.harness import HarnessError, HarnessProcess
from unibench.harness.job import write_job
from unibench.identity import Cell
from unibench.inference.record import Record, stored
from unibench.inference.row import Row, row_of
from unibench.runner.embedded import load_task
from unibench.runner.listener import Listener
from unibench.runner.questions import refuse_control_words, samples_of
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
        self._process: HarnessProcess | None = None
        self._name = ""

    def answer(self, part: ClaimedPart, stop: Stop, listener: Listener) -> None:
        """Have what is missing answered, all at once."""
        cell, done = part.folder.cell, part.answered()
        wanted = self._missing(part, done)
        if not wanted:
            return
        part.folder.open()
        job = cell.folder.absolute() / "job.json"
        write_job([cell], job, {"wanted": wanted})
        with self._ended_unless_idle():
            try:
                events = self._process_of(cell).take(job, cell.folder / "run.log", "answered")
                self._samples(part, events, done, stop, listener)
            except HarnessError as error:
                raise HarnessError(
                    f"{cell.title}: {error}. Every answered sample is safe and the same command"
                    f" continues; the reason is in {cell.folder.absolute()}/run.log"
                ) from None

    def _missing(self, part: ClaimedPart, done: Mapping[str, Any]) -> list[str]:
        """The ids of the samples still to be answered, looked at before anything is loaded.

        Raises:
            UsageError: one cannot be asked, or there are none at all.
        """
        cell = part.folder.cell
        task = load_task(cell)
        if (questions := getattr(task, "questions", None)) is not None:
            refuse_control_words(questions(cell.config.task.limit), cell)
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
        cell = part.folder.cell
        (begun,) = islice(events, 1)
        listener.begin(cell, len(done), cell.config.task.limit)
        for record in stored(part.folder.path, done.values()):
            listener.step(record)
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
        if self._process is not None:
            self._process.close()
        self._process = None

    @contextmanager
    def _ended_unless_idle(self) -> Iterator[None]:
        """End a child that is in the middle of a job."""
        try:
            yield
        finally:
            if self._process is not None and not self._process.idle:
                self.close()

    def _process_of(self, cell: Cell) -> HarnessProcess:
        """The child of a cell; another one where the interpreter differs."""
        python = engines.interpreter(cell.config)
        if self._process is None or python != self._name:
            self.close()
            self._process = HarnessProcess(python, QUIET, CHILD, "serve.python", "serving engine")
            self._name = python
        return self._process
