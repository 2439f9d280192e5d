"""Answering the samples of embedded tasks in this process."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain, takewhile
from pathlib import Path
from typing import Any

import torch

from unibench import registry, videos
from unibench.cost.memory import out_of_memory
from unibench.errors import UsageError
from unibench.identity import Cell
from unibench.inference.ask import answer
from unibench.inference.environment import environment
from unibench.inference.features import FeatureCache
from unibench.inference.record import Record
from unibench.inference.row import Row, row_of
from unibench.inference.together import Together, answer_together
from unibench.models import LoadedModel, load
from unibench.runner.company import Answered
from unibench.runner.listener import Listener, announce
from unibench.runner.questions import refuse_control_words_of, samples_of
from unibench.runner.stopping import Stop
from unibench.store import ClaimedPart, DiskError
from unibench.store.index import FEATURES
from unibench.store.part import LostClaimError
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
        cell, task = part.folder.cell, load_task(part.folder.cell)
        batch, halved = cell.config.batch_size, dict[str, Any]()
        stamp = _checked(task, cell)
        while (samples := _missing(task, part, stop)) is not None:
            refuse_control_words_of(task, cell)
            loaded = self.model_of(cell)
            announce(part, part.answered().values(), cell.config.task.limit, listener)
            try:
                with _watched(part, loaded, {**stamp, **halved}), stop.answering():
                    for record in answer(
                        cell,
                        task,
                        loaded,
                        samples,
                        batch_size=batch,
                        reuse=self._sharing(cell, loaded),
                    ):
                        kept = record if cell.config.timing else record.untimed()
                        part.append(kept.as_json())
                        listener.step(kept)
                return
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if halved or batch == 1 or isinstance(batch, str) or not out_of_memory(error):
                    raise
                half = batch // 2
                log.warning(
                    "%s: out of memory at batch %d, going on with %d", cell.title, batch, half
                )
            batch, halved = half, {"batch": half, "out_of_memory_at": batch}
            # outside of the except clause, which keeps the tensors of the failed batch alive
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def answer_together(
        self, parts: Sequence[ClaimedPart], stop: Stop, listener: Listener
    ) -> Answered:
        """See :class:`unibench.runner.company.TogetherExecutor`."""
        cell, task = parts[0].folder.cell, load_task(parts[0].folder.cell)
        stamp = _checked(task, cell)
        refuse_control_words_of(task, cell)
        loaded = self.model_of(cell).showing(videos.given(cell.config))
        together = Together(
            [part.folder.cell for part in parts],
            loaded,
            rows=cell.config.fuse_rows,
            reuse=self._sharing(cell, loaded),
        )
        lost = _answer_all(together, task, loaded, parts, stamp, stop, listener)
        for number, reason in together.alone.items():
            log.info("%s is answered by itself: %s", parts[number].folder.cell.title, reason)
            try:
                self.answer(parts[number], stop, listener)
            except DiskError:
                raise
            except Exception as error:  # of this cell
                lost[number] = error
        failed = {**lost, **together.failed}
        return Answered(frozenset(range(len(parts))) - failed.keys(), failed)

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


def _answer_all(
    together: Together,
    task: Task,
    loaded: LoadedModel,
    parts: Sequence[ClaimedPart],
    stamp: Mapping[str, Any],
    stop: Stop,
    listener: Listener,
) -> dict[int, Exception]:
    """Answer, sample by sample, what the parts lack; the parts that others have taken over, by
    number, each with the error that says so.
    """
    numbers, lost = together.numbers, dict[int, Exception]()
    done = {number: parts[number].answered() for number in numbers}
    if not numbers:
        return lost
    first = parts[numbers[0]]
    common = set.intersection(*(set(found) for found in done.values()))
    there = [done[numbers[0]][name] for name in common]
    announce(first, there, first.folder.cell.config.task.limit, listener)
    keys = [part.folder.cell.key for part in parts]
    decoding = first.folder.cell.config.generation
    config = loaded.generation_config(
        decoding.max_new_tokens or task.max_new_tokens, decoding.penalty
    )
    with ExitStack() as stack:
        for number in numbers:
            where = {**environment(loaded.device), **stamp, "fused": keys}
            stack.enter_context(parts[number].appending(where))
        stack.enter_context(stop.answering())
        for index, sample in samples_of(task, first.folder.cell.config.task):
            wanted = [
                number
                for number in together.numbers
                if number not in lost
                and parts[number].contains(sample.id)
                and sample.id not in done[number]
            ]
            if not wanted:
                continue
            if stop.asked:
                break
            records = list[Record]()
            for given in answer_together(
                together, first.folder.cell, task, loaded, config, index, sample, wanted
            ):
                if given.record is None:
                    continue  # the cell has failed, which is told at the end
                try:
                    parts[given.cell].append(given.record.as_json())
                except LostClaimError as error:
                    lost[given.cell] = error
                records.append(given.record)
            for record in records[:1]:  # one step for each sample, however many cells have it
                listener.step(record)
    return lost


def load_task(cell: Cell) -> Task:
    """The embedded task of a cell.

    Raises:
        UsageError: its options do not exist, or its data cannot be read.
    """
    task = cell.config.task
    options = dict(task.options)
    if task.data is not None:
        options["data"] = task.data
    found = registry.build_task(str(task.target), task.name, options)
    clip = getattr(found, "clips", "")
    if clip and task.modality != "video":
        raise UsageError(f"{clip}: a video file; task.modality=video shows its frames")
    return found


def _checked(task: Task, cell: Cell) -> dict[str, Any]:
    """What is to be said of a run beside where it happened: the pictures that are left out, which
    are looked at before the model is loaded, and that scores are kept.

    Raises:
        UsageError: some cannot be read.
    """
    look = getattr(task, "left_out", None)
    count = 0 if look is None else look(cell.config.task.limit)
    kept = {"scores": True} if cell.config.scores else {}
    return {**({"left_out": count} if count else {}), **kept}


def _missing(task: Task, part: ClaimedPart, stop: Stop) -> Iterator[tuple[int, Sample]] | None:
    """The samples still to be answered, each after its index in the task, until the user wants to
    stop; None if there are none.

    Raises:
        UsageError: the task has no samples at all.
    """
    config, done = part.folder.cell.config.task, part.answered()
    left = (
        (index, sample)
        for index, sample in samples_of(task, config)
        if part.contains(sample.id) and sample.id not in done
    )
    wanted = takewhile(lambda _: not stop.asked, left)
    first = next(wanted, None)
    if first is None:
        if not done and not stop.asked and next(task.samples(1), None) is None:
            raise UsageError(f"task {config.name} has no samples")
        return None
    return chain([first], wanted)


@contextmanager
def _watched(part: ClaimedPart, loaded: LoadedModel, stamp: Mapping[str, Any]) -> Iterator[None]:
    """Append to a part inside the block, and note the memory that it took."""
    watched = loaded.device.type == "cuda"
    if watched:
        torch.cuda.reset_peak_memory_stats(loaded.device)
    with part.appending({**environment(loaded.device), **stamp}):
        yield
        if watched:
            part.folder.note(peak_mib=torch.cuda.max_memory_allocated(loaded.device) / 2**20)
