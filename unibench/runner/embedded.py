"""Answering the samples of embedded tasks in this process."""

from __future__ import annotations

import gc
import hashlib
import importlib
import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from unibench.errors import UsageError
from unibench.identity import Cell
from unibench.inference.ask import answer
from unibench.inference.environment import environment
from unibench.inference.features import FeatureCache
from unibench.inference.record import Record, stored
from unibench.inference.row import Row, row_of
from unibench.models import LoadedModel, load
from unibench.runner.listener import Listener
from unibench.runner.stopping import Stop
from unibench.store import ClaimedPart
from unibench.store.index import FEATURES
from unibench.tasks import Sample, Task

log = logging.getLogger(__name__)


class Embedded:
    """An :class:`unibench.runner.Executor` that keeps one model loaded between cells."""

    def __init__(self) -> None:
        self._name = ""
        self._loaded: LoadedModel | None = None
        self._features: FeatureCache | None = None

    def answer(self, part: ClaimedPart, stop: Stop, listener: Listener) -> None:
        """Answer what is missing; when memory runs out, once more with half the batch."""
        batch = part.folder.cell.config.batch_size
        try:
            self._answer(part, stop, listener, batch, {})
            return
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if batch == 1 or isinstance(batch, str) or not _out_of_memory(error):
                raise
            log.warning(
                "%s: out of memory at batch %d, going on with %d",
                part.folder.cell.title,
                batch,
                batch // 2,
            )
        # outside of the except clause, which would keep the tensors of the failed batch alive
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._answer(
            part, stop, listener, batch // 2, {"batch": batch // 2, "out_of_memory_at": batch}
        )

    def row(
        self,
        cell: Cell,
        records: Sequence[Record],
        environments: Sequence[Mapping[str, Any]],
        vanilla: Row | None,
    ) -> Row:
        """See :func:`unibench.inference.row.row_of`."""
        return row_of(cell, records, environments, vanilla, load_task(cell).metric)

    def model_of(self, cell: Cell) -> LoadedModel:
        """The model of a cell, loaded at its first use; one at a time, since a second one of 7B
        would not fit.
        """
        if self._loaded is None or cell.loaded != self._name:
            self._loaded = self._features = None
            self._loaded, self._name = load(cell.config.model, cell.config.pixels), cell.loaded
        return self._loaded

    def _answer(
        self,
        part: ClaimedPart,
        stop: Stop,
        listener: Listener,
        batch: int | str,
        stamp: Mapping[str, Any],
    ) -> None:
        cell, task, done = part.folder.cell, load_task(part.folder.cell), part.answered()
        missing = _missing(task, part, done, stop)
        first = next(missing, None)
        if first is None:
            if not done and next(task.samples(1), None) is None:
                raise UsageError(f"task {cell.config.task.name} has no samples")
            return
        loaded = self.model_of(cell)
        listener.begin(cell, len(done), cell.config.task.limit)
        for record in stored(part.folder.path, done.values()):
            listener.step(record)
        if loaded.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(loaded.device)
        with part.appending({**environment(loaded.device), **stamp}), stop.answering():
            for record in answer(
                cell,
                task,
                loaded,
                chain([first], missing),
                batch_size=batch,
                reuse=self._sharing(cell, loaded),
            ):
                kept = record if cell.config.timing else record.untimed()
                part.append(kept.as_json())
                listener.step(kept)
            if loaded.device.type == "cuda":
                part.folder.note(peak_mib=torch.cuda.max_memory_allocated(loaded.device) / 2**20)

    def _sharing(self, cell: Cell, loaded: LoadedModel) -> FeatureCache | None:
        """The vision features of the loaded model, if the cell shares them."""
        if cell.config.share == "none":
            return None
        if self._features is None:
            where = environment(loaded.device)
            parts = [self._name, where["device"], where["threads"], where["packages"]]
            name = hashlib.blake2b(
                json.dumps(parts, sort_keys=True).encode(), digest_size=8
            ).hexdigest()
            folder = Path(cell.config.out, FEATURES, name) if cell.config.share == "disk" else None
            self._features = FeatureCache(loaded.device, cell.config.share_mib, folder)
        return self._features


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
        raise UsageError(
            f"task.options of {config.name}: {str(error).replace(name + '.__init__() ', '')}"
        ) from None
    return task


def _missing(
    task: Task, part: ClaimedPart, done: Collection[str], stop: Stop
) -> Iterator[tuple[int, Sample]]:
    """The samples still to be answered, each after its place in the task, until the user wants to
    stop.
    """
    for place, sample in enumerate(task.samples(part.folder.cell.config.task.limit)):
        if part.contains(sample.id) and sample.id not in done:
            if stop.asked:
                return
            yield place, sample


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return any(
        words in str(error)
        for words in ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "out of memory")
    )
