"""Maximal marginal relevance over importance and similarity."""

from __future__ import annotations

from dataclasses import dataclass, field

from unibench import Selection, StageContext
from unibench.annotations import Share
from unibench.methods._importance import FOLLOWS, ByImportance, Source, Transform
from unibench.ops import cosine_pairs, min_max, mmr


@dataclass(frozen=True)
class IDPruner(ByImportance):
    """Keeps tokens that are important and unlike those kept before, by maximal marginal relevance.

    Each pick maximises ``lambda * importance - (1 - lambda) * greatest cosine to a pick``, with the
    importance scaled to [0, 1].

    Paper: IDPruner, arXiv 2602.13315, algorithm 1.
    Code: Tencent/AngelSlim@67394ce5 token_compressor/algorithm/idpruner.py.
    Cost: O(N^2 D + K N), N x N floats, and that of the importance.
    Deviations: with another importance than the trained selector the row says so, and the numbers
        are not IDPruner's; one token per step (parallel_k = 1).

    Attributes:
        mmr_lambda: weight of the importance.
        importance: visionselector, saliency (CLS or received attention), l2norm or random.
        importance_transform: raw (the code) or difftopk (the paper's text).
        selector_path: trained weights for visionselector.
    """

    mmr_lambda: Share = 0.5
    importance: Source = "visionselector"
    importance_transform: Transform = "raw"
    selector_path: str | None = field(default=None, metadata=FOLLOWS)
    category = "ViT only"
    aim = "hybrid"

    def select(self, ctx: StageContext) -> Selection:
        # scaled first: cosines reach from -1 to 1, raw scores of a selector anywhere
        importance = min_max(self.weights(ctx, self.importance_transform), eps=1e-6)
        return Selection(
            mmr(importance, cosine_pairs(ctx.visual_hidden), ctx.keep, self.mmr_lambda)
        )
