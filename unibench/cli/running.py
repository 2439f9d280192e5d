"""Running one cell or a grid in this process."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

from unibench import identity
from unibench.cli.progress import Progress
from unibench.cli.showing import print_tables
from unibench.compose import compose_cells, is_experiment
from unibench.errors import UsageError, UsageErrors
from unibench.identity import cell_of, vanilla_of
from unibench.store import CellFolder

SWEEP = ("-m", "--multirun")


def run(words: list[str]) -> int:
    """``python -m unibench [-m] <overrides>``."""
    overrides = [word for word in words if word not in SWEEP]
    if flags := [word for word in overrides if word.startswith("-")]:
        raise UsageError(f"unknown option {flags[0]}; see python -m unibench --help")
    cells = [cell_of(config) for config in compose_cells(overrides, sweep=len(overrides) < len(words))]
    if not is_experiment(overrides) and not any(word.lstrip("+").startswith("task=") for word in overrides):
        print("No task given: asking the embedded task synthvqa (drawn pictures, answers of toy difficulty; nothing is downloaded).")
    rows: dict[str, dict[str, Any]] = {}
    blocked: dict[str, str] = {}
    runner = None
    for cell in cells:
        row = CellFolder(cell).row()
        if row is None:
            runner = runner or _runner(cells, strict=not is_experiment(overrides))
            try:
                row = runner.run(cell)
            except UsageError as error:
                if len(cells) == 1:
                    raise
                blocked[cell.title] = str(error)
        vanilla = CellFolder(vanilla_of(cell)).row()
        rows |= {entry["key"]: entry for entry in (vanilla, row) if entry is not None and entry["key"] not in rows}
    print_tables(list(rows.values()))
    for title, reason in blocked.items():
        print(f"blocked: {title}: {reason}", file=sys.stderr)
    return 2 if blocked else 0


def _runner(cells: Sequence[identity.Cell], *, strict: bool) -> Any:
    """A runner for the cells. Their methods can all be built; if not strict, one is enough: the others block their cells.

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
    if errors and (strict or len(errors) == len(cells)):
        raise UsageErrors(errors)
    return runner.Runner(Progress())
