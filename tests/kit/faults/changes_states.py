"""Centres the hidden states of the model in place."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unibench import Method, StageContext


@dataclass(frozen=True)
class ChangesStates(Method):
    """Centres the hidden states of the model in place."""

    def score(self, ctx: StageContext) -> Tensor:
        states = ctx.hidden
        states -= states.mean(0)
        return states[ctx.visual].float().norm(dim=1)
