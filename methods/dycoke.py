"""Three frames of four without what the frame before them shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from unibench import Method, Selection, Stage, StageContext
from unibench.methods import _video
from unibench.methods._variants import Reproduction
from unibench.ops import cells, shares, top_k

Pair = tuple[int, int]  # a frame that is pruned, and the frame it is compared with


@dataclass(frozen=True)
class DyCoke(Method):
    """Keeps the first of every four frames whole, and of the others the tokens that are least like
    the token at the same place in an earlier frame.

    In a window of four, the second and third frame are compared with the first, the fourth with the
    third. This is the temporal part (TTM) alone; nothing is averaged, despite its name.

    Paper: DyCoke, CVPR 2025, arXiv 2411.15024.
    Code: KD-TAO/DyCoke@dd74634982 llava/model/llava_arch.py:dycole_ttm.
    Cost: O(N D).
    Deviations: the pruned frames share what the whole ones leave of the budget (official: each
        keeps ``int((1 - k) n)``, counts=official); below a quarter of the tokens, where the method
        ends, the same is done again among the whole frames, and the row says so. Every window is
        pruned and an odd last frame stays (official: the third frame of the last window is left
        whole, the odd one is lost: variant=official_bug). Sequence order and original positions
        (official: by rising similarity, renumbered). The token behind a video stays and counts. A
        picture is a video of one frame, of which evenly spaced tokens stay.

    Attributes:
        counts: budget or official.
        k: share dropped of a pruned frame, with counts=official.
        variant: default or official_bug.
    """

    counts: Literal["budget", "official"] = "budget"
    k: float = 0.7
    variant: Reproduction = "default"
    category = "ViT only"
    aim = "diversity"

    @property
    def uses_budget(self) -> bool:
        return self.counts == "budget"

    def stages(self, depth: int) -> Sequence[Stage]:
        exact = self.counts == "budget" and self.variant == "default"
        return (Stage(0, self.select, exact=exact),)

    def select(self, ctx: StageContext) -> Selection:
        if self.counts == "official":
            ctx.note(f"dycoke: counts from k={self.k}, the budget is not used")
        if self.variant == "official_bug":
            ctx.note("dycoke official_bug: part of the last window is whole, an odd frame lost")
        features, parts = ctx.visual_hidden, _video.videos(ctx)
        budget, staying = _video.counted(ctx)
        kept = [staying]
        for part, keep in zip(parts, _video.divided(budget, parts), strict=True):
            if self.counts == "official":
                whole, pruned = self._pattern(list(range(len(part.rows))))
                counts = [int((1 - self.k) * part.rows.shape[1])] * len(pruned)
                kept += _kept(features, part, whole, pruned, counts)
            else:
                kept += self._within(ctx, features, part, keep)
        return Selection(torch.cat(kept))

    def _within(
        self, ctx: StageContext, features: Tensor, part: _video.Video, keep: int
    ) -> list[Tensor]:
        """Exactly ``keep`` rows of a video."""
        frames, size = part.rows.shape
        whole, pruned = self._pattern(list(range(frames)))
        while keep < len(whole) * size and len(whole) > 1:
            ctx.note("dycoke: the budget is below the whole frames; windows of whole frames again")
            whole, pruned = self._pattern(whole)
        if keep < len(whole) * size:
            ctx.note("dycoke: the budget is below one frame; evenly spaced tokens of it")
            return [part.rows[whole[0]][cells(part.height, part.width, keep)]] if keep else []
        counts = shares(keep - len(whole) * size, [size] * len(pruned)) if pruned else []
        return _kept(features, part, whole, pruned, counts)

    def _pattern(self, frames: list[int]) -> tuple[list[int], list[Pair]]:
        """Frames that stay whole, and those that are pruned."""
        count = len(frames)
        defective = self.variant == "official_bug" and count > 1
        whole, pruned = [], []
        for place, frame in enumerate(frames[: count - count % 2] if defective else frames):
            if place % 4 == 0 or (defective and place % 4 == 2 and place - 2 >= count - 4):
                whole.append(frame)
            else:
                pruned.append((frame, frames[place - 2 + place % 2]))
        return whole, pruned


def _kept(
    features: Tensor,
    part: _video.Video,
    whole: list[int],
    pruned: list[Pair],
    counts: list[int],
) -> list[Tensor]:
    """Rows of the whole frames, and of each pruned one the ``counts`` least similar."""
    found = [part.rows[frame] for frame in whole]
    if not pruned:
        return found
    own, other = (features[part.rows[list(frames)]] for frames in zip(*pruned, strict=True))
    similarity = cosine_similarity(own, other, dim=-1, eps=1e-8)
    for (frame, _), likeness, count in zip(pruned, similarity, counts, strict=True):
        found.append(part.rows[frame][top_k(-likeness, count)])
    return found
