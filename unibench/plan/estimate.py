"""How long the rest of a plan takes, from what this store has measured before."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from unibench.identity import condition_of, series_of
from unibench.inference.row import Row, RowError, read_row
from unibench.plan.survey import PlannedCell
from unibench.store import cells_below


@dataclass(frozen=True)
class History:
    """Seconds per sample of finished cells.

    Attributes:
        seconds: medians by likeness, see :func:`_likenesses`.
    """

    seconds: Mapping[tuple[str, ...], float] = field(default_factory=dict)

    def estimate(self, plan: PlannedCell) -> float | None:
        """Seconds that the missing samples of a cell will take one worker, loading the model not
        counted; None if nothing is like it.
        """
        if plan.total is None:
            return None
        for likeness in _likenesses(plan.cell.identity):
            if likeness in self.seconds:
                return self.seconds[likeness] * (plan.total - plan.answered)
        return None


def history_of(rows: Iterable[Row]) -> History:
    """The history that rows tell; those without times tell none."""
    times: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        if row.total_s is not None and row.n:
            for likeness in _likenesses(row.identity):
                times.setdefault(likeness, []).append(row.total_s / row.n)
    return History({likeness: median(values) for likeness, values in times.items()})


def rows_below(folder: Path, known: Container[Path] = ()) -> Iterator[Row]:
    """The rows of a store, damaged ones left out; none where there is no store yet.

    Args:
        folder: of the store.
        known: cells whose rows are not wanted.
    """
    for cell in cells_below(folder) if folder.is_dir() else ():
        try:
            if cell not in known:
                yield read_row(cell)
        except RowError:
            continue


def _likenesses(identity: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """What a cell's time is looked up by, finest first: its series; its method, its task or its
    model under the same condition; and the model's name alone.

    A sample takes as long whatever the number of samples, so a probe of three serves; and as long
    in cells that are not timed.
    """
    model, task, method = (str(identity[key]["name"]) for key in ("model", "task", "method"))
    condition = condition_of(
        {key: value for key, value in identity.items() if key not in ("timing", "fuse")}
    )
    return [
        ("series", series_of(identity)),
        ("condition", condition, task, method),
        ("condition", condition, task),
        ("model", model, task),
        ("model", model),
    ]
