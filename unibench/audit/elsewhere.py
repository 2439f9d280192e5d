"""What one table says against what the others say."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from statistics import median

from unibench.audit.finding import Finding
from unibench.audit.sheet import Sheet, half_digit
from unibench.report.published import Column

# |log ratio| from which the order of two benchmarks counts: between weak and strong models smaller
# ones turn round
CLEAR = 0.35
MODELS = 2  # other models that must disagree
NEARER = 0.6  # the columns exchanged must lie this much nearer to the other tables


def disagreements(sheets: Sequence[Sheet]) -> Iterator[Finding]:
    """One run printed in two tables of a source with different numbers."""
    seen: dict[tuple[object, ...], tuple[Sheet, int]] = {}
    for sheet in sheets:
        for line, row in enumerate(sheet.rows):
            share = round(float(row.retention), 3) if row.retention else None
            for column in row.values:
                key = (sheet.source, row.model, row.method, row.setting, share, row.kept, column)
                other, place = seen.setdefault(key, (sheet, line))
                if (
                    other is not sheet
                    and share is not None
                    and (told := _apart(other, place, sheet, line, column))
                ):
                    yield sheet.finding("disagreement", told, [line], [column])


def _apart(one: Sheet, line: int, other: Sheet, place: int, column: Column) -> str | None:
    if column[0] == "avg" and set(one.scores) != set(other.scores):
        return None  # averages over other benchmarks
    a, b = one.rows[line].values[column].text, other.rows[place].values[column].text
    if abs(float(a) - float(b)) <= half_digit(a) + half_digit(b):
        return None
    return f"{b} here, {a} in {one.name}"


def swaps(sheets: Sequence[Sheet]) -> Iterator[Finding]:
    """Pairs of columns that stand the other way round than in the tables of most other models."""
    orders: dict[tuple[Column, Column], dict[str, list[tuple[Sheet, float]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for sheet in sheets:
        for model in dict.fromkeys(row.model for row in sheet.rows):
            for pair in combinations(sorted(sheet.scores), 2):
                if (order := _order(sheet, model, pair)) is not None:
                    orders[pair][model].append((sheet, order))
    for pair, models in orders.items():
        for sheet, model in _reversed(models):
            lines = [line for line, row in enumerate(sheet.rows) if row.model == model]
            told = (
                f"the order of these two columns in {model} is the reverse of that in other tables;"
                " exchanged they would agree"
            )
            yield sheet.finding("swap", told, lines, pair)


def _order(sheet: Sheet, model: str, pair: tuple[Column, Column]) -> float | None:
    """Log ratio of two columns in the unpruned line, or the median of all; None where it is not
    clear.
    """
    own = [line for line, row in enumerate(sheet.rows) if row.model == model]
    lines = [line for line in own if sheet.rows[line].method == "vanilla"] or own
    values = [sheet.known(line, pair) for line in lines]
    logs = [
        math.log(found[pair[0]] / found[pair[1]])
        for found in values
        if len(found) == 2 and min(found.values()) > 0
    ]
    order = median(logs) if logs else 0.0
    return order if abs(order) > CLEAR else None


def _medians(models: dict[str, list[tuple[Sheet, float]]], without: str) -> list[float]:
    """The order of each other model, the median over its tables."""
    found = []
    for name, tables in models.items():
        if name != without:
            found.append(median(order for _, order in tables))
    return found


def _reversed(models: dict[str, list[tuple[Sheet, float]]]) -> Iterator[tuple[Sheet, str]]:
    """The tables in the minority: first within a model, where tables disagree on it, then between
    models.
    """
    every = [(sheet, model, order) for model, tables in models.items() for sheet, order in tables]
    for sheet, model, order in every:
        own = [other for table, other in models[model] if table is not sheet]
        within = any(other * order < 0 for other in own)
        others = own if within else _medians(models, without=model)
        against = [
            other
            for other in others
            if other * order < 0 and abs(order + other) < NEARER * abs(order - other)
        ]
        agreeing = [other for other in others if other * order > 0]
        least = 1 + len(agreeing) if within else max(MODELS, 1 + len(agreeing))
        if len(against) >= least:
            yield sheet, model
