"""``plan``: every cell of a command with its state, before anything is run."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from unibench import hub
from unibench.cli.grid import Grid
from unibench.cli.parser import Options
from unibench.cli.progress import clock
from unibench.cli.terminal import console, print_table
from unibench.engines import HF
from unibench.identity import APART, Cell, cell_of
from unibench.inference.row import Row
from unibench.plan import (
    GPU,
    History,
    PlannedCell,
    downloads,
    history_of,
    judge_of,
    rows_below,
    seconds_of,
    to_fetch,
)
from unibench.plan.survey import STATES

HOUR = 3600.0
GIB = 1 << 30
# in the place of the key of a hub model that is not on this disk: its commit is not known
AFTER_DOWNLOAD = "key after download"
STYLES = {"done": "green", "partial": "cyan", "failed": "red", "blocked": "yellow"}
LISTED = 12  # cells of one reason that have a line each
COLUMNS = ("model", "task", "samples", "method", "budget", "seed", "state", "time left", "remark")


@dataclass(frozen=True)
class Entry:
    """A line of the plan.

    Attributes:
        model: name of the model.
        method: name of the method, with the parameters that are not its defaults.
        budget: as tables write it.
        task: name of the task.
        seed: seed of methods that draw.
        state: done, partial, missing, failed or blocked.
        answered: samples that are there.
        total: samples that there will be, None if that is not known.
        seconds: time left, None if that is not known.
        holder: worker that holds it now.
        reason: why it has failed or is blocked.
        traceback: file that holds the traceback of a failed cell.
        key: of the cell, or :data:`AFTER_DOWNLOAD`.
        folder: of the cell, None as long as its key is not known.
    """

    model: str
    method: str
    budget: str
    task: str
    seed: int
    state: str
    answered: int
    total: int | None
    seconds: float | None
    holder: str | None
    reason: str | None
    traceback: str | None
    key: str
    folder: str | None

    @classmethod
    def of(cls, plan: PlannedCell, history: History) -> Entry:
        """The line of a planned cell."""
        cell = plan.cell
        return cls(
            model=cell.config.model.name,
            method=f"{cell.method} {cell.variant}".strip(),
            budget="0" if cell.method == "vanilla" else cell.budget.label,
            task=cell.config.task.name,
            seed=cell.config.seed,
            state=plan.state,
            answered=plan.answered,
            total=plan.total,
            seconds=0.0 if plan.state == "done" else history.estimate(plan),
            holder=plan.holder,
            reason=plan.reason,
            traceback=str(cell.folder / "status.json") if plan.state == "failed" else None,
            key=cell.key if cell.final else AFTER_DOWNLOAD,
            folder=str(cell.folder) if cell.final else None,
        )


@dataclass(frozen=True)
class Report:
    """What a plan says.

    Attributes:
        cells: lines, vanilla included.
        states: number of cells in each state.
        seconds: time left for one worker, as far as it is known.
        together: number of unfinished cells that are answered together (``fuse=cells``), which
            takes them less than ``seconds`` says.
        cells_of_unknown_time: number of cells that are not in it.
        downloads: what is fetched from the network.
        judge_calls: at most so many answers are sent to a judge, as far as it is known.
        cells_of_unknown_judge_calls: number of cells that are not in it.
        seconds_blocked: time that blocked cells would take one worker, as far as it is known.
        cells_calculated: number of cells of unknown time for which one is calculated from the size
            of their model.
        seconds_calculated: that time, on :data:`unibench.plan.GPU`.
        download_gib: checkpoints that are fetched, as far as their size is known.
        free_gib: of the disk that they are fetched to.
    """

    cells: tuple[Entry, ...]
    states: dict[str, int]
    seconds: float
    together: int
    cells_of_unknown_time: int
    downloads: tuple[str, ...]
    judge_calls: int
    cells_of_unknown_judge_calls: int
    seconds_blocked: float
    cells_calculated: int
    seconds_calculated: float
    download_gib: float
    free_gib: float | None


def plan(options: Options) -> int:
    """``plan [-m] <overrides> [--failed] [--probe N] [--json]``."""
    grid = Grid(options)
    plans = grid.plans
    rows = {plan.cell.folder: plan.row for plan in plans if plan.row is not None}
    if len(rows) < len(plans):  # what else the store knows says how long the others take
        for out in {Path(cell.config.out) for cell in grid.cells}:
            rows |= {Path(row.folder): row for row in rows_below(out, rows)}
    history = history_of(rows.values())
    if options.probe:
        history = history_of([*rows.values(), *_probed(plans, history, options.probe)])
    report = _report(plans, history)
    if options.failed:
        failed = tuple(entry for entry in report.cells if entry.state == "failed")
        report = replace(report, cells=failed)
    if options.json:
        print(json.dumps(asdict(report), indent=1))
    else:
        _print(report, options.workers or 1)
    return 0


def _report(plans: Sequence[PlannedCell], history: History) -> Report:
    unfinished = [plan for plan in plans if plan.state != "done"]
    seconds = [history.estimate(plan) for plan in unfinished if plan.state != "blocked"]
    blocked = [history.estimate(plan) for plan in unfinished if plan.state == "blocked"]
    judged = [plan for plan in unfinished if judge_of(plan.cell) is not None]
    calls = [None if plan.total is None else plan.total - plan.answered for plan in judged]
    counts = Counter(plan.state for plan in plans)
    calculated = _calculated(unfinished, history)
    gib = sum(size for size in to_fetch(plan.cell for plan in unfinished).values() if size)
    return Report(
        cells=tuple(Entry.of(plan, history) for plan in plans),
        states={state: counts[state] for state in STATES if counts[state]},
        seconds=sum(known for known in seconds if known is not None),
        together=sum(plan.cell.config.fuse != APART for plan in unfinished),
        cells_of_unknown_time=seconds.count(None),
        downloads=tuple(downloads(plan.cell for plan in unfinished)),
        judge_calls=sum(known for known in calls if known is not None),
        cells_of_unknown_judge_calls=calls.count(None),
        seconds_blocked=sum(known for known in blocked if known is not None),
        cells_calculated=len(calculated),
        seconds_calculated=sum(calculated),
        download_gib=gib,
        free_gib=_free_gib() if gib else None,
    )


def _calculated(plans: Sequence[PlannedCell], history: History) -> list[float]:
    """The time of cells that nothing measured is like, from the size of their model."""
    found = []
    for plan in plans:
        # how many questions a data set has is not known before it is there
        if plan.total is None or history.estimate(plan) is not None:
            continue
        seconds = seconds_of(plan.cell)
        if seconds is not None:
            found.append(seconds * (plan.total - plan.answered))
    return found


def _free_gib() -> float | None:
    """Free space where checkpoints are fetched to."""
    place = hub.cache_of("x")
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return shutil.disk_usage(place).free / GIB
    except OSError:
        return None


def _print(report: Report, workers: int) -> None:
    """The table; reasons that several cells have stand below it, once."""
    counts = Counter(entry.reason for entry in report.cells if entry.reason)
    repeated = [reason for reason, count in counts.items() if count > 1]
    notes = {reason: f"see {number}" for number, reason in enumerate(repeated, 1)}
    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column)
    many = {reason for reason, count in counts.items() if count > LISTED}
    for entries in _folded(report.cells, many):
        line = _cells_of(entries[0], notes)
        table.add_row(*(line if len(entries) == 1 else _together(entries, line)))
    print_table(table, keys=len(COLUMNS) - 3, sentence=True)
    screen = console()
    for number, reason in enumerate(repeated, 1):
        screen.print(f"{number}: {counts[reason]} cells: {reason}")
    if many:
        screen.print("cells of one reason stand in a line for each method; --json lists each cell")
    screen.print(", ".join(f"{count} {state}" for state, count in report.states.items()))
    unknown, more = report.cells_of_unknown_time, ""
    if unknown:
        more = (
            f", {unknown} cells of unknown time (--probe 3 measures three samples of each model and"
            " task)"
        )
    known = clock(report.seconds) if report.seconds or not unknown else "unknown"
    if blocked := report.states.get("blocked"):
        more += f", without the {blocked} blocked {'cell' if blocked == 1 else 'cells'}"
    most = "at most " if report.together and report.seconds else ""
    screen.print(f"time left for one worker: {most}{known}{more}")
    if report.cells_calculated:
        screen.print(
            f"calculated from the size of the model, for {GPU.name}: about"
            f" {report.seconds_calculated / HOUR:.1f} hours for {report.cells_calculated} cells,"
            " whose number of questions is known; right within a factor of three"
        )
    if report.seconds_blocked:
        screen.print(f"and the blocked cells, could they run: {clock(report.seconds_blocked)}")
    if report.seconds >= HOUR:
        screen.print(f"{report.seconds / HOUR:.1f} GPU hours with one GPU a worker")
    if workers > 1 and report.seconds:
        screen.print(
            f"with {workers} workers: about {clock(report.seconds / workers)}, loading not counted"
        )
    if report.together:
        screen.print(f"{report.together} cells are answered together, which takes less")
    for what in report.downloads:
        screen.print(f"to download: {what}")
    if report.free_gib is not None and report.free_gib < report.download_gib:
        screen.print(
            f"the disk is too small: checkpoints of about {report.download_gib:.1f} GiB, and"
            f" {report.free_gib:.1f} GiB are free"
        )
    if report.judge_calls or report.cells_of_unknown_judge_calls:
        screen.print(
            f"judge calls: at most {report.judge_calls},"
            f" {report.cells_of_unknown_judge_calls} cells unknown"
        )


def _folded(cells: Sequence[Entry], many: Collection[str]) -> list[list[Entry]]:
    """The cells of a table's lines: one, or those of a model and a method that share a reason that
    stops many.
    """
    lines: dict[Hashable, list[Entry]] = {}
    for number, entry in enumerate(cells):
        shared = (entry.model, entry.method, entry.state, entry.reason)
        lines.setdefault(shared if entry.reason in many else number, []).append(entry)
    return list(lines.values())


def _together(entries: Sequence[Entry], first: Sequence[str | Text]) -> tuple[str | Text, ...]:
    """The line of several cells, of which the first would stand so alone."""
    tasks = dict.fromkeys(entry.task for entry in entries)
    budgets = dict.fromkeys(entry.budget for entry in entries)
    seeds = dict.fromkeys(str(entry.seed) for entry in entries)
    model, _, _, method, _, _, _, left, remark = first
    task = next(iter(tasks)) if len(tasks) == 1 else f"{len(tasks)} tasks"
    state = Text(f"{len(entries)} {entries[0].state}", style=STYLES.get(entries[0].state, ""))
    return (model, task, "", method, ", ".join(budgets), ", ".join(seeds), state, left, remark)


def _cells_of(entry: Entry, notes: Mapping[str, str]) -> tuple[str | Text, ...]:
    """What the table shows of a line, in the order of :data:`COLUMNS`."""
    state, left = entry.state, "?"
    if state == "partial":
        state = f"partial {entry.answered}/{entry.total or '?'}"
    if entry.seconds is not None:
        left = clock(entry.seconds) if entry.seconds else ""
    remark = entry.reason and notes.get(entry.reason, entry.reason)
    if not remark and entry.holder:
        remark = f"worked on by {entry.holder}"
    total, seed = str(entry.total or "?"), str(entry.seed)
    return (
        *(entry.model, entry.task, total, entry.method, entry.budget, seed),
        *(Text(state, style=STYLES.get(entry.state, "")), left, remark or ""),
    )


def _probed(plans: Sequence[PlannedCell], history: History, count: int) -> list[Row]:
    """Rows of a few samples of each model and task that the history knows nothing of."""
    from unibench.runner import Embedded, work  # loads torch

    unknown: dict[tuple[str, str], Cell] = {}
    for plan in plans:
        if plan.state in ("partial", "missing") and history.estimate(plan) is None:
            unknown.setdefault((plan.cell.config.model.name, plan.cell.config.task.name), plan.cell)
    executors = {"embedded": Embedded()}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as out:
        for cell in unknown.values():
            task = replace(cell.config.task, limit=count)
            config = replace(cell.config, out=out, task=task, timing=True, share="none", fuse=APART)
            config = replace(config, engine=HF)  # a serving engine measures no single samples
            rows += work([cell_of(config)], executors=executors).rows.values()
    return rows
