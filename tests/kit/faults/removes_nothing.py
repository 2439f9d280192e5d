"""Calls itself adaptive and keeps everything."""

from __future__ import annotations

from dataclasses import dataclass

from unibench import Method, Selection, StageContext


@dataclass(frozen=True)
class RemovesNothing(Method):
    """Calls itself adaptive and keeps everything."""

    adaptive = True

    def select(self, ctx: StageContext) -> Selection:
        return Selection(ctx.visual.argsort())
