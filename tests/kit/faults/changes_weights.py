"""Writes into the weights of the model."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unibench import Method, StageContext


@dataclass(frozen=True)
class ChangesWeights(Method):
    """Writes into the weights of the model."""

    def score(self, ctx: StageContext) -> Tensor:
        ctx.family.text_model.norm.weight.data.mul_(1.01)
        return ctx.visual_hidden.norm(dim=1)
