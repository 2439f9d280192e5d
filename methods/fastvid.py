"""Segments of like frames; tokens by attention, and density peaks that gather their segment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from unibench import Method, Needs, Selection, Stage, StageContext
from unibench.annotations import Cosine, Count, Share, Some
from unibench.methods import _video
from unibench.ops import complement, cosine, grouped_sum, into_rows, product, shares, top_k
from unibench.ops.clustering import density_peaks

NEIGHBOURS = 4  # rows in a density, the row itself among them


@dataclass(frozen=True)
class FastVID(Method):
    """Keeps, in each segment of like frames, the tokens that the vision tower attends to, and
    density peaks that are averaged with what resembles them.

    A segment ends where consecutive frames resemble each other least, or less than ``tau``. Of its
    budget, the share ``anchors`` goes to density peaks (DPC-kNN) in every ``stride``-th frame from
    its last; each gathers the rows of the whole segment that are most similar to it.

    Paper: FastVID, NeurIPS 2025, arXiv 2503.11187.
    Code: LunarShen/FastVID@a40a109cb8 fastvid_llavaonevision, fastvid_llavavideo and
        fastvid_qwen25vl, which differ (variant=official_ov, official_vid, official_qwen).
    Cost: O(T n^2 D) for the densities, O(A N D) for A anchors of a frame.
    Deviations: the rule of fastvid_llavavideo everywhere, the budget shared by segments in
        proportion to their frames (official: ``int(n R)`` a frame); what does not fit a frame goes
        to the most attended tokens of the same segment, then of others; a segment kept whole is
        unchanged. A video of at most ``segments`` frames has one segment per frame. Of equal
        densities the lower index wins (official: noise). Where the pooling head of SigLIP is not at
        hand, which the row says, a frame is the mean of its tokens, and attention is what the tower
        shows (with variant=official_qwen that of the frame's mean query, as in its code). The token
        behind a video stays and counts; newlines of the grid: ``newlines``.

    Attributes:
        segments: at least so many.
        tau: cosine of consecutive frames below which a segment ends.
        anchors: share of the budget.
        stride: frames from one frame with anchors to the next.
        beta: least weight of an anchor against the mean of what it gathers.
        ignore: cosine from which frames are alike: only the last of them keeps tokens; published
            for Qwen2.5-VL: 0.95.
        variant: default, official_ov, official_vid or official_qwen: the rule and the counts of
            that code.
        retention: share kept that official counts start from, instead of the budget.
        newlines: counted, or rows: beyond the budget, those of grid rows that keep a patch.
    """

    segments: Count = 8
    tau: Cosine = 0.9
    anchors: Share = 0.4
    stride: Count = 4
    beta: Share = 0.6
    ignore: Cosine | None = None
    variant: Literal["default", "official_ov", "official_vid", "official_qwen"] = "default"
    retention: Some | None = None
    newlines: Literal["counted", "rows"] = "counted"
    data_timed: ClassVar[bool] = True
    centres: ClassVar[bool] = True
    corrected = frozenset({"saliency"})
    category = "ViT only"
    aim = "hybrid"

    @property
    def uses_budget(self) -> bool:
        return self.variant == "default" or self.retention is None

    def stages(self, depth: int) -> Sequence[Stage]:
        exact = self.variant == "default" and self.newlines == "counted"
        needs = Needs(saliency=True, pooling=True, separators=True)
        if self.variant == "official_qwen":
            needs = Needs(vit_attention=(-1,), separators=True)
        return (Stage(0, self.select, needs, exact=exact),)

    def select(self, ctx: StageContext) -> Selection:
        _video.refuse_parts(ctx, "fastvid")
        if self.variant != "default":
            ctx.note(f"fastvid {self.variant}: its counts, the budget is not met exactly")
        features, parts = ctx.visual_hidden, _video.videos(ctx)
        frames, attention = self._signals(ctx, features, parts)
        if self.newlines == "rows":
            ctx.note("fastvid: newlines of rows that keep a patch stay beyond the budget")
            budget, staying = min(ctx.keep, sum(map(len, parts))), ctx.visual[:0]
        else:
            budget, staying = _video.counted(ctx)
        kept, values = [staying], [features[staying]]
        groups = list[Tensor]()
        budgets = _video.divided(budget, parts)
        for part, looks, keep in zip(parts, frames, budgets, strict=True):
            found = self._segments(looks, part.rows.shape[1], keep)
            places, own, rows = self._kept(found, features[part.rows], attention[part.rows])
            kept.append(part.rows.flatten()[places])
            values.append(rows)
            groups.append(part.rows.flatten()[own])
        if self.newlines == "rows":
            kept.append(_video.beyond(ctx, "rows", torch.cat(kept)))
            values.append(features[kept[-1]])
        left, count = torch.cat(kept), len(ctx.visual)
        return Selection(
            left,
            torch.cat(values),
            members=lambda: into_rows(torch.cat([left[:0].expand(2, 0), *groups], 1), left, count),
        )

    def _signals(
        self, ctx: StageContext, features: Tensor, parts: Sequence[_video.Video]
    ) -> tuple[list[Tensor], Tensor]:
        """What a frame looks like, ``[T, C]`` for each video, and the attention on each token."""
        means = [features[part.rows].mean(1) for part in parts]
        if self.variant == "official_qwen":
            return means, mean_query_attention(ctx, parts)
        if ctx.pooling is not None:
            pooled = ctx.pooling()
            tiles = pooled.tiles.to(features.device)
            return [tiles[pooled.tile[part.rows[:, 0]]] for part in parts], pooled.attention
        ctx.note("fastvid: no pooling head of SigLIP; mean tokens and the tower's attention")
        return means, ctx.saliency().to(features.device)

    def _segments(self, frames: Tensor, size: int, keep: int) -> list[Segment]:
        """The segments of a video, and how many tokens each of their frames keeps.

        Args:
            frames: ``[T, C]``.
            size: tokens of a frame.
            keep: the budget of the video.
        """
        alike = cosine_similarity(frames[1:], frames[:-1], dim=-1).tolist()  # waits for the device
        ranges = segments_of(alike, self.segments, self.tau)
        if self.variant == "default":
            quotas = shares(keep, [size * len(part) for part in ranges])
        else:
            # r = int(n R) tokens of a frame is the unit of the official counts
            share = keep / (size * len(frames)) if self.retention is None else self.retention
            quotas = [int(size * share) * len(part) for part in ranges]
        if self.variant == "official_ov":
            return [self._alike(part, quota) for part, quota in zip(ranges, quotas, strict=True)]
        pairs = zip(ranges, quotas, strict=True)
        return [self._spread(part, quota, size, alike) for part, quota in pairs]

    def _spread(self, frames: range, quota: int, size: int, alike: Sequence[float]) -> Segment:
        """Totals of a segment spread over its frames (fastvid_llavavideo, fastvid_qwen25vl)."""
        if quota == size * len(frames) and self.variant == "default":
            return Segment(frames, quota, tuple(FrameShare(frame, size, 0) for frame in frames))
        taking = list(frames)
        if self.ignore is not None:
            # fastvid_qwen25vl cuts a segment again: of each piece only the last frame keeps tokens
            taking = [t for t in frames[:-1] if alike[t] < self.ignore] + [frames[-1]]
        gathering = int(quota * self.anchors)
        if self.variant == "official_qwen":
            # con = max(int(r L d), 1) in fastvid_qwen25vl
            gathering = max(gathering, 1)
        salient = _evenly(quota - gathering, len(taking))
        peaks = _evenly(gathering, math.ceil(len(taking) / self.stride))
        most = size // 2 if self.ignore is not None and len(frames) > 1 else size
        found = []
        for place, frame in enumerate(taking):
            # frames with anchors are counted from the segment's last one
            back = len(taking) - 1 - place
            anchors = min(peaks[back // self.stride], most) if back % self.stride == 0 else 0
            found.append(FrameShare(frame, min(salient[place], size - anchors), anchors))
        return Segment(frames, quota, tuple(found))

    def _alike(self, frames: range, quota: int) -> Segment:
        """The same in each frame of a segment; remainders are lost (fastvid_llavaonevision)."""
        each, length = quota // len(frames), len(frames)
        gathering = int(each * self.anchors)
        # frames with anchors take those of the others
        peaks = gathering if length == 1 else gathering * length // math.ceil(length / self.stride)
        taking = [(frame, (frames[-1] - frame) % self.stride == 0) for frame in frames]
        found = [
            FrameShare(frame, each - gathering, peaks * has_peaks) for frame, has_peaks in taking
        ]
        return Segment(frames, quota, tuple(found))

    def _kept(
        self, found: Sequence[Segment], features: Tensor, attention: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Places in ``features [T, n, D]``, flattened over frames, that are kept, ``[2, M]`` of
        anchors and what each gathers, and the rows.
        """
        unchanged = torch.zeros_like(attention, dtype=torch.bool)
        is_anchor = torch.zeros_like(unchanged)
        anchors: dict[int, Tensor] = {}
        for share in chain.from_iterable(segment.shares for segment in found):
            salient = top_k(attention[share.frame], share.salient)
            rest = complement(salient, attention.shape[1])
            unchanged[share.frame, salient] = True
            if share.anchors:
                # densities are those of what attention has left in the frame
                near = min(NEIGHBOURS, len(rest))
                peaks = density_peaks(features[share.frame, rest], share.anchors, near)
                anchors[share.frame] = rest[peaks.centre]
                is_anchor[share.frame, anchors[share.frame]] = True
        if self.variant == "default":
            unchanged |= _filled(found, attention, unchanged | is_anchor)
        places, rows = [unchanged.flatten().nonzero()[:, 0]], [features[unchanged]]
        own = [places[0][:0].expand(2, 0)]
        for segment in found:
            for frame in segment.frames:
                if frame in anchors:
                    at = frame * attention.shape[1] + anchors[frame]
                    gathered, target, merged = self._gathered(
                        segment, frame, anchors[frame], features, unchanged
                    )
                    places.append(at)
                    rows.append(merged)
                    others = at[target] != gathered  # the defective code gathers anchors too
                    own += [torch.stack([at[target[others]], gathered[others]]), at.expand(2, -1)]
        return torch.cat(places), torch.cat(own, 1), torch.cat(rows)

    def _gathered(
        self, segment: Segment, frame: int, anchors: Tensor, features: Tensor, unchanged: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the anchors of a frame gather, places flattened over frames, which anchor it goes
        to, and the anchors with the mean of it.
        """
        part = slice(segment.frames.start, segment.frames.stop)
        free = ~unchanged[part]
        if self.variant != "official_ov":  # there, anchors gather themselves and each other
            free[frame - part.start, anchors] = False
        sources, own = features[part][free], features[frame, anchors]
        target = cosine(sources, own).argmax(1)
        size = torch.bincount(target, minlength=len(own)).to(own)[:, None]
        mean = grouped_sum(sources, target, len(own)) / size.clamp_min(1)
        # the anchor weighs like one more source, but never less than beta
        weight = (1 / (size + 1)).clamp_min(self.beta)
        places = free.flatten().nonzero()[:, 0] + part.start * free.shape[1]
        return places, target, torch.where(size > 0, weight * own + (1 - weight) * mean, own)


@dataclass(frozen=True)
class FrameShare:
    """What a frame keeps.

    Attributes:
        frame: its number.
        salient: tokens by attention, unchanged.
        anchors: density peaks that gather others.
    """

    frame: int
    salient: int
    anchors: int


@dataclass(frozen=True)
class Segment:
    """Frames that share a budget.

    Attributes:
        frames: all of them.
        quota: their budget.
        shares: of the frames that keep something.
    """

    frames: range
    quota: int
    shares: tuple[FrameShare, ...]


def segments_of(alike: Sequence[float], least: int, tau: float) -> list[range]:
    """Segments of frames: cut where consecutive frames are least alike, ``least - 1`` times, and
    wherever they are less alike than ``tau``.

    >>> segments_of([0.95, 0.99, 0.5, 0.97], 2, 0.9), segments_of([0.95, 0.99], 8, 0.9)
    ([range(0, 3), range(3, 5)], [range(0, 1), range(1, 2), range(2, 3)])
    """
    # sorted() is stable: of equally unlike pairs the earlier is cut
    order = sorted(range(len(alike)), key=lambda place: alike[place])
    cuts = order[: least - 1] + [place for place, value in enumerate(alike) if value < tau]
    return _video.segments(cuts, len(alike) + 1)


def mean_query_attention(ctx: StageContext, parts: Sequence[_video.Video]) -> Tensor:
    """Attention of the mean query of each frame, at the last block of the tower, ``[N]``.

    A token's key is the mean of its patches' keys; the softmax is over the tokens of the frame.
    """
    assert ctx.vision is not None
    query, key = ctx.vision.queries(-1), ctx.vision.keys(-1)  # [N, heads, head_dim]
    found = key.new_zeros(len(key))
    for part in parts:
        # attention of the mean query, which is not the mean of the attentions
        mean = query[part.rows].mean(1, keepdim=True).transpose(1, 2)  # [T, heads, 1, head_dim]
        logits = product(mean, key[part.rows].permute(0, 2, 3, 1)) * key.shape[-1] ** -0.5
        found[part.rows] = logits.softmax(-1).mean((1, 2))
    return found


def _filled(found: Sequence[Segment], attention: Tensor, taken: Tensor) -> Tensor:
    """``[T, n]`` True on tokens that take what frames could not: the most attended ones of frames
    that keep something, of the same segment first, then of others, then of any frame.
    """
    size = attention.shape[1]
    filled = torch.zeros_like(taken)
    owed, taking = 0, torch.zeros(len(taken), dtype=torch.bool)
    for segment in found:
        frames = [share.frame for share in segment.shares]
        taking[frames] = True
        kept = sum(share.salient + share.anchors for share in segment.shares)
        more = min(segment.quota - kept, size * len(frames) - kept)
        owed += segment.quota - kept - more
        _fill(filled, attention, taken, frames, more)
    free = int((~(taken | filled))[taking.to(taken.device)].sum()) if owed else 0
    more = min(owed, free)
    _fill(filled, attention, taken, taking.nonzero()[:, 0].tolist(), more)
    _fill(filled, attention, taken, list(range(len(taken))), owed - more)
    return filled


def _fill(
    filled: Tensor, attention: Tensor, taken: Tensor, frames: Sequence[int], number: int
) -> None:
    """Mark the ``number`` most attended tokens of ``frames`` that are neither taken nor filled."""
    if not number:
        return
    rows = torch.tensor(frames, device=attention.device)
    open_to = attention[rows].masked_fill((taken | filled)[rows], -torch.inf)
    places = top_k(open_to.flatten(), number)
    filled[rows[places // attention.shape[1]], places % attention.shape[1]] = True


def _evenly(total: int, count: int) -> list[int]:
    """``total`` in ``count`` parts, the first ones greater by one.

    >>> _evenly(7, 3)
    [3, 2, 2]
    """
    return [total // count + (place < total % count) for place in range(count)]
