"""Faults of eight kinds, put into clean tables."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from unibench.audit import Sheet
from unibench.report.published import Column, Value

Cells = set[tuple[int, str, str]]
CLEAR = 1.45  # factor between two columns from which exchanging them contradicts other tables
PER_CENT = (
    "EM",
    "relaxed",
    "ANLS",
    "score",
    "acc",
    "avg",
    "group",
    "perception",
    "all",
    "gpt_score",
    "F1",
    "precision",
)


@dataclass(frozen=True)
class Fault:
    """A table with a fault.

    Attributes:
        kind: which of the eight.
        sheet: the table.
        cells: what is wrong in it.
        rules: rules that may say so.
    """

    kind: str
    sheet: Sheet
    cells: Cells
    rules: tuple[str, ...]


def changed(sheet: Sheet, new: dict[tuple[int, Column], str]) -> Sheet:
    rows = [replace(row, values=copy.copy(row.values)) for row in sheet.rows]
    for (line, column), text in new.items():
        rows[line].values[column] = Value(text)
    return Sheet(sheet.name, sheet.source, tuple(rows))


def like(text: str, value: float) -> str:
    """A value with as many digits as a printed one."""
    return f"{value:.{len(text.partition('.')[2])}f}"


def per_cent(sheet: Sheet, column: Column) -> bool:
    return (
        column[1] in PER_CENT
        and column in sheet.scores
        and all((sheet.value(i, column) or 0) <= 100 for i in range(len(sheet.rows)))
    )


def with_changes(sheet: Sheet) -> Sheet:
    """The table with the change against vanilla that some papers print below each number."""
    new = {}
    for line in sheet.pruned:
        full = sheet.vanilla(line)
        for column in sheet.scores:
            value, whole = (
                sheet.value(line, column),
                None if full is None else sheet.value(full, column),
            )
            if value is not None and whole:
                new[line, (column[0], "change_pct_printed")] = f"{100 * (value / whole - 1):.1f}"
    return changed(sheet, new)


def average(sheet: Sheet, rng: random.Random, others: list[Sheet]) -> Fault | None:
    line = rng.randrange(len(sheet.rows))
    column = next((column for column in sheet.rows[line].values if column[0] == "avg"), None)
    if column is None:
        return None
    text = sheet.rows[line].values[column].text
    wrong = like(text, float(text) + rng.choice((-1, 1)) * rng.uniform(0.15, 3))
    return Fault(
        "average", changed(sheet, {(line, column): wrong}), {(line, *column)}, ("average",)
    )


def change(sheet: Sheet, rng: random.Random, others: list[Sheet]) -> Fault | None:
    full = with_changes(sheet)
    line = rng.choice(full.pruned)
    column = rng.choice(
        [column for column in full.rows[line].values if column[1] == "change_pct_printed"] or [None]
    )
    if column is None:
        return None
    text = full.rows[line].values[column].text
    wrong = like(text, float(text) + rng.choice((-1, 1)) * rng.uniform(1, 10))
    return Fault(
        "change", changed(full, {(line, column): wrong}), {(line, *column)}, ("change", "sign")
    )


def sign(sheet: Sheet, rng: random.Random, others: list[Sheet]) -> Fault | None:
    full = with_changes(sheet)
    line = rng.choice(full.pruned)
    columns = [
        column
        for column, value in full.rows[line].values.items()
        if column[1] == "change_pct_printed" and abs(float(value.text)) >= 1
    ]
    if not columns:
        return None
    column = rng.choice(columns)
    wrong = like("0.0", -float(full.rows[line].values[column].text))
    return Fault("sign", changed(full, {(line, column): wrong}), {(line, *column)}, ("sign",))


def copied_line(sheet: Sheet, rng: random.Random, others: list[Sheet]) -> Fault | None:
    if len(sheet.scores) < 3 or len(sheet.pruned) < 3:
        return None
    one, other = rng.sample(sheet.pruned, 2)
    if (
        sheet.rows[one].method == sheet.rows[other].method
        and sheet.rows[one].retention == sheet.rows[other].retention
    ):
        return None
    columns = [
        column
        for column in sheet.scores
        if column in sheet.rows[one].values and column in sheet.rows[other].values
    ]
    new = {(other, column): sheet.rows[one].values[column].text for column in columns}
    return Fault(
        "copied line",
        changed(sheet, new),
        {(other, *column) for column in columns},
        ("copied line", "copied part", "copied block"),
    )


def copied_block(sheet: Sheet, rng: random.Random, others: list[Sheet]) -> Fault | None:
    blocks = [lines for _, lines in sheet.budgets if len(lines) >= 3]
    if len(blocks) < 2 or len(sheet.scores) < 3:
        return None
    one, other = rng.sample(blocks, 2)
    if len(one) != len(other):
        return None
    new = {
        (b, column): sheet.rows[a].values[column].text
        for a, b in zip(one, other, strict=True)
        for column in sheet.rows[a].values
    }
    return Fault(
        "copied block",
        changed(sheet, new),
        {(line, *column) for line, column in new},
        ("copied block",),
    )


def swapped(sheet: Sheet, rng: random.Random, others: list[Sheet]) -> Fault | None:
    """Two columns of the same scale, in a clear order of which two other models' tables agree."""
    columns = [column for column in sheet.scores if per_cent(sheet, column)]
    if len(columns) < 2 or len({row.model for row in sheet.rows}) > 1:
        return None
    one, other = rng.sample(columns, 2)
    own = first(sheet, one, other)
    same = [
        ratio
        for table in others
        if table.rows[0].model != sheet.rows[0].model and (ratio := first(table, one, other))
    ]
    if (
        own is None
        or not (own > CLEAR or own < 1 / CLEAR)
        or sum((ratio > CLEAR) if own > 1 else (ratio < 1 / CLEAR) for ratio in same) < 2
    ):
        return None
    new = {
        (line, a): row.values[b].text
        for line, row in enumerate(sheet.rows)
        for a, b in ((one, other), (other, one))
        if one in row.values and other in row.values
    }
    return Fault(
        "swapped columns", changed(sheet, new), {(line, *column) for line, column in new}, ("swap",)
    )


