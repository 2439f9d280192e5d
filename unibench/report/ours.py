"""A paper's table with our numbers, our difference to the paper's, or all three side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Literal

import pandas as pd

from unibench.errors import UsageError
from unibench.experiment import read as read_experiment
from unibench.inference.row import read_row
from unibench.paths import PACKAGE
from unibench.report.average import average
from unibench.report.best import Beyond, Candidate, ranked
from unibench.report.layout import (
    block_label,
    column_name,
    experiment_of,
    is_cost,
    layout_of,
    method_name,
)
from unibench.report.matching import Results, StandIn
from unibench.report.paper import arranged
from unibench.report.published import FOLDER, Column, Row, Value, rows
from unibench.report.settings import unstated
from unibench.report.table import Block, Entry, Line, Table

MISSING = "–"
View = Literal["ours", "difference", "both"]
TITLES: dict[View, str] = {
    "ours": "measured with unibench",
    "difference": "ours minus the paper's",
    "both": "ours / the paper's (ours minus the paper's)",
}
SAVED = {"memory_reduction_pct": "peak_memory_gb", "latency_reduction_pct": "latency_ms"}
FILES = PACKAGE / "configs" / "experiment"
STATED = "flash_attention_compatible"  # a property that the paper states; nothing is measured


@dataclass(frozen=True)
class Comparison:
    """A paper's table filled from our results.

    Attributes:
        name: of the table.
        results: ours.
        beyond: paired test between two cells.
        view: what a number is: ours, ours minus the paper's, or ours beside both.
        folder: of the published numbers.

    Raises:
        UsageError: a comparison is asked for with a stand-in for the paper's model or benchmarks.
    """

    name: str
    results: Results
    beyond: Beyond
    view: View = "ours"
    folder: Path = FOLDER

    def __post_init__(self) -> None:
        if self.view != "ours" and self.results.standin.overrides:
            raise UsageError(
                f"mode={self.view} compares with the paper's own model and benchmarks; leave out"
                " model= and task=, or take mode=ours"
            )

    @cached_property
    def lines(self) -> list[Row]:
        """The paper's lines, each once."""
        unique = [
            row
            for row in rows(self.name, self.folder)
            if not row.duplicate and row.model != "average"
        ]
        task = self.results.standin.task
        return (
            unique
            if task is None
            else [replace(row, values=self._standing(row, task)) for row in unique]
        )

    def _standing(self, row: Row, task: str) -> dict[Column, Value]:
        """The columns of a line when one task stands in for all benchmarks: one score, and the
        costs.
        """
        costs = {
            (task, column[1]): value
            for column, value in row.values.items()
            if is_cost(column, self.folder)
        }
        scores = len(costs) < len(row.values)
        return ({(task, "score"): Value("0.0")} if scores else {}) | costs

    def table(self) -> Table:
        """Missing numbers are a dash; below the table they are named, with the command that fills
        them.
        """
        layout = replace(layout_of(self.name, self.folder), changes=False, bold=False)
        table = arranged(self.name, layout, self.lines, self._entry)
        if self.view != "difference":
            members = [
                list(group)
                for _, group in groupby(self.lines, lambda row: block_label(row, layout))
            ]
            table = replace(table, blocks=tuple(map(self._marked, table.blocks, members)))
        title = f"{table.title}: {TITLES[self.view]}"
        return replace(table, title=title, remarks=tuple(self._remarks()))

    def missing(self) -> list[tuple[Row, list[Column]]]:
        """For each line the columns that no finished cell fills."""
        found = []
        for row in self.lines:
            measured = filter(_measured, row.values)
            columns = [column for column in measured if self.value(row, column) is None]
            if columns:
                found.append((row, columns))
        return found

    def value(self, row: Row, column: Column) -> float | None:
        """Our number on the paper's scale, or None."""
        if column[0] == "avg":
            return self._average(row)
        if column[1] in SAVED:
            return self._saved(row, (column[0], SAVED[column[1]]))
        if is_cost(column, self.folder):
            return self.results.cost(row, column)
        return self.results.score(row, column)

    def _average(self, row: Row) -> float | None:
        columns = [
            column
            for column in row.values
            if column[0] != "avg" and not is_cost(column, self.folder)
        ]
        scores = {column: self.value(row, column) for column in columns}
        vanilla = {column: self.value(self._vanilla(row), column) for column in columns}
        known = {column: score for column, score in scores.items() if score is not None}
        against = {column: score for column, score in vanilla.items() if score is not None}
        formula = layout_of(self.name, self.folder).average
        complete = len(known) == len(columns) and (
            formula == "columns" or len(against) == len(columns)
        )
        return average(str(formula), known, against) if complete else None

    def _saved(self, row: Row, column: Column) -> float | None:
        ours, full = self.results.cost(row, column), self.results.cost(self._vanilla(row), column)
        return None if ours is None or not full else 100 * (1 - ours / full)

    def _vanilla(self, row: Row) -> Row:
        same = replace(row, method="vanilla", setting=())
        return next(
            (
                other
                for other in self.lines
                if other.method == "vanilla" and other.model == row.model
            ),
            same,
        )

    def _entry(self, row: Row, column: Column) -> Entry:
        printed = row.values.get(column)
        if printed is None:
            return Entry()
        value = self.value(row, column)
        beside = f" / {printed.text}" if self.view == "both" else ""
        if value is None:
            return Entry(f"{MISSING}{beside}")
        digits = len(printed.text.partition(".")[2])
        difference = f"{value - float(printed.text):+.{digits}f}"
        if self.view == "difference":
            return Entry(difference)
        ours = f"{value:.{digits}f}{self._spread(row, column, digits)}"
        return Entry(f"{ours}{beside} ({difference})" if beside else ours)

    def _spread(self, row: Row, column: Column, digits: int) -> str:
        found = (
            None
            if column[0] == "avg" or is_cost(column, self.folder)
            else self.results.find(row, column)
        )
        spread = None if found is None else found.get("std")
        return (
            ""
            if spread is None or spread != spread
            else f" ± {self.results.scaled(float(spread), column):.{digits}f}"
        )

    def _marked(self, block: Block, members: Sequence[Row]) -> Block:
        """Bold and underline where the difference lies beyond the paired interval."""
        columns = list(dict.fromkeys(column for row in self.lines for column in row.values))
        lines = list(block.lines)
        for place, column in enumerate(columns):
            if column[0] == "avg" or is_cost(column, self.folder):
                continue  # there is no paired sample
            first, second = ranked([self._candidate(row, column) for row in members], self.beyond)
            lines = [
                _set(line, place, bold=i == first, underline=i == second)
                for i, line in enumerate(lines)
            ]
        return replace(block, lines=tuple(lines))

    def _candidate(self, row: Row, column: Column) -> Candidate | None:
        found = self.results.find(row, column) if column in row.values else None
        return None if found is None else Candidate(float(found["score_100"]), found["folder"])

    def _remarks(self) -> list[str]:
        missing = self.missing()
        total = sum(_measured(column) for row in self.lines for column in row.values)
        gone = sum(len(columns) for _, columns in missing)
        standin = self.results.standin
        remarks = [f"stands in for the paper's:{standin.overrides}"] if standin.overrides else []
        remarks += unstated(self.name, self.folder)
        if self.view != "difference":
            remarks.append(
                "bold, underlined: best and second of a block, where the difference to the next"
                " lies beyond the paired 95 % interval"
            )
        remarks.extend(self._conventions())
        if averaged := dict.fromkeys(
            method_name(row.method) for row in self.lines if self.results.averaged(row)
        ):
            remarks.append(f"budget.mode=layer_average: {', '.join(averaged)}; the others at_stage")
        if not missing:
            return remarks
        command = (
            "python -m unibench"
            f" experiment={experiment_of(self.name, self.folder)}{standin.overrides}"
        )
        named = (
            "; ".join(_named(row, columns) for row, columns in missing) if gone < total else "all"
        )
        return [*remarks, f"{gone} of {total} numbers are missing; {command} fills them: {named}"]

    def _conventions(self) -> list[str]:
        """How a harness put the questions of our numbers, beside how the paper's code does."""
        tokens: dict[str, list[float]] = {}
        for row in self.lines:
            for column in filter(_scored(self.folder), row.values):
                found = self.results.find(row, column)
                name = None if found is None else convention_in(Path(str(found["folder"])))
                if found is not None and name is not None:
                    tokens.setdefault(name, []).append(float(found["tokens_in"]))
        theirs = _convention_of(experiment_of(self.name, self.folder))
        paper = f"the paper's is convention={theirs}" if theirs else "the paper's is not known"
        return [
            f"asked under convention={name} ({_span(counts)} visual tokens a prompt before"
            f" pruning)" + ("" if name == theirs else f"; {paper}")
            for name, counts in tokens.items()
        ]


