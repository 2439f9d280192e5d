"""Gives the kept tokens states of another shape."""

from __future__ import annotations

from dataclasses import dataclass

from unibench import Method, Selection, StageContext


@dataclass(frozen=True)
class MergesBadly(Method):
    """Gives the kept tokens states of another shape."""

    def select(self, ctx: StageContext) -> Selection:
        keep = ctx.visual_hidden.norm(dim=1).argsort(descending=True)[: ctx.keep]
        mean = ctx.visual_hidden.mean(0)
        return Selection(keep, mean)
