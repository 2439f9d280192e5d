"""Anchors of the middle vision layers and their neighbours, then what the deep layers attend to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unibench import Method, Needs, Selection, Stage, StageContext
from unibench.annotations import Block, Share
from unibench.ops import top_k


@dataclass(frozen=True)
class HiPrune(Method):
    """Keeps the tokens most attended in a middle vision layer with their neighbours, and those most
    attended in a deep one.

    Middle layers outline objects (anchors), deep layers gather global content (registers).

    Paper: HiPrune, Findings of ACL 2026, arXiv 2508.00553.
    Code: Danielement321/HiPrune@6e83a124 LLaVA/llava/model/llava_arch.py:encode_images,
        Qwen2_5_VL/qwen2_5_vl_HiPrune.py; Tencent/AngelSlim@67394ce5 algorithm/hiprune.py
        (variant=angelslim: at least one anchor, one layer deeper, attention computed anew over the
        whole picture).
    Cost: O(N log N) after attention of two vision layers, in chunks of query rows.
    Deviations: a token chosen as anchor or neighbour is barred from the deep choice, so exactly
        ``keep`` stay (the Qwen code only subtracts 1 and keeps fewer: variant=official_bug). As in
        the code, neighbours wrap around rows and are clamped to the picture. One pool for all
        pictures (AngelSlim: budget.scope=item); original positions (official on LLaVA:
        positions=compact).

    Attributes:
        alpha: share of the budget for anchors and neighbours.
        object_layer: the middle vision block; None is the family's (8 of 24, 15 of 32).
        variant: official, angelslim or official_bug.
    """

    alpha: Share = 0.1
    object_layer: Block | None = None
    variant: Literal["official", "angelslim", "official_bug"] = "official"
    category = "ViT only"
    aim = "importance"

    def stages(self, depth: int) -> Sequence[Stage]:
        middle = (
            Needs(object_attention=(self._offset,))
            if self.object_layer is None
            else Needs(vit_attention=(self.object_layer,))
        )
        return (
            Stage(
                0, self.select, Needs(saliency=True) | middle, exact=self.variant != "official_bug"
            ),
        )

    @property
    def _offset(self) -> int:
        return int(
            self.variant == "angelslim"
        )  # AngelSlim counts from 0 where the official code counts from 1

    def select(self, ctx: StageContext) -> Selection:
        assert ctx.family is not None
        middle = (
            ctx.family.object_layer + self._offset
            if self.object_layer is None
            else self.object_layer
        )
        shallow, deep = self._scores(ctx, middle), self._scores(ctx, ctx.family.saliency_layer)
        # an anchor comes with four neighbours; round() is to even, and may give no anchor at all
        anchors = round(ctx.keep * self.alpha / 5)
        if self.variant == "angelslim" and self.alpha > 0 and ctx.keep >= 5:
            # AngelSlim's port never goes without an anchor
            anchors = max(1, anchors)
        near = _with_neighbours(ctx, top_k(shallow, min(anchors, len(shallow))))
        # sorted by place: of anchors too many for the budget the lower part of the picture goes
        near = near[: ctx.keep]
        if self.variant == "official_bug":
            ctx.note(
                "hiprune official_bug: tokens may be chosen twice, so that fewer than keep stay"
            )
            return Selection(
                torch.cat(
                    [
                        near,
                        top_k(
                            # scores average 1: a token of one above the cut is picked again in
                            # spite of this
                            deep.index_add(0, near, -torch.ones_like(deep[near])),
                            ctx.keep - len(near),
                        ),
                    ]
                ).unique()
            )
        return Selection(
            torch.cat([near, top_k(deep.index_fill(0, near, -torch.inf), ctx.keep - len(near))])
        )

    def _scores(self, ctx: StageContext, layer: int) -> Tensor:
        """Attention each token receives at a vision layer, one on average."""
        assert ctx.vision is not None and ctx.family is not None
        if self.variant == "angelslim" and ctx.family.prefix_tokens:
            return ctx.vision.cls(layer, patches_only=True)
        return ctx.vision.received(layer, total=True, whole=self.variant == "angelslim")


def _with_neighbours(ctx: StageContext, anchors: Tensor) -> Tensor:
    """The anchors and the tokens left, right, above and below, sorted, each once."""
    first, last, width = (
        torch.empty(len(ctx.visual), dtype=torch.long, device=anchors.device) for _ in range(3)
    )
    for grid in ctx.grids():
        first[grid.rows], last[grid.rows], width[grid.rows] = (
            grid.rows[0],
            grid.rows[-1],
            grid.width,
        )
    across = width[anchors]
    around = torch.stack([anchors, anchors - 1, anchors + 1, anchors - across, anchors + across])
    near: Tensor = torch.minimum(torch.maximum(around, first[anchors]), last[anchors]).unique()
    return near
