"""Scenes by clustering frames; what stands still is averaged, the rest clustered, then read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import ClassVar, Literal

import torch
from torch import Tensor

from unibench import Method, Needs, Selection, Stage, StageContext
from unibench.annotations import Behind, Cosine, Share, Some
from unibench.cost.accounting import rounded, spread
from unibench.methods import _video
from unibench.ops import owned, product, shares, top_k, unit
from unibench.ops.clustering import density_peaks
from unibench.pruning.attention import attention_rows

NEIGHBOURS = 7  # rows in a density, the row itself among them
SINGLE = 14  # groups of at most so many tokens are not clustered


@dataclass(frozen=True)
class PruneVid(Method):
    """Keeps means of what is alike in time and space, and of these what the text after the video
    attends to.

    Frames are clustered (DPC-kNN on their means) and cluster labels smoothed into segments. In a
    segment, places with a mean cosine above ``tau`` between all its frames are static and become
    their mean over time. The static tokens, and the others of each frame, are clustered, and each
    cluster becomes its mean. After one decoder layer, the attention of the text on these rows,
    without rotation and causal mask, keeps the best of every group, and the caches of the layers up
    to it lose the others before decoding.

    Paper: PruneVid, Findings of ACL 2025, arXiv 2412.16117.
    Code: Visual-AI/PruneVid@b12600c617 models/pllava/modeling_pllava.py, elastic_cache.py.
    Cost: O(N D) and O(n^2 D) for each group of n tokens; O(H M L) attention for M text tokens.
    Deviations: the budget is shared by the groups in proportion to their size (official: ``alpha``
        of each, rounded down: counts=official). What the first stage leaves depends on the video:
        where it is less than the budget, nothing else is cut, and the row has what it is. Sequence
        order and original positions, cluster means in the place of their centre, static ones in
        the first frame of their segment. Of equal densities the lower index wins (official: noise).
        Fewer than 7 frames take all of them into the density; one frame, as a picture, has no
        static tokens. Separators are not merged; the one behind a video stays and counts.

    Attributes:
        segments: clusters of frames, as a share of their number.
        tau: mean cosine above which a place is static.
        clusters: clusters of tokens, as a share of their number.
        layer: the decoder layer whose attention selects; None is 10 of 32, at the same relative
            depth.
        counts: budget or official.
        alpha: share that stays of each group, with counts=official.
    """

    segments: Some = 0.25
    tau: Cosine = 0.8
    clusters: Some = 0.5
    layer: Behind | None = None
    counts: Literal["budget", "official"] = "budget"
    alpha: Share = 0.4
    adaptive: ClassVar[bool] = True
    data_timed: ClassVar[bool] = True
    centres: ClassVar[bool] = True
    text_aware: ClassVar[bool] = True
    category = "hybrid"
    aim = "hybrid"

    @property
    def uses_budget(self) -> bool:
        return self.counts == "budget"

    def stages(self, depth: int) -> Sequence[Stage]:
        return self._cuts(depth, self._read)

    def averaged(self, depth: int) -> Sequence[Stage]:
        """The second cut then makes up for what the layers before it process."""
        return self._cuts(depth, partial(self._read, depth=depth))

    def _cuts(self, depth: int, read: Callable[[StageContext], Selection | None]) -> list[Stage]:
        (after,) = spread((11,), 32, depth) if self.layer is None else (self.layer + 1,)
        return [
            Stage(0, self._merge, count=lambda keep, total: total, exact=False),
            Stage(after, read, Needs(llm_attention=(after - 1,)), exact=False),
        ]

    def _merge(self, ctx: StageContext) -> Selection:
        """The cut before the language model; notes the group of each row that stays."""
        _video.refuse_parts(ctx, "prunevid")
        features = ctx.visual_hidden
        separators = torch.cat(_video.separators(ctx))
        kept, values = [separators], [features[separators]]
        # -1 on separators, which belong to no group
        group = torch.full((_video.numbered(ctx),), -1, device=features.device)
        number, owner = 0, torch.full_like(ctx.visual, -1)
        for part in _video.videos(ctx):
            tokens = part.rows.flatten()
            for places, joining, slot, rows in self._groups(features[part.rows]):
                kept.append(tokens[places])
                values.append(rows)
                owner[tokens[joining]] = kept[-1][slot]
                group[ctx.vision_rows[kept[-1]]] = number
                number += 1
        ctx.memory["group"] = group
        left = torch.cat(kept)
        return Selection(left, torch.cat(values), members=lambda: owned(owner, left))

    def _groups(self, features: Tensor) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Places in ``features [T, n, D]``, flattened over frames, that stay, all places that go
        into rows, the row that each goes into, and the rows; of the static tokens of each segment
        and the others of each of its frames.
        """
        size = features.shape[1]
        found = []
        for segment in self._segments(features.mean(1)):
            frames = features[segment.start : segment.stop]
            static = stillness(frames) > self.tau
            still, moving = static.nonzero()[:, 0], (~static).nonzero()[:, 0]
            centre, slot, rows = self._clustered(frames[:, still].mean(0))
            first = size * torch.arange(segment.start, segment.stop, device=still.device)
            joining = (first[:, None] + still).flatten()
            slot = slot.repeat(len(segment))
            found.append((segment.start * size + still[centre], joining, slot, rows))
            for frame in segment:
                centre, slot, rows = self._clustered(features[frame, moving])
                places = frame * size + moving
                found.append((places[centre], places, slot, rows))
        return found

    def _segments(self, means: Tensor) -> list[range]:
        """The segments of a video, from the mean token of each frame ``[T, D]``."""
        count = len(means)
        # the code floors, and fails where nothing is left
        wanted = max(1, int(count * self.segments))
        labels = density_peaks(means, wanted, min(NEIGHBOURS, count)).slot.tolist()
        smooth = smoothed(labels)
        cuts = [place for place in range(count - 1) if smooth[place] != smooth[place + 1]]
        return _video.segments(cuts, count)

    def _clustered(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Centres of clusters among ``rows [m, D]``, the cluster of each, and their means."""
        if len(rows) <= SINGLE:
            each = torch.arange(len(rows), device=rows.device)
            return each, each, rows
        count = max(1, int(len(rows) * self.clusters))
        # more than 14 rows, so 7 neighbours are there
        found = density_peaks(rows, count, NEIGHBOURS)
        inside = torch.nn.functional.one_hot(found.slot, count).T.to(rows)
        return found.centre, found.slot, product(inside, rows) / inside.sum(1, keepdim=True)

    def _read(self, ctx: StageContext, depth: int | None = None) -> Selection | None:
        """The cut in the language model, by attention of the text after the video."""
        budget, staying = _video.counted(ctx)
        if depth is not None:
            # what layers behind the cut may have for the mean over all of them
            later = (ctx.keep * depth - ctx.layer * len(ctx.visual)) / (depth - ctx.layer)
            budget = max(1, rounded(later) - len(staying))
        group = ctx.memory["group"].to(ctx.hidden.device)[ctx.vision_rows]
        sizes = torch.bincount(group[group >= 0], minlength=1).tolist()  # waits for the device
        if self.counts == "official":
            ctx.note(f"prunevid: {self.alpha:g} of each group, the budget is not used")
            counts = [int(size * self.alpha) for size in sizes]
        elif sum(sizes) <= budget and sum(sizes) + len(staying) == len(ctx.visual):
            ctx.note("prunevid: the first stage left fewer than the budget")
            return None
        else:
            counts = shares(min(budget, sum(sizes)), sizes)
        score = self._score(ctx)
        kept = [staying]
        for number, count in enumerate(counts):
            if count:
                inside = (group == number).nonzero()[:, 0]
                kept.append(inside[top_k(score[inside], count)])
        chosen = torch.cat(kept)
        ctx.memory["left"] = ctx.vision_rows[chosen]
        ctx.memory["layer"] = torch.tensor(ctx.layer)
        return Selection(chosen)

    def _score(self, ctx: StageContext) -> Tensor:
        """Greatest attention of a head and a text token on each visual token, ``[N]``."""
        qk = ctx.rotated_back(ctx.layer - 1)
        rows = ctx.instruction if len(ctx.instruction) else ctx.visual[-1:]
        rows, visual = rows.to(qk.query.device), ctx.visual.to(qk.query.device)
        # no last_seen: text attends to all rows, as the code's own product does
        given = attention_rows(qk.query[:, rows], qk.key, qk.scaling)[..., visual]
        return given.amax((0, 1))

    def evict(self, ctx: StageContext) -> Tensor | None:
        # later layers were cut already; only earlier ones still hold everything
        if "left" not in ctx.memory or ctx.layer >= int(ctx.memory["layer"]):
            return None
        left = ctx.memory["left"].to(ctx.vision_rows.device)
        return torch.isin(ctx.vision_rows, left).nonzero()[:, 0]


def stillness(frames: Tensor) -> Tensor:
    """Mean cosine of all pairs of frames at each place, ``[n]`` of ``[W, n, D]``; none of a single
    frame.
    """
    count = len(frames)
    if count == 1:
        return frames.new_full((frames.shape[1],), -torch.inf)
    # the sum over all ordered pairs is the square of the sum
    summed = unit(frames).sum(0).square().sum(-1)
    return (summed - count) / (count * (count - 1))


def smoothed(labels: Sequence[int]) -> list[int]:
    """Cluster labels of frames without stray frames: short runs join the longer neighbour.

    Of each label, only its longest runs stay, and none if they are single frames. From left to
    right, each freed stretch takes the label of the longer run beside it, the left one of equals.

    >>> smoothed([0, 0, 1, 0, 2, 2]), smoothed([0, 1]), smoothed([0, 0, 0, 1, 1, 0])
    ([0, 0, 0, 0, 2, 2], [0, 0], [0, 0, 0, 1, 1, 1])
    """
    runs = [(label, len(list(run))) for label, run in groupby(labels)]
    longest = {label: max(size for own, size in runs if own == label) for label, _ in runs}
    found: list[int | None] = []
    for label, size in runs:
        stays = size == longest[label] > 1
        found += [label if stays else None] * size
    start = 0
    while start < len(found):
        if found[start] is not None:
            start += 1
            continue
        stop = start
        while stop < len(found) and found[stop] is None:
            stop += 1
        beside = []
        for place, step in ((start - 1, -1), (stop, 1)):
            if length := _run(found, place, step):
                beside.append((length, found[place]))
        _, joined = max(beside, key=lambda pair: pair[0], default=(0, 0))
        found[start:stop] = [joined] * (stop - start)
        start = stop
    return [label for label in found if label is not None]


def _run(labels: Sequence[int | None], place: int, step: int) -> int:
    """Length of the run of one label that begins at a place."""
    length = 0
    while 0 <= place + length * step < len(labels) and (
        labels[place + length * step] == labels[place]
    ):
        length += 1
    return length
