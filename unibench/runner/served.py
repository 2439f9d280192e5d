"""Having a serving engine answer the samples of a task, in a process of its environment."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from unibench import engines
from unibench.errors import UsageError
from unibench.harness import HarnessProcess
from unibench.harness.collected import FOLDER
from unibench.harness.job import write_job
from unibench.identity import Cell
from unibench.inference.record import Record
from unibench.inference.row import Row, row_of
from unibench.runner.children import StandingChild
from unibench.runner.embedded import load_task
from unibench.runner.harnessed import Harnessed
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

    A harness writes down what it asks, the engine answers that, and the harness scores.

    Args:
        harnessed: has a harness ask and score.
    """

    def __init__(self, harnessed: Harnessed) -> None:
        self._child, self._harnessed = StandingChild(), harnessed

    def answer(self, part: ClaimedPart, stop: Stop, listener: Listener) -> None:
        """Have what is missing answered, all at once."""
        cell = part.folder.cell
        if cell.config.task.kind != "harness":
            self._have_answered(part, self._missing(part), None, stop, listener)
            return
        questions = cell.folder.absolute() / FOLDER
        try:
            wanted, total = self._harnessed.collect(part)
            self._have_answered(part, wanted, total, stop, listener, questions)
        finally:
            shutil.rmtree(questions, ignore_errors=True)
        if not stop.asked:
            self._harnessed.answer(part, stop, listener, engine=True)

    def _have_answered(
        self,
        part: ClaimedPart,
        wanted: Sequence[str],
        total: int | None,
        stop: Stop,
        listener: Listener,
        questions: Path | None = None,
    ) -> None:
        """Have samples answered.

        Args:
            part: of a cell.
            wanted: names of the samples.
            total: of the task, where that is known.
            stop, listener: see :class:`unibench.runner.Executor`.
            questions: where those of a harness lie.
        """
        if not wanted:
            return
        cell = part.folder.cell
        part.folder.open()
        job = cell.folder.absolute() / "job.json"
        about = {} if questions is None else {"questions": str(questions)}
        write_job([cell], job, {"wanted": list(wanted), **about})
        with self._child.at_work(cell):
            events = self._process_of(cell).take(job, cell.folder / "run.log", "answered")
            self._samples(part, events, total or cell.config.task.limit, stop, listener)

    def _missing(self, part: ClaimedPart) -> list[str]:
        """The ids of the samples still to be answered, looked at before anything is loaded.

        Raises:
            UsageError: one cannot be asked, or there are none at all.
        """
        cell, done = part.folder.cell, part.answered()
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
        total: int | None,
        stop: Stop,
        listener: Listener,
    ) -> None:
        """Keep the records that the child sends, until all are there."""
        (begun,) = islice(events, 1)
        announce(part, part.answered().values(), total, listener)
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
        if cell.config.task.kind == "harness":
            return self._harnessed.row(cell, records, environments, vanilla)
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
