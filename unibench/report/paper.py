"""A paper's table as the paper lays it out, with its numbers, ours, or both."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import groupby, product
from pathlib import Path

from unibench.report.layout import Layout, block_label, column_name, layout_of, method_name, shown
from unibench.report.published import FOLDER, Column, Row, rows
from unibench.report.settings import unstated
from unibench.report.table import Block, Entry, Line, Table

Filled = Callable[[Row, Column], Entry]


def published(name: str, folder: Path = FOLDER) -> Table:
    """The table with the numbers that the paper prints.

    Notes of the CSV file are lettered in the order in which they come; a note on a whole line
    stands at its label, a note on every number of the table below it.
    """
    layout, lines = layout_of(name, folder), rows(name, folder)
    letters = _letters(
        note for row in lines for value in row.values.values() for note in value.notes
    )
    everywhere = _common(row_common(row) for row in lines)

    def entry(row: Row, column: Column) -> Entry:
        value = row.values.get(column)
        if value is None:
            return Entry()
        own = [note for note in value.notes if note not in row_common(row)]
        return Entry(
            f"{value.text} ± {value.spread}" if value.spread else value.text,
            marks=tuple(letters[note] for note in own),
        )

    def marks(row: Row) -> tuple[str, ...]:
        return tuple(letters[note] for note in row_common(row) if note not in everywhere)

    table = arranged(name, layout, lines, entry, marks)
    if layout.changes:
        table = replace(
            table,
            remarks=(
                *table.remarks,
                "change: 100 (score / vanilla - 1), recomputed from the values above it",
            ),
        )
    if layout.bold:
        table = _bold(table)
    remarks = (
        *table.remarks,
        *(f"every number: {note}" for note in everywhere),
        *unstated(name, folder),
    )
    return replace(
        table,
        notes={letter: note for note, letter in letters.items() if note not in everywhere},
        remarks=remarks,
    )


def arranged(
    name: str,
    layout: Layout,
    lines: Sequence[Row],
    entry: Filled,
    marks: Callable[[Row], tuple[str, ...]] = lambda row: (),
) -> Table:
    """Lay the lines of a table out.

    Args:
        name: of the table.
        layout: of the table.
        lines: in the paper's order.
        entry: the number of a line and column.
        marks: letters of a line's notes.
    """
    columns = list(dict.fromkeys(column for row in lines for column in row.values))
    heads = {
        "method": True,
        "setting": any(row.setting for row in lines),
        "category": any(row.category for row in lines),
    }
    blocks = []
    for label, members in groupby(lines, lambda row: block_label(row, layout)):
        made: list[Line] = []
        for row in members:
            facts = (
                method_name(row.method),
                ", ".join(row.setting),
                shown("categories", row.category),
            )
            labels = tuple(fact for fact, used in zip(facts, heads.values(), strict=True) if used)
            made.append(Line(labels, tuple(entry(row, column) for column in columns), marks(row)))
            if layout.changes and row.method != "vanilla":
                made.append(_changes(made[-1], row, lines, columns))
        blocks.append(Block(label, tuple(made)))
    titles = tuple(column_name(column, columns) for column in columns)
    return Table(
        name,
        layout.title,
        tuple(head for head, used in heads.items() if used),
        titles,
        tuple(blocks),
    )


def _changes(line: Line, row: Row, lines: Sequence[Row], columns: Sequence[Column]) -> Line:
    vanilla = next(
        other for other in lines if other.method == "vanilla" and other.model == row.model
    )
    entries = [_change(row, vanilla, column) for column in columns]
    return Line(("change, %", *("" for _ in line.labels[1:])), tuple(entries), minor=True)


def _change(row: Row, vanilla: Row, column: Column) -> Entry:
    if column not in row.values or column not in vanilla.values:
        return Entry()
    return Entry(
        f"{100 * (float(row.values[column].text) / float(vanilla.values[column].text) - 1):+.1f}"
    )


def row_common(row: Row) -> tuple[str, ...]:
    """Notes that belong to every number of a line."""
    return _common(value.notes for value in row.values.values())


def _common(groups: Iterable[Sequence[str]]) -> tuple[str, ...]:
    first, *others = groups
    return tuple(note for note in first if all(note in group for group in others))


def _letters(notes: Iterable[str]) -> dict[str, str]:
    names = [
        *string.ascii_lowercase,
        *(a + b for a, b in product(string.ascii_lowercase, repeat=2)),
    ]
    return dict(zip(dict.fromkeys(notes), names, strict=False))


def _bold(table: Table) -> Table:
    return replace(
        table,
        blocks=tuple(block if len(block.lines) < 2 else _best(block) for block in table.blocks),
    )


def _best(block: Block) -> Block:
    """The highest of every column in bold."""
    columns = zip(*(line.entries for line in block.lines), strict=True)
    highest = [
        max((float(entry.text) for entry in column if entry.text), default=None)
        for column in columns
    ]
    return replace(block, lines=tuple(_bold_where(line, highest) for line in block.lines))


def _bold_where(line: Line, highest: Sequence[float | None]) -> Line:
    pairs = zip(line.entries, highest, strict=True)
    return replace(
        line,
        entries=tuple(
            replace(entry, bold=bool(entry.text) and float(entry.text) == best)
            for entry, best in pairs
        ),
    )
