"""``plan``: every cell of a command with its state, before anything is run."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from unibench.cli.options import taken
from unibench.cli.progress import clock
from unibench.cli.running import cells_of, check_methods
from unibench.cli.terminal import Terminal
from unibench.identity import Cell, cell_of
from unibench.inference.row import Row
from unibench.plan import History, PlannedCell, downloads, history_of, judge_of, rows_below, survey
from unibench.plan.survey import STATES

# in the place of the key of a hub model that is not on this disk: its commit is not known
AFTER_DOWNLOAD = "key after download"


def plan(words: list[str]) -> int:
    """``plan [-m] <overrides> [--failed] [--probe N] [--json]``."""
    words, options = taken(words, flags=("--json", "--failed"), values={"--probe": int})
    cells = cells_of(words)
    plans = survey(cells)
    rows = {
        row.key: row for out in {cell.config.out for cell in cells} for row in rows_below(Path(out))
    }
    history = history_of(rows.values())
    if "--probe" in options:
        history = history_of([*rows.values(), *_probed(plans, history, options["--probe"])])
    report = _report(plans, history)
    if "--failed" in options:
        report["cells"] = [entry for entry in report["cells"] if entry["state"] == "failed"]
    if "--json" in options:
        print(json.dumps(report, indent=1))
    else:
        _print(report)
    return 0


def _report(plans: Sequence[PlannedCell], history: History) -> dict[str, Any]:
    open_ = [plan for plan in plans if plan.state != "done"]
    seconds = [history.estimate(plan) for plan in open_ if plan.state != "blocked"]
    judged = [plan for plan in open_ if judge_of(plan.cell) is not None]
    calls = [None if plan.total is None else plan.total - plan.answered for plan in judged]
    return {
        "cells": [_entry(plan, history) for plan in plans],
        "states": {
            state: count
            for state in STATES
            if (count := Counter(plan.state for plan in plans)[state])
        },
        "seconds": sum(known for known in seconds if known is not None),
        "cells_of_unknown_time": seconds.count(None),
        "downloads": downloads(plan.cell for plan in open_),
        "judge_calls": sum(known for known in calls if known is not None),
        "cells_of_unknown_judge_calls": calls.count(None),
    }


def _entry(plan: PlannedCell, history: History) -> dict[str, Any]:
    cell = plan.cell
    return {
        "model": cell.config.model.name,
        "method": f"{cell.method} {cell.variant}".strip(),
        "budget": "0" if cell.method == "vanilla" else cell.budget.label,
        "task": cell.config.task.name,
        "seed": cell.config.seed,
        "state": plan.state,
        "answered": plan.answered,
        "total": plan.total,
        "seconds": 0.0 if plan.state == "done" else history.estimate(plan),
        "holder": plan.holder,
        "reason": plan.reason,
        "traceback": str(cell.folder / "status.json") if plan.state == "failed" else None,
        "key": cell.key if cell.final else AFTER_DOWNLOAD,
        "folder": str(cell.folder) if cell.final else None,
    }


def _print(report: dict[str, Any]) -> None:
    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in (
        "model",
        "task",
        "samples",
        "method",
        "budget",
        "seed",
        "state",
        "time left",
        "remark",
    ):
        table.add_column(column, overflow="fold")
    counts = Counter(entry["reason"] for entry in report["cells"] if entry["reason"])
    notes = {
        reason: f"see {number}"
        for number, reason in enumerate((one for one in counts if counts[one] > 1), 1)
    }
    for entry in report["cells"]:
        state = (
            f"partial {entry['answered']}/{entry['total'] or '?'}"
            if entry["state"] == "partial"
            else entry["state"]
        )
        left = (
            "?" if entry["seconds"] is None else clock(entry["seconds"]) if entry["seconds"] else ""
        )
        remark = notes.get(entry["reason"], entry["reason"]) or (
            f"worked on by {entry['holder']}" if entry["holder"] else ""
        )
        if entry["key"] == AFTER_DOWNLOAD:
            remark = ", ".join(filter(None, (remark, AFTER_DOWNLOAD)))
        named = (
            entry["model"],
            entry["task"],
            str(entry["total"] or "?"),
            entry["method"],
            entry["budget"],
            str(entry["seed"]),
        )
        table.add_row(*named, state, left, remark)
    console = Terminal()
    console.print(table)
    for reason, note in notes.items():
        console.print(f"{note.removeprefix('see ')}: {reason}")
    unknown = report["cells_of_unknown_time"]
    console.print(", ".join(f"{count} {state}" for state, count in report["states"].items()))
    more = (
        f", {unknown} cells of unknown time (--probe 3 measures three samples of each model and"
        " task)"
        if unknown
        else ""
    )
    known = clock(report["seconds"]) if report["seconds"] or not unknown else "unknown"
    console.print(f"time left for one worker: {known}{more}")
    for what in report["downloads"]:
        console.print(f"to download: {what}")
    if report["judge_calls"] or report["cells_of_unknown_judge_calls"]:
        console.print(
            f"judge calls: at most {report['judge_calls']},"
            f" {report['cells_of_unknown_judge_calls']} cells unknown"
        )


def _probed(plans: Sequence[PlannedCell], history: History, count: int) -> list[Row]:
    """Rows of a few samples of each model and task that the history knows nothing of."""
    unknown: dict[tuple[str, str], Cell] = {}
    for plan in plans:
        if plan.state in ("partial", "missing") and history.estimate(plan) is None:
            unknown.setdefault((plan.cell.config.model.name, plan.cell.config.task.name), plan.cell)
    runner = check_methods(list(unknown.values()))
    executors = {"embedded": runner.Embedded()}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as out:
        for cell in unknown.values():
            config = replace(
                cell.config,
                out=out,
                task=replace(cell.config.task, limit=count),
                timing=True,
                share="none",
            )
            rows += runner.work([cell_of(config)], executors=executors).rows.values()
    return rows
