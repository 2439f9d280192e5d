"""Bipartite soft matching of similar tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unibench import Method, Needs, Selection, Stage, StageContext
from unibench.ops import bipartite, mean_weights, shares


@dataclass(frozen=True)
class ToMe(Method):
    """Keeps the mean of tokens that are alike: every other token joins the most similar of the others, until ``keep`` are left.

    Similarity is that of the keys of the vision tower; each picture is merged by itself, with its share of
    the budget.

    Paper: Token Merging, ICLR 2023, arXiv 2210.09461.
    Code: facebookresearch/ToMe@af95e4b1 tome/merge.py.
    Cost: O(N^2 C) in few steps, N x N floats.
    Deviations: the original merges in every layer of the tower; this merges its output (tome_post; the row says
        so), with the keys of the layer that makes the features carried along. Families whose projector joins
        patches merge projected features. Rows take the position of their own token.

    Attributes:
        schedule: tokens merged in each step; empty is half of what is left until ``keep``.
        class_token: the first token takes no part.
    """

    schedule: tuple[int, ...] = ()
    class_token: bool = False

    def stages(self, depth: int) -> Sequence[Stage]:
        return (Stage(0, self.select, Needs(saliency=True, features=True), exact=not self.schedule),)

    def select(self, ctx: StageContext) -> Selection:
        assert ctx.vision is not None and ctx.family is not None
        ctx.note("tome_post: merged after the vision tower")
        features, project = ctx.encoder_features()
        keys = ctx.vision.keys(ctx.family.saliency_layer).mean(1)
        grids = ctx.grids()
        anchors, rows = [], []
        for grid, keep in zip(grids, shares(ctx.keep, [len(grid) for grid in grids]), strict=True):
            if keep:
                anchor, merged = self._merged(features[grid.rows], keys[grid.rows], keep)
                anchors.append(grid.rows[anchor])
                rows.append(merged)
        return Selection(torch.cat(anchors), project(torch.cat(rows)))

    def _merged(self, features: Tensor, keys: Tensor, keep: int) -> tuple[Tensor, Tensor]:
        """The token each row stands for, and the rows."""
        anchor, size = torch.arange(len(features), device=features.device), features.new_ones(len(features))
        for merges in self.schedule or _halvings(len(features), keep):
            match = bipartite(keys, min(merges, (len(keys) - self.class_token) // 2), self.class_token)
            weights = mean_weights(match.slot, len(match.anchor), size).to(features)
            total = size.new_zeros(len(match.anchor)).scatter_add_(0, match.slot, size)  # whole numbers: exact in any order
            features, keys, size, anchor = weights @ features, weights.to(keys) @ keys, total, anchor[match.anchor]
        return anchor, features


def _halvings(count: int, keep: int) -> list[int]:
    """Merges per step, at most half of the tokens each, until ``keep`` are left.

    >>> _halvings(64, 16), _halvings(100, 33)
    ([32, 16], [50, 17])
    """
    steps = []
    while count > keep:
        steps.append(min(count - keep, count // 2))
        count -= steps[-1]
    return steps
