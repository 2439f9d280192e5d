"""What both harness adapters are given and give back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from unibench.benchmark import Benchmark
from unibench.config import RunConfig
from unibench.harness.child.inference import CellInference
from unibench.harness.child.walk import Walk
from unibench.harness.child.workdir import WorkDirectory
from unibench.identity import Cell
from unibench.inference.verdict import Sampling
from unibench.models import LoadedModel


@dataclass(frozen=True)
class Run:
    """One cell inside a harness.

    Attributes:
        cell: model, method, task.
        benchmark: the task in this harness.
        folders: of the cell.
        inference: every question goes through it to the pruned model.
        native: the harness's own model object instead, None with our own.
        judge: url of the judge on this machine and its model, None if rules alone score.
        walk: over the benchmark, by the cell that this one was answered with: nothing is asked.
    """

    cell: Cell
    benchmark: Benchmark
    folders: WorkDirectory
    inference: CellInference
    native: Any
    judge: str | None
    walk: Walk | None = None

    @property
    def data(self) -> Path | None:
        """The user's folder of data, if it is not the published one."""
        given = self.cell.config.task.data
        return None if given is None else Path(given)


@dataclass(frozen=True)
class Scored:
    """The harness's verdict.

    Attributes:
        raw: its result, flat.
        samples: its values by sample, as far as it has any.
        data: what was asked, with a digest.
        generation: settings of decoding.
        remarks: what of a published table cannot be scored.
        sampling: of videos.
        held: what the adapter wants to find in the walk of a later cell's run; None for nothing.
    """

    raw: dict[str, Any]
    samples: dict[str, dict[str, Any]]
    data: str
    generation: dict[str, Any]
    remarks: tuple[str, ...] = ()
    sampling: Sampling | None = None
    held: Any = None


class Adapter(Protocol):
    """A harness, imported."""

    def ready(self, cell: Cell, benchmark: Benchmark) -> None:
        """Have the data of a cell on this machine, before a model is loaded.

        Raises:
            UsageError: it is not, and cannot be fetched.
        """
        ...

    def run(self, run: Run) -> Scored:
        """Ask and score one cell."""
        ...

    def native(self, config: RunConfig) -> tuple[Any, LoadedModel]:
        """The harness's own model object, and the torch module and processor inside it."""
        ...

    def prefetch(self, name: str) -> str:
        """Fetch a benchmark's published data; returns where it is."""
        ...
