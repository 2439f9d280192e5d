"""Running one cell or a grid in this process."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from unibench import identity
from unibench.cli.progress import Progress
from unibench.compose import compose_cells
from unibench.errors import UsageError, UsageErrors
from unibench.identity import cell_of, vanilla_of
from unibench.store import CellFolder

SWEEP = ("-m", "--multirun")

Cell = Callable[[dict[str, Any]], str]


def run(words: list[str]) -> int:
    """``python -m unibench [-m] <overrides>``."""
    overrides = [word for word in words if word not in SWEEP]
    if flags := [word for word in overrides if word.startswith("-")]:
        raise UsageError(f"unknown option {flags[0]}; see python -m unibench --help")
    cells = [cell_of(config) for config in compose_cells(overrides, sweep=len(overrides) < len(words))]
    if not any(word.lstrip("+").startswith("task=") for word in overrides):
        print("No task given: asking the embedded task synthvqa (drawn pictures, answers of toy difficulty; nothing is downloaded).")
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        runner = None
        for cell in cells:
            row = CellFolder(cell).row()
            if row is None:
                runner = runner or stack.enter_context(closing(_runner(cells)))
                row = runner.run(cell)
            vanilla = CellFolder(vanilla_of(cell)).row()
            rows += [entry for entry in (vanilla, row) if entry is not None and entry["key"] not in {seen["key"] for seen in rows}]
    _print_tables(rows)
    return 0


def _runner(cells: Sequence[identity.Cell]) -> Any:
    """A runner for the cells, whose methods can all be built.

    It loads torch and transformers, which a mistaken command or a finished cell need not wait for.

    Raises:
        UsageErrors: values that only the methods themselves can refuse.
    """
    runner = importlib.import_module("unibench.runner")
    errors: list[UsageError] = []
    for cell in cells:
        try:
            runner.method_of(cell)
        except UsageError as error:
            errors.append(error)
    if errors:
        raise UsageErrors(errors)
    return runner.Runner(Progress())


def _print_tables(rows: Sequence[dict[str, Any]]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160)
    for model, task in dict.fromkeys((row["model"], row["task"]) for row in rows):
        group = [row for row in rows if (row["model"], row["task"]) == (model, task)]
        console.print(_table(f"{model} on {task}: {group[0]['metric']}, per cent", group, {**SCORES, **_abilities(group[0])}))
        console.print(_table("cost of a sample, median", group, COSTS))
        for row in group:
            for note in row["notes"]:
                console.print(f"{row['method']}: {note}")
    console.print("ratio: share of visual tokens removed. drop: relative to vanilla. 95 %: bootstrap over pictures.")
    console.print("same budget as: the ratio of a method before the language model whose layers process as many visual tokens on average.")
    console.print("TFLOP: prefill of the language model. prefill: pixels to first logits, with vision and method. total: the whole cell.")
    for row in rows:
        console.print(f"{row['method']:12s} {row['folder']}", soft_wrap=True)


def _table(title: str, rows: Sequence[dict[str, Any]], columns: dict[str, Cell]) -> Table:
    table = Table(title=title, box=box.SIMPLE, title_justify="left", pad_edge=False)
    for name in columns:
        table.add_column(name, justify="left" if name == "method" else "right")
    for row in rows:
        table.add_row(*(shown(row) for shown in columns.values()))
    return table


def _number(key: str, form: str = ".1f", factor: float = 1.0, unit: str = "") -> Cell:
    def shown(row: dict[str, Any]) -> str:
        return "-" if row[key] is None else f"{factor * row[key]:{form}}{unit}"

    return shown


def _abilities(row: dict[str, Any]) -> dict[str, Cell]:
    """A column for each ability, where there are several."""
    names = list(row["abilities"])

    def column(name: str) -> Cell:
        return lambda row: f"{row['abilities'][name]['score_100']:.1f}" if name in row["abilities"] else "-"

    return {name.replace("_", " "): column(name) for name in names} if len(names) > 1 else {}


NAMES: dict[str, Cell] = {"method": lambda row: f"{row['method']} {row['variant']}".strip(), "ratio": lambda row: row["budget"]}
SCORES: dict[str, Cell] = {
    **NAMES,
    "n": _number("n", ".0f"),
    "score": _number("score_100"),
    "95 %": lambda row: "-" if row["ci_low"] is None else f"{row['ci_low']:.1f}-{row['ci_high']:.1f}",
    "drop %": _number("drop_pct"),
    "same budget as": lambda row: f"pre-LLM {max(0.0, 1 - row['equiv_tokens'] / row['tokens_in']):.3f}" if row["tokens_in"] else "-",
}
COSTS: dict[str, Cell] = {
    **NAMES,
    "tokens kept": lambda row: f"{row['kept_mean']:.1f} of {row['tokens_in']:.1f}",
    "TFLOP": _number("tflops", ".3g"),
    "of vanilla": _number("tflops_ratio", ".1f", 100, " %"),
    "KV MiB": _number("kv_mib", ".3g"),
    "vision ms": _number("vision_ms"),
    "prefill ms": _number("prefill_ms"),
    "method ms": _number("method_ms", ".2f"),
    "decode ms/token": _number("decode_ms_per_token", ".2f"),
    "total s": _number("total_s"),
}
