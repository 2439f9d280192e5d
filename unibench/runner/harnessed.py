"""Having a harness ask and score the samples of a benchmark, in a child process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from unibench.benchmark import data_of
from unibench.errors import UsageError
from unibench.harness import HarnessError, HarnessProcess, needs
from unibench.harness.client import interpreter
from unibench.harness.collected import FOLDER
from unibench.harness.job import COLLECTING, TOGETHER, WORK, write_job
from unibench.identity import Cell
from unibench.inference.record import Record
from unibench.inference.row import Row, row_of
from unibench.inference.verdict import Verdict
from unibench.runner.children import StandingChild
from unibench.runner.company import Answered
from unibench.runner.listener import Listener, announce
from unibench.runner.questions import refuse_control_words
from unibench.runner.stopping import Stop
from unibench.store import ClaimedPart, DiskError
from unibench.store.files import disk_errors, read_json, replace
from unibench.store.folder import read_samples
from unibench.store.lines import checked, line_of
from unibench.store.part import LostClaimError
from unibench.tables import questions_of

# for which VLMEvalKit's class puts a picture, whatever a model makes of it
PICTURE_WORDS = {"MUIRBench": "<image>"}
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
        self._child = StandingChild()

    def collect(self, part: ClaimedPart) -> tuple[list[str], int]:
        """Have what is missing written down for an engine that answers it: the samples, and how
        many the benchmark has.
        """
        cell = part.folder.cell
        self._check(part)
        folder = cell.folder.absolute()
        shutil.rmtree(folder / FOLDER, ignore_errors=True)  # of a command that was killed
        part.folder.open()
        write_job([cell], folder / "job.json", COLLECTING)
        with self._child.at_work(cell):
            process = self._process_of(cell)
            (event,) = process.take(folder / "job.json", folder / "run.log", "collected")
        return event["names"], event["total"]

    def answer(
        self,
        part: ClaimedPart,
        stop: Stop,
        listener: Listener,
        beside: Sequence[ClaimedPart] = (),
        *,
        engine: bool = False,
    ) -> Answered:
        """Have what is missing answered and the whole scored; and what ``beside`` lacks answered,
        as far as it can be with it.

        Args:
            part: of a cell.
            stop, listener: see :class:`unibench.runner.Executor`.
            beside: parts of cells that are answered with it.
            engine: whether an engine has answered all of it, so that it is scored alone.
        """
        cell, parts = part.folder.cell, [part, *beside]
        self._check(part)
        folder = cell.folder.absolute()
        part.folder.open()
        cells = [one.folder.cell for one in parts]
        write_job(cells, folder / "job.json", TOGETHER if beside else None)
        with self._child.at_work(cell):
            process = self._process_of(cell)
            events = process.take(folder / "job.json", folder / "run.log", "result")
            joined = self._samples(parts, next(events), events, stop, listener, engine=engine)
            (event,) = events
        event.pop("event")
        _keep(part.folder.path, Verdict.from_json(event))
        return joined

    def _check(self, part: ClaimedPart) -> None:
        """Refuse what cannot be asked, before anything is loaded."""
        cell = part.folder.cell
        if part.of > 1:
            raise UsageError(f"{cell.title}: a harness scores a benchmark as a whole; use shards=1")
        needs.check(cell)
        _refuse_words_of_tables(cell)

    def answer_together(
        self, parts: Sequence[ClaimedPart], stop: Stop, listener: Listener
    ) -> Answered:
        """See :class:`unibench.runner.company.TogetherExecutor`: the first part's cell is asked and
        scored, the samples of the others come with it, and then these are scored.
        """
        try:
            joined = self.answer(parts[0], stop, listener, parts[1:])
            done, failed = {0}, dict(joined.failed)
            for number in sorted(joined.done - {0}):
                try:
                    # every sample is there, so that nothing is asked
                    self.answer(parts[number], stop, listener)
                except DiskError:
                    raise
                except Exception as error:  # of this cell
                    failed[number] = error
                else:
                    done.add(number)
        finally:
            # where the others found what the first has read
            shutil.rmtree(parts[0].folder.path / WORK, ignore_errors=True)
        return Answered(frozenset(done), failed)

    def row(
        self,
        cell: Cell,
        records: Sequence[Record],
        environments: Sequence[Mapping[str, Any]],
        vanilla: Row | None,
    ) -> Row:
        """See :func:`unibench.inference.row.row_of`."""
        verdict = _kept(cell.folder)
        metric = next(iter(verdict.metrics))
        return row_of(cell, records, environments, vanilla, metric, verdict)

    def close(self) -> None:
        """End the child."""
        self._child.close()

    def _samples(
        self,
        parts: Sequence[ClaimedPart],
        begun: dict[str, Any],
        events: Iterator[dict[str, Any]],
        stop: Stop,
        listener: Listener,
        *,
        engine: bool,
    ) -> Answered:
        """Keep the samples that the child sends, until all are there."""
        part = parts[0]
        cell, done = part.folder.cell, part.answered()
        together, failed = list[int](begun.get("together", [0])), dict[int, Exception]()
        where = begun["environment"]
        if "fused" in begun:
            where = {**where, "fused": begun["fused"]}
        announce(part, done.values(), begun["total"], listener)
        with ExitStack() as stack:
            # what scores the answers of an engine is no environment of theirs
            for number in [] if engine else together:
                stack.enter_context(parts[number].appending(where))
            stack.enter_context(stop.answering())
            for event in events:
                if event["event"] == "answered":
                    if together == [0] and not engine:  # that of many cells is the memory of none
                        part.folder.note(peak_mib=event["peak_mib"])
                    break
                number = int(event.get("cell", 0))
                if event["event"] == "lost":
                    kind = UsageError if event["usage"] else HarnessError
                    failed[number] = kind(event["message"])
                else:
                    answered = Record.from_json(event["record"])
                    record = answered if cell.config.timing else answered.untimed()
                    _append(parts[number], record, failed, number)
                    if number == 0:
                        listener.step(record)
                if stop.asked and not event.get("left"):
                    break
        return Answered(frozenset(together) - failed.keys(), failed)

    def _process_of(self, cell: Cell) -> HarnessProcess:
        """The child of a cell; another one where model, harness or interpreter differ."""
        benchmark = cell.benchmark
        assert benchmark is not None
        options = cell.config.harness_options
        python = interpreter(options.python)
        name = json.dumps([cell.loaded, options.wrapper, benchmark.harness, python])
        return self._child.named(name, lambda: HarnessProcess(python, QUIET))


def _append(part: ClaimedPart, record: Record, failed: dict[int, Exception], number: int) -> None:
    """Add a sample to a part; one beside the first that was taken over is noted as failed."""
    if number in failed:
        return
    try:
        part.append(record.as_json())
    except LostClaimError as error:
        if number == 0:
            raise
        failed[number] = error


def _refuse_words_of_tables(cell: Cell) -> None:
    """See :func:`refuse_control_words`; of the user's own tables of VLMEvalKit."""
    assert cell.benchmark is not None
    for file in data_of(cell.config.task, cell.benchmark.harness):
        if file.suffix == ".tsv":
            asked = questions_of(file, cell.config.task.limit)
            word = PICTURE_WORDS.get(file.stem, "")
            refuse_control_words(((where, text.replace(word, "")) for where, text in asked), cell)


def _keep(folder: Path, verdict: Verdict) -> None:
    """Keep what the harness made of the answers, and give every sample its score.

    The writers' files stay until the cell is merged, since a worker that took this one for dead may
    be writing; of a sample that two files hold, the one in ``samples.jsonl`` counts.
    """
    samples, environments = read_samples(folder)
    scored = [{**sample, "score": verdict.scores.get(name)} for name, sample in samples.items()]
    with disk_errors(folder):
        replace(folder / "env.json", checked(json.dumps(environments, indent=1)))
        replace(folder / "samples.jsonl", b"".join(map(line_of, scored)))
        replace(folder / "harness.json", checked(json.dumps(verdict.as_json(), indent=1)))


def _kept(folder: Path) -> Verdict:
    try:
        return Verdict.from_json(read_json(folder / "harness.json"))
    except UsageError as error:
        raise UsageError(f"{folder}/harness.json: {error}") from None
