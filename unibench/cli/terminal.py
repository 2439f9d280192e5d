"""What the terminal shows: tables whose values are whole at any width."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from unibench.errors import lines_shown

UNLIMITED = 100_000  # columns of an output that is no terminal: nothing is wrapped
WORDS = ("model", "task", "ability", "first", "second", "method", "test")  # columns of text
LABEL = "italic"  # style of a line that is one text across all columns
NARROWEST = 24  # columns that a sentence at the end of a line is folded to
_WIDE: ContextVar[bool] = ContextVar("wide", default=False)


class Terminal(Console):  # type: ignore[misc]
    """A console that takes no string for markup and shows control characters escaped.

    Names come from stores, and ``[/red]`` or an escape sequence may be one.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        plain: Text = super().render_str(lines_shown(text), **options)
        return plain

    def on_broken_pipe(self) -> None:
        """Leave a closed pipe to :func:`lenient` and ``main``; rich would end the process."""
        raise  # the error that is being handled


def console() -> Terminal:
    """The standard output. Only a terminal has a width: ``| grep`` and files get whole lines."""
    return Terminal(width=None if sys.stdout.isatty() and not _WIDE.get() else UNLIMITED)


@contextmanager
def widened() -> Iterator[None]:
    """Inside the block, tables are as wide as they are, though the terminal is narrower."""
    token = _WIDE.set(True)
    try:
        yield
    finally:
        _WIDE.reset(token)


def say(text: object) -> None:
    """Print lines with control characters escaped."""
    print(lines_shown(text))


def new_table(title: str | None, columns: Sequence[str]) -> Table:
    """An empty table; columns of numbers stand to the right."""
    table = Table(title=title, box=box.SIMPLE)
    for name in columns:
        table.add_column(name, justify="left" if name in WORDS else "right")
    return table


