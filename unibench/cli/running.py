"""Running one cell or a grid in this process."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from unibench import _compat
from unibench.cli.progress import Progress
from unibench.compose import compose_cells
from unibench.errors import UsageError
from unibench.identity import cell_of, vanilla_of
from unibench.store import CellFolder

SWEEP = ("-m", "--multirun")

COLUMNS = {
    "method": "method",
    "budget": "ratio",
    "n": "n",
    "score_100": "score",
    "interval": "95 %",
    "drop_pct": "drop %",
    "kept": "tokens kept",
    "tflops": "TFLOP",
    "tflops_ratio": "of vanilla",
    "total_s": "total s",
    "vision_ms": "vision ms",
    "prefill_ms": "prefill ms",
    "method_ms": "method ms",
}


def run(words: list[str]) -> int:
    """``python -m unibench [-m] <overrides>``."""
    overrides = [word for word in words if word not in SWEEP]
    if flags := [word for word in overrides if word.startswith("-")]:
        raise UsageError(f"unknown option {flags[0]}; see python -m unibench --help")
    cells = [cell_of(config) for config in compose_cells(overrides, sweep=len(overrides) < len(words))]
    if not any(word.lstrip("+").startswith("task=") for word in overrides):
        print("No task given: asking the embedded task synthvqa (drawn pictures, answers of toy difficulty; nothing is downloaded).")
    _compat.repair_torchvision()
    from unibench.runner import Runner  # loads torch and transformers, which a mistaken command need not wait for

    runner = Runner(Progress())
    rows: list[dict[str, Any]] = []
    for cell in cells:
        row = runner.run(cell)
        vanilla = CellFolder(vanilla_of(cell)).row()
        rows += [entry for entry in (vanilla, row) if entry is not None and entry["key"] not in {seen["key"] for seen in rows}]
    _print_tables(rows)
    return 0


def _print_tables(rows: Sequence[dict[str, Any]]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 200)
    for title in dict.fromkeys((row["model"], row["task"]) for row in rows):
        group = [row for row in rows if (row["model"], row["task"]) == title]
        table = Table(title=f"{title[0]} on {title[1]}", box=box.SIMPLE, title_justify="left")
        abilities = list(group[0]["abilities"]) if len(group[0]["abilities"]) > 1 else []
        for name in [*COLUMNS.values(), *abilities]:
            table.add_column(name, justify="left" if name == "method" else "right")
        for row in group:
            table.add_row(*(_shown(row, column) for column in COLUMNS), *(f"{row['abilities'][name]['score_100']:.1f}" for name in abilities))
        console.print(table)
        for row in group:
            for note in row["notes"]:
                console.print(f"{row['method']}: {note}")
    console.print("ratio: share of visual tokens removed; drop: relative to vanilla; 95 %: bootstrap over pictures; times: median per sample on this machine")
    for row in rows:
        console.print(f"{row['method']:12s} {row['folder']}", soft_wrap=True)


def _shown(row: dict[str, Any], column: str) -> str:
    if column == "interval":
        return f"{row['ci_low']:.1f}-{row['ci_high']:.1f}"
    if column == "kept":
        return f"{row['kept_mean']:.1f} of {row['tokens_in']:.1f}"
    value = row[column]
    if value is None:
        return "-"
    if column == "tflops":
        return f"{value:.3g}"
    if column == "tflops_ratio":
        return f"{100 * value:.1f} %"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
