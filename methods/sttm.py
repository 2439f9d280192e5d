"""Quad-trees within frames, and nodes that go on from frame to frame."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from unibench import Method, Selection, Stage, StageContext
from unibench.annotations import Cosine, Natural
from unibench.cost.accounting import spread
from unibench.methods import _video
from unibench.methods._variants import Reproduction
from unibench.ops import grouped_sum, owned, ranking


@dataclass(frozen=True)
class STTM(Method):
    """Keeps one mean for each region of a frame that is alike, and one for regions that stay alike
    in the frames after it.

    Each frame becomes a quad-tree: a cell whose quarters resemble it (cosine at least ``space``)
    stays whole, another is replaced by its quarters. Nodes of consecutive frames, one inside the
    other, join if their cosine is at least ``time``; a group stands at its earliest node.

    Paper: STTM, ICCV 2025, arXiv 2507.07990.
    Code: HYUNJS/STTM@00736c7952 token_merging_utils/quadtree_spatial_merger.py,
        quadtree_temporal_merger.py.
    Cost: O(N D).
    Deviations: with mode=budget, nodes join by falling similarity until the budget is met, and
        ``space`` moves only as far as the budget needs (official: both thresholds tuned for each
        data set: mode=threshold); a picture, whose nodes join with nothing, may keep fewer.
        Cells at the edge of an odd grid are compared with the children they have (official: also
        with the frame's first one, and slow joins miss repetitions: variant=official_bug). A row
        takes the place of its first patch, with its original position. Separators are not merged;
        under a budget the one behind a video stays and newlines behind rows go first. A frame
        with a side below 2 has no tree.

    Attributes:
        layer: the decoder layer whose input is merged; None is 2 of 28, at the same relative depth.
        space: cosine from which a cell stays whole; published: 0.8 to 0.95.
        time: cosine from which nodes of consecutive frames join; published: 0.5 to 0.65; 0 or less:
            never.
        root: level of the tree that it starts from; the coarsest, whose shorter side is 2, is 0.
        weighted: nodes are sums of patches, divided by their number in the end.
        head: channels compared by themselves, whose cosines are averaged; 0: all together.
        slow: each node joins only the most similar one of the frame before it.
        mode: budget or threshold.
        variant: default or official_bug.
    """

    layer: Natural | None = None
    space: Cosine = 0.85
    time: Cosine = 0.55
    root: Natural = 1
    weighted: bool = False
    head: Natural = 0
    slow: bool = False
    mode: Literal["budget", "threshold"] = "budget"
    variant: Reproduction = "default"
    adaptive: ClassVar[bool] = True
    data_timed: ClassVar[bool] = True
    centres: ClassVar[bool] = True
    category = "LLM only"
    aim = "diversity"

    @property
    def uses_budget(self) -> bool:
        return self.mode == "budget"

    def stages(self, depth: int) -> Sequence[Stage]:
        (layer,) = spread((2,), 28, depth) if self.layer is None else (self.layer,)
        count = None if self.mode == "budget" else _unlimited
        return (Stage(layer, self.select, count=count, exact=False),)

    def averaged(self, depth: int) -> Sequence[Stage]:
        return super().averaged(depth) if self.mode == "budget" else self.stages(depth)

    def select(self, ctx: StageContext) -> Selection:
        _video.refuse_parts(ctx, "sttm")
        if self.variant == "official_bug":
            ctx.note("sttm official_bug: cells at the edge compared with the frame's first child")
        features, parts = ctx.visual_hidden, _video.videos(ctx)
        if self.mode == "budget":
            budget, staying = _video.counted(ctx)
        else:
            ctx.note("sttm: thresholds decide, not the budget")
            budget, staying = sum(map(len, parts)), torch.cat(_video.separators(ctx))
        kept, values = [staying], [features[staying]]
        owner = torch.full_like(ctx.visual, -1)
        for part, keep in zip(parts, _video.divided(budget, parts), strict=True):
            if self.mode == "budget" and not keep:
                continue
            frames = features[part.rows].unflatten(1, (part.height, part.width))
            anchors, own, rows = self._video(frames, keep)
            tokens = part.rows.flatten()
            kept.append(tokens[anchors])
            values.append(rows)
            owner[tokens] = tokens[own]
        if self.mode == "budget" and sum(map(len, kept)) != ctx.keep:
            ctx.note("sttm: no number of nodes meets this budget exactly")
        left = torch.cat(kept)
        return Selection(left, torch.cat(values), members=lambda: owned(owner, left))

    def _video(self, frames: Tensor, keep: int) -> tuple[Tensor, Tensor, Tensor]:
        """First patches of the rows of a video ``[T, H, W, D]``, flattened, that of each patch, and
        the rows.
        """
        tree = self.tree(frames)
        if self.mode == "budget":
            nodes, group = self._within(tree, keep)
        else:
            nodes = tree.nodes(self.space)
            group = torch.arange(len(nodes.rows), device=frames.device)
            if self.time > 0:
                pairs, _ = self.pairs(nodes, self.time)
                group = joined(pairs, len(nodes.rows))
        first, slot = group.unique(return_inverse=True)
        rows = grouped_sum(nodes.rows, slot, len(first))
        # unweighted: a node of one patch counts like one of sixteen, as in the code
        by = nodes.patches if self.weighted else torch.ones_like(nodes.patches)
        own = nodes.first[group[nodes.owner.flatten()]]
        return nodes.first[first], own, rows / grouped_sum(by[:, None], slot, len(first))

    def tree(self, frames: Tensor) -> Tree:
        """The tree of every frame of ``[T, H, W, D]``."""
        cosines = partial(_cosine, head=self.head)
        return Tree(frames, cosines, self.root, self.weighted, self.variant == "official_bug")

    def pairs(self, nodes: Nodes, limit: float) -> tuple[Tensor, Tensor]:
        """Nodes of consecutive frames of which one contains the other ``[2, pairs]``, and their
        likeness, at least ``limit``.
        """
        count = len(nodes.rows)
        # boxes of a tree contain each other if they share a patch
        shared = (nodes.owner[:-1] * count + nodes.owner[1:]).flatten().unique()
        pairs = torch.stack([shared // count, shared % count])
        defective = self.slow and self.variant == "official_bug"
        head = 0 if defective else self.head
        likeness = _cosine(nodes.rows[pairs[0]], nodes.rows[pairs[1]], head=head)
        pairs, likeness = pairs[:, likeness >= limit], likeness[likeness >= limit]
        if not self.slow:
            return pairs, likeness
        # frame by frame, and in each by falling similarity; then, unless defective, node by node
        order = ranking(likeness)
        frame = nodes.first // nodes.owner[0].numel()
        key = frame[pairs[1, order]] if defective else pairs[1, order]
        order = order[key.argsort(stable=True)]
        later = pairs[1, order]
        fresh = torch.cat([torch.ones_like(later[:1], dtype=torch.bool), later[1:] != later[:-1]])
        return pairs[:, order[fresh]], likeness[order[fresh]]

    def _within(self, tree: Tree, keep: int) -> tuple[Nodes, Tensor]:
        """Nodes, and the group that each joins, so that ``keep`` groups are left where possible."""
        # just above a value: there the cell with this likeness splits
        limits = [-math.inf, *(math.nextafter(value, math.inf) for value in tree.likeness())]

        def found(place: int) -> tuple[Nodes, list[tuple[int, int]]]:
            nodes = tree.nodes(limits[place])
            if self.time <= 0 or len(tree.features[-1]) == 1:
                return nodes, []
            pairs, likeness = self.pairs(nodes, -math.inf)
            return nodes, list(zip(*pairs[:, ranking(likeness)].tolist(), strict=True))

        def least(place: int) -> int:
            nodes, pairs = found(place)
            return len(set(most_alike(pairs, len(nodes.rows), 1)))

        # the published threshold if it will do, else as near to it as the budget allows
        place = bisect_right(limits, self.space) - 1
        fine = partial(bisect_left, range(len(limits)))
        if tree.count(limits[place]) < keep:
            # the finest tree has fewer nodes than are asked for where separators count as well
            finest = len(limits) - 1
            place = fine(keep, lo=place, hi=finest, key=lambda at: tree.count(limits[at]))
        if least(place) > keep:
            place = max(0, fine(keep + 1, hi=place, key=least) - 1)
        nodes, pairs = found(place)
        group = most_alike(pairs, len(nodes.rows), keep)
        return nodes, torch.tensor(group, device=nodes.rows.device)


@dataclass(frozen=True)
class Nodes:
    """What is left of the frames of a video, in the order of first patches.

    Attributes:
        first: ``[m]`` the first patch of each node, frames flattened.
        rows: ``[m, D]`` its feature.
        patches: ``[m]`` how many it stands for.
        owner: ``[T, H, W]`` the node of each patch.
    """

    first: Tensor
    rows: Tensor
    patches: Tensor
    owner: Tensor


class Tree:
    """Quad-trees of frames of one size; levels are numbered from the one they start from.

    Args:
        frames: ``[T, H, W, D]``.
        cosines: of two tensors ``[..., D]``.
        root: level to start from, 0 the coarsest.
        summed: cells are sums of their patches, not means of their children.
        with_first: cells with fewer than four children are also compared with the frame's first
            cell of the next level, as the official code does.

    Attributes:
        features: ``[T, h, w, D]`` of the cells of each level, the coarsest first.
        least: ``[T, h, w]`` of each level but the finest: a cell's smallest cosine with a child.
    """

    def __init__(
        self,
        frames: Tensor,
        cosines: Callable[[Tensor, Tensor], Tensor],
        root: int,
        summed: bool,
        with_first: bool,
    ) -> None:
        sizes = level_sizes(*frames.shape[1:3])
        sizes = sizes[: max(1, len(sizes) - root)]
        self.features: list[Tensor] = [frames]
        self.least: list[Tensor] = []
        self._sides = [tuple(_Side.finest(length, frames.device) for length in sizes[0])]
        for _ in sizes[1:]:
            down, across = (side.coarser() for side in self._sides[0])
            child = self.features[0]
            # four corners; with fewer children some are the same, which a minimum does not mind
            ends = [(row, column) for row in down.children for column in across.children]
            cell = torch.stack([child[:, row][:, :, column] for row, column in ends]).mean(0)
            # 1, 2 or 4 children
            number = down.number[:, None] * across.number
            if summed:
                cell = cell * number[..., None]
            above = cell[:, down.parent][:, :, across.parent]
            alike = cosines(above, child)
            least = torch.stack([alike[:, row][:, :, column] for row, column in ends]).amin(0)
            if with_first:
                extra = cosines(cell, child[:, :1, :1].expand_as(cell))
                least = torch.where(number < 4, torch.minimum(least, extra), least)
            self.features.insert(0, cell)
            self.least.insert(0, least)
            self._sides.insert(0, (down, across))

    def likeness(self) -> list[float]:
        """The values of :attr:`least`, rising: where the number of nodes changes."""
        values = [level.flatten() for level in self.least]
        found: list[float] = torch.cat([*values, self.features[0].new_zeros(0)]).unique().tolist()
        return found

    def count(self, limit: float) -> int:
        """Number of nodes."""
        return sum(int(stops.sum()) for stops in self._stops(limit))

    def nodes(self, limit: float) -> Nodes:
        """The cells that stay whole: all their children are alike to them by at least ``limit``."""
        frames, height, width = self.features[-1].shape[:3]
        levels = [stops.nonzero(as_tuple=True) for stops in self._stops(limit)]
        firsts, sizes, rows = [], [], []
        for (frame, row, column), cells, (down, across) in zip(
            levels, self.features, self._sides, strict=True
        ):
            firsts.append((frame * height + down.start[row]) * width + across.start[column])
            sizes.append(down.length[row] * across.length[column])
            rows.append(cells[frame, row, column])
        first, order = torch.cat(firsts).sort()
        number = torch.empty_like(order)
        number[order] = torch.arange(len(order), device=order.device)
        owner = first.new_full((frames, height, width), -1)
        for (frame, row, column), mine, (down, across) in zip(
            levels, number.split([len(part) for part in firsts]), self._sides, strict=True
        ):
            grid = first.new_full((frames, len(down.start), len(across.start)), -1)
            grid[frame, row, column] = mine
            # -1 where another level owns the patch
            owner = torch.maximum(owner, grid[:, down.cell][:, :, across.cell])
        patches = torch.cat(sizes)[order].to(self.features[0])
        return Nodes(first, torch.cat(rows)[order], patches, owner)

    def _stops(self, limit: float) -> Iterator[Tensor]:
        """``[T, h, w]`` True on the cells of each level that are nodes."""
        there = torch.ones_like(self.features[0][..., 0], dtype=torch.bool)
        for level, least in enumerate(self.least):
            stops = there & (least >= limit)
            yield stops
            down, across = self._sides[level]
            there = (there & ~stops)[:, down.parent][:, :, across.parent]
        yield there


@dataclass(frozen=True)
class _Side:
    """How one side of the frames is divided at a level.

    Attributes:
        start: ``[cells]`` the first patch of each cell.
        length: ``[cells]`` in patches.
        cell: ``[patches]`` the cell of each patch.
        children: the first and the last child of each cell, ``[cells]`` each.
        number: ``[cells]`` of children.
        parent: ``[children]`` the cell of each cell of the next level.
    """

    start: Tensor
    length: Tensor
    cell: Tensor
    children: tuple[Tensor, Tensor]
    number: Tensor
    parent: Tensor

    @classmethod
    def finest(cls, patches: int, device: torch.device) -> _Side:
        """Every patch is a cell."""
        each = torch.arange(patches, device=device)
        return cls(each, torch.ones_like(each), each, (each, each), torch.ones_like(each), each)

    def coarser(self) -> _Side:
        """Pairs of cells; of an odd number, the first stays alone."""
        count = len(self.start)
        odd = count % 2
        cells = torch.arange((count + 1) // 2, device=self.start.device)
        # of an odd side the first row or column is a cell of its own
        last = 2 * cells + 1 - odd
        # a cell of one child has it as first and last
        first = (last - 1).clamp_min(0)
        parent = (torch.arange(count, device=cells.device) + odd) // 2
        start = self.start[first]
        length = self.start[last] + self.length[last] - start
        return _Side(start, length, parent[self.cell], (first, last), last - first + 1, parent)


def level_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Sizes of the levels of a tree, the finest first: halved until a side is 2.

    >>> level_sizes(14, 14), level_sizes(10, 6), level_sizes(1, 8)
    ([(14, 14), (7, 7), (4, 4), (2, 2)], [(10, 6), (5, 3), (3, 2)], [(1, 8)])
    """
    sizes = [(height, width)]
    while min(sizes[-1]) > 2:
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))  # type: ignore[arg-type]
    return sizes


