"""Windows of similar patches become one token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from unibench import EncoderContext, EncoderStage, Method, Needs, Selection, StageContext
from unibench.annotations import Cosine, Window
from unibench.methods._tower import left_by_tower
from unibench.ops import Matching, complement, product, ranking, unit


@dataclass(frozen=True)
class MustDropVit(Method):
    """Keeps the mean of each window whose patches are most alike, and every patch of the others.

    The vision-encoding stage of MustDrop: background is uniform, so a window of it needs one token.

    Paper: Multi-Stage Vision Token Dropping (MustDrop), arXiv 2411.10803.
    Code: liuting20/MustDrop@909afa53 multimodal_encoder/local_merge.py (mode=threshold);
        ModelTC/LightCompress@9701d035 token_reduction/mustdrop.py (mode=budget).
    Cost: O(N window^2 C).
    Deviations: sequence order, a merged window at its last patch; each picture by itself (official:
        as many windows as the poorest picture of a batch). Where the projector joins patches,
        windows are merged after the tower (the row says so). It cannot meet every budget: with
        windows of p patches the budget mode merges ``min(windows, (N + 1 - keep) // (p - 1))`` of
        them, and what is left is stated in the row. Rows and columns that no whole window covers
        stay.

    Attributes:
        mode: budget (as many windows as it takes) or threshold (all above it, as published).
        window: side of a window in patches.
        threshold: mean cosine within a window from which it is merged.
    """

    mode: Literal["budget", "threshold"] = "budget"
    window: Window = 3
    threshold: Cosine = 0.8
    adaptive: ClassVar[bool] = True
    data_timed: ClassVar[bool] = True
    centres: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs(features=True)
    category = "ViT only"
    aim = "diversity"

    @property
    def uses_budget(self) -> bool:
        return self.mode == "budget"

    def encoder(self, blocks: int) -> Sequence[EncoderStage]:
        # behind block 0; the code computes sizes and discards them, so nothing is weighted
        return [EncoderStage(0, self._inside, inside=False, weighted=False)]

    def select(self, ctx: StageContext) -> Selection:
        assert ctx.vision is not None
        # the tower has merged already, so that the cut only drops the gaps
        if ctx.vision.merged is not None:
            return left_by_tower(ctx, ctx.vision.merged.nonzero()[:, 0])
        ctx.note("mustdrop_vit: windows merged after the vision tower")
        features, project = ctx.encoder_features()
        windows = torch.cat(
            [self._windows(grid.rows.view(grid.height, grid.width)) for grid in ctx.grids()]
        )
        merged = self._alike(features, windows, ctx.keep)
        single = complement(merged.flatten(), len(features))
        values = torch.cat([project(features[merged].mean(1)), ctx.visual_hidden[single]])
        row = torch.arange(len(merged), device=merged.device).repeat_interleave(self.window**2)
        return Selection(
            torch.cat([merged[:, -1], single]),
            values,
            members=lambda: torch.stack([row, merged.flatten()]),
        )

    def _inside(self, ctx: EncoderContext) -> Matching | None:
        """The merge behind the first block of the tower."""
        windows = self._windows(
            torch.arange(ctx.side**2, device=ctx.tokens.device).view(ctx.side, ctx.side)
        )
        merged = self._alike(ctx.tokens[ctx.prefix :], windows, ctx.keep) + ctx.prefix
        single = complement(merged.flatten(), len(ctx.tokens))
        # a window stands at its last patch, the bottom right one
        anchor = torch.cat([single, merged[:, -1]])  # the prefix stays first
        slot = torch.empty(len(ctx.tokens), dtype=torch.long, device=ctx.tokens.device)
        slot[single] = torch.arange(len(single), device=slot.device)
        slot[merged] = torch.arange(len(merged), device=slot.device)[:, None] + len(single)
        return Matching(anchor, slot)

    def _alike(self, features: Tensor, windows: Tensor, keep: int) -> Tensor:
        """The windows to merge, ``[merges, window ** 2]``."""
        likeness = _mean_cosine(features[windows])
        if self.mode == "threshold":
            merges = int((likeness >= self.threshold).sum())
        else:
            # LightCompress counts CLS in: N + 1
            merges = min(len(windows), max(0, len(features) + 1 - keep) // (self.window**2 - 1))
        return windows[ranking(likeness)[:merges]]

    def _windows(self, rows: Tensor) -> Tensor:
        """The whole windows of a grid, ``[windows, window ** 2]``."""
        side = self.window
        tall, wide = rows.shape[0] // side, rows.shape[1] // side
        whole = rows[: tall * side, : wide * side]
        return (
            whole.reshape(tall, side, wide, side).transpose(1, 2).reshape(tall * wide, side * side)
        )


def _mean_cosine(features: Tensor) -> Tensor:
    """Mean cosine of all ordered pairs of different patches in each window of ``[windows, patches,
    C]``.
    """
    directions = unit(features)
    pairs = product(directions, directions.transpose(1, 2))
    count = features.shape[1]
    return (pairs.sum((1, 2)) - pairs.diagonal(dim1=1, dim2=2).sum(1)) / (count * (count - 1))
