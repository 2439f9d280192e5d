"""Running one cell after another in this process."""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Iterator
from typing import Any, Protocol

import torch

from unibench.api import build_method
from unibench.errors import UsageError
from unibench.harness.cells import HarnessCells, scored
from unibench.harness.job import Outcome
from unibench.identity import Cell, vanilla_of
from unibench.models import LoadedModel, load
from unibench.pruning import Method
from unibench.runner.environment import environment
from unibench.runner.evaluate import Answered, Setting, answer
from unibench.runner.row import row_of
from unibench.store import CellFolder
from unibench.tasks import Sample, Task

log = logging.getLogger(__name__)


class Listener(Protocol):
    """Who is told how a run goes."""

    def begin(self, cell: Cell, done: int, total: int | None) -> None:
        """A cell is started or continued, ``done`` samples are there."""
        ...

    def step(self, sample: dict[str, Any]) -> None:
        """A sample was answered (or found answered)."""
        ...

    def end(self, row: dict[str, Any]) -> None:
        """The cell is complete."""
        ...


class Runner:
    """Runs cells; models and tasks stay loaded between them.

    Args:
        listener: is told how it goes.
    """

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self._loaded: dict[str, LoadedModel] = {}
        self._harness = HarnessCells()

    def run(self, cell: Cell) -> dict[str, Any]:
        """The row of a cell; what is missing is answered first, vanilla before the rest.

        Raises:
            UsageError: the user can mend it; everything answered so far is kept.
        """
        vanilla = None
        if cell.method != "vanilla":
            vanilla = self._complete(vanilla_of(cell), None)
        return self._complete(cell, vanilla)

    def _complete(self, cell: Cell, vanilla: dict[str, Any] | None) -> dict[str, Any]:
        folder = CellFolder(cell)
        row = folder.row()
        if row is not None:
            log.info("%s is done: %s", cell.title, folder.path)
            return row
        task = None if cell.config.task.kind == "harness" else load_task(cell)
        with folder.logged():
            try:
                outcome = None
                if task is None:
                    outcome = self._ask_harness(cell, folder)
                else:
                    self._answer_missing(cell, folder, task)
            except Exception as error:
                folder.status("failed", error=f"{type(error).__name__}: {error}")
                log.log(logging.INFO, "failed", exc_info=True)
                raise
            samples = scored(list(folder.samples().values()), folder.path)
            environments = json.loads((folder.path / "env.json").read_text(encoding="utf-8"))
            metric = task.metric if task is not None else next(iter(outcome.metrics)) if outcome else ""
            row = row_of(cell, samples, environments, vanilla, metric, outcome)
            folder.finish(row)
        self.listener.end(row)
        return row

    def close(self) -> None:
        """End what runs beside this process."""
        self._harness.close()

    def _ask_harness(self, cell: Cell, folder: CellFolder) -> Outcome:
        self._loaded.clear()  # the worker holds the model
        return self._harness.run(cell, folder, lambda done, total: self.listener.begin(cell, done, total), self.listener.step)

    def _answer_missing(self, cell: Cell, folder: CellFolder, task: Task) -> None:
        done = folder.samples()
        wanted = cell.config.task.limit
        missing = (sample for sample in task.samples(wanted) if sample.id not in done)
        first = next(missing, None)
        if first is None:
            if not done:
                raise UsageError(f"task {cell.config.task.name} has no samples")
            return
        loaded = self.model_of(cell)
        self.listener.begin(cell, len(done), wanted)
        for sample in done.values():
            self.listener.step(sample)
        if loaded.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(loaded.device)
        where = environment(loaded.device)
        with folder.appending(where) as run:
            for answered in self._answers(cell, loaded, task, _chained(first, missing), run):
                record = answered.as_dict()
                folder.append(record)
                self.listener.step(record)

    def _answers(self, cell: Cell, loaded: LoadedModel, task: Task, samples: Iterator[Sample], run: int) -> Iterator[Answered]:
        setting = Setting(
            method=method_of(cell),
            budget=cell.budget,
            scope=cell.config.budget.scope,
            mode=cell.config.budget.mode,
            seed=cell.config.seed,
            max_new_tokens=cell.config.generation.max_new_tokens,
            repetition_penalty=cell.config.generation.repetition_penalty,
            batch_size=cell.config.batch_size,
            run=run,
        )
        return answer(loaded, task, samples, setting)

    def model_of(self, cell: Cell) -> LoadedModel:
        """The model of a cell, loaded at its first use."""
        name = json.dumps([cell.identity["model"], cell.identity["pixels"], cell.config.model.device], sort_keys=True)
        if name not in self._loaded:
            self._loaded.clear()  # one model at a time: a second one of 7B would not fit
            self._loaded[name] = load(cell.config.model, cell.config.pixels)
        return self._loaded[name]


def method_of(cell: Cell) -> Method:
    """The method of a cell with its parameters.

    Raises:
        UsageError: a parameter has a value that the method refuses.
    """
    options = {key: value for key, value in cell.config.method.items() if key not in ("name", "source")}
    return build_method(cell.config.method.get("source", cell.method), **options)


def load_task(cell: Cell) -> Task:
    """The embedded task of a cell.

    Raises:
        UsageError: its options do not exist, or its data cannot be read.
    """
    config = cell.config.task
    module, _, name = str(config.target).partition(":")
    options = dict(config.options)
    if config.data is not None:
        options["data"] = config.data
    make = getattr(importlib.import_module(module), name)
    try:
        task: Task = make(**options)
    except TypeError as error:
        raise UsageError(f"task.options of {config.name}: {str(error).replace(name + '.__init__() ', '')}") from None
    return task


def _chained(first: Sample, rest: Iterator[Sample]) -> Iterator[Sample]:
    yield first
    yield from rest
