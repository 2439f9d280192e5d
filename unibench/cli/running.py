"""Running one cell or a grid in this process."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from unibench.cli.progress import Progress
from unibench.compose import compose_cells
from unibench.errors import UsageError, UsageErrors
from unibench.identity import Cell, cell_of
from unibench.plan import survey

SWEEP = ("-m", "--multirun")

Shown = Callable[[dict[str, Any]], str]


def run(words: list[str]) -> int:
    """``python -m unibench [-m] <overrides>``."""
    cells = cells_of(words)
    say_which_task(words)
    plans = survey(cells)
    rows = {plan.cell.key: plan.row for plan in plans if plan.row is not None}
    if len(rows) == len(plans):
        print_tables(list(rows.values()))
        return 0
    return finish(work_here(cells))


def cells_of(words: Sequence[str]) -> list[Cell]:
    """The checked cells of a command; ``-m`` among the words makes comma lists a grid.

    Raises:
        UsageError: an option, or an override, that does not exist.
    """
    overrides = [word for word in words if word not in SWEEP]
    if flags := [word for word in overrides if word.startswith("-")]:
        raise UsageError(f"unknown option {flags[0]}; see python -m unibench --help")
    return [cell_of(config) for config in compose_cells(overrides, sweep=len(overrides) < len(words))]


def say_which_task(words: Sequence[str]) -> None:
    """Where no task is given, the first line of output names the one that is asked."""
    if not any(word.lstrip("+").startswith("task=") for word in words):
        print("No task given: asking the embedded task synthvqa (drawn pictures, answers of toy difficulty; nothing is downloaded).")


def check_methods(cells: Sequence[Cell]) -> ModuleType:
    """The runner, once it can build the methods of all cells.

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
    return runner


def work_here(cells: Sequence[Cell]) -> Any:
    """The outcome of the cells, worked off in this process; failed ones are tried again."""
    runner = check_methods(cells)
    runner.forgive(cells)
    stop = runner.Stop()
    with stop.listening():
        return runner.work(cells, listener=Progress(), stop=stop)


def finish(outcome: Any) -> int:
    """Print the tables of what is done; returns 0, or 1 if a cell failed.

    Raises:
        UsageErrors: nothing but mistakes of the user's stood in the way.
    """
    print_tables(list(outcome.rows.values()))
    if outcome.failures and all(failure.usage for failure in outcome.failures):
        raise UsageErrors([UsageError(failure.error) for failure in outcome.failures])
    for failure in outcome.failures:
        print(f"{failure.cell.title}: failed: {failure.error} (traceback: {failure.cell.folder}/status.json)", file=sys.stderr)
    return 1 if outcome.failures else 0


def print_tables(rows: Sequence[dict[str, Any]]) -> None:
    """Scores and costs of each model and task, and where the rows lie."""
    if not rows:
        return
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


def _table(title: str, rows: Sequence[dict[str, Any]], columns: dict[str, Shown]) -> Table:
    table = Table(title=title, box=box.SIMPLE, title_justify="left", pad_edge=False)
    for name in columns:
        table.add_column(name, justify="left" if name == "method" else "right")
    for row in rows:
        table.add_row(*(shown(row) for shown in columns.values()))
    return table


def _number(key: str, form: str = ".1f", factor: float = 1.0, unit: str = "") -> Shown:
    def shown(row: dict[str, Any]) -> str:
        return "-" if row[key] is None else f"{factor * row[key]:{form}}{unit}"

    return shown


def _abilities(row: dict[str, Any]) -> dict[str, Shown]:
    """A column for each ability, where there are several."""
    names = list(row["abilities"])

    def column(name: str) -> Shown:
        return lambda row: f"{row['abilities'][name]['score_100']:.1f}" if name in row["abilities"] else "-"

    return {name.replace("_", " "): column(name) for name in names} if len(names) > 1 else {}


NAMES: dict[str, Shown] = {"method": lambda row: f"{row['method']} {row['variant']}".strip(), "ratio": lambda row: row["budget"]}
SCORES: dict[str, Shown] = {
    **NAMES,
    "n": _number("n", ".0f"),
    "score": _number("score_100"),
    "95 %": lambda row: "-" if row["ci_low"] is None else f"{row['ci_low']:.1f}-{row['ci_high']:.1f}",
    "drop %": _number("drop_pct"),
    "same budget as": lambda row: f"pre-LLM {max(0.0, 1 - row['equiv_tokens'] / row['tokens_in']):.3f}" if row["tokens_in"] else "-",
}
COSTS: dict[str, Shown] = {
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
