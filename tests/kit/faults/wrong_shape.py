"""Scores channels in place of tokens."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unibench import Method, StageContext


@dataclass(frozen=True)
class WrongShape(Method):
    """Scores channels in place of tokens."""

    def score(self, ctx: StageContext) -> Tensor:
        return ctx.visual_hidden.norm(dim=0)
