"""Tokens whose pixels a neighbour predicts do not enter the vision tower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from unibench import Method, Selection, Stage, StageContext
from unibench.annotations import Weight
from unibench.pruning import PixelContext

Order = Literal["pred_2d", "raster", "serpentine", "random"]
Metric = Literal["max", "mae", "rmse"]


@dataclass(frozen=True)
class PixelPrune(Method):
    """Keeps the tokens whose pixels their left or upper neighbour does not predict, before the
    encoder.

    The neighbour is chosen as lossless image coding does: the upper one where the corner between
    them resembles the left and not the upper one, else the left one. Flat areas of documents and
    screens leave one token each; photographs stay nearly whole.

    Paper: PixelPrune, arXiv 2604.00886.
    Code: OPPO-Mente-Lab/PixelPrune@a870e31b pixelprune/core.py, methods/pred_2d.py, raster.py,
        serpentine.py, random_select.py; patches/qwen3_vl_hf.py.
    Finding: the count follows from the picture: exact duplicates leave 29 to 78 % of documents and
        screens, by the paper, and all of a photograph. The official code undoes the normalisation
        of Qwen3-VL whatever the model.
    Cost: O(N) comparisons of N tokens' pixels; the tower runs on what is left.
    Deviations: anti-diagonals are decided at once, where the official code goes token by token. The
        processor's own mean and deviation are undone. Videos stay whole. The components that the
        official code offers besides are left out. Runs on Qwen2-VL and Qwen2.5-VL too, which is
        ours.

    Attributes:
        order: pred_2d; or the first of each run of like tokens along rows (raster) or rows that
            alternate (serpentine); or random, as many as pred_2d keeps.
        metric: distance of two tokens' pixels from 0 to 1: the greatest, the mean or the root mean
            square difference.
        threshold: distance up to which tokens are alike; 0 is exact.
        anchored: compare with what a dropped neighbour was replaced by, so that no error adds up.
    """

    order: Order = "pred_2d"
    metric: Metric = "max"
    threshold: Weight = 0.0
    anchored: bool = True
    adaptive: ClassVar[bool] = True
    category = "ViT only"
    aim = "diversity"

    @property
    def uses_budget(self) -> bool:
        return False

    def stages(self, depth: int) -> Sequence[Stage]:
        return (Stage(0, self.select, count=lambda keep, total: total, exact=False),)

    def select(self, ctx: StageContext) -> Selection:
        left = ctx.vision.merged
        if left is None:  # a video
            return Selection(torch.arange(len(ctx.visual), device=ctx.visual.device))
        return Selection(left.nonzero()[:, 0])

    def pixels(self, ctx: PixelContext) -> Tensor:
        if self.order == "raster":
            return self._runs(ctx.tokens)
        tokens = ctx.tokens.unflatten(0, (ctx.height, ctx.width))
        if self.order == "serpentine":
            along = self._runs(_alternated(tokens).flatten(0, 1))
            return _alternated(along.view(ctx.height, ctx.width)).flatten()
        # at threshold 0 a dropped token equals its prediction, so nothing can drift
        anchored = self.anchored and self.threshold > 0
        stays = (self._anchored(tokens) if anchored else self._sliding(tokens)).flatten()
        if self.order == "pred_2d":
            return stays
        drawn = torch.rand(len(stays), generator=ctx.generator()).to(stays.device)
        return torch.zeros_like(stays).index_fill(0, drawn.argsort()[: int(stays.sum())], True)

    def _alike(self, one: Tensor, other: Tensor) -> Tensor:
        """Whether tokens ``[..., n]`` are within the threshold of each other, ``[...]``."""
        apart = (one - other).abs()
        if self.metric == "max":
            distance = apart.amax(-1)
        elif self.metric == "mae":
            distance = apart.mean(-1)
        else:
            distance = apart.square().mean(-1).sqrt()
        return distance <= self.threshold

    def _sliding(self, tokens: Tensor) -> Tensor:
        """Which tokens ``[h, w]`` of ``[h, w, n]`` stay, by the pixels of their neighbours."""
        across = self._alike(tokens[:, 1:], tokens[:, :-1])
        down = self._alike(tokens[1:], tokens[:-1])
        stays = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        # the first row has no upper, the first column no left neighbour
        stays[0, 1:], stays[1:, 0] = ~across[0], ~down[:, 0]
        # the corner is like the left neighbour, and not like the upper one
        upper = down[:, :-1] & ~across[:-1]
        stays[1:, 1:] = ~torch.where(upper, down[:, 1:], across[1:])
        return stays

    def _anchored(self, tokens: Tensor) -> Tensor:
        """The same, by what a decoder of the picture would see of the neighbours."""
        height, width, _ = tokens.shape
        seen = tokens.clone()
        stays = torch.ones(height, width, dtype=torch.bool, device=tokens.device)
        # a token needs its left, upper and corner neighbours, all on earlier anti-diagonals
        for diagonal in range(1, height + width - 1):
            y = torch.arange(max(0, diagonal - width + 1), min(height - 1, diagonal) + 1)
            y = y.to(tokens.device)
            x = diagonal - y
            left, upper = seen[y, (x - 1).clamp_min(0)], seen[(y - 1).clamp_min(0), x]
            corner = seen[(y - 1).clamp_min(0), (x - 1).clamp_min(0)]
            from_above = self._alike(corner, left) & ~self._alike(corner, upper)
            # the edges of the picture have one neighbour only
            from_above = (from_above & (y > 0)) | (x == 0)
            guess = torch.where(from_above[:, None], upper, left)
            gone = self._alike(tokens[y, x], guess)
            stays[y, x] = ~gone
            seen[y, x] = torch.where(gone[:, None], guess, tokens[y, x])
        return stays

    def _runs(self, tokens: Tensor) -> Tensor:
        """Which tokens ``[N]`` are the first of a run of like ones."""
        first = torch.ones(1, dtype=torch.bool, device=tokens.device)
        if not self.anchored or self.threshold == 0:
            return torch.cat([first, ~self._alike(tokens[1:], tokens[:-1])])
        starts, anchor = [first], tokens[0]
        for token in tokens[1:]:
            starts.append(~self._alike(token, anchor)[None])
            anchor = torch.where(starts[-1], token, anchor)
        return torch.cat(starts)


def _alternated(grid: Tensor) -> Tensor:
    """Every other row of ``[h, w, ...]`` the other way round."""
    turned = grid.clone()
    turned[1::2] = grid[1::2].flip(1)
    return turned
