"""Compares every three tokens."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unibench import Method, StageContext


@dataclass(frozen=True)
class Cubic(Method):
    """Compares every three tokens."""

    def score(self, ctx: StageContext) -> Tensor:
        length = ctx.visual_hidden.norm(dim=1)
        triples = length[:, None, None] * length[None, :, None] * length[None, None, :]
        return triples.sum((1, 2))
