"""How long the rest of a plan takes, from what this store has measured before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from unibench.plan.survey import PlannedCell
from unibench.store.folder import read_row
from unibench.store.index import cells_below

LEVELS = (
    ("model", "task", "method", "batch"),
    ("model", "task"),
    ("model",),
)  # what a cell takes is looked up by, finest first


@dataclass(frozen=True)
class History:
    """Seconds per sample of finished cells.

    Attributes:
        seconds: medians by values of the columns of :data:`LEVELS`.
    """

    seconds: Mapping[tuple[str, ...], float] = field(default_factory=dict)

    def estimate(self, plan: PlannedCell) -> float | None:
        """Seconds that the missing samples of a cell will take one worker, loading the model not
        counted; None if nothing is like it.
        """
        if plan.total is None:
            return None
        config = plan.cell.config
        columns = {
            "model": config.model.name,
            "task": config.task.name,
            "method": plan.cell.method,
            "batch": config.batch_size,
        }
        for level in LEVELS:
            if (found := self.seconds.get(_key(level, columns))) is not None:
                return found * (plan.total - plan.answered)
        return None


def history_of(rows: Iterable[Mapping[str, Any]]) -> History:
    """The history that rows tell; those without times tell none."""
    times: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        if row.get("total_s") is not None and row.get("n"):
            for level in LEVELS:
                times.setdefault(_key(level, row), []).append(row["total_s"] / row["n"])
    return History({key: median(values) for key, values in times.items()})


def rows_below(folder: Path) -> Iterable[dict[str, Any]]:
    """The rows of a store."""
    for cell in cells_below(folder) if folder.is_dir() else ():
        row = read_row(cell)
        if row is not None:
            yield row


def _key(level: tuple[str, ...], columns: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{name}={columns[name]}" for name in level)
