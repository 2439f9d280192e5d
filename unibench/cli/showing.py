"""The tables at the end of a run."""

from __future__ import annotations

from collections.abc import Sequence

from unibench.cli.terminal import Terminal
from unibench.inference.row import Row

LEGEND = """\
ratio: share of visual tokens removed. drop: relative to vanilla. 95 %: bootstrap over pictures.
same budget as: the ratio of a method before the language model whose layers process as many visual tokens on average.
TFLOP: prefill of the language model. prefill: pixels to first logits, with vision and method. total: the whole cell."""


def print_tables(rows: Sequence[Row]) -> None:
    """Print scores and costs of finished cells, and where their files lie."""
    from unibench.report.cells import (
        details,
    )  # with scipy: too slow for a plan, which has no scores to show
    from unibench.report.writers import terminal

    console = Terminal()
    for table in details(rows):
        console.print(terminal(table))
        for remark in table.remarks:
            console.print(remark)
    console.print(LEGEND)
    for row in rows:
        console.print(f"{row.method:12s} {row.folder}", soft_wrap=True)
