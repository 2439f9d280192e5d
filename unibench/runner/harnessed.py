"""Having a harness ask and score the samples of a benchmark, in a child process."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unibench.errors import UsageError
from unibench.harness import Verdict, WorkerProcess
from unibench.harness.client import interpreter
from unibench.identity import Cell
from unibench.inference.row import row_of
from unibench.runner.embedded import TIMES
from unibench.runner.listener import Listener
from unibench.runner.stopping import Stop
from unibench.store import ClaimedPart
from unibench.store.files import disk_errors, read_json, replace
from unibench.store.lines import line_of

QUIET = {
    "TQDM_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


class Harnessed:
    """An :class:`unibench.runner.Executor` whose child, with a model and a harness imported, stays
    for the next cell.
    """

    def __init__(self) -> None:
        self._worker: WorkerProcess | None = None
        self._name = ""

    def answer(self, part: ClaimedPart, stop: Stop, listener: Listener) -> None:
        """Have what is missing answered and the whole scored."""
        cell = part.folder.cell
        if part.of > 1:
            raise UsageError(f"{cell.title}: a harness scores a benchmark as a whole; use shards=1")
        part.folder.open()
        try:
            events = self._worker_of(cell).run(cell)
            self._samples(part, next(events), events, stop, listener)
            (event,) = events
        except BaseException:
            if self._worker is not None and not self._worker.idle:
                self.close()
            raise
        event.pop("event")
        _keep(part.folder.path, Verdict(**event))

    def row(
        self,
        cell: Cell,
        samples: Sequence[dict[str, Any]],
        environments: Sequence[dict[str, Any]],
        vanilla: dict[str, Any] | None,
    ) -> dict[str, Any]:
        """See :func:`unibench.inference.row.row_of`; the samples get the scores that the harness
        gave them afterwards.
        """
        verdict = _kept(cell.folder)
        scored = [{**sample, "score": verdict.scores.get(sample["id"])} for sample in samples]
        with disk_errors(cell.folder):
            replace(cell.folder / "samples.jsonl", b"".join(map(line_of, scored)))
        return row_of(cell, scored, environments, vanilla, next(iter(verdict.metrics)), verdict)

    def close(self) -> None:
        """End the child."""
        if self._worker is not None:
            self._worker.close()
        self._worker = None

    def _samples(
        self,
        part: ClaimedPart,
        begun: dict[str, Any],
        events: Iterator[dict[str, Any]],
        stop: Stop,
        listener: Listener,
    ) -> None:
        """Keep the samples that the child sends, until all are there."""
        cell, done = part.folder.cell, part.answered()
        listener.begin(cell, len(done), begun["total"])
        for sample in done.values():
            listener.step(sample)
        with part.appending(begun["environment"]), stop.answering():
            for event in events:
                if event["event"] == "answered":
                    part.folder.note(peak_mib=event["peak_mib"])
                    return
                record = {**event["record"], **({} if cell.config.timing else dict.fromkeys(TIMES))}
                part.append(record)
                listener.step(record)
                if stop.asked:
                    return

    def _worker_of(self, cell: Cell) -> WorkerProcess:
        benchmark = cell.benchmark
        assert benchmark is not None
        options = cell.config.harness_options
        python = interpreter(options.python)
        kept = [
            cell.identity["model"],
            cell.identity["pixels"],
            cell.config.model.device,
            options.wrapper,
            benchmark.harness,
            python,
        ]
        name = json.dumps(kept, sort_keys=True)
        if self._worker is None or name != self._name:
            self.close()
            self._worker, self._name = WorkerProcess(python, QUIET), name
        return self._worker


def _keep(folder: Path, verdict: Verdict) -> None:
    with disk_errors(folder):
        replace(folder / "harness.json", json.dumps(verdict.as_dict(), indent=1))


def _kept(folder: Path) -> Verdict:
    found = read_json(folder / "harness.json")
    try:
        return Verdict(**found)
    except TypeError:
        raise UsageError(f"{folder} has no readable harness.json; run the cell again") from None
