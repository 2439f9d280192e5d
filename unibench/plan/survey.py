"""Cells of a command in the order in which they run, each with its state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from unibench.identity import Cell, questions_of, vanilla_of
from unibench.inference.row import Row, stored_row
from unibench.plan.needs import obstacle
from unibench.store import CellFolder, DamagedError, Watch, holder
from unibench.store.folder import count_samples

STATES = ("done", "partial", "missing", "failed", "blocked")


@dataclass(frozen=True)
class PlannedCell:
    """A cell and how far it is.

    Attributes:
        cell: which one.
        state: done; partial (some samples are there); missing (none); failed (its last attempt
            ended in an error); blocked (it cannot run, or not before something else is mended).
        answered: samples that are there.
        total: samples that it will have, None if only its task knows.
        reason: of a failed or blocked cell.
        holder: ``host:process`` of a worker that has claimed a part of it.
        row: of a done cell.
        vanilla: what the cell is compared to; None for a vanilla cell.
    """

    cell: Cell
    state: str
    answered: int
    total: int | None
    reason: str = ""
    holder: str | None = None
    row: Row | None = None
    vanilla: Cell | None = None


def ordered(cells: Sequence[Cell]) -> list[Cell]:
    """Each cell once, the vanilla cells that they are compared to included.

    Cells of one model stand together, so that it is loaded once; vanilla stands before what it is
    compared to.
    """
    models: dict[str, dict[str, Cell]] = {}
    vanillas: dict[tuple[str, str], Cell] = {}
    for cell in cells:
        group = models.setdefault(cell.loaded, {})
        place = cell.config.out, cell.setting
        if place not in vanillas:
            vanillas[place] = vanilla_of(cell)
        group.setdefault(vanillas[place].key, vanillas[place])
        group.setdefault(cell.key, cell)
    return [cell for group in models.values() for cell in group.values()]


def survey(cells: Sequence[Cell]) -> list[PlannedCell]:
    """The cells of :func:`ordered`, each with its state. Nothing is loaded and nothing written."""
    plans: list[PlannedCell] = []
    vanillas: dict[tuple[str, str], PlannedCell] = {}
    watch = Watch()
    for cell in ordered(cells):
        place = cell.config.out, cell.setting
        vanilla = None if cell.method == "vanilla" else vanillas[place]
        plan = replace(_planned(cell, vanilla, watch), vanilla=vanilla.cell if vanilla else None)
        if vanilla is None:
            vanillas[place] = plan
        plans.append(plan)
    sizes = {questions_of(plan.cell.identity): plan.row.n for plan in plans if plan.row}
    return [
        replace(plan, total=sizes.get(questions_of(plan.cell.identity), plan.total))
        for plan in plans
    ]


def _planned(cell: Cell, vanilla: PlannedCell | None, watch: Watch) -> PlannedCell:
    folder = CellFolder(cell)
    row = stored_row(cell)
    if row is not None:
        return PlannedCell(cell, "done", row.n, row.n, row=row)
    there, total = folder.path.is_dir(), _size(cell)
    try:
        answered = count_samples(folder.path) if there else 0
    except DamagedError as error:
        return PlannedCell(cell, "blocked", 0, total, str(error))
    working = holder(folder.path, watch) if there else None
    reason = obstacle(cell)
    if reason is None and vanilla is not None and vanilla.state in ("failed", "blocked"):
        reason = (
            "vanilla, which it is compared to,"
            f" {'has failed' if vanilla.state == 'failed' else 'is blocked'}: {vanilla.reason}"
        )
    if reason is not None:
        return PlannedCell(cell, "blocked", answered, total, reason, working)
    failure = folder.failure() if there else None
    if failure is not None:
        return PlannedCell(cell, "failed", answered, total, str(failure.get("error")), working)
    return PlannedCell(cell, "partial" if answered else "missing", answered, total, holder=working)


def _size(cell: Cell) -> int | None:
    """Samples that a cell will have, as far as its configuration tells: a benchmark's card names
    its size.
    """
    benchmark = cell.benchmark
    published = (
        benchmark.card.size if benchmark is not None and cell.config.task.data is None else None
    )
    sizes = [size for size in (cell.config.task.limit, published) if size is not None]
    return min(sizes, default=None)
