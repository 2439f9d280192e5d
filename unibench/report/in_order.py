"""How far models, tasks or trainings agree on the order of methods."""

from __future__ import annotations

import math

import pandas as pd

from unibench.comparison.order import FEWEST, Order, orders
from unibench.errors import UsageError
from unibench.frame import whole
from unibench.report.table import Block, Entry, Line, Table

MISSING = "–"
REMARK = (
    "Kendall's tau-b: 1 where two lines put the methods in one order, 0 where the orders have"
    " nothing in common, -1 where one is the other turned round. In brackets: between two halves of"
    " one line's own pictures, mean of drawn halvings; where this is low, its order is noise. The"
    " halves have half of the pictures, so the whole is surer than they are."
)


def order(frame: pd.DataFrame) -> list[Table]:
    """A table for each budget: models on tasks against each other.

    Args:
        frame: finished cells with seeds joined.

    Raises:
        UsageError: no budget has enough methods that all models and tasks have in common.
    """
    found = orders(whole(frame))
    if not found:
        raise UsageError(
            f"no {FEWEST} methods have a common budget on every model and task chosen: choose some"
            " with model=, task= and method="
        )
    return [_table(one) for one in found]


def _table(one: Order) -> Table:
    numbers = tuple(str(number) for number in range(1, len(one.places) + 1))
    lines = []
    for row, (number, place) in enumerate(zip(numbers, one.places, strict=True)):
        entries = tuple(
            Entry(_text(value, own=column == row)) for column, value in enumerate(one.tau[row])
        )
        lines.append(Line((number, place), entries))
    title = f"agreement on the order of {len(one.methods)} methods at {one.budget}"
    remarks = [REMARK, f"methods, best on average first: {', '.join(one.methods)}."]
    if one.left_out:
        remarks.append(f"not everywhere, and so left out: {', '.join(one.left_out)}.")
    name = f"order_{one.budget}"
    return Table(
        name, title, ("", "place"), numbers, (Block("", tuple(lines)),), remarks=tuple(remarks)
    )


def _text(value: float, *, own: bool) -> str:
    if math.isnan(value):
        return MISSING
    return f"({value:.2f})" if own else f"{value:.2f}"
