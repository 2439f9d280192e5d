"""Dominant tokens by attention, and a few that gather the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from unibench import Method, Needs, Selection, StageContext
from unibench.annotations import Natural
from unibench.ops import complement, cosine, membership, pairs, product, top_k
from unibench.pruning.stage import Aspect


@dataclass(frozen=True)
class VisionZip(Method):
    """Keeps the tokens the vision tower attends to, and merges the others into a few contextual
    ones.

    Contextual targets lie at even distances in what is not dominant; every other token joins the
    target with the most similar key.

    Paper: VisionZip, CVPR 2025, arXiv 2412.04467.
    Code: dvlab-research/VisionZip@3151f6df visionzip/clip_encoder.py;
        ModelTC/LightCompress@9701d035 token_reduction/visionzip.py (variant=qwen: received
        attention, projected features); Tencent/AngelSlim@67394ce5 algorithm/visionzip.py
        (variant=angelslim: a plain mean).
    Cost: O(N K C), after one row of attention (all rows without a CLS token).
    Deviations: each row takes the position of its own token, where the official code appends the
        contextual rows; the budget counts patches only (variant=official_bug spends one row on the
        CLS token, as published); without a CLS token attention received is used, and the row says
        so. One pool for all crops.

    Attributes:
        contextual: number of contextual rows; None is 10 of 64, rounded half to even, at least 1.
        variant: official, qwen, angelslim or official_bug.
    """

    contextual: Natural | None = None
    variant: Literal["official", "qwen", "angelslim", "official_bug"] = "official"
    needs: ClassVar[Needs] = Needs(saliency=True, features=True)
    centres: ClassVar[bool] = True
    category = "ViT only"
    aim = "importance"

    @property
    def corrected(self) -> frozenset[Aspect]:  # type: ignore[override]
        """Received attention of the Qwen variant is read from the tower itself."""
        return frozenset() if self.variant == "qwen" else frozenset({"saliency"})

    @property
    def wants(self) -> frozenset[str]:  # type: ignore[override]
        """A CLS token that the projector takes, for the published budget."""
        return frozenset({"cls_token", "token_projector"} if self.variant == "official_bug" else ())

    def select(self, ctx: StageContext) -> Selection:
        assert ctx.vision is not None and ctx.family is not None
        before_projector = self.variant in ("official", "official_bug")
        features, project = (
            ctx.encoder_features() if before_projector else (ctx.visual_hidden, lambda rows: rows)
        )
        # of the block whose attention scores, mean over heads
        keys = ctx.vision.keys(ctx.family.saliency_layer).mean(1)
        # AngelSlim's rule, the only one that gives the published 54 + 10 and sums to any budget
        wanted = max(1, round(ctx.keep * 10 / 64)) if self.contextual is None else self.contextual
        on_cls = int(self.variant == "official_bug")
        # a budget of fewer rows than contextual ones has no dominant token
        merged = min(wanted, ctx.keep - on_cls)
        dominant = top_k(self._scores(ctx), ctx.keep - merged - on_cls)
        rest = complement(dominant, len(keys))
        # even steps from the front, so that the tail may hold no target
        every = max(1, len(rest) // max(1, merged))
        targets = rest[every * torch.arange(merged, device=rest.device)]
        kept = torch.cat([dominant, targets])
        others, joins = self._joins(keys, kept, targets)
        values = torch.cat(
            [
                ctx.visual_hidden[dominant],
                project(self._contextual(features, targets, others, joins)),
            ]
        )
        if on_cls:
            assert ctx.family.feature_layer is not None
            ctx.note("visionzip official_bug: one row of the budget is the CLS token")
            spare = complement(kept, len(keys))[
                :1
            ]  # the CLS row needs a position: the first that is free
            states = ctx.vision.cls_hidden(ctx.family.feature_layer)
            kept, values = torch.cat([kept, spare]), torch.cat([values, project(states[spare])])
        return Selection(kept, values, members=lambda: pairs(joins, others, targets, len(dominant)))

    def _scores(self, ctx: StageContext) -> Tensor:
        assert ctx.vision is not None and ctx.family is not None
        if self.variant == "qwen":
            return ctx.vision.received(ctx.family.saliency_layer, total=True)
        return ctx.saliency(recomputed=self.variant == "angelslim")

    def _joins(self, keys: Tensor, kept: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens that are not kept, and which of them join each target ``[targets, n]``."""
        others = complement(kept, len(keys))
        if not len(others) or not len(targets):
            return others[:0], keys.new_zeros(len(targets), 0)
        nearest = cosine(keys[others], keys[targets]).argmax(1)
        return others, membership(nearest, len(targets), torch.ones_like(others))

    def _contextual(
        self, features: Tensor, targets: Tensor, others: Tensor, joins: Tensor
    ) -> Tensor:
        """Each target with what it gathers of the tokens that are not kept."""
        if not len(others):
            return features[targets]
        joins = joins.to(features)
        size, gathered = joins.sum(1, keepdim=True), product(joins, features[others])
        if self.variant == "angelslim":
            return (features[targets] + gathered) / (1 + size)
        # target plus mean, not their mean: norms up to twice as large, as in the code
        return features[targets] + gathered / size.clamp_min(1)
