"""The child: answers the cells of its jobs and says on standard output how it goes."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from PIL import EpsImagePlugin

from unibench._compat import repair_torchvision

repair_torchvision()  # before anything imports torchvision

from unibench.benchmark import DISTRIBUTIONS, VERSIONS, Benchmark
from unibench.config import Harness
from unibench.engines import HF
from unibench.errors import UsageError
from unibench.harness.child.adapter import Adapter, Run, Scored
from unibench.harness.child.collecting import CollectedError, Collecting
from unibench.harness.child.fused import FusedInference
from unibench.harness.child.inference import CellInference
from unibench.harness.child.judge import JudgedCell, JudgeProxy
from unibench.harness.child.missing import reason_of
from unibench.harness.child.results import metrics_of, sample_scores
from unibench.harness.child.walk import Walk
from unibench.harness.child.workdir import work_directory
from unibench.harness.collected import FOLDER
from unibench.harness.job import is_collecting, is_together, read_job, read_prefetch
from unibench.identity import Cell
from unibench.inference.record import Record, stored
from unibench.inference.together import Together
from unibench.inference.verdict import Verdict
from unibench.models import LoadedModel, load, opened
from unibench.models._template import bounded
from unibench.pictures import guarded
from unibench.store import CellFolder
from unibench.store.files import appending

# a harness reads its pictures itself; none of them is a program for Ghostscript
EpsImagePlugin.gs_binary = False

log = logging.getLogger(__name__)

ADAPTERS = {"vlmevalkit": "vlmevalkit:VLMEvalKit", "lmms_eval": "lmms:LmmsEval"}
Say = Callable[[dict[str, Any]], None]


def main(arguments: Sequence[str]) -> int:
    """Run the job named first, then those on standard input."""
    if len(arguments) != 1:
        print("python -m unibench.harness.child job.json", file=sys.stderr)
        return 2
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    child = Child(channel())
    for job in jobs(arguments[0]):
        wanted = read_prefetch(job)
        if wanted is not None:
            child.fetch(*wanted)
            continue
        cells = read_job(job)
        if is_collecting(job):
            child.collect(*cells)
            continue
        if is_together(job):
            child.answer(cells[0], beside=cells[1:])
            continue
        for cell in cells:
            child.answer(cell)
    return 0


class Child:
    """One model and the harnesses imported so far.

    Args:
        say: sends an event to the parent.
    """

    def __init__(self, say: Say) -> None:
        self._say = say
        self._adapters: dict[str, Adapter] = {}
        self._models: dict[str, tuple[Any, LoadedModel]] = {}
        self._judge_proxy = JudgeProxy()
        self._walk: Walk | None = None  # by the last cell that others were answered with

    def answer(self, cell: Cell, *, beside: Sequence[Cell] = ()) -> None:
        """Answer and score one cell, and say its result or what went wrong.

        Args:
            cell: the cell.
            beside: cells that its samples are answered in as well, and that are not scored.
        """
        benchmark = cell.benchmark
        assert benchmark is not None
        with self._errors_told(cell):
            cells = [cell, *beside]
            known = [{record.id: record for record in _known(one)} for one in cells]
            walk = self._walk
            # what cells beside this one lack is found by asking
            if walk is not None and (beside or not walk.serves(cell, known[0])):
                walk = self._walk = None
            with (
                guarded(),
                bounded("the model's chat template"),
                # before an adapter is imported, so that what it prints goes to the cell's log
                work_directory(cell, stays=len(cells) > 1) as folders,
                self._judge_proxy.judging(benchmark.judge, cell.folder) as judge,
            ):
                adapter = self._adapter(benchmark.harness)
                # data before weights: a missing table is told in seconds
                adapter.ready(cell, benchmark)
                native, loaded = self._model(cell, benchmark, adapter)
                inference = _inference(cells, loaded, known, walk, self._say)
                with inference.installed():
                    run = Run(cell, benchmark, folders, inference, native, judge.url, walk)
                    scored = adapter.run(run)
                inference.end()
            if len(cells) > 1 and scored.held is not None:
                self._walk = Walk(cell.setting, folders, inference.otherwise, scored.held)
            verdict = _verdict(benchmark, scored, inference, judge)
            self._say({"event": "result", **verdict.as_json()})

    def collect(self, cell: Cell) -> None:
        """Write down the questions of a cell that has an engine of its own, and say how many."""
        benchmark = cell.benchmark
        assert benchmark is not None
        with self._errors_told(cell):
            known = {record.id: record for record in _known(cell)}
            with guarded(), bounded("the model's chat template"), work_directory(cell) as folders:
                adapter = self._adapter(benchmark.harness)
                adapter.ready(cell, benchmark)
                _, loaded = self._model(cell, benchmark, adapter)
                folder = cell.folder.absolute() / FOLDER
                inference = Collecting(cell, loaded, known, self._say, folder)
                run = Run(cell, benchmark, folders, inference, native=None, judge=None)
                with contextlib.suppress(CollectedError):
                    adapter.run(run)
            told = {"total": inference.total, "names": inference.names}
            self._say({"event": "collected", **told})

    @contextlib.contextmanager
    def _errors_told(self, cell: Cell) -> Iterator[None]:
        """Say what goes wrong inside the block."""
        try:
            yield
        # a refusal is the user's to mend, and has no traceback
        except UsageError as error:
            self._say({"event": "refused", "message": str(error)})
        except Exception as error:
            with appending(cell.folder / "run.log") as stream:
                stream.write(traceback.format_exc().encode(errors="backslashreplace"))
            reason = str(error).partition("\n")[0]
            self._say({"event": "failed", "message": f"{type(error).__name__}: {reason}"})

    def fetch(self, harness: Harness, names: Sequence[str]) -> None:
        """Fetch the published data of benchmarks, and say of each where it is or why it is not."""
        try:
            adapter = self._adapter(harness)
        except UsageError as error:
            self._say({"event": "refused", "message": str(error)})
            return
        for name in names:
            try:
                message, fine = adapter.prefetch(name), True
            except Exception as error:  # whatever a download raises, the next one is tried
                traceback.print_exc()
                message, fine = reason_of(error), False
            self._say({"event": "fetched", "name": name, "fine": fine, "message": message})
        self._say({"event": "done"})

    def _adapter(self, harness: Harness) -> Adapter:
        if harness not in self._adapters:
            check_installed(harness)
            module, _, name = ADAPTERS[harness].partition(":")
            log.info("importing %s", harness)
            self._adapters[harness] = getattr(
                importlib.import_module(f"unibench.harness.child.{module}"), name
            )()
        return self._adapters[harness]

    def _model(self, cell: Cell, benchmark: Benchmark, adapter: Adapter) -> tuple[Any, LoadedModel]:
        config = cell.config
        if config.engine != HF:  # which has the weights
            return None, opened(config.model, config.pixels)
        wrapper = config.harness_options.wrapper
        # cells with one loading share the model that is there
        name = json.dumps([cell.loaded, wrapper, benchmark.harness])
        if wrapper == "native":  # it is made with the arguments of the convention
            name += json.dumps(benchmark.convention.as_identity(), sort_keys=True)
        if name not in self._models:
            # before the next is loaded: two do not fit on one GPU
            self._models.clear()
            self._models[name] = (
                adapter.native(config)
                if wrapper == "native"
                else (None, load(config.model, config.pixels))
            )
        return self._models[name]


def _inference(
    cells: Sequence[Cell],
    loaded: LoadedModel,
    known: Sequence[Mapping[str, Record]],
    walk: Walk | None,
    say: Say,
) -> CellInference:
    """What answers the samples of the first cell, and of the others with it if that can be."""
    if len(cells) > 1:
        together = Together(cells, loaded, rows=cells[0].config.fuse_rows)
        for number, reason in together.alone.items():
            log.info("%s is answered by itself: %s", cells[number].title, reason)
        if 0 in together.numbers:
            return FusedInference(cells, together, loaded, known, say)
    return CellInference(cells[0], loaded, known[0], say, None if walk is None else walk.otherwise)


def _verdict(
    benchmark: Benchmark, scored: Scored, inference: CellInference, judge: JudgedCell
) -> Verdict:
    """What the harness makes of the answers.

    Raises:
        UsageError: it lacks a metric that the card names.
    """
    first = next(iter(benchmark.card.metrics), None)
    scores = {} if first is None else sample_scores(first, scored.samples)
    try:
        metrics = metrics_of(benchmark.card, scored.raw, scores)
    except UsageError as error:
        # a score may lack a number since a judge answered beside the question
        if judge.answered:
            raise UsageError(
                f"{error} If that is the judge's doing: delete {judge.file} to have it asked again"
            ) from None
        raise
    return Verdict(
        metrics=metrics,
        scores=scores,
        raw=scored.raw,
        data=scored.data,
        prompts=inference.prompts,
        generation=scored.generation,
        judge=judge.label,
        judged=judge.answered,
        remarks=(*inference.remarks, *scored.remarks),
        sampling=scored.sampling,
    )


def _known(cell: Cell) -> list[Record]:
    """The records that the store has."""
    return stored(cell.folder, CellFolder(cell).samples().values())


def check_installed(harness: Harness) -> None:
    """Refuse a harness that is missing or of another version than the verified one.

    Raises:
        UsageError: with the command that installs it.
    """
    distribution, wanted = DISTRIBUTIONS[harness], VERSIONS[harness]
    how = (
        f"make harnesses, or: {sys.executable} -m pip install -r requirements/harness.txt && pip"
        f" install --no-deps {distribution}=={wanted}"
    )
    try:
        found = version(distribution)
    except PackageNotFoundError:
        raise UsageError(
            f"harness={harness}: {distribution} is not installed for {sys.executable}; {how}"
        ) from None
    if found != wanted:
        raise UsageError(
            f"harness={harness}: {distribution} {found} is installed, the verified version is"
            f" {wanted}; {how}"
        )


def jobs(first: str) -> Iterator[Path]:
    """The job named first, then those on standard input."""
    yield Path(first)
    for line in sys.stdin:
        if line.strip():
            yield Path(line.strip())


def channel() -> Say:
    """Standard output for events alone; what libraries print there goes to standard error."""
    # the old descriptor 1 is the pipe to the parent
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(event: dict[str, Any]) -> None:
        try:
            # a line each, flushed: the parent stores a sample as soon as it is answered
            stream.write(json.dumps(event, ensure_ascii=False) + "\n")
            stream.flush()
        except BrokenPipeError:  # the parent is gone
            with contextlib.suppress(OSError):
                stream.close()
            raise SystemExit(1) from None

    return say
