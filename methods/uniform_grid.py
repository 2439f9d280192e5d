"""Tokens at even distances."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from unibench import Method, Selection, StageContext
from unibench.ops import shares, spaced


@dataclass(frozen=True)
class UniformGrid(Method):
    """Keeps tokens spaced evenly over each picture.

    It looks at nothing: what a method gains over it is what looking is worth. Every picture, tile
    or frame has its share of the budget; rows are spaced evenly, and columns within each row.

    Paper: none.
    Code: none; ours.
    Cost: O(K).
    Deviations: none.
    """

    category = "random"
    aim = "none"

    def select(self, ctx: StageContext) -> Selection:
        grids = ctx.grids()
        parts = shares(ctx.keep, [len(grid) for grid in grids])
        places = [
            grid.rows[_places(grid.height, grid.width, part)]
            for grid, part in zip(grids, parts, strict=True)
            if part
        ]
        return Selection(torch.cat(places))


def _places(height: int, width: int, count: int) -> list[int]:
    """``count`` evenly spaced cells of a grid, in raster order.

    >>> _places(4, 4, 4)
    [5, 7, 13, 15]
    """
    rows = min(height, max(round((count * height / width) ** 0.5), -(-count // width), 1))
    cells = []
    for number, row in enumerate(spaced(rows, height)):
        in_row = (number + 1) * count // rows - number * count // rows
        cells += [row * width + column for column in spaced(in_row, width)]
    return cells
