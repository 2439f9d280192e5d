"""Attention outliers that gather their neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch

from unibench import Method, Needs, Selection, Stage, StageContext
from unibench.annotations import Count
from unibench.methods._prumerge import Mode, cls_attention, gathered
from unibench.ops import complement, nearest_weights, outliers, product, ranking


@dataclass(frozen=True)
class PruMerge(Method):
    """Keeps the patches that stand out in CLS attention, adds their nearest neighbours to them, and
    sums up the rest.

    Neighbours are the patches with the most similar keys, weighted by attention; one more token
    sums all patches that were not chosen.

    Paper: LLaVA-PruMerge, ICCV 2025, arXiv 2403.15388.
    Code: 42Shawn/LLaVA-PruMerge@097c0411
        llava/model/multimodal_encoder/clip_encoder.py:token_prune_merge_advanced.
    Cost: O(K N C), K x N floats, after one row of attention.
    Deviations: by default the budget decides how many (``keep - 1`` and the sum), not the outliers;
        rows take the position of their own patch, the sum that of the last patch not chosen. As in
        the code, attention and keys come from the last vision block as one wide head, features from
        the block the projector reads, and weights are not normalised. Without a CLS token:
        attention received, over all heads; the row says so.

    Attributes:
        mode: fixed, or adaptive: as many as lie above Q3 + 1.5 IQR, plus the sum.
        neighbours: patches that each row gathers.
    """

    mode: Mode = "fixed"
    neighbours: Count = 32
    adaptive: ClassVar[bool] = True
    centres: ClassVar[bool] = True
    data_timed: ClassVar[bool] = True
    category = "ViT only"
    aim = "hybrid"

    @property
    def uses_budget(self) -> bool:
        return self.mode == "fixed"

    def stages(self, depth: int) -> Sequence[Stage]:
        return (
            Stage(
                0,
                self.select,
                # the last block's attention beside the features of the block before, as in the code
                Needs(vit_attention=(-1,), features=True),
                exact=self.mode == "fixed",
            ),
        )

    def select(self, ctx: StageContext) -> Selection:
        assert ctx.vision is not None
        attention = cls_attention(ctx)
        count = len(attention)
        features, project = ctx.encoder_features()
        above = int(outliers(attention).sum()) if self.mode == "adaptive" else 0
        number = (
            int(count * (above / count)) if self.mode == "adaptive" else ctx.keep - 1
        )  # the official floor of a float
        chosen = ranking(attention)[:number]
        rest = complement(chosen, count)
        # neighbours may be chosen patches too, and one may serve several rows, as in the code
        weights = nearest_weights(
            ctx.vision.keys(-1).flatten(1), chosen, self.neighbours, attention
        )
        # a sum and no mean: attention over the rest need not add up to 1
        summed = product(attention[rest], features[rest])
        return Selection(
            torch.cat([chosen, rest[-1:]]),
            project(torch.cat([product(weights, features), summed[None]])),
            members=partial(gathered, weights, rest),
        )
