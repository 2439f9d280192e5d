"""Chooses, and forgets to say what."""

from __future__ import annotations

from dataclasses import dataclass

from unibench import Method, Selection, StageContext


@dataclass(frozen=True)
class NoReturn(Method):
    """Chooses, and forgets to say what."""

    def select(self, ctx: StageContext) -> Selection | None:
        order = ctx.visual_hidden.norm(dim=1).argsort(descending=True)
        chosen = Selection(order[: ctx.keep])
        assert len(chosen.keep) == ctx.keep
        return None
