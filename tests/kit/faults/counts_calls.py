"""Chooses other tokens at each call."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unibench import Method, StageContext

CALLS = [0]


@dataclass(frozen=True)
class CountsCalls(Method):
    """Chooses other tokens at each call."""

    def score(self, ctx: StageContext) -> Tensor:
        CALLS[0] += 1
        return ctx.visual_hidden.norm(dim=1).roll(CALLS[0])
