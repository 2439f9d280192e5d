"""Important tokens, and what remains when duplicates are removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from unibench import Method, Needs, Selection, StageContext
from unibench.annotations import Share
from unibench.ops import Closest, cosine, ranking

STEP = 8  # tokens removed at once


@dataclass(frozen=True)
class VisPruner(Method):
    """Keeps the tokens of highest CLS attention, and diverse ones among the rest.

    The rest is split into every other token again and again; those most similar to the other half
    go.

    Paper: VisPruner, ICCV 2025, arXiv 2412.01818.
    Code: Theia-4869/VisPruner@aefa01ad llava/model/llava_arch.py:encode_images;
        Tencent/AngelSlim@67394ce5 token_compressor/algorithm/vispruner.py (variant=angelslim: rest
        in raster order, projected features).
    Cost: O(N^2 C + N^3 / 96), N x N floats, after one row of attention.
    Deviations: float32; a step never removes more than half, where the official code fails; towers
        without a CLS token use received attention, and the row says so. One pool for all crops
        (AngelSlim: budget.scope=item); original positions (official on LLaVA: positions=compact).
        The rule is chaotic: rounding decides between near ties.

    Attributes:
        important_ratio: share of the budget kept by attention.
        variant: official or angelslim.
    """

    important_ratio: Share = 0.5
    variant: Literal["official", "angelslim"] = "official"
    data_timed: ClassVar[bool] = True  # rows whose neighbours are gone are read again
    needs: ClassVar[Needs] = Needs(saliency=True, features=True)
    corrected = frozenset({"saliency"})
    category = "ViT only"
    aim = "hybrid"

    def select(self, ctx: StageContext) -> Selection:
        if self.variant == "official":
            features, _ = ctx.encoder_features()
            # the rest in order of attention, which decides who stands at even places
            order, important = ranking(ctx.saliency()), int(ctx.keep * self.important_ratio)
        else:
            features, order = ctx.visual_hidden, ranking(ctx.saliency(recomputed=True))
            # AngelSlim rounds, and leaves at least one for variety
            important = min(round(ctx.keep * self.important_ratio), max(1, ctx.keep - 1))
        rest = order[important:]
        return Selection(
            torch.cat([order[:important], self._diverse(features, rest, ctx.keep - important)])
        )

    def _diverse(self, features: Tensor, rest: Tensor, keep: int) -> Tensor:
        if keep == 0:
            return rest[:0]
        in_place = (
            self.variant == "angelslim"
        )  # keeps the list in raster order; the official one is re-ordered by each step
        rest = rest.sort().values if in_place else rest
        similarity = cosine(features[rest])
        while len(rest) > keep:
            # a smaller matrix each time the list has halved, since every step reads whole rows
            left = self._thinned(similarity, keep, in_place)
            rest, similarity = rest[left], similarity[left][:, left]
        return rest

    def _thinned(self, similarity: Tensor, keep: int, in_place: bool) -> Tensor:
        """Rows of ``similarity`` that stay, in the order that the next step wants: ``keep``, or
        half of them if that is more.
        """
        closest, rest = Closest(similarity), torch.arange(len(similarity), device=similarity.device)
        while len(rest) > max(keep, len(similarity) // 2):
            # the official code fails where fewer than eight are left on one side
            gone = min(STEP, len(rest) - keep, len(rest) // 2)
            ours, others = rest[0::2], rest[1::2]
            rest = torch.cat([ours[ranking(closest.among(ours, others))][gone:], others])
            rest = rest.sort().values if in_place else rest
        return rest
