"""Reads the vision tower without saying so."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unibench import Method, StageContext


@dataclass(frozen=True)
class Undeclared(Method):
    """Reads the vision tower without saying so."""

    def score(self, ctx: StageContext) -> Tensor:
        return ctx.saliency()
