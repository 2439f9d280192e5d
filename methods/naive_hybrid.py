"""Importance first, then diversity."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch

from unibench import Selection, StageContext
from unibench.annotations import Share
from unibench.methods._importance import FOLLOWS, ByImportance, Source
from unibench.ops import cosine_pairs, farthest, max_min, top_k


@dataclass(frozen=True)
class NaiveHybrid(ByImportance):
    """Keeps a diverse subset of the most important tokens.

    IDPruner's straw man: a filter by importance, then farthest point sampling in what is left.

    Paper: IDPruner, arXiv 2602.13315, section 3.2 and table 7.
    Code: none published. The meaning of lambda is our reading: ``prefilter`` shrinks the candidates
        with lambda; ``split`` keeps a share lambda of the budget by importance and spreads the
        rest.
    Cost: O(N^2 D + K N), N x N floats, and that of the importance.
    Deviations: none to compare with; any table must name the variant.

    Attributes:
        weight: lambda in [0, 1]; 1 is importance alone, 0 is DivPrune.
        variant: prefilter or split.
        importance: saliency (CLS or received attention), visionselector, l2norm or random.
        selector_path: trained weights for visionselector.
    """

    weight: Share = 0.5
    variant: Literal["prefilter", "split"] = "prefilter"
    importance: Source = "saliency"
    selector_path: str | None = field(default=None, metadata=FOLLOWS)
    category = "ViT only"
    aim = "hybrid"

    def select(self, ctx: StageContext) -> Selection:
        importance, features = self.weights(ctx), ctx.visual_hidden
        ctx.note(f"naive_hybrid variant={self.variant}")
        if self.variant == "split":
            distance = cosine_pairs(features, distance=True)
            # halves up, as in every count here; round() would go to even
            sure = top_k(importance, int(self.weight * ctx.keep + 0.5))
            if not len(sure):
                # with nothing picked yet there is no distance to start from
                return Selection(max_min(distance, ctx.keep))
            return Selection(torch.cat([sure, farthest(distance, ctx.keep - len(sure), sure)]))
        candidates = top_k(
            importance, ctx.keep + int((1 - self.weight) * (len(importance) - ctx.keep) + 0.5)
        )
        return Selection(
            candidates[max_min(cosine_pairs(features[candidates], distance=True), ctx.keep)]
        )
