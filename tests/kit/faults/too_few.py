"""Keeps one token less than it may."""

from __future__ import annotations

from dataclasses import dataclass

from unibench import Method, Selection, StageContext


@dataclass(frozen=True)
class TooFew(Method):
    """Keeps one token less than it may."""

    def select(self, ctx: StageContext) -> Selection:
        order = ctx.visual_hidden.norm(dim=1).argsort(descending=True)
        return Selection(order[: max(1, ctx.keep - 1)])