def give_up_output(error: OSError) -> None:
    """Let what is still buffered for a standard output that takes no more go nowhere, and say so
    unless it is a pipe, which is closed on purpose (``| head``).
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno != errno.EPIPE:
        print(f"the standard output cannot be written: {error.strerror}", file=sys.stderr)


@contextmanager
def lenient() -> Iterator[None]:
    """Print, and go on where the standard output takes no more: what was done is done."""
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        give_up_output(error)


def print_table(table: Table, *, keys: int = 2, sentence: bool = False) -> None:
    """Print a table. Where it is too wide for the terminal, what is the same in all lines is said
    once above it; what then is too wide still, as several tables below each other.

    The lines are those that rich sets of a table without markup, which takes it seconds for
    thousands of them.

    Args:
        table: a table.
        keys: leading columns that are repeated in each of them.
        sentence: whether the last column is text that may be folded.
    """
    screen = console()
    columns = [_Column.of(column) for column in table.columns]
    if table.title:
        screen.print(table.title, style="italic")
    if _width(columns, sentence) > screen.width:
        columns, keys = _without_constants(columns, keys, screen)
    shown = columns[:keys]
    for column in columns[keys:]:
        folded = sentence and column is columns[-1]
        if len(shown) > keys and _width([*shown, column], folded) > screen.width:
            _print(shown, screen)
            shown = columns[:keys]
        shown = [*shown, column]
    if sentence and shown[-1] is columns[-1]:
        others = _width(shown, True) - min(NARROWEST, shown[-1].width)
        shown[-1] = shown[-1].folded(max(NARROWEST, screen.width - others))
    _print(shown, screen)


def _without_constants(
    columns: list[_Column], keys: int, screen: Terminal
) -> tuple[list[_Column], int]:
    """The columns but those keys that have one value, which are said in a line; how many keys
    are left.
    """
    same = [column for column in columns[:keys] if column.constant]
    if len(columns[0].cells) < 2 or len(same) == len(columns):
        return columns, keys
    if len(same) == keys:  # the lines need a name
        same = same[:-1]
    said = [f"{' '.join(one.cells[0])} {' '.join(one.cells[1])}" for one in same]
    if said:
        screen.print(", ".join(said))
    return [column for column in columns if column not in same], keys - len(same)


@dataclass(frozen=True)
class _Column:
    """A column of a table, ready to be set.

    Attributes:
        cells: the head and the cells below it, each as its lines.
        styles: of the cells.
        right: whether it stands to the right.
        width: columns of the terminal that it needs.
    """

    cells: list[list[str]]
    styles: list[str]
    right: bool
    width: int

    @classmethod
    def of(cls, column: Column) -> _Column:
        """A column of rich; what is no text of ours has its control characters escaped."""
        cells = list(column.cells)
        texts = [
            cell.plain if isinstance(cell, Text) else lines_shown(cell)
            for cell in (column.header, *cells)
        ]
        styles = ["bold", *(str(cell.style) if isinstance(cell, Text) else "" for cell in cells)]
        lines = [text.split("\n") for text in texts]
        # a label runs across the columns and makes none of them wider
        inside = [cell for cell, style in zip(lines, styles, strict=True) if style != LABEL]
        width = max(cell_len(line) for cell in inside for line in cell)
        return cls(lines, styles, column.justify == "right", width)

    @property
    def constant(self) -> bool:
        """Whether all cells below the head are alike."""
        first, *others = self.cells[1:]
        return all(cell == first for cell in others) and LABEL not in self.styles

    def folded(self, width: int) -> _Column:
        """The column with its text folded to a width."""
        if self.width <= width:
            return self
        screen = Terminal(width=width)
        cells = [
            [part.plain.rstrip() for part in Text("\n".join(cell)).wrap(screen, width)]
            for cell in self.cells
        ]
        return replace(self, cells=cells, width=width)

    def line(self, row: int, number: int) -> str:
        """A line of a cell, as wide as the column."""
        cell = self.cells[row]
        text = cell[number] if number < len(cell) else ""
        space: str = " " * (self.width - cell_len(text))
        return space + text if self.right else text + space


def _width(columns: Sequence[_Column], folded: bool) -> int:
    """Columns of the terminal that a table needs; :data:`NARROWEST` for text that may be folded."""
    widths = [column.width for column in columns]
    if folded:
        widths[-1] = min(widths[-1], NARROWEST)
    return sum(widths) + 3 * (len(widths) - 1) + 2


def _print(columns: Sequence[_Column], screen: Terminal) -> None:
    """Set columns beside each other. A terminal that is narrower wraps them itself."""
    colored = sys.stdout.isatty()
    plain = ["", *_lines(columns, 0), " " + "\u2500" * (_width(columns, False) - 2)]
    for row in range(1, len(columns[0].cells)):
        plain += _lines(columns, row)
    plain.append("")
    if not colored:
        print("\n".join(plain))
        return
    styled = [_styled(line, columns, row) for line, row in zip(plain, _rows(columns), strict=True)]
    for text in styled:
        screen.print(text, soft_wrap=True)


def _lines(columns: Sequence[_Column], row: int) -> list[str]:
    """The lines of a row."""
    count = max(len(column.cells[row]) for column in columns)
    lines = ["   ".join(column.line(row, number) for column in columns) for number in range(count)]
    return [f" {line}".rstrip() for line in lines]


def _rows(columns: Sequence[_Column]) -> list[int]:
    """The row that each line of a table belongs to; -1 for lines that are no cells."""
    counts = [max(len(c.cells[row]) for c in columns) for row in range(len(columns[0].cells))]
    rows = [row for row, count in enumerate(counts) for _ in range(count)]
    heads = counts[0]
    return [-1, *rows[:heads], -1, *rows[heads:], -1]


def _styled(line: str, columns: Sequence[_Column], row: int) -> Text:
    """A line with the styles of its cells."""
    text = Text(line)
    start = 1
    for column in columns if row >= 0 else ():
        # styles lie on texts of one cell a sign, so that columns of the terminal count signs
        if column.styles[row]:
            end = len(line) if column.styles[row] == LABEL else start + column.width
            text.stylize(column.styles[row], start, end)
        start += column.width + 3
    return text
