"""Divides by a spread that a grey picture does not have."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unibench import Method, StageContext


@dataclass(frozen=True)
class NotANumber(Method):
    """Divides by a spread that a grey picture does not have."""

    def score(self, ctx: StageContext) -> Tensor:
        length = ctx.visual_hidden.norm(dim=1)
        apart = length - length.amin()
        return apart / apart.amax()
