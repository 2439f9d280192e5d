"""Three frames of four without what the frame before them shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from unibench import Method, Needs, Selection, Stage, StageContext
from unibench.annotations import Behind, Share
from unibench.methods import _video
from unibench.methods._variants import Reproduction
from unibench.ops import cells, shares, top_k
from unibench.pruning import StepContext

STEADY = 0.9  # cosine of attention to that of the step before, from which it has hardly changed
Pair = tuple[int, int]  # a frame that is pruned, and the frame it is compared with


@dataclass(frozen=True)
class DyCoke(Method):
    """Keeps the first of every four frames whole, and of the others the tokens that are least like
    the token at the same place in an earlier frame.

    In a window of four, the second and third frame are compared with the first, the fourth with the
    third. Nothing is averaged, although the code speaks of merging. With ``decode=restrict``,
    layers from ``layer`` on read at each decoding step only the share of the visual tokens that the
    new token attends to most in the layer before; while its attention hardly changes, the choice
    stays. It frees no memory, and answers of one token do not show it.

    Paper: DyCoke, CVPR 2025, arXiv 2411.15024.
    Code: KD-TAO/DyCoke@dd74634982 llava/model/llava_arch.py:dycole_ttm;
        llava/model/language_model/modeling_qwen2.py:PrunableDynamicCache for decoding.
    Cost: O(N D); decode: one row of attention at each step.
    Deviations: the pruned frames share what the whole ones leave of the budget (official: each
        keeps ``int((1 - k) n)``, counts=official); below a quarter of the tokens, where the method
        ends, the same is done again among the whole frames, and the row says so. Every window is
        pruned and an odd last frame stays (official: the third frame of the last window is left
        whole, the odd one is lost: variant=official_bug). Sequence order and original positions
        (official: by rising similarity, renumbered). The token behind a video stays and counts. A
        picture is a video of one frame, of which evenly spaced tokens stay. In decoding, a choice
        is used again while the cosine of attention to that of the step before is at least 0.9
        (official: everything is read then, and the last token before the newline always is:
        variant=official_bug), and nothing is remembered of the sample before. Newlines are always
        read. ``decode=evict`` is ours: the choice of the last prompt token, for all steps.

    Attributes:
        counts: budget or official.
        k: share dropped of a pruned frame, with counts=official.
        variant: default or official_bug.
        decode: none, restrict (what later layers read, at each step anew) or evict (once, from
            their caches).
        layer: the first decoder layer that reads less, at least 1.
        unread: share of the visual tokens that it does not read; published: 0.7 and 0.8.
    """

    counts: Literal["budget", "official"] = "budget"
    k: Share = 0.7
    variant: Reproduction = "default"
    decode: Literal["none", "restrict", "evict"] = "none"
    layer: Behind = 3
    unread: Share = 0.7
    category = "ViT only"
    aim = "diversity"

    @property
    def uses_budget(self) -> bool:
        return self.counts == "budget"

    @property
    def text_aware(self) -> bool:  # type: ignore[override]
        return self.decode != "none"

    def stages(self, depth: int) -> Sequence[Stage]:
        exact = self.counts == "budget" and self.variant == "default"
        needs = Needs(llm_attention=(self.layer - 1,) if self.decode == "evict" else ())
        return (Stage(0, self.select, needs, exact=exact),)

    def rereads(self, depth: int) -> int | None:
        return self.layer if self.decode == "restrict" else None

    @property
    def evicts(self) -> bool:
        return self.decode == "evict"

    def reselect(self, ctx: StepContext) -> Tensor | None:
        patches, newlines = (~ctx.separators).nonzero()[:, 0], ctx.separators.nonzero()[:, 0]
        given, before = ctx.attention.mean(0)[patches], ctx.memory.get("attention")
        if self.variant == "official_bug":
            # the code's number of visual tokens is one too small: the last is read anyhow
            given, newlines = given[:-1], torch.cat([patches[-1:], newlines])
        ctx.memory["attention"] = given
        if before is not None and float(cosine_similarity(given, before, dim=0)) >= STEADY:
            return None if self.variant == "official_bug" else ctx.memory["read"]
        # in floating point as in the code: 1 - 0.7 is 0.30000000000000004
        best = top_k(given, int(len(given) * (1 - self.unread)))
        ctx.memory["read"] = torch.cat([patches[best], newlines])
        return ctx.memory["read"]

    def evict(self, ctx: StageContext) -> Tensor | None:
        if ctx.layer < self.layer or not len(ctx.visual):
            return None
        # evict is called for each layer; the choice of the first holds for all
        if "read" not in ctx.memory:
            patches = (~ctx.separators).nonzero()[:, 0]
            given = ctx.attention(self.layer - 1)[:, 0].mean(0)[patches]
            best = top_k(given, int(len(given) * (1 - self.unread)))
            stays = torch.cat([patches[best], ctx.separators.nonzero()[:, 0]])
            # by original number, since caches of layers differ after a cut
            ctx.memory["read"] = ctx.vision_rows[stays]
        left = ctx.memory["read"].to(ctx.vision_rows.device)
        return torch.isin(ctx.vision_rows, left).nonzero()[:, 0]

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
                # dycole_ttm floors in floating point: k = 0.9 may lose a token
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
        # a window of four keeps at least its first frame, a quarter of the tokens
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
                # odd places look one frame back, the third of a window two
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
