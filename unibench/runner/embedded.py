"""Answering the samples of embedded tasks in this process."""

from __future__ import annotations

import gc
import importlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from unibench.api import build_method
from unibench.errors import UsageError
from unibench.identity import Cell
from unibench.models import LoadedModel, load
from unibench.pruning import Method
from unibench.runner.environment import environment
from unibench.runner.evaluate import Setting, answer
from unibench.runner.features import FeatureCache
from unibench.runner.listener import Listener
from unibench.runner.row import row_of
from unibench.runner.stopping import Stop
from unibench.store import ClaimedPart
from unibench.tasks import Sample, Task

log = logging.getLogger(__name__)

TIMES = ("total_ms", "vision_ms", "prefill_ms", "method_ms", "decode_ms")


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
            if batch == 1 or not _out_of_memory(error):
                raise
            log.warning("%s: out of memory at batch %d, going on with %d", part.folder.cell.title, batch, batch // 2)
        gc.collect()  # outside of the except clause, which would keep the tensors of the failed batch alive
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._answer(part, stop, listener, batch // 2, {"batch": batch // 2, "out_of_memory_at": batch})

    def row(
        self, cell: Cell, samples: Sequence[dict[str, Any]], environments: Sequence[dict[str, Any]], vanilla: dict[str, Any] | None
    ) -> dict[str, Any]:
        """See :func:`unibench.runner.row.row_of`."""
        return row_of(cell, samples, environments, vanilla, load_task(cell).metric)

    def _answer(self, part: ClaimedPart, stop: Stop, listener: Listener, batch: int, stamp: Mapping[str, Any]) -> None:
        cell, task, done = part.folder.cell, load_task(part.folder.cell), part.answered()
        places: dict[str, int] = {}
        missing = _missing(task, cell, part, done, places, stop)
        first = next(missing, None)
        if first is None:
            if not places and not done and part.of == 1:
                raise UsageError(f"task {cell.config.task.name} has no samples")
            return
        loaded = self.model_of(cell)
        listener.begin(cell, len(done), cell.config.task.limit)
        for sample in done.values():
            listener.step(sample)
        if loaded.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(loaded.device)
        setting = _setting(cell, batch)
        with part.appending({**environment(loaded.device), **stamp}) as run, stop.answering(), self._sharing(cell, loaded):
            for answered in answer(loaded, task, _chained(first, missing), replace(setting, run=run)):
                record = {**answered.as_dict(), "index": places[answered.id]}
                if not cell.config.timing:
                    record.update(dict.fromkeys(TIMES))
                part.append(record)
                listener.step(record)
            if loaded.device.type == "cuda":
                part.folder.note(peak_mib=torch.cuda.max_memory_allocated(loaded.device) / 2**20)

    def model_of(self, cell: Cell) -> LoadedModel:
        """The model of a cell, loaded at its first use; one at a time, since a second one of 7B would not fit."""
        name = json.dumps([cell.identity["model"], cell.identity["pixels"], cell.config.model.device], sort_keys=True)
        if self._loaded is None or name != self._name:
            self._loaded = self._features = None
            self._loaded, self._name = load(cell.config.model, cell.config.pixels), name
        return self._loaded
