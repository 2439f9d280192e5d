"""A budget shared among tiles by early attention of the overview, spent by late attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor

from unibench import Method, Needs, Selection, Stage, StageContext
from unibench.annotations import Share
from unibench.methods._variants import Reproduction
from unibench.ops import shares, top_k
from unibench.pruning.layout import Tiling


@dataclass(frozen=True)
class HiRED(Method):
    """Keeps the most attended tokens of the overview and of each tile, more of tiles with content.

    A share of the budget is the overview's. The early attention of the overview's CLS token marks
    where the content is; the rest is divided among the tiles by the marks in the regions that they
    show. Which tokens of a tile stay is decided by late attention of its CLS token.

    Paper: HiRED (High-Resolution Early Dropping), AAAI 2025, arXiv 2408.10945.
    Code: hasanar1f/HiRED@502d6dd7 modeling_llava_next.py:HiRED_token_selection,
        HiRED_sub_img_budgets.
    Finding: the official code counts marks in contiguous raster runs, stripes of the overview,
        instead of the regions of the tiles, and floors every budget (variant=official_bug: up to
        t - 1 tokens of t tiles are lost, 63 of 64 in the smallest test). It also selects tokens in
        the padding that is cut off afterwards, so that a "20 %" row of its paper kept 11 to 20 % by
        the shape of the picture; that is reproduced nowhere here.
    Cost: O(N log N) after two rows of attention (all rows without a CLS token).
    Deviations: the budget is met exactly, by largest remainders; padding is not there to be
        selected. Newline tokens go, as in the official code. A picture that is not tiled keeps the
        highest late attention, as cls_topk. Towers without a CLS token use attention received, and
        the row says so. Several pictures share the budget in proportion to their tokens (officially
        each its own: budget.scope=item).

    Attributes:
        alpha: the overview's share of the budget; 1 - alpha of its tokens are marked.
        content: what a tile's region counts for: count (of its marks), or sum (of their early
            attention, which may be what the paper means; not verified).
        variant: default or official_bug.
    """

    alpha: Share = 0.5
    content: Literal["count", "sum"] = "count"
    variant: Reproduction = "default"
    category = "ViT only"
    aim = "importance"

    def stages(self, depth: int) -> Sequence[Stage]:
        needs = Needs(vit_attention=(0,), saliency=True)
        return (Stage(0, self.select, needs, exact=self.variant != "official_bug"),)

    def select(self, ctx: StageContext) -> Selection:
        late, pictures = ctx.saliency(), ctx.tilings()
        budgets = shares(ctx.keep, [len(rows) for rows, _ in pictures])
        kept = []
        for (rows, tiling), keep in zip(pictures, budgets, strict=True):
            if tiling is None:
                kept.append(rows[top_k(late[rows], keep)])
                continue
            parts = (tiling.overview, *tiling.tiles)
            for part, number in zip(parts, self._budgets(ctx, tiling, keep), strict=True):
                kept.append(part[top_k(late[part], number)])
        return Selection(torch.cat(kept))

    def _budgets(self, ctx: StageContext, tiling: Tiling, keep: int) -> list[int]:
        """Tokens of the overview, and of each tile."""
        present = [len(tile) for tile in tiling.tiles]
        # int(B alpha), as in the code
        overview = min(int(self.alpha * keep), len(tiling.overview))
        rest = min(keep - overview, sum(present))
        weights = self._content(ctx, tiling)
        if self.variant == "official_bug":
            ctx.note("hired official_bug: content of stripes, and every budget rounded down")
            share = rest * weights / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
            given = [min(int(part), most) for part, most in zip(share, present, strict=True)]
            return [overview, *given]
        return [keep - rest, *divided(rest, weights.tolist(), present)]

    def _content(self, ctx: StageContext, tiling: Tiling) -> Tensor:
        """What each tile's part of the overview counts for, ``[tiles]``."""
        tiles, size = len(tiling.tiles), len(tiling.overview)
        if not tiling.across:
            ctx.note("hired: tiles share evenly (where they lie is not known)")
            return torch.ones(tiles)
        place = torch.arange(size, device=tiling.overview.device)
        if self.variant == "official_bug":
            # contiguous runs of the raster: stripes, whatever the tiles show
            region = place * tiles // size
        else:
            down, across = tiles // tiling.across, tiling.across
            y, x = place // tiling.width, place % tiling.width
            # the tile that shows this part of the picture
            region = y * down // tiling.height * across + x * across // tiling.width
        early = (
            ctx.vision.cls(0) if ctx.family.prefix_tokens else ctx.vision.received(0, total=True)
        )[tiling.overview]
        # 1 - alpha of the overview is marked, by the tower's first block
        marked = top_k(early, int(size * (1 - self.alpha)))
        worth = early[marked] if self.content == "sum" else torch.ones_like(early[marked])
        return early.new_zeros(tiles).index_add(0, region[marked], worth)


def divided(total: int, weights: Sequence[float], most: Sequence[int]) -> list[int]:
    """``total`` in proportion to weights, whole, by largest remainders, never above ``most``; what
    one refuses goes to the others in turn. Without any weight all count the same.

    >>> divided(7, [3.0, 1.0, 0.0], [9, 9, 9]), divided(8, [1.0, 0.0, 0.0], [4, 4, 4])
    ([5, 2, 0], [4, 2, 2])
    """
    # fractions: rounded, remainders that are equal would not go to the first
    parts = [Fraction(weight) for weight in weights]
    if not any(parts):
        parts = [Fraction(1)] * len(parts)
    whole = sum(parts)
    exact = [total * part / whole for part in parts]
    given = [min(int(part), bound) for part, bound in zip(exact, most, strict=True)]
    # largest remainder first; of equal ones the earlier tile
    order = sorted(range(len(exact)), key=lambda i: (int(exact[i]) - exact[i], i))
    left = total - sum(given)
    # ends, since the callers never ask for more than there is
    while left:
        for i in order:
            if left and given[i] < most[i]:
                given[i] += 1
                left -= 1
    return given