def first(sheet: Sheet, one: Column, other: Column) -> float | None:
    a, b = sheet.value(0, one), sheet.value(0, other)
    return a / b if a and b else None


def impossible(sheet: Sheet, rng: random.Random, others: list[Sheet]) -> Fault | None:
    line = rng.randrange(len(sheet.rows))
    columns = [column for column in sheet.rows[line].values if per_cent(sheet, column)]
    if not columns:
        return None
    column = rng.choice(columns)
    text = sheet.rows[line].values[column].text
    wrong = rng.choice(
        [
            value
            for value in (10 * float(text), 100 * float(text), -float(text))
            if not 0 <= value <= 100
        ]
    )
    return Fault(
        "impossible value",
        changed(sheet, {(line, column): like(text, wrong)}),
        {(line, *column)},
        ("impossible",),
    )


def subset(sheet: Sheet, rng: random.Random, others: list[Sheet]) -> Fault | None:
    """The methods, but not vanilla, were run on a part of the benchmark."""
    columns = [column for column in sheet.scores if per_cent(sheet, column)]
    if not columns or sheet.vanilla(1) is None or len(sheet.pruned) < 6:
        return None
    column, size = rng.choice(columns), rng.choice((50, 100, 200))
    texts = {
        line: sheet.rows[line].values[column].text
        for line in sheet.pruned
        if column in sheet.rows[line].values
    }
    new = {
        (line, column): like(text, 100 * round(float(text) * size / 100) / size)
        for line, text in texts.items()
    }
    return Fault("subset", changed(sheet, new), {(line, *column) for line in texts}, ("subset",))


KINDS: tuple[Callable[[Sheet, random.Random, list[Sheet]], Fault | None], ...] = (
    average, change, sign, copied_line, copied_block, swapped, impossible, subset,
)  # fmt: skip


def faults(tables: list[Sheet], number: int, seed: int = 0) -> list[Fault]:
    """As many faults, the kinds in turn, tables and places drawn."""
    rng = random.Random(seed)
    found: list[Fault] = []
    while len(found) < number:
        kind = KINDS[len(found) % len(KINDS)]
        sheet = rng.choice(tables)
        if (
            fault := kind(sheet, rng, [table for table in tables if table is not sheet])
        ) is not None:
            found.append(fault)
    return found
