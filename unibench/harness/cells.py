"""The parent's side of a harness cell: start the worker, keep what it answers, read its verdict."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unibench.benchmark import benchmark_of
from unibench.errors import UsageError
from unibench.harness.client import WorkerProcess, interpreter
from unibench.harness.job import Outcome
from unibench.identity import Cell
from unibench.store import CellFolder

log = logging.getLogger(__name__)

QUIET = {"TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


class HarnessCells:
    """Runs the cells of benchmarks; the worker of a model and a harness stays for the next cell."""

    def __init__(self) -> None:
        self._worker: WorkerProcess | None = None
        self._name = ""

    def run(self, cell: Cell, folder: CellFolder, begin: Callable[[int, int], None], step: Callable[[dict[str, Any]], None]) -> Outcome:
        """Answer what is missing of a cell and score it.

        Args:
            cell: of a benchmark.
            folder: where its samples are kept.
            begin: told how many samples there are and how many there will be.
            step: told of each sample, those found there included.

        Raises:
            UsageError: the user can mend it; everything answered so far is kept.
        """
        folder.path.mkdir(parents=True, exist_ok=True)
        known = list(folder.samples().values())
        try:
            events = self._worker_of(cell).run(cell)
            event = next(events)
            begin(event["done"], event["total"])
            for sample in known:
                step(sample)
            with folder.appending(event["environment"]) as run:
                for event in events:
                    if event["event"] == "sample":
                        record = {**event["record"], "run": run}
                        folder.append(record)
                        step(record)
        except BaseException:
            self.close()
            raise
        event.pop("event")
        outcome = Outcome(**event)
        _keep(folder.path, outcome)
        return outcome

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.close()
        self._worker = None

    def _worker_of(self, cell: Cell) -> WorkerProcess:
        benchmark = benchmark_of(cell.config)
        assert benchmark is not None
        options = cell.config.harness_options
        python = interpreter(options.python)
        kept = [cell.identity["model"], cell.identity["pixels"], cell.config.model.device, options.wrapper, benchmark.harness, python]
        name = json.dumps(kept, sort_keys=True)
        if self._worker is None or name != self._name:
            self.close()
            self._worker, self._name = WorkerProcess(python, QUIET), name
        return self._worker


def scored(samples: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """Samples with the scores that the harness gave them afterwards; None where it scores only the whole."""
    try:
        scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return samples
    return [{**sample, "score": scores.get(sample["id"], sample["score"])} for sample in samples]


def outcome_of(folder: Path) -> Outcome:
    """The verdict kept beside the samples.

    Raises:
        UsageError: there is none.
    """
    try:
        return Outcome(**json.loads((folder / "harness.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        raise UsageError(f"{folder} has no readable harness.json; run the cell again") from None


def _keep(folder: Path, outcome: Outcome) -> None:
    (folder / "harness.json").write_text(json.dumps(outcome.as_dict(), indent=1), encoding="utf-8")
    (folder / "scores.json").write_text(json.dumps(outcome.scores), encoding="utf-8")
