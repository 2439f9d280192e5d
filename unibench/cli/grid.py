"""The cells that the words of a command mean: what run, work, submit, plan and others have in
common.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from unibench.cli.parser import Options
from unibench.cli.progress import Progress
from unibench.cli.showing import print_rows
from unibench.cli.terminal import lenient
from unibench.compose import compose_cells, is_experiment
from unibench.errors import UsageError, UsageErrors, lines_shown
from unibench.harness import needs
from unibench.identity import Cell, cells_of
from unibench.plan import PlannedCell, survey
from unibench.store.folder import read_row
from unibench.store.listing import environments

if TYPE_CHECKING:
    from unibench.runner import Outcome


class Grid:
    """The checked cells of a command.

    Args:
        options: of a verb that takes overrides.
        sweep: whether comma lists make a grid; as ``-m`` says without it.
    """

    def __init__(self, options: Options, *, sweep: bool | None = None) -> None:
        self.words = [word for word in options.words if not word.startswith("hydra")]
        self.sweep = bool(getattr(options, "multirun", False)) if sweep is None else sweep
        self._mistakes: list[UsageError] = options.mistakes

    @property
    def command(self) -> list[str]:
        """The words that mean these cells."""
        return [*(["-m"] if self.sweep else []), *self.words]

    @cached_property
    def cells(self) -> list[Cell]:
        """Every cell, the reference of the others not included.

        Raises:
            UsageErrors: all mistakes of the command, before anything is loaded.
        """
        errors = list(self._mistakes)
        try:
            cells = cells_of(compose_cells(self.words, sweep=self.sweep))
        except UsageError as error:
            errors.append(error)
        if errors:
            raise UsageErrors(errors)
        return cells

    @property
    def plans(self) -> list[PlannedCell]:
        """The cells and those they are compared to, with what is there of them now."""
        return survey(self.cells)

    def announce(self) -> None:
        """Name the task that is asked where none is given, and finished cells without the scores
        that are asked for.
        """
        self._announce_task()
        count = sum(_without_scores(cell) for cell in self.cells)
        if count:
            are = "cell was finished" if count == 1 else "cells were finished"
            print(
                f"{count} {are} without scores=true and will not be answered again; another out="
                " answers all of them with their scores",
                file=sys.stderr,
            )

    def _announce_task(self) -> None:
        given = any(word.lstrip("+").startswith("task=") for word in self.words)
        if not given and not is_experiment(self.words):
            with lenient():
                print(
                    "No task given: asking the embedded task synthvqa (drawn pictures, answers of"
                    " toy difficulty; nothing is downloaded)."
                )

    def retry(self) -> None:
        """Let failed cells be tried again."""
        from unibench.runner import forgive

        forgive(self.cells)

    def run(self) -> int:
        """Answer what is missing, in this process, and print the tables; returns the exit code."""
        plans = self.plans
        rows = [plan.row for plan in plans]
        self.announce()
        if None not in rows:
            print_rows([row for row in rows if row is not None])
            return 0
        _refuse([plan.cell for plan in plans if plan.row is None])
        from unibench.runner import Stop, work  # loads torch

        self.retry()
        stop = Stop()
        with stop.listening():
            progress = Progress(cells=len(rows), ended=len(rows) - rows.count(None))
            outcome = work(self.cells, listener=progress, stop=stop)
        return self.show(outcome)

    def show(self, outcome: Outcome) -> int:
        """Print the tables of what is done, and what is not.

        Returns:
            0; 1 if a cell failed; 2 if nothing but the user's mistakes stood in the way.

        Raises:
            UsageErrors: those mistakes, if nothing is done.
        """
        failures = outcome.failures
        ours = [failure for failure in failures if not failure.usage]
        if failures and not outcome.rows and not ours:
            raise UsageErrors([UsageError(failure.error) for failure in failures])
        print_rows(list(outcome.rows.values()))
        for failure in failures:
            state, where = "blocked", ""
            if not failure.usage:
                state, where = "failed", f" (traceback: {failure.cell.folder}/status.json)"
            line = f"{state}: {failure.cell.title}: {failure.error}{where}"
            print(lines_shown(line), file=sys.stderr)
        return 1 if ours else 2 if failures else 0


def _without_scores(cell: Cell) -> bool:
    """Whether a cell is finished, and lacks scores that it is to have."""
    if not cell.config.scores or cell.method == "vanilla" or cell.config.task.kind != "embedded":
        return False
    runs = environments(cell.folder)
    return read_row(cell.folder) is not None and not all(run.get("scores") for run in runs)


def _refuse(cells: Sequence[Cell]) -> None:
    """End a command of which nothing could be run, in seconds: torch is not loaded yet. Where
    something could, the cells that cannot are named beside its rows.

    Raises:
        UsageErrors: what each benchmark lacks.
    """
    errors: dict[str, UsageError] = {}
    for cell in cells:
        if cell.benchmark is None:
            return
        try:
            needs.check(cell)
        except UsageError as error:
            errors.setdefault(str(error), error)
        else:
            return
    if errors:
        raise UsageErrors(list(errors.values()))
