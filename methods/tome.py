"""Bipartite soft matching of similar tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unibench import EncoderContext, EncoderStage, Method, Needs, Selection, Stage, StageContext
from unibench.annotations import Natural
from unibench.methods._tower import left_by_tower
from unibench.ops import Matching, bipartite, mean_weights, owned, product, shares


@dataclass(frozen=True)
class ToMe(Method):
    """Keeps the mean of tokens that are alike: every other token joins the most similar of the
    others, until ``keep`` are left.

    Merges in every block of the vision tower up to the one that makes the features, between
    attention and feed-forward network, by the keys of the block; merged tokens count as often as
    their patches.

    Paper: Token Merging, ICLR 2023, arXiv 2210.09461.
    Code: facebookresearch/ToMe@af95e4b1 tome/merge.py, tome/patch/timm.py.
    Cost: O(N^2 C) in few steps, N x N floats; the tower itself gets faster.
    Deviations: rows take the place of their own token. Towers whose projector joins patches need
        their whole grid: there the tower's output is merged (tome_post; the row says so), with the
        keys of the layer that makes the features carried along. What a short tower cannot merge, at
        most half in each block, is merged behind it.

    Attributes:
        schedule: tokens merged in each step; empty is the same number in each block of the tower,
            and behind it half of what is left until ``keep``.
        class_token: behind the tower, the first token takes no part.
    """

    schedule: tuple[Natural, ...] = ()
    class_token: bool = False
    centres: ClassVar[bool] = True
    category = "ViT only"
    aim = "diversity"

    @property
    def uses_budget(self) -> bool:
        return not self.schedule

    def encoder(self, blocks: int) -> Sequence[EncoderStage]:
        return [EncoderStage(block, self._inside) for block in range(blocks)]

    def stages(self, depth: int) -> Sequence[Stage]:
        return (
            Stage(0, self.select, Needs(saliency=True, features=True), exact=not self.schedule),
        )

    def select(self, ctx: StageContext) -> Selection:
        assert ctx.vision is not None and ctx.family is not None
        left = ctx.vision.merged
        if left is None:
            ctx.note("tome_post: merged after the vision tower")
            features, project = ctx.encoder_features()
            keys = ctx.vision.keys(ctx.family.saliency_layer).mean(1)
        elif int(left.sum()) <= ctx.keep:
            return left_by_tower(ctx, left.nonzero()[:, 0])
        else:
            features, project = ctx.visual_hidden, lambda rows: rows
            # merged rows have no keys of the tower any more
            keys = features
        grids = [grid.rows if left is None else grid.rows[left[grid.rows]] for grid in ctx.grids()]
        anchors, rows = [], []
        owner = torch.full_like(ctx.visual, -1)
        for places, keep in zip(
            grids, shares(ctx.keep, [len(places) for places in grids]), strict=True
        ):
            if keep:
                anchor, slot, merged = self._merged(features[places], keys[places], keep)
                anchors.append(places[anchor])
                rows.append(merged)
                owner[places] = anchors[-1][slot]
        kept = torch.cat(anchors)

        def members() -> Tensor:
            before = None if left is None else ctx.vision.owners
            if before is None:
                return owned(owner, kept)
            return owned(owner[before.clamp_min(0)].masked_fill(before < 0, -1), kept)

        return Selection(kept, project(torch.cat(rows)), members=members)

    def _inside(self, ctx: EncoderContext) -> Matching | None:
        """The merge of one block."""
        assert ctx.keys is not None
        patches = ctx.side**2
        steps = self.schedule or per_block(patches, ctx.keep, ctx.blocks)
        merges = steps[ctx.block] if ctx.block < len(steps) else 0
        # only tokens at even places can go
        merges = min(merges, (len(ctx.tokens) - ctx.prefix) // 2)
        # the mean over heads of the block's own keys is the metric of the paper
        return bipartite(ctx.keys.mean(1), merges, ctx.prefix > 0) if merges else None

    def _merged(self, features: Tensor, keys: Tensor, keep: int) -> tuple[Tensor, Tensor, Tensor]:
        """The token each row stands at, the row that each token went into, and the rows."""
        anchor = slot = torch.arange(len(features), device=features.device)
        size = features.new_ones(len(features))
        for merges in self.schedule or halvings(len(features), keep):
            # keys are carried along by the same weighted mean: each step compares what is there
            match = bipartite(
                keys, min(merges, (len(keys) - self.class_token) // 2), self.class_token
            )
            weights = mean_weights(match.slot, len(match.anchor), size).to(features)
            total = size.new_zeros(len(match.anchor)).scatter_add_(
                0, match.slot, size
            )  # whole numbers: exact in any order
            features, keys, size, anchor = (
                product(weights, features),
                product(weights.to(keys), keys),
                total,
                anchor[match.anchor],
            )
            slot = match.slot[slot]
        return anchor, slot, features


def per_block(count: int, keep: int, blocks: int) -> list[int]:
    """Tokens merged in each block so that ``keep`` are left: the same number everywhere, one more
    in the first ones.

    Where a block cannot merge that many (at most half of its tokens), the earlier ones merge more;
    if all merge half and more than ``keep`` are left, that is as far as it goes.

    >>> per_block(576, 64, 23)[:7], per_block(256, 28, 4), per_block(16, 1, 2)
    ([23, 23, 23, 23, 23, 23, 22], [72, 72, 56, 28], [8, 4])
    """
    share, more = divmod(count - keep, blocks)
    steps = [share + (block < more) for block in range(blocks)]
    most = share + (more > 0)
    while True:
        left, found = count, []
        for block in range(blocks):
            found.append(min(steps[block], left // 2, left - keep))
            left -= found[-1]
        if left == keep or most > count:
            return found
        most += 1
        steps = [most] * blocks


def halvings(count: int, keep: int) -> list[int]:
    """Merges per step, at most half of the tokens each, until ``keep`` are left.

    >>> halvings(64, 16), halvings(100, 33)
    ([32, 16], [50, 17])
    """
    steps = []
    while count > keep:
        steps.append(min(count - keep, count // 2))
        count -= steps[-1]
    return steps
