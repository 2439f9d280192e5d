"""Keeps indices that are fractions."""

from __future__ import annotations

from dataclasses import dataclass

from unibench import Method, Selection, StageContext


@dataclass(frozen=True)
class WrongDtype(Method):
    """Keeps indices that are fractions."""

    def select(self, ctx: StageContext) -> Selection:
        order = ctx.visual_hidden.norm(dim=1).argsort(descending=True)
        return Selection(order[: ctx.keep].float())
