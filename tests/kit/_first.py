"""The ten lines of the README, with a parameter."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unibench import Method, StageContext


@dataclass(frozen=True)
class First(Method):
    """Keeps the first tokens.

    Attributes:
        step: by which a place counts.
    """

    step: float = 1.0

    def score(self, ctx: StageContext) -> Tensor:
        return -self.step * ctx.vision_rows.float()
