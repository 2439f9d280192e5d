"""The tables at the end of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from unibench.cli.parser import COMMAND
from unibench.cli.terminal import console, lenient, print_table
from unibench.inference.row import Row
from unibench.store import versions

FEW = 30  # samples, of which an interval says little
LISTED = 12  # cells whose folders are named
LEGEND = """\
ratio: share of visual tokens removed. drop: relative to vanilla. 95 %: bootstrap over pictures.
same budget as: the ratio of a method before the language model whose layers process as many
  visual tokens on average.
TFLOP: prefill of the language model. prefill: pixels to first logits, with vision and method.
total: the whole cell."""


def print_rows(rows: Sequence[Row]) -> None:
    """Print scores and costs of finished cells, and where their files lie.

    The cells are stored: where the tables cannot be printed, a line says so and nothing has failed.
    """
    # with scipy: too slow for a plan, which has no scores to show
    from unibench.report.cells import details
    from unibench.report.writers import terminal

    screen = console()
    with lenient():
        for table in details(rows):
            print_table(terminal(table), keys=len(table.heads))
            for remark in table.remarks:
                screen.print(remark)
        screen.print(LEGEND)
        if said := versions.several(row.versions for row in rows):
            screen.print(said)
        if any(row.n < FEW for row in rows):
            screen.print(
                f"n below {FEW}: a bootstrap of so few samples is too narrow; of equal scores it"
                " has no width at all"
            )
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
