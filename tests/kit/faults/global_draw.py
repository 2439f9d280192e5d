"""Draws from the global source of random numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from unibench import Method, StageContext


@dataclass(frozen=True)
class GlobalDraw(Method):
    """Draws from the global source of random numbers."""

    def score(self, ctx: StageContext) -> Tensor:
        return torch.rand(len(ctx.visual))