def filled(
    name: str,
    cells: pd.DataFrame,
    standin: StandIn,
    beyond: Beyond,
    view: View = "ours",
) -> Comparison:
    """A paper's table filled from our finished cells, whose seeds are joined."""
    results = Results(cells, rows(name), standin, layout_of(name))
    return Comparison(name, results, beyond, view)


def _scored(folder: Path) -> Callable[[Column], bool]:
    return lambda column: _measured(column) and not is_cost(column, folder)


def convention_in(folder: Path) -> str | None:
    """The convention of the cell in a folder; None without a harness, or where it is gone."""
    try:
        asked = read_row(folder).convention
    except (OSError, UsageError):
        return None
    return None if asked is None else str(asked["name"])


def _convention_of(experiment: str) -> str | None:
    file = FILES / f"{experiment}.yaml"
    grids = read_experiment(file).grids if file.exists() else ()
    return next((grid["convention"][0] for grid in grids if "convention" in grid), None)


def _span(counts: Sequence[float]) -> str:
    low, high = round(min(counts)), round(max(counts))
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _named(row: Row, missing: Sequence[Column]) -> str:
    """A line and its missing columns, for example ``FastV 192 (MME, POPE)``."""
    budget = row.kept or row.retention
    parts = [method_name(row.method), *row.setting, budget if row.method != "vanilla" else ""]
    title = " ".join(part for part in parts if part)
    measured = [column for column in row.values if _measured(column)]
    return (
        title
        if len(missing) == len(measured)
        else f"{title} ({', '.join(column_name(column, measured) for column in missing)})"
    )


def _measured(column: Column) -> bool:
    """A run fills it: averages follow from the others."""
    return column[0] != "avg" and column[1] != STATED


def _set(line: Line, place: int, *, bold: bool, underline: bool) -> Line:
    entries = list(line.entries)
    entries[place] = replace(entries[place], bold=bold, underline=underline)
    return replace(line, entries=tuple(entries))
