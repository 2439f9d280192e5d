"""Counts tokens from one."""

from __future__ import annotations

from dataclasses import dataclass

from unibench import Method, Selection, StageContext


@dataclass(frozen=True)
class Outside(Method):
    """Counts tokens from one."""

    def select(self, ctx: StageContext) -> Selection:
        order = ctx.visual_hidden.norm(dim=1).argsort()
        return Selection(order[-ctx.keep :] + 1)
