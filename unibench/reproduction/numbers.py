"""The printed numbers of a table with ours beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from unibench.report import Comparison
from unibench.report.layout import column_name, method_name, shown
from unibench.report.published import Row


@dataclass(frozen=True)
class Number:
    """A printed number and ours.

    Attributes:
        line: model where there are several, method, its parameters, its budget.
        column: benchmark and metric.
        printed: by the paper, as text; empty where a stand-in takes the paper's place.
        ours: by the name of the settings; None where no finished cell gives it.
    """

    line: str
    column: str
    printed: str
    ours: Mapping[str, float | None]

    @property
    def places(self) -> int:
        """Digits after the point."""
        return len(self.printed.partition(".")[2]) if self.printed else 1

    def difference(self, name: str) -> float | None:
        """Ours under these settings minus the printed number."""
        value = self.ours.get(name)
        return None if value is None or not self.printed else value - float(self.printed)

    def explained_by(self, factors: Mapping[str, str], ours: str) -> str | None:
        """The single setting that alone brings us nearest to the printed number, if any brings us
        nearer than our own settings.

        Args:
            factors: name of the settings in :attr:`ours` -> the key that differs.
            ours: name of our own settings.
        """
        distance = self.difference(ours)
        if distance is None:
            return None
        gains = {}
        for name, key in factors.items():
            there = self.difference(name)
            if there is not None and abs(there) < abs(distance):
                gains[key] = abs(distance) - abs(there)
        return max(gains, key=lambda key: gains[key]) if gains else None


def numbers(comparisons: Mapping[str, Comparison]) -> list[Number]:
    """Every number of a table, unpruned lines first.

    Args:
        comparisons: of one table, by the name of the settings.
    """
    first = next(iter(comparisons.values()))
    stands_in = bool(first.results.standin.overrides)
    several = len({row.model for row in first.lines}) > 1
    columns = list(dict.fromkeys(column for row in first.lines for column in row.values))
    found = []
    for row in sorted(first.lines, key=lambda row: row.method != "vanilla"):
        for column, value in row.values.items():
            if column[0] == "avg":
                continue
            ours = {name: one.value(row, column) for name, one in comparisons.items()}
            printed = "" if stands_in else value.text
            name = column_name(column, columns) or column[1]
            found.append(Number(line_of(row, several=several), name, printed, ours))
    return found


def line_of(row: Row, *, several: bool) -> str:
    """How a line is called.

    Args:
        row: of a table.
        several: whether the table has several models.
    """
    budget = "" if row.method == "vanilla" else row.kept or row.retention
    model = shown("models", row.model) if several else ""
    return " ".join(part for part in (model, method_name(row.method), *row.setting, budget) if part)