def joined(pairs: Tensor, count: int) -> Tensor:
    """The smallest node that each joins, ``[count]``, as the official code finds it.

    The labels of pairs are lowered together, round by round, until following them twice leads where
    following them once does. That may stop before all of a chain agree.
    """
    label = torch.arange(count, device=pairs.device)
    while True:
        lower = label[pairs].amin(0)
        for side in pairs:
            label = label.scatter_reduce(0, side, lower, "amin")
        label = label[label]
        # the code's own test, which is not that of connected components
        if torch.equal(label, label[label]):
            return label


def most_alike(pairs: Sequence[tuple[int, int]], count: int, least: int) -> list[int]:
    """The smallest node that each joins when pairs join one by one until ``least`` groups are left.

    >>> most_alike([(1, 2), (0, 1), (3, 4)], 5, 3)
    [0, 0, 0, 3, 4]
    """
    label = list(range(count))

    def root(node: int) -> int:
        while label[node] != node:
            label[node] = node = label[label[node]]
        return node

    left = count
    for pair in pairs:
        if left <= least:
            break
        low, high = sorted(root(node) for node in pair)
        if low != high:
            label[high] = low
            left -= 1
    return [root(node) for node in range(count)]


def _cosine(x: Tensor, y: Tensor, head: int) -> Tensor:
    """Cosines along the last axis; with ``head`` channels compared at a time, their mean."""
    if not head:
        return cosine_similarity(x, y, dim=-1, eps=1e-8)
    x, y = (side.unflatten(-1, (-1, head)) for side in (x, y))
    return cosine_similarity(x, y, dim=-1, eps=1e-8).mean(-1)


def _unlimited(keep: int, total: int) -> int:
    return total
