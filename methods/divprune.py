"""Max-min diversity of the projected features."""

from __future__ import annotations

from dataclasses import dataclass

from unibench import Method, Selection, StageContext
from unibench.ops import cosine_pairs, max_min


@dataclass(frozen=True)
class DivPrune(Method):
    """Keeps the tokens whose smallest cosine distance to each other is greatest, chosen greedily.

    Redundant tokens add nothing, so each pick is the token farthest from all picked before; the
    first is the one whose nearest neighbour is farthest.

    Paper: DivPrune, CVPR 2025, arXiv 2503.02175.
    Code: vbdi/divprune@799e2d95 LLaVA/llava/model/llava_arch.py:DivPrune.
    Cost: O(N^2 D + K N), N x N floats.
    Deviations: float32 whatever the model's dtype; picked tokens are masked, so ``keep`` distinct
        tokens come back also where fewer differ; original positions (official on LLaVA:
        positions=compact).
    """

    corrected = frozenset({"geometry"})
    category = "ViT only"
    aim = "diversity"

    def select(self, ctx: StageContext) -> Selection:
        features, preference = ctx.geometry(ctx.visual_hidden)
        return Selection(max_min(cosine_pairs(features, distance=True), ctx.keep, preference))
