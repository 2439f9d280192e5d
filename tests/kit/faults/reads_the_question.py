"""Compares tokens with the question, and does not say that it reads it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unibench import Method, StageContext


@dataclass(frozen=True)
class ReadsTheQuestion(Method):
    """Compares tokens with the question, and does not say that it reads it."""

    def score(self, ctx: StageContext) -> Tensor:
        asked = ctx.hidden[ctx.instruction].float().mean(0)
        return ctx.visual_hidden @ asked
