"""The outermost tokens of each picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unibench import Method, StageContext


@dataclass(frozen=True)
class KeepBorders(Method):
    """Keeps the tokens nearest to an edge of their picture.

    A bad idea on purpose: it shows how little a method needs (docs/adding_a_method.md).

    Code: ours.
    Cost: O(N).
    """

    category = "random"
    aim = "none"

    def score(self, ctx: StageContext) -> Tensor:
        scores = torch.zeros(len(ctx.visual), device=ctx.visual.device)
        for grid in ctx.grids():
            row, column = torch.arange(grid.height)[:, None], torch.arange(grid.width)
            inward = torch.minimum(
                torch.minimum(row, grid.height - 1 - row),
                torch.minimum(column, grid.width - 1 - column),
            )
            # separators are a grid of one column, all of which lies on an edge
            scores[grid.rows] = -inward.flatten().float().to(scores.device)
        return scores
