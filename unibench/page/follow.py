"""How far a grid is, look by look: counts, rates and the time left by worker."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unibench.errors import shown
from unibench.identity import Cell
from unibench.plan import survey
from unibench.store.claim import Watch, holder
from unibench.store.contents import entries
from unibench.store.files import read_json

WINDOW = 180.0  # seconds that a rate is measured over: several batches of a slow model
FAILURES = 100  # that are named; more are counted


@dataclass(frozen=True)
class Followed:
    """A cell as it is now.

    Attributes:
        key: of the cell.
        title: model, method, budget and task.
        state: done, partial, missing, failed, blocked or damaged.
        answered: samples that are there.
        total: samples that there will be; None if that is not known.
        reason: of a failed or blocked cell.
        holder: ``host:process`` of the worker that has claimed a part of it.
    """

    key: str
    title: str
    state: str
    answered: int
    total: int | None
    reason: str = ""
    holder: str | None = None


@dataclass(frozen=True)
class Worker:
    """What one worker does.

    Attributes:
        name: ``host:process``.
        cells: titles of the cells that it holds.
        answered, total: samples of them; the total is None if it is not known.
        rate: samples a second; None until it has been seen to answer.
        left: seconds that its cells still take at this rate.
    """

    name: str
    cells: tuple[str, ...]
    answered: int
    total: int | None
    rate: float | None
    left: float | None


@dataclass(frozen=True)
class Snapshot:
    """How far everything is.

    Attributes:
        states: number of cells in each.
        answered, total: samples of all cells; the total is None if one is not known.
        rate: samples a second of all workers.
        left: seconds until all is answered at this rate; of cells that can run.
        workers: those that hold a cell.
        failures: title and reason of cells that failed, are blocked or damaged.
        more_failures: number of those that are not named.
    """

    states: Mapping[str, int]
    answered: int
    total: int | None
    rate: float | None
    left: float | None
    workers: tuple[Worker, ...]
    failures: tuple[tuple[str, str], ...]
    more_failures: int


Look = Callable[[], Sequence[Followed]]


class Follower:
    """Looks again and again, and tells rates from the difference.

    Args:
        look: the cells as they are now.
        clock: seconds, monotonic.
    """

    def __init__(self, look: Look, clock: Callable[[], float] = time.monotonic) -> None:
        self._look, self._clock = look, clock
        self._before: dict[str, Followed] = {}
        # when, and how many samples each worker had answered since the look before
        self._steps: deque[tuple[float, Counter[str]]] = deque()

    def snapshot(self) -> Snapshot:
        """How far everything is now."""
        cells = self._look()
        self._steps.append((self._clock(), self._answered(cells)))
        while len(self._steps) > 2 and self._steps[-1][0] - self._steps[1][0] > WINDOW:
            self._steps.popleft()
        self._before = {cell.key: cell for cell in cells}
        rates = self._rates()
        going = [cell for cell in cells if cell.state not in ("failed", "blocked", "damaged")]
        remaining = _remaining(going)
        rate = sum(rates.values()) or None
        bad = [cell for cell in cells if cell.state in ("failed", "blocked", "damaged")]
        totals = [cell.total for cell in cells]
        return Snapshot(
            states=dict(Counter(cell.state for cell in cells)),
            answered=sum(cell.answered for cell in cells),
            total=None if None in totals else sum(total or 0 for total in totals),
            rate=rate,
            left=_time(remaining, rate),
            workers=tuple(_workers(cells, rates)),
            failures=tuple((cell.title, cell.reason) for cell in bad[:FAILURES]),
            more_failures=max(0, len(bad) - FAILURES),
        )

    def _answered(self, cells: Sequence[Followed]) -> Counter[str]:
        found: Counter[str] = Counter()
        for cell in cells if self._before else ():
            known = self._before.get(cell.key)
            more = cell.answered - (known.answered if known else 0)
            # who has finished a cell between two looks holds it no more
            worker = cell.holder or (known.holder if known else None) or ""
            if more > 0:
                found[worker] += more
        return found

    def _rates(self) -> dict[str, float]:
        seconds = self._steps[-1][0] - self._steps[0][0]
        if seconds <= 0:
            return {}
        counts: Counter[str] = Counter()
        for _, step in list(self._steps)[1:]:  # the first step was answered before the window
            counts.update(step)
        return {worker: count / seconds for worker, count in counts.items()}


def _workers(cells: Sequence[Followed], rates: Mapping[str, float]) -> Iterator[Worker]:
    held: dict[str, list[Followed]] = {}
    for cell in cells:
        if cell.holder and cell.state != "done":
            held.setdefault(cell.holder, []).append(cell)
    for name, mine in sorted(held.items()):
        totals = [cell.total for cell in mine]
        yield Worker(
            name=name,
            cells=tuple(cell.title for cell in mine),
            answered=sum(cell.answered for cell in mine),
            total=None if None in totals else sum(total or 0 for total in totals),
            rate=rates.get(name),
            left=_time(_remaining(mine), rates.get(name)),
        )


def _remaining(cells: Sequence[Followed]) -> int | None:
    """Samples that are not answered yet; None if a cell does not say how many it has."""
    if any(cell.total is None for cell in cells if cell.state != "done"):
        return None
    return sum(max(0, (cell.total or 0) - cell.answered) for cell in cells if cell.state != "done")


def _time(remaining: int | None, rate: float | None) -> float | None:
    return None if remaining is None or not rate else remaining / rate


def of_grid(cells: Sequence[Cell]) -> Look:
    """The cells of a command, those that are not begun too."""

    def look() -> list[Followed]:
        return [
            Followed(
                plan.cell.key, shown(plan.cell.title), plan.state, plan.answered, plan.total,
                shown(plan.reason), plan.holder,
            )
            for plan in survey(cells)
        ]  # fmt: skip

    return look


def of_store(folder: Path) -> Look:
    """The cells that there are in a folder of results."""
    watch = Watch()

    def look() -> list[Followed]:
        found = []
        for entry in entries(folder) if folder.is_dir() else ():
            place = entry.folder
            parts = place.relative_to(folder).parts[:-1] or (folder.name,)
            status = read_json(place / "status.json") if entry.state == "failed" else None
            reason = str(status.get("error", "")) if isinstance(status, dict) else entry.fault
            done = entry.state == "done"
            total = entry.samples if done else _limit(place)
            worker = None if done else holder(place, watch)
            title = shown(" ".join(parts))
            found.append(
                Followed(
                    place.name, title, entry.state, entry.samples, total, shown(reason), worker
                )
            )
        return found

    return look


def _limit(cell: Path) -> int | None:
    """The number of samples that a cell was told to ask; None where it asks all of its task."""
    identity = read_json(cell / "identity.json")
    task = identity.get("task") if isinstance(identity, dict) else None
    limit = task.get("limit") if isinstance(task, dict) else None
    return limit if isinstance(limit, int) and limit >= 0 else None
