"""Hooks the model and never lets go."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unibench import Method, StageContext


@dataclass(frozen=True)
class LeavesAHook(Method):
    """Hooks the model and never lets go."""

    def score(self, ctx: StageContext) -> Tensor:
        ctx.family.text_model.layers[-1].register_forward_hook(lambda *given: None)
        return ctx.visual_hidden.norm(dim=1)
