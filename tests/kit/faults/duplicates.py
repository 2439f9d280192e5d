"""Keeps one token twice."""

from __future__ import annotations

from dataclasses import dataclass

from unibench import Method, Selection, StageContext


@dataclass(frozen=True)
class Duplicates(Method):
    """Keeps one token twice."""

    def select(self, ctx: StageContext) -> Selection:
        order = ctx.visual_hidden.norm(dim=1).argsort(descending=True)
        keep = order[: ctx.keep].clone()
        keep[-1] = keep[0]
        return Selection(keep)
