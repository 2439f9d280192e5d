"""What the terminal shows: tables whose values are whole at any width."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from unibench.errors import lines_shown

UNLIMITED = 100_000  # columns of an output that is no terminal: nothing is wrapped
WORDS = ("model", "task", "first", "second", "method", "test")  # columns of text
NARROWEST = 24  # columns that a sentence at the end of a line is folded to


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
    return Terminal(width=None if sys.stdout.isatty() else UNLIMITED)


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
    """Print a table; where it is too wide for the terminal, several ones below each other.

    Args:
        table: a table.
        keys: leading columns that are repeated in each of them.
        sentence: whether the last column is text that may be folded.
    """
    screen, first = console(), list(table.columns[:keys])
    if table.title:
        screen.print(table.title, style="italic", soft_wrap=True)
    shown = list(first)
    for column in table.columns[keys:]:
        folded = sentence and column is table.columns[-1]
        wider = _of_columns(table, [*shown, column], folded)
        if len(shown) > len(first) and _width(wider, folded) > screen.width:
            _print(_of_columns(table, shown, False), False)
            shown = list(first)
        shown.append(column)
    folded = sentence and shown[-1] is table.columns[-1]
    _print(_of_columns(table, shown, folded), folded)


def _of_columns(table: Table, columns: Sequence[Column], folded: bool) -> Table:
    """Some columns of a table; none is wrapped, but for the last one if it is ``folded``."""
    part = Table(box=table.box, pad_edge=False)
    for column in columns:
        part.add_column(column.header, justify=column.justify, no_wrap=True)
    if folded:
        part.columns[-1].no_wrap, part.columns[-1].overflow = False, "fold"
    for cells in zip(*(list(column.cells) for column in columns), strict=True):
        part.add_row(*cells)
    return part


def _width(table: Table, folded: bool) -> int:
    """Columns of the terminal that a table needs; :data:`NARROWEST` for text that may be folded."""
    if folded:
        table.columns[-1].max_width = NARROWEST
    needed = int(Terminal(width=UNLIMITED).measure(table).maximum)
    if folded:
        table.columns[-1].max_width = None
    return needed


def _print(table: Table, folded: bool) -> None:
    # a terminal that is narrower than one value wraps it itself; rich would cut it
    screen = Terminal(width=max(console().width, _width(table, folded)))
    if sys.stdout.isatty():
        screen.print(table)
        return
    with screen.capture() as written:
        screen.print(table)
    print("\n".join(line.rstrip() for line in written.get().splitlines()))
