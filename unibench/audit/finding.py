"""What an audit says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Something in a table that should be looked at.

    Attributes:
        rule: which rule says so.
        table: name of the table.
        where: lines and columns.
        told: one sentence with the numbers.
        cells: (line, benchmark, metric) of the numbers in question, lines counted from 0.
    """

    rule: str
    table: str
    where: str
    told: str
    cells: frozenset[tuple[int, str, str]]
