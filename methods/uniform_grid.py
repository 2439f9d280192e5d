"""Tokens at even distances."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from unibench import Method, Selection, StageContext
from unibench.ops import cells, shares


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
        # separators are a grid too, and are spaced like the others
        parts = shares(ctx.keep, [len(grid) for grid in grids])
        places = [
            grid.rows[cells(grid.height, grid.width, part)]
            for grid, part in zip(grids, parts, strict=True)
            if part
        ]
        return Selection(torch.cat(places))
