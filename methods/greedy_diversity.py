"""Diversity alone."""

from __future__ import annotations

from dataclasses import dataclass

from unibench import Method, Selection, StageContext
from unibench.ops import cosine_pairs, max_min


@dataclass(frozen=True)
class GreedyDiversity(Method):
    """Keeps tokens by farthest point sampling in cosine distance.

    The other end of IDPruner's trade-off. The authors' own sampling starts from the token whose
    nearest neighbour is farthest, which makes it DivPrune in float32.

    Paper: IDPruner, arXiv 2602.13315, section 3.2.
    Code: Tencent/AngelSlim@67394ce5 token_compressor/algorithm/divprune.py.
    Cost: O(N^2 D + K N), N x N floats.
    Deviations: none; ties by lower index.
    """

    corrected = frozenset({"geometry"})
    category = "ViT only"
    aim = "diversity"

    def select(self, ctx: StageContext) -> Selection:
        features, preference = ctx.geometry(ctx.visual_hidden)
        return Selection(max_min(cosine_pairs(features, distance=True), ctx.keep, preference))
