"""Attended, different tokens; the rest as trees over time and clusters within frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from unibench import Method, Needs, Selection, Stage, StageContext
from unibench.annotations import Behind, Cosine, Count, Positive, Share, Some
from unibench.cost.accounting import rounded, spread
from unibench.methods import _video
from unibench.methods._variants import Reproduction
from unibench.ops import membership, owned, product, shares, top_k, unit
from unibench.ops.clustering import density_peaks

NEIGHBOURS = 7  # most rows in a density, the row itself among them


@dataclass(frozen=True)
class FlashVID(Method):
    """Keeps, in each frame, tokens that the vision tower attends to and that differ from each
    other, and the means of trees and clusters that the others form.

    Of a frame's budget, ``alpha`` goes to tokens picked greedily by attention times distance to
    those picked before. In a segment of like frames, every other token joins the most similar one
    of the frame before if their cosine exceeds ``temporal``; each tree becomes its mean, in the
    place of its earliest token. What is left is clustered within its frame (DPC-kNN). With
    ``llm``, or where the budget is a mean over layers, the attention of the last prompt token cuts
    again in the language model.

    Paper: FlashVID, ICLR 2026, arXiv 2602.08024.
    Code: Fanziyang-v/FlashVID@1d37422c5a flashvid/utils.py, flashvid/token_selection.py.
    Cost: O(T n^2 D) three times for frames of n tokens, T n^2 floats; llm: one row of attention.
    Deviations: a tree is the mean of all its tokens (official: a token that moves on counts as one
        whatever it carries) and a segment of one frame clusters what was not picked (official: all
        of it): variant=official_bug, where a token that is picked and a centre stays once. Frames
        share the budget in proportion to their size, and a segment's clusters are divided among its
        frames (official: rounded up for each: counts=official). Of equal densities the lower index
        wins (official: noise); nothing is picked twice. Original positions. The token behind a
        video stays and counts, newlines behind rows go first.

    Attributes:
        alpha: share of a frame's budget that is picked.
        diversity: v2: the picking also weighs how much a token agrees with the mean of its segment
            (published for LLaVA), or v1 (for Qwen).
        temporal: cosine above which a token joins one of the frame before.
        segment: cosine of consecutive frames' means below which a segment ends; 0: one segment.
        segments: at least so many; published: 8 (LLaVA), 4 (Qwen).
        llm: whether the language model cuts again, beyond a budget that is met at layer 0.
        layer: the decoder layer whose input is cut then; None is 20 of 28, at the same relative
            depth.
        share: share of the tokens that stay there.
        counts: budget, or official: with ``expansion`` times the budget before the language model.
        retention: share kept that official counts start from, instead of the budget.
        expansion: see ``counts``.
        variant: default or official_bug.
    """

    alpha: Share = 0.7
    diversity: Literal["v1", "v2"] = "v2"
    temporal: Cosine = 0.8
    segment: Cosine = 0.9
    segments: Count = 8
    llm: bool = False
    layer: Behind | None = None
    share: Share = 0.3
    counts: Literal["budget", "official"] = "budget"
    retention: Some | None = None
    expansion: Positive = 1.25
    variant: Reproduction = "default"
    data_timed: ClassVar[bool] = True
    centres: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs(saliency=True, separators=True)
    category = "ViT only"
    aim = "hybrid"

    @property
    def uses_budget(self) -> bool:
        return self.counts == "budget" or self.retention is None

    @property
    def text_aware(self) -> bool:  # type: ignore[override]
        return self.llm

    def stages(self, depth: int) -> Sequence[Stage]:
        outer = Stage(0, self.select, self.needs, exact=self._exact)
        count = partial(_ceiled, self.share)
        return (outer, self._inner(depth, count)) if self.llm else (outer,)

    def averaged(self, depth: int) -> Sequence[Stage]:
        """As published: the same mean over layers by more tokens before the cut than after it."""
        layer = self._inner(depth).layer
        before = partial(_before, layer, depth, self.share)
        after = partial(_after, layer, depth, self.share)
        outer = Stage(0, self.select, self.needs, before, exact=self._exact)
        return (outer, self._inner(depth, after))

    @property
    def _exact(self) -> bool:
        return self.counts == "budget" and self.variant == "default"

    def _inner(self, depth: int, count: Callable[[int, int], int] | None = None) -> Stage:
        """The cut in the language model."""
        (layer,) = spread((20,), 28, depth) if self.layer is None else (self.layer,)
        needs = Needs(llm_attention=(layer - 1,))
        return Stage(layer, self._attended, needs, count, exact=self._exact)

    def _attended(self, ctx: StageContext) -> Selection:
        return Selection(top_k(ctx.attention(ctx.layer - 1)[:, 0].mean(0), ctx.keep))

    def select(self, ctx: StageContext) -> Selection:
        _video.refuse_parts(ctx, "flashvid")
        if self.counts == "official":
            ctx.note("flashvid: official counts, the budget is not met exactly")
        if self.variant == "official_bug":
            ctx.note("flashvid official_bug: sums of trees divided by too small a number")
        attention = ctx.vision.received(ctx.family.saliency_layer).to(ctx.hidden.device)
        features, parts = ctx.visual_hidden, _video.videos(ctx)
        budget, staying = _video.counted(ctx)
        kept, values = [staying], [features[staying]]
        owner = torch.full_like(ctx.visual, -1)
        for part, keep in zip(parts, _video.divided(budget, parts), strict=True):
            places, own, rows = self._video(features[part.rows], attention[part.rows], keep)
            tokens = part.rows.flatten()
            kept.append(tokens[places])
            values.append(rows)
            owner[tokens] = tokens[own].masked_fill(own < 0, -1)
        left = torch.cat(kept)
        return Selection(left, torch.cat(values), members=lambda: owned(owner, left))

    def _video(
        self, features: Tensor, attention: Tensor, keep: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Places in ``features [T, n, D]``, flattened over frames, that are kept, the one that each
        went into, -1 for none, and the rows.
        """
        frames, size = attention.shape
        if self.counts == "official":
            retention = keep / attention.numel() if self.retention is None else self.retention
            # b = ceil(n R e), of which ceil(b alpha) are picked
            each = [math.ceil(size * retention * self.expansion)] * frames
        else:
            each = shares(keep, [size] * frames)
        picks = [math.ceil(count * self.alpha) for count in each]
        means = features.mean(1)
        alike = cosine_similarity(means[1:], means[:-1], dim=-1).tolist()  # waits for the device
        found = segments_of(alike, self.segment, self.segments)
        places, owners, rows = [], [], []
        for segment in found:
            part, before = slice(segment.start, segment.stop), segment.start * size
            inside = self._segment(features[part], attention[part], each[part], picks[part])
            places.append(before + inside[0])
            owners.append((before + inside[1]).masked_fill(inside[1] < 0, -1))
            rows.append(inside[2])
        return torch.cat(places), torch.cat(owners), torch.cat(rows)

    def _segment(
        self, features: Tensor, attention: Tensor, each: Sequence[int], picks: Sequence[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Places in a segment ``[L, n, D]``, flattened over frames, that are kept, the one that
        each went into, -1 for none, and the rows.

        Args:
            features: of the segment.
            attention: ``[L, n]``.
            each: budget of each frame.
            picks: how many of it are picked.
        """
        frames, size = attention.shape
        weight = attention
        if self.diversity == "v2":
            # a dot product with the segment's mean row, not a cosine
            weight = weight * product(features, features.mean((0, 1))[:, None])[..., 0]
        picked = picked_of(features, weight, picks)
        root = torch.arange(frames * size, device=features.device)
        if frames > 1:
            root, trees = self._trees(features, picked, sum(each))
            stays = root.view(frames, size) == torch.arange(size * frames).to(root).view_as(picked)
            free = stays & ~picked
        else:
            trees, free = features, ~picked
            if self.variant == "official_bug":
                free = torch.ones_like(picked)
        numbers = free.sum(1).tolist()  # waits for the device
        clusters = self._clusters(sum(each) - sum(picks), numbers)
        places, rows = [picked.flatten().nonzero()[:, 0]], [features[picked]]
        owner = torch.full_like(root, -1)
        for frame, count in enumerate(clusters):
            open_to = free[frame].nonzero()[:, 0]
            centre, slot, means = _clustered(trees[frame, open_to], count)
            new = ~picked[frame, open_to[centre]]  # not both picked and a centre
            places.append(frame * size + open_to[centre[new]])
            rows.append(means[new])
            if count:
                at = (frame * size + open_to[centre]).masked_fill(~new, -1)
                owner[frame * size + open_to] = at[slot]
        return torch.cat(places), owner[root], torch.cat(rows)

    def _trees(self, features: Tensor, picked: Tensor, budget: int) -> tuple[Tensor, Tensor]:
        """``[L * n]`` the root of each token's tree, and the rows of the trees ``[L, n, D]``."""
        rows = unit(features)
        likeness = product(rows[1:], rows[:-1].transpose(1, 2))  # [L - 1, n, n]
        # a picked token goes on unchanged: it neither joins nor is joined
        likeness = likeness.masked_fill(picked[:-1, None, :], -torch.inf)
        best, parent = likeness.max(-1)
        # -1 is below every cosine: the first frame has no parents, and picked tokens stay
        best = torch.cat([torch.full_like(best[:1], -1), best.masked_fill(picked[1:], -1)])
        moves = best > self.temporal
        if int((~moves).sum()) < budget:  # waits for the device
            most = best.numel() - budget
            limit = best.flatten().sort(descending=True).values[most - 1] if most else torch.inf
            moves = best > limit
        root = torch.arange(moves.numel(), device=moves.device).view_as(moves)
        for frame in range(1, len(features)):
            above = root[frame - 1, parent[frame - 1]]
            root[frame] = torch.where(moves[frame], above, root[frame])
        total, size = features.clone(), features.new_ones(features.shape[:2])
        # from the last frame to the first, so that what a token gathered moves on with it
        for frame in range(len(features) - 1, 0, -1):
            going = membership(parent[frame - 1], features.shape[1], moves[frame]).to(features)
            carried = size[frame]
            if self.variant == "official_bug":
                # a token that moves on counts as one whatever it carries: sums grow with the chain
                carried = torch.ones_like(carried)
            total[frame - 1] += product(going, total[frame])
            size[frame - 1] += product(going, carried[:, None])[:, 0]
        return root.flatten(), total / size[..., None]

    def _clusters(self, budget: int, numbers: Sequence[int]) -> list[int]:
        """Clusters of each frame, from the tokens it has left."""
        if budget >= sum(numbers):
            return list(numbers)
        if self.counts == "budget" or (len(numbers) == 1 and self.variant == "default"):
            return shares(budget, numbers)
        ratio = budget / sum(numbers)  # as the code rounds
        return [math.ceil(number * ratio) for number in numbers]


def segments_of(alike: Sequence[float], limit: float, least: int) -> list[range]:
    """Segments of frames: cut where consecutive frames are less alike than ``limit``, and where
    they are least alike among the others until there are ``least`` segments.

    >>> segments_of([0.95, 0.5, 0.97], 0.9, 3), segments_of([0.95, 0.99], 0.9, 8)
    ([range(0, 1), range(1, 2), range(2, 4)], [range(0, 1), range(1, 2), range(2, 3)])
    """
    if not limit:
        return [range(len(alike) + 1)]
    cuts = [place for place, value in enumerate(alike) if value < limit]
    others = [place for place, value in enumerate(alike) if value >= limit]
    missing = max(0, least - len(cuts) - 1)
    cuts += sorted(others, key=lambda place: alike[place])[:missing]
    return _video.segments(cuts, len(alike) + 1)


def picked_of(features: Tensor, weight: Tensor, counts: Sequence[int]) -> Tensor:
    """``[T, n]`` True on tokens picked in each frame, each the greatest of weight times distance
    to the picks before; the first by its distance to the nearest other token.

    Args:
        features: ``[T, n, D]``.
        weight: ``[T, n]``.
        counts: picks of each frame.
    """
    rows = unit(features)
    apart = 1 - product(rows, rows.transpose(1, 2))  # [T, n, n]
    picked = torch.zeros_like(weight, dtype=torch.bool)
    wanted = torch.tensor(counts, device=weight.device)
    frame = torch.arange(len(weight), device=weight.device)
    # the second smallest of a column is the distance to the nearest other token
    near = (apart * weight[:, None, :]).topk(min(2, weight.shape[1]), 1, largest=False)
    closest = near.values[:, -1]  # the smallest is its own
    for step in range(max(counts)):
        pick = closest.masked_fill(picked, -torch.inf).argmax(1)
        picked[frame, pick] |= step < wanted
        reached = apart[frame, pick] * weight
        closest = reached if step == 0 else torch.minimum(closest, reached)
    return picked


def _clustered(rows: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Centres of clusters among ``rows [m, D]``, the cluster of each, and their means."""
    each = torch.arange(len(rows), device=rows.device)
    if count >= len(rows):
        return each, each, rows
    if not count:
        return each[:0], each, rows[:0]
    found = density_peaks(rows, count, min(count, NEIGHBOURS))
    inside = torch.nn.functional.one_hot(found.slot, count).T.to(rows)
    return found.centre, found.slot, product(inside, rows) / inside.sum(1, keepdim=True)


def _ceiled(share: float, keep: int, total: int) -> int:
    return math.ceil(keep * share)


def _before(layer: int, depth: int, share: float, average: int, total: int) -> int:
    """Tokens before the cut so that the mean over layers is ``average``."""
    left = Fraction(str(share))
    # depth / (K + share (depth - K)) is the published expansion of 1.25
    return min(total, rounded(average * depth / (layer + left * (depth - layer))))


def _after(layer: int, depth: int, share: float, average: int, total: int) -> int:
    """Tokens after the cut."""
    before = _before(layer, depth, share, average, total)
    if before < total:
        return max(1, rounded(before * Fraction(str(share))))
    # the tokens before the cut are all there are: more than the share has to stay
    return min(total, max(1, rounded(Fraction(average * depth - layer * total, depth - layer))))
