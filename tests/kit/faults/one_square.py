"""Takes all tokens for one square picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from unibench import Method, StageContext


@dataclass(frozen=True)
class OneSquare(Method):
    """Takes all tokens for one square picture."""

    def score(self, ctx: StageContext) -> Tensor:
        side = math.isqrt(len(ctx.visual))
        grid = ctx.visual_hidden.reshape(side, side, -1)
        return (grid - grid.mean((0, 1))).norm(dim=2).flatten()
