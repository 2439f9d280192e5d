"""The tables at the end of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unibench.cli.parser import COMMAND
from unibench.cli.terminal import console, lenient, print_table
from unibench.errors import UsageError
from unibench.inference.row import Row
from unibench.store import versions

MANY = 10  # questions about a picture, of which no task of few pictures has more
LISTED = 12  # cells whose folders are named
LEGEND = """\
ratio: share of visual tokens removed. drop: relative to vanilla. 95 %: bootstrap over pictures.
same budget as: the ratio of a method before the language model whose layers process as many
  visual tokens on average.
TFLOP: prefill of the language model. prefill: pixels to first logits, with vision and method.
total: the whole cell. Cells run one after the other: to compare times, take profile."""


def print_rows(rows: Sequence[Row]) -> None:
    """Print scores and costs of finished cells, and where their files lie.

    The cells are stored: where the tables cannot be printed, a line says so and nothing has failed.
    """
    # with numpy: too slow for a plan, which has no scores to show
    from unibench.report.cells import details
    from unibench.report.writers import terminal
    from unibench.stats.paired import FEW

    screen = console()
    with lenient():
        for table in details(rows):
            print_table(terminal(table), keys=len(table.heads))
            for remark in table.remarks:
                screen.print(remark)
        screen.print(LEGEND)
        if said := versions.several(row.versions for row in rows):
            screen.print(said)
        fewest = min((_pictures(row, FEW) for row in rows), default=FEW)
        if fewest < FEW:
            screen.print(few_pictures(fewest))
        if len(rows) > LISTED:
            places = dict.fromkeys(str(Path(row.folder).parents[3]) for row in rows)
            for place in places:
                screen.print(
                    f"{len(rows)} cells below {place}; {COMMAND} store list {place} has the folder"
                    " of each",
                    soft_wrap=True,
                )
            return
        for row in rows:
            screen.print(f"{row.method:12s} {row.folder}", soft_wrap=True)


def few_pictures(count: int) -> str:
    """What is to be said of intervals of few pictures, however many questions are about them."""
    of = "1 picture" if count == 1 else f"{count} pictures"
    return (
        f"{of} only: a bootstrap of so few is too narrow, and of equal scores has no width at all"
    )


def _pictures(row: Row, few: int) -> int:
    """The pictures that a cell's samples are about, which may share one; the samples themselves
    where these are many.
    """
    from unibench import frame

    if row.n >= few * MANY:
        return row.n
    try:
        return int(frame.samples(row.folder)["group"].nunique())
    except UsageError:
        return row.n
