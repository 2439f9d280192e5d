"""A local and a global scan of the vision tower, a merge of the rest, a cut half-way through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from unibench import Method, Needs, Selection, Stage, StageContext, UsageError
from unibench.annotations import Behind, Share
from unibench.cost.accounting import spread
from unibench.methods._cuts import Cuts, around_mean, check_layers, three_times
from unibench.ops import (
    complement,
    cosine,
    membership,
    pairs,
    places_within,
    product,
    ranking,
    top_k,
)
from unibench.pruning.attention import attention_rows
from unibench.pruning.layout import Grid

SERVED_SIDE, CAPPED_SIDE = (
    6,
    4,
)  # tokens along a window, where each is served and where it is capped

Count = Callable[[int, int, int, int], int]


@dataclass(frozen=True)
class VScan(Method):
    """Keeps what a shallow vision block looks at in each window and a deep one in all; then, of
    these, what the last prompt token reads.

    Half of the tokens are local, spread over windows by the attention of a shallow block, half are
    global, by the attention of the block that makes the features. Every other token is averaged
    into the kept one that it resembles most. In the middle of the language model the tokens that
    the last prompt token attends to most stay.

    Paper: VScan, TMLR 2026, arXiv 2505.22654.
    Code: Tencent/SelfEvolvingAgent@a82450e1 VScan/llava/model/llava_arch.py:encode_images,
        VScan/llava/model/modeling_llama_x.py:layer_prune; qwen/model/qwen2_5_vl_utils.py,
        qwen2_5_vl_custom.py (variant=qwen: windows are capped, and the cut scores with queries and
        keys that were not rotated).
    Finding: labels are means over the layers: 96 tokens, then 32, are called 64. Where the local
        half is no multiple of the windows, the official code keeps fewer tokens (22 asked for, 19
        kept with four windows): variant=official_bug. Its batched path never applies the mask, so
        that all 576 rows reach the language model and the later cut drops 64 of them; LLaVA-NeXT's
        later cut ranks the first tokens of a picture alone.
    Cost: O(N K D) for the merge, after two rows of attention (all rows without a CLS token); at the
        cut the projections of one layer once more and one row of attention, O(T D^2 + H T).
    Deviations: what windows do not give goes to the global half, so that the count is exact;
        original positions are kept. With budget.mode=layer_average, the published meaning, the
        first part leaves 1.5 ``keep`` and the cut a third of that; with at_stage the cut leaves
        ``keep`` and the first part three times as many, and the row says so. Windows of 6 x 6 are
        served equally where all grids are 24 x 24 and there is a CLS token; elsewhere windows of
        4 x 4 are capped, as in the Qwen code, over all pictures together. Towers without a CLS
        token use attention received; the shallow block of a SigLIP is ours.

    Attributes:
        layers: decoder layers whose inputs are cut; empty is the middle.
        retentions: share of the tokens that stays before the language model, then at each cut of
            those present, instead of the budget (released for Qwen2.5-VL: 0.167, 0.333); rounded
            down, at least one.
        local_share: of the first part's tokens.
        windows: served (the same number from each), capped (at most so many from each) or auto.
        variant: default, qwen or official_bug.
    """

    layers: tuple[Behind, ...] = ()
    retentions: tuple[Share, ...] = ()
    local_share: Share = 0.5
    windows: Literal["auto", "served", "capped"] = "auto"
    variant: Literal["default", "qwen", "official_bug"] = "default"
    text_aware: ClassVar[bool] = True
    centres: ClassVar[bool] = True
    category = "hybrid"
    aim = "importance"

    def __post_init__(self) -> None:
        super().__post_init__()
        # the first share is of the scan in front of the language model
        check_layers("vscan", self.layers, self.retentions[1:], least=1)
        check_layers("vscan", (), (*self.retentions, self.local_share), least=1)

    @property
    def uses_budget(self) -> bool:
        return not self.retentions

    def stages(self, depth: int) -> Sequence[Stage]:
        if self.retentions:
            remark = "stage shares given, the budget is not used"
            return self._cuts(depth, self._of_present, remark)
        return self._cuts(depth, three_times, "vscan: three times the budget in front of its cut")

    def averaged(self, depth: int) -> Sequence[Stage]:
        count = self._of_present if self.retentions else around_mean
        return Cuts(tuple(self._cuts(depth, count))).averaged(depth)

    def _cuts(self, depth: int, count: Count, remark: str = "") -> list[Stage]:
        layers = self.layers or spread((1,), 2, depth)
        if self.retentions and len(self.retentions) != len(layers) + 1:
            raise UsageError(
                f"method.retentions has {len(self.retentions)} shares for cuts at layer 0 and"
                f" {len(layers)} others"
            )
        counts = [partial(count, number, len(layers)) for number in range(len(layers) + 1)]
        scanned = Needs(saliency=True, local_attention=True)
        exact = self.variant != "official_bug"
        scan = Stage(0, partial(self._scan, remark), scanned, counts[0], exact=exact)
        needs = Needs(entering=self.variant != "qwen")
        return [
            scan,
            *(
                Stage(layer, self.select, needs, number, exact=exact)
                for layer, number in zip(layers, counts[1:], strict=True)
            ),
        ]

    def _of_present(self, number: int, cuts: int, keep: int, total: int) -> int:
        """The shares given, one after the other."""
        for share in self.retentions[: number + 1]:
            total = max(1, int(total * share))
        return total

    def select(self, ctx: StageContext) -> Selection | None:
        """What the last prompt token reads."""
        # where windows gave less than asked, there may be nothing left to cut
        return None if ctx.keep >= len(ctx.visual) else Selection(top_k(self.score(ctx), ctx.keep))

    def score(self, ctx: StageContext) -> Tensor:
        if self.variant != "qwen":
            return ctx.attention(ctx.layer)[:, 0].mean(0)
        # the rotation is commented out where the Qwen code scores
        qk = ctx.unrotated()
        rows = attention_rows(qk.query[:, -1:], qk.key, qk.scaling)[:, 0].mean(0)
        return rows[ctx.visual.to(rows.device)]

    def _scan(self, remark: str, ctx: StageContext) -> Selection | None:
        """Local and global tokens, each the mean of those that resemble it most."""
        if remark:
            ctx.note(remark)
        if ctx.keep >= len(ctx.visual):
            return None
        layer, seen = ctx.family.local_layer, ctx.vision
        cls = bool(ctx.family.prefix_tokens) and self.variant != "qwen"
        shallow = seen.cls(layer) if cls else seen.received(layer, total=True)
        local, wanted = self._local(ctx, shallow, int(ctx.keep * self.local_share))
        rest = ctx.keep - len(local)
        if self.variant == "official_bug" and len(local) < wanted:
            ctx.note("vscan official_bug: windows gave less than the local half")
            rest = ctx.keep - wanted
        # local tokens are kept already and must not be picked again
        deep = ctx.saliency().index_fill(0, local, -torch.inf)
        kept = torch.cat([local, top_k(deep, rest)]).sort().values
        others, joins = joined(ctx.visual_hidden, kept)
        rows = ctx.visual_hidden[kept] + product(joins, ctx.visual_hidden[others])
        # a plain mean of the kept token and all that joined it
        rows = rows / (1 + joins.sum(1, keepdim=True))
        return Selection(kept, rows, members=lambda: pairs(joins, others, kept))

    def _local(self, ctx: StageContext, scores: Tensor, wanted: int) -> tuple[Tensor, int]:
        """The tokens of highest score that the windows let through, and how many were wanted."""
        grids = ctx.grids()
        square = all((grid.height, grid.width) == (24, 24) for grid in grids)
        served = self.windows == "served" or (
            self.windows == "auto"
            and self.variant != "qwen"
            and square
            and bool(ctx.family.prefix_tokens)
        )
        side = SERVED_SIDE if served else CAPPED_SIDE
        slot, sizes = windows_of(grids, side, len(scores))
        # LLaVA's code floors for each window, Qwen's caps at the ceiling
        most = wanted // len(sizes) if served else -(-wanted // len(sizes))
        place = places_within(slot.to(scores.device), ranking(scores), len(sizes))
        number = min(wanted, sum(min(most, size) for size in sizes))
        return top_k(scores.masked_fill(place >= most, -torch.inf), number), wanted


def windows_of(grids: Sequence[Grid], side: int, count: int) -> tuple[Tensor, list[int]]:
    """The window ``[count]`` of each token, and how many tokens each window has.

    A window is ``side`` x ``side`` tokens; what is left over at the bottom and at the right belongs
    to the last row and column of windows. A grid with a shorter side is one window.
    """
    slot, sizes = torch.zeros(count, dtype=torch.long), list[int]()
    for grid in grids:
        small = min(grid.height, grid.width) < side
        down, across = (1, 1) if small else (grid.height // side, grid.width // side)
        row = (torch.arange(grid.height) // side).clamp_max(down - 1)
        column = (torch.arange(grid.width) // side).clamp_max(across - 1)
        window = (row[:, None] * across + column).flatten()
        slot[grid.rows.cpu()] = window + len(sizes)
        sizes += window.bincount(minlength=down * across).tolist()
    return slot, sizes


def joined(features: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """The tokens that are not kept, and ``[K, others]`` which kept one each resembles most."""
    others = complement(kept, len(features))
    nearest = cosine(features[others], features[kept]).argmax(1)
    return others, membership(nearest, len(kept), torch.ones_like(others)).to(features)
