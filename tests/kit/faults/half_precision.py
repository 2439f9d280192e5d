"""Compares tokens in the model's own dtype."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unibench import Method, StageContext


@dataclass(frozen=True)
class HalfPrecision(Method):
    """Compares tokens in the model's own dtype."""

    def score(self, ctx: StageContext) -> Tensor:
        states = ctx.hidden[ctx.visual]
        return -(states @ states.T).sum(1)
