"""A table of results as the rules of the audit see it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from unibench.audit.finding import Finding
from unibench.errors import UsageError
from unibench.report.average import best
from unibench.report.published import Column, Row, lines_of, read

NO_SCORE = re.compile(r".*(_s|_ms|_gb|_pct|_printed|flops|_compatible)")
MANY = 5  # lines that are named one by one
CHANGE = "change_pct_printed"  # metric of a printed change against vanilla, per cent


@dataclass(frozen=True)
class Sheet:
    """One table.

    Attributes:
        name: of its file.
        source: whose table it is: tables of one source and harness may be compared number by
            number.
        rows: its lines, in their order.
    """

    name: str
    source: str
    rows: tuple[Row, ...]

    @cached_property
    def columns(self) -> list[Column]:
        """All columns, in their order."""
        return list(dict.fromkeys(column for row in self.rows for column in row.values))

    @cached_property
    def scores(self) -> list[Column]:
        """The columns that hold a benchmark's score."""
        return [
            column
            for column in self.columns
            if column[0] != "avg" and not NO_SCORE.fullmatch(column[1])
        ]

    @cached_property
    def numbers(self) -> list[dict[Column, float]]:
        """The numbers of each line."""
        return [
            {column: float(value.text) for column, value in row.values.items()} for row in self.rows
        ]

    def value(self, line: int, column: Column) -> float | None:
        """A number, or None."""
        return self.numbers[line].get(column)

    def known(self, line: int, columns: Sequence[Column]) -> dict[Column, float]:
        """The numbers that a line has in these columns."""
        values = {column: self.value(line, column) for column in columns}
        return {column: value for column, value in values.items() if value is not None}

    def vanilla(self, line: int) -> int | None:
        """The unpruned line that a line is measured against."""
        return next(
            (
                i
                for i, row in enumerate(self.rows)
                if row.method == "vanilla" and row.model == self.rows[line].model
            ),
            None,
        )

    @cached_property
    def pruned(self) -> list[int]:
        """Lines of methods."""
        return [i for i, row in enumerate(self.rows) if row.method != "vanilla"]

    @cached_property
    def budgets(self) -> list[tuple[tuple[str, str], list[int]]]:
        """Lines of methods by model and share kept."""
        places: dict[tuple[str, str], list[int]] = {}
        for line in self.pruned:
            places.setdefault((self.rows[line].model, self.rows[line].retention), []).append(line)
        return list(places.items())

    def title(self, line: int) -> str:
        """For people, for example ``fastv 0.333``."""
        row = self.rows[line]
        return " ".join(
            part
            for part in (row.method, *row.setting, row.retention if row.method != "vanilla" else "")
            if part
        )

    def finding(
        self, rule: str, told: str, lines: Sequence[int], columns: Sequence[Column]
    ) -> Finding:
        """A finding on these lines and columns."""
        titles = list(dict.fromkeys(self.title(line) for line in lines))
        names = (
            ", ".join(titles)
            if len(titles) <= MANY
            else f"{titles[0]} ... {titles[-1]} ({len(titles)} lines)"
        )
        benchmarks = list(dict.fromkeys(benchmark for benchmark, _ in columns))
        places = ", ".join(benchmarks) if len(benchmarks) <= MANY else f"{len(benchmarks)} columns"
        cells = frozenset((line, *column) for line in lines for column in columns)
        return Finding(rule, self.name, f"{names}; {places}", told, cells)


def half_digit(text: str) -> float:
    """How far a printed number may be from the exact one.

    >>> half_digit("64.04")
    0.005
    """
    return 0.5 * float(10 ** -len(text.partition(".")[2]))


def top(column: Column) -> float:
    """The highest score that is possible; CIDEr is open above, far below ten times its unit."""
    return 10.0 if column[1] == "CIDEr" else best(*column)


def sheet_of(name: str, frame: pd.DataFrame) -> Sheet:
    """The sheet of a frame with the columns of a CSV file of results."""
    sources = sorted(
        {
            f"{paper} {harness}"
            for paper, harness in zip(frame["paper"], frame["harness"], strict=True)
        }
    )
    sheet = Sheet(name, ", ".join(sources), tuple(lines_of(frame.to_dict("records"))))
    for row in sheet.rows:
        for column, value in row.values.items():
            _number(name, column, value.text)
    return sheet


def _number(name: str, column: Column, text: str) -> None:
    try:
        float(text)
    except ValueError:
        raise UsageError(
            f"{name}: {column[0]} {column[1]} holds {text!r}, which is no number"
        ) from None


def sheets(path: Path) -> list[Sheet]:
    """The sheets of a CSV file or of all CSV files in a folder.

    Raises:
        UsageError: there are none.
    """
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    if not files:
        raise UsageError(f"{path} holds no CSV file")
    return [sheet_of(file.stem, read(file)) for file in files]
