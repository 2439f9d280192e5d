"""Running one cell or a grid in this process."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from unibench import identity
from unibench.cli.progress import Progress
from unibench.cli.showing import print_tables
from unibench.compose import compose_cells, is_experiment
from unibench.errors import UsageError, UsageErrors
from unibench.identity import Cell
from unibench.plan import survey

SWEEP = ("-m", "--multirun")


def run(words: list[str]) -> int:
    """``python -m unibench [-m] <overrides>``."""
    if any(word.startswith("hydra") for word in words):
        return int(importlib.import_module("unibench.cli.submitting").launched(words))
    cells = cells_of(words)
    say_which_task(words)
    plans = survey(cells)
    rows = {plan.cell.key: plan.row for plan in plans if plan.row is not None}
    if len(rows) == len(plans):
        print_tables(list(rows.values()))
        return 0
    runner = check_methods(cells, strict=not is_experiment(words))
    runner.forgive(cells)
    stop = runner.Stop()
    with stop.listening():
        return finish(runner.work(cells, listener=Progress(), stop=stop))


def cells_of(words: Sequence[str]) -> list[Cell]:
    """The checked cells of a command; ``-m`` among the words makes comma lists a grid.

    Raises:
        UsageError: an option, or an override, that does not exist.
    """
    overrides = [word for word in words if word not in SWEEP]
    if flags := [word for word in overrides if word.startswith("-")]:
        raise UsageError(f"unknown option {flags[0]}; see python -m unibench --help")
    configs = compose_cells(overrides, sweep=len(overrides) < len(words))
    return identity.cells_of(configs)


def say_which_task(words: Sequence[str]) -> None:
    """Where no task is given, the first line of output names the one that is asked."""
    if not is_experiment(words) and not any(word.lstrip("+").startswith("task=") for word in words):
        print(
            "No task given: asking the embedded task synthvqa (drawn pictures, answers of toy"
            " difficulty; nothing is downloaded)."
        )


def check_methods(cells: Sequence[Cell], *, strict: bool = True) -> ModuleType:
    """The runner, once it can build the methods of all cells; if not strict, one is enough: the
    others will fail alone.

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
    return runner


def finish(outcome: Any) -> int:
    """Print the tables of what is done; returns 0, 1 if a cell failed, or 2 if nothing but the
    user's mistakes stood in the way.

    Raises:
        UsageErrors: those mistakes, if nothing is done.
    """
    failures = outcome.failures
    if failures and not outcome.rows and all(failure.usage for failure in failures):
        raise UsageErrors(
            [UsageError(line) for line in dict.fromkeys(failure.error for failure in failures)]
        )
    print_tables(list(outcome.rows.values()))
    for failure in failures:
        where = "" if failure.usage else f" (traceback: {failure.cell.folder}/status.json)"
        print(
            f"{'blocked' if failure.usage else 'failed'}: {failure.cell.title}:"
            f" {failure.error}{where}",
            file=sys.stderr,
        )
    return 0 if not failures else 2 if all(failure.usage for failure in failures) else 1
