"""Cells that differ in their seed alone, as one line of a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

SAME = (
    "model",
    "task",
    "harness",
    "method",
    "method_options",
    "budget",
    "budget_mode",
    "budget_scope",
    "pixels",
    "dtype",
    "attn",
    "batch",
)


@dataclass(frozen=True)
class OverSeeds:
    """Mean and spread of a column over seeds.

    Attributes:
        row: of the first seed; what does not follow the seed is read from it.
        mean: of the column.
        std: sample standard deviation (divided by n - 1), None for one seed.
        n: number of seeds.
    """

    row: Mapping[str, Any]
    mean: float
    std: float | None
    n: int


def over_seeds(rows: Sequence[Mapping[str, Any]], column: str = "score_100") -> list[OverSeeds]:
    """Rows joined over their seeds, in the order in which they first come.

    Args:
        rows: of cells.
        column: a number of each row.

    >>> row = {"method": "random_pre", "score_100": 40.0}
    >>> [(found.mean, found.std, found.n) for found in over_seeds([row, {**row, "score_100": 44.0, "seed": 1}])]
    [(42.0, 2.8284271247461903, 2)]
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(json.dumps([row.get(name) for name in SAME], sort_keys=True), []).append(
            row
        )
    found = []
    for group in groups.values():
        values = [float(row[column]) for row in group]
        found.append(
            OverSeeds(
                group[0], fmean(values), stdev(values) if len(values) > 1 else None, len(values)
            )
        )
    return found
