"""Scenes found by dynamic programming; what stands still in a scene becomes one token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from unibench import Method, Needs, Selection, Stage, StageContext
from unibench.annotations import Behind, Cosine, Count, Share, Some
from unibench.cost.accounting import spread
from unibench.methods import _video
from unibench.ops import complement, cosine, grouped_sum, owned, product, shares, top_k
from unibench.ops.clustering import density_peaks


@dataclass(frozen=True)
class HoliTom(Method):
    """Keeps, of each scene, clusters of the means of what stands still, and the tokens the vision
    tower attends to of what moves.

    Scenes are the stretches of frames that save most tokens when places that resemble the frame
    before (cosine above ``tau``) become their mean over the scene. The means are clustered
    (DPC-kNN); moving tokens go by attention, frame by frame. With ``inner``, half of what is left
    is merged into the other half in the language model, by the attention of the last prompt token.

    Paper: HoliTom, NeurIPS 2025, arXiv 2505.21334.
    Code: cokeshao/HoliTom@e9b2972f68 holitom/llava_arch.py, holitom/modeling_qwen2.py.
    Cost: O(N D) for the scenes, O(n^2 D) a scene for the clusters; inner: one row of attention and
        O(K (N - K) D).
    Deviations: the budget is shared by still groups and frames in proportion to their size
        (official: rounded for each group, a little more in all: counts=official). A budget above
        what the scenes leave adds still tokens of later frames, most attended first, and the row
        says so. Still rows stand in the first frame of their scene, at the cluster's centre;
        original positions; of equal densities the lower index. Towers with a CLS token give its
        attention. The token behind a video stays and counts; newlines of the grid: ``newlines``.

    Attributes:
        tau: cosine above which a place stands still; published: 0.65 at 10 % kept, else 0.8.
        beta: weight of a cluster's centre against the mean of its members.
        plain: cluster rows are means of centre and members instead.
        neighbours: rows in a density.
        window: longest scene, in frames.
        counts: budget or official.
        retention: share kept that official counts start from, instead of the budget.
        newlines: counted, or rows: beyond the budget, those of grid rows that keep a patch.
        inner: whether tokens are merged again in the language model, beyond the budget.
        layer: the decoder layer whose input is cut then; None is 18 of 28, at the same relative
            depth.
        removed: share removed there.
    """

    tau: Cosine = 0.8
    beta: Share = 0.6
    plain: bool = False
    neighbours: Count = 7
    window: Count = 1024
    counts: Literal["budget", "official"] = "budget"
    retention: Some | None = None
    newlines: Literal["counted", "rows"] = "counted"
    inner: bool = False
    layer: Behind | None = None
    removed: Share = 0.5
    data_timed: ClassVar[bool] = True
    centres: ClassVar[bool] = True
    needs: ClassVar[Needs] = Needs(saliency=True, separators=True)
    corrected = frozenset({"saliency"})
    category = "ViT only"
    aim = "hybrid"

    @property
    def uses_budget(self) -> bool:
        return self.counts == "budget" or self.retention is None

    @property
    def text_aware(self) -> bool:  # type: ignore[override]
        return self.inner

    def stages(self, depth: int) -> Sequence[Stage]:
        exact = self.counts == "budget" and self.newlines == "counted"
        outer = Stage(0, self.select, self.needs, exact=exact)
        if not self.inner:
            return (outer,)
        (layer,) = spread((18,), 28, depth) if self.layer is None else (self.layer,)
        needs = Needs(llm_attention=(layer - 1,))
        count = partial(_left, self.removed)
        return (outer, Stage(layer, self._merge, needs, count, exact=exact))

    def select(self, ctx: StageContext) -> Selection:
        _video.refuse_parts(ctx, "holitom")
        attention = ctx.saliency().to(ctx.hidden.device)
        features, parts = ctx.visual_hidden, _video.videos(ctx)
        if self.newlines == "rows":
            ctx.note("holitom: newlines of rows that keep a patch stay beyond the budget")
            budget, staying = min(ctx.keep, sum(map(len, parts))), ctx.visual[:0]
        else:
            budget, staying = _video.counted(ctx)
        kept, values = [staying], [features[staying]]
        owner = torch.full_like(ctx.visual, -1)
        for part, keep in zip(parts, _video.divided(budget, parts), strict=True):
            rows = part.rows.flatten()
            places, own, merged = self._video(ctx, features[part.rows], attention[part.rows], keep)
            kept.append(rows[places])
            values.append(merged)
            owner[rows] = rows[own].masked_fill(own < 0, -1)
        if self.newlines == "rows":
            kept.append(_video.beyond(ctx, "rows", torch.cat(kept)))
            values.append(features[kept[-1]])
        left = torch.cat(kept)
        return Selection(left, torch.cat(values), members=lambda: owned(owner, left))

    def _video(
        self, ctx: StageContext, features: Tensor, attention: Tensor, keep: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Places in ``features [T, n, D]``, flattened over frames, that are kept, the one that each
        went into, -1 for none, and the rows.
        """
        frames, size = attention.shape
        alike = cosine_similarity(features[1:], features[:-1], dim=-1, eps=1e-8) > self.tau
        found, gone = scenes(alike, self.window)
        # alike[t] compares frames t and t + 1, so a scene of m frames has m - 1 rows
        still = [alike[s.start : s.stop - 1].all(0) & (len(s) > 1) for s in found]
        groups = [(mask.nonzero()[:, 0], (~mask).nonzero()[:, 0]) for mask in still]
        counts = self._counts(ctx, found, groups, keep, frames * size - gone)
        spare = torch.zeros_like(attention, dtype=torch.bool)
        number = keep - sum(sum(scene) for scene in counts)
        if number > 0 and self.counts == "budget":
            ctx.note("holitom: the budget exceeds what the scenes leave; still tokens stay as well")
            for scene, mask in zip(found, still, strict=True):
                # the first frame of a scene holds the mean and is taken already
                spare[scene.start + 1 : scene.stop] = mask
            more = top_k(attention.masked_fill(~spare, -torch.inf).flatten(), number)
            spare = torch.zeros_like(spare.flatten()).index_fill(0, more, True).view_as(spare)
        places, rows = [spare.flatten().nonzero()[:, 0]], [features[spare]]
        own = torch.full_like(spare, -1, dtype=torch.long)
        for scene, (fixed, moving), (first, *others) in zip(found, groups, counts, strict=True):
            part = slice(scene.start, scene.stop)
            joins = ~spare[part, fixed]
            centre, slot, merged = self._still(features[part, fixed], joins, first)
            places.append(scene.start * size + fixed[centre])
            rows.append(merged)
            if first:
                own[part, fixed] = places[-1][slot].expand_as(joins).masked_fill(~joins, -1)
            for frame, count in zip(scene, others, strict=True):
                seen = moving[top_k(attention[frame, moving], count)]
                places.append(frame * size + seen)
                rows.append(features[frame, seen])
        return torch.cat(places), own.flatten(), torch.cat(rows)

    def _counts(
        self,
        ctx: StageContext,
        found: Sequence[range],
        groups: Sequence[tuple[Tensor, Tensor]],
        keep: int,
        left: int,
    ) -> list[list[int]]:
        """For each scene, rows of what stands still, then of what moves in each of its frames.

        Args:
            ctx: takes a note.
            found: the scenes.
            groups: places that stand still and places that move, of each scene.
            keep: the budget.
            left: tokens when what stands still is one for a scene.
        """
        sizes = [
            [len(fixed), *[len(moving)] * len(scene)]
            for scene, (fixed, moving) in zip(found, groups, strict=True)
        ]
        if self.counts == "budget":
            parts = iter(shares(min(keep, left), list(chain.from_iterable(sizes))))
            return [list(islice(parts, len(scene))) for scene in sizes]
        ctx.note("holitom: official counts, the budget is not met exactly")
        total = found[-1].stop * sum(map(len, groups[0]))
        retention = keep / total if self.retention is None else self.retention
        # the rate is of what the scenes leave, so that the whole comes to retention
        share = min(1.0, retention * total / left)
        # halves to even for what stands still, upwards for what moves
        return [
            [round(first * share), *(math.ceil(size * share) for size in others)]
            for first, *others in sizes
        ]

    def _still(self, features: Tensor, joins: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Cluster centres among ``n`` places of a scene, the cluster of each, and their rows.

        Args:
            features: ``[frames, n, D]``.
            joins: ``[frames, n]`` False on tokens that stay by themselves and join no mean.
            count: of clusters.
        """
        weight = joins.to(features)[..., None]
        # never 0: the first frame of a scene always joins
        means = (features * weight).sum(0) / weight.sum(0)
        each = torch.arange(len(means), device=means.device)
        if count == len(means):
            return each, each, means
        if not count:
            return each[:0], each, means[:0]
        clusters = density_peaks(means, count, min(self.neighbours, count))
        inside = torch.nn.functional.one_hot(clusters.slot, count).T.to(means)
        centres = means[clusters.centre]
        if self.plain:
            mean = product(inside, means) / inside.sum(1, keepdim=True)
            return clusters.centre, clusters.slot, mean
        inside[torch.arange(count, device=inside.device), clusters.centre] = 0
        members = inside.sum(1, keepdim=True)
        mean = product(inside, means) / members.clamp_min(1)
        joined = self.beta * centres + (1 - self.beta) * mean
        return clusters.centre, clusters.slot, torch.where(members > 0, joined, centres)

    def _merge(self, ctx: StageContext) -> Selection | None:
        """The cut inside the language model: each dropped token joins the kept one most like it."""
        if ctx.keep >= len(ctx.visual):
            return None
        ctx.note(f"holitom inner: {self.removed:g} of the tokens merged in the language model")
        kept = top_k(ctx.attention(ctx.layer - 1)[:, 0].mean(0), ctx.keep)
        gone = complement(kept, len(ctx.visual))
        states = ctx.visual_hidden
        target = cosine(states[gone], states[kept]).argmax(1)
        owner = torch.arange(len(states), device=kept.device).index_copy(0, gone, kept[target])
        values = halved(states[kept], states[gone], target)
        return Selection(kept, values, members=lambda: owned(owner, kept))


def scenes(alike: Tensor, longest: int) -> tuple[list[range], int]:
    """The division of a video into scenes that saves most tokens, and how many it saves.

    A scene of ``m`` frames saves ``m - 1`` tokens for each place that is alike in all of them. Of
    equally good divisions a frame of its own wins, then the shorter last scene.

    Args:
        alike: ``[T - 1, n]`` whether a place of frame t resembles the same place of frame t + 1.
        longest: most frames in a scene.

    >>> scenes(torch.tensor([[True, True], [False, False], [True, False]]), 8)
    ([range(0, 2), range(2, 4)], 3)
    """
    frames = len(alike) + 1
    places = _places_alike(alike)
    best, length = [0] * (frames + 1), [1] * (frames + 1)  # of the first i frames
    for stop in range(1, frames + 1):
        best[stop] = best[stop - 1]
        for size in range(2, min(stop, longest) + 1):
            saved = best[stop - size] + (size - 1) * places[stop - 1][size - 1]
            if saved > best[stop]:
                best[stop], length[stop] = saved, size
    found, stop = [], frames
    while stop:
        found.append(range(stop - length[stop], stop))
        stop -= length[stop]
    return found[::-1], best[frames]


def _places_alike(alike: Tensor) -> list[list[int]]:
    """``[T][steps]``: places that have been alike over the last ``steps`` steps up to a frame."""
    frames = len(alike) + 1
    runs = [torch.zeros(alike.shape[1], dtype=torch.long, device=alike.device)]
    for step in alike:
        runs.append((runs[-1] + 1) * step)
    # one histogram for all frames: looking at the device once
    offset = torch.arange(frames, device=alike.device)[:, None] * frames
    exactly = torch.bincount((torch.stack(runs) + offset).flatten(), minlength=frames**2)
    # a run of k steps up to a frame is one of k - 1, k - 2, ... as well
    at_least: list[list[int]] = exactly.view(frames, frames).flip(1).cumsum(1).flip(1).tolist()
    return at_least


def halved(kept: Tensor, gone: Tensor, target: Tensor) -> Tensor:
    """Rows after each of ``gone`` joined its target in turn, ``(row + joining) / 2`` each time.

    Args:
        kept: ``[K, D]``.
        gone: ``[M, D]``.
        target: ``[M]`` which kept row each joins.
    """
    count = torch.bincount(target, minlength=len(kept))
    order = target.argsort(stable=True)
    before = count.cumsum(0) - count
    turn = torch.empty_like(target)
    turn[order] = torch.arange(len(target), device=target.device) - before[target[order]]
    # the last to join weighs a half, the row itself as much as the first
    weight = 0.5 ** (count[target] - turn).to(gone)
    summed = grouped_sum(gone * weight[:, None], target, len(kept))
    return kept * (0.5 ** count.to(kept))[:, None] + summed


def _left(removed: float, keep: int, total: int) -> int:
    """Tokens after the inner cut; halves go to even, as in the code."""
    return max(1, round(keep * (1 - removed)))
