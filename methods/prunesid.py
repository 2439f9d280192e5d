"""Principal components group the tokens; what survives suppression sets each group's budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from unibench import Method, Needs, Selection, Stage, StageContext
from unibench.ops import components, cosine, independent, places_within, ranking, top_k


@dataclass(frozen=True)
class PruneSID(Method):
    """Keeps the best tokens of each semantic group, more where fewer of the group are alike.

    The principal components of the tokens are the groups; a token belongs to the component that it
    loads most on. Inside a group the token of highest score suppresses those too similar to it, and
    so on: what survives comes first, and the budget is shared in proportion to survivors.

    Paper: PruneSID ("Prune Redundancy, Preserve Essence"), ICLR 2026, arXiv 2603.09480.
    Code: ZhengyaoFang/PruneSID@4ef17d96 prunesid/prunesid_llava/clip_encoder.py;
        prunesid/prunesid_qwen/modeling_qwen2_vl.py (variant=qwen).
    Finding: the official components come from a random start that is never seeded, so that two runs
        of one picture share about .6 to .8 of their tokens (Jaccard, N = 576); and the threshold is
        above 1, so that nothing is suppressed, as soon as the mean cosine is above 32 / keep. The
        paper's count that follows the picture's complexity is not in the release.
    Cost: O(N^2 D) for two N x N matrices and O(N^2 K) for K / 4 components (exact ones up to 1,024
        tokens: O(N^3)), N x N floats.
    Deviations: the same components on every run, see :func:`unibench.ops.components`; sequence
        order, where the official code hands on the tokens group by group; the budget counts patches
        only (variant=official spends one on the CLS row: its numbers with ``keep`` + 1). Towers
        without a CLS token follow the Qwen code, whose score is the loading, and the row says so.
        One pool for all crops (officially each by itself: budget.scope=tile).

    Attributes:
        variant: default, official or qwen.
    """

    variant: Literal["default", "official", "qwen"] = "default"
    data_timed: ClassVar[bool] = True  # on a GPU the rounds of suppression depend on the picture
    category = "ViT only"
    aim = "hybrid"

    def stages(self, depth: int) -> Sequence[Stage]:
        seen = self.variant != "qwen"
        return (Stage(0, self.select, Needs(saliency=seen, features=seen)),)

    def select(self, ctx: StageContext) -> Selection:
        count = len(ctx.visual)
        if ctx.keep >= count:
            return Selection(torch.arange(count, device=ctx.visual.device))
        by_loading = self.variant == "qwen"
        if not by_loading and not ctx.family.prefix_tokens:
            ctx.note("prunesid: scores from the loadings, as the Qwen code has them (no CLS token)")
            by_loading = True
        features = ctx.visual_hidden if by_loading else ctx.encoder_features()[0]
        # the published number counts the CLS row, which is no patch
        wanted = ctx.keep + (self.variant == "official")
        least = 4 if by_loading and ctx.keep >= 4 else 1
        # there are no more components than tokens or channels
        groups = min(max(wanted // 4, least), *features.shape)
        # the sign of a component is arbitrary
        loading, slot = components(centred(features), groups).abs().max(1)
        similarity, score = cosine(features), loading if by_loading else ctx.saliency()
        alike = similarity > threshold(similarity, wanted, by_loading)
        survives = independent(alike & (slot[:, None] == slot[None]), score)
        order = ranking(score)
        order = order[ranking(survives[order].to(score))]  # survivors first, each by falling score
        # each group keeps the first of its own ranking
        chosen = places_within(slot, order, groups) < shared(
            slot, survives, groups, wanted, ctx.keep
        ).gather(0, slot)
        # as indices in order, without asking the device how many there are
        return Selection(top_k(chosen.to(score), ctx.keep))


def centred(features: Tensor) -> Tensor:
    """What the components are of, ``[N, D]``: squashed features, centred within each token."""
    squashed = features.sigmoid()
    return squashed - squashed.mean(1, keepdim=True)


def threshold(similarity: Tensor, wanted: int, by_loading: bool) -> Tensor:
    """The similarity above which one token suppresses another.

    Args:
        similarity: ``[N, N]`` cosines.
        wanted: the budget.
        by_loading: the rule of the Qwen code.
    """
    count, own = len(similarity), similarity.diagonal().sum()
    if by_loading:  # the Qwen code divides the upper triangle by all pairs: half the mean
        half = (similarity.sum() + own) / (2 * count**2)
        return half * max(wanted / (count / 18), 1.0)
    # the mean over pairs of different tokens
    return (similarity.sum() - own) / (count * (count - 1)) * (wanted / 32)


def shared(slot: Tensor, survives: Tensor, groups: int, wanted: int, keep: int) -> Tensor:
    """Tokens that each group may keep, ``[groups]``: ``keep`` in all, in proportion to survivors.

    Args:
        slot: ``[N]`` the group of each token.
        survives: ``[N]`` what suppression left.
        groups: their number; some may be empty.
        wanted: the budget as the caps count it.
        keep: at least the number of groups, below N.
    """
    empty = torch.zeros(groups, dtype=torch.long, device=slot.device)
    size = empty.index_add(0, slot, torch.ones_like(slot))
    alive = empty.index_add(0, slot, survives.long())
    least = size.clamp_max(1)
    # literals of the code: at most 5 of a group for each 64 tokens
    most = torch.minimum(size, alive).clamp_max(5 * math.ceil(wanted / 64))
    # all caps rise together until they hold the budget; suppressed tokens come in again
    rise = torch.arange(wanted + 1, device=slot.device)[:, None]
    most = torch.minimum(most + (torch.minimum(most + rise, size).sum(1) < wanted).sum(), size)
    free, before = keep - least.sum(), alive.cumsum(0)
    # halves to even in float32, as in the code
    reached = (free * before.float() / before[-1]).round().long()
    given = torch.minimum(reached.diff(prepend=reached[:1] * 0) + least, most)
    order = ranking(alive)  # what a cap refuses goes to the groups with most survivors
    room = (most - given)[order]
    left = keep - given.sum() - (room.cumsum(0) - room)
    return given.index_add(0, order, torch.minimum(left.clamp_min(0), room))
