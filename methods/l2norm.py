"""Norm of the projected features."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from unibench import Method, StageContext


@dataclass(frozen=True)
class L2Norm(Method):
    """Keeps the tokens whose projected features are longest (or shortest).

    The cheapest importance there is. The sign is not obvious: artefact tokens of CLIP have huge
    norms and hold global content, so report both.

    Paper: none; feature norms appear as a baseline in IDPruner's related work (arXiv 2602.13315).
    Code: none; ours.
    Cost: O(N D).
    Deviations: none.

    Attributes:
        largest: keep the longest; false keeps the shortest.
    """

    largest: bool = True
    category = "ViT only"
    aim = "importance"

    def score(self, ctx: StageContext) -> Tensor:
        norm: Tensor = ctx.visual_hidden.norm(dim=-1)
        return norm if self.largest else -norm
