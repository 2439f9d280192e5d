"""Reads attention of a layer that has not run yet."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unibench import Method, Needs, StageContext


@dataclass(frozen=True)
class LaterLayer(Method):
    """Reads attention of a layer that has not run yet."""

    needs = Needs(llm_attention=(3,))

    def score(self, ctx: StageContext) -> Tensor:
        return ctx.attention(3).mean((0, 1))
