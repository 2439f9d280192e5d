"""Returns a mask where indices are wanted."""

from __future__ import annotations

from dataclasses import dataclass

from unibench import Method, Selection, StageContext


@dataclass(frozen=True)
class Mask(Method):
    """Returns a mask where indices are wanted."""

    def select(self, ctx: StageContext) -> Selection:
        scores = ctx.visual_hidden.norm(dim=1)
        return Selection(scores >= scores.sort(descending=True).values[ctx.keep - 1])
