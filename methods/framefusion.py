"""Tokens that repeat the frame before are merged, layer after layer; then attention prunes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from unibench import Method, Needs, Selection, Stage, StageContext
from unibench.annotations import Cosine, Share, Some
from unibench.methods import _video
from unibench.methods._variants import Reproduction
from unibench.ops import grouped_sum, ranking, top_k
from unibench.pruning.attention import attention_rows


@dataclass(frozen=True)
class FrameFusion(Method):
    """Keeps, of tokens that repeat the same place one frame earlier, the mean, and in the end what
    the last prompt token attends to.

    In front of every layer, a token whose cosine with the one before it at the same place is at
    least ``similarity`` joins it, until fewer than ``least`` of the tokens do; in front of the next
    layer, attention then prunes to what the budget leaves. Merging stops, and nothing is pruned,
    where the budget is met by the most similar tokens alone.

    Paper: FrameFusion, ICCV 2025, arXiv 2501.01986.
    Code: thu-nics/FrameFusion@fbec1d2e6b framefusion/main.py.
    Cost: O(N D) in front of each layer that merges, one row of attention.
    Deviations: cuts are made in front of layers (official, after the embeddings: between attention
        and feed-forward network of the layer before), and the depth is the model's (official: 28).
        The budget of the method is a mean over layers (``budget.mode=layer_average``, as
        published); where it is a number left in the end, merging stops at that number and pruning
        leaves it. A mean that weak merges put out of reach, an error officially, prunes to one
        token. float32; of equal similarities the lower index. Text between frames is not pruned
        (official: the span from the first to the last visual token is: variant=official_bug, in
        which text stays but takes its part of the number). Separators are columns of their own.

    Attributes:
        similarity: cosine from which a token joins the one before; published: 0.6 (LLaVA-Video),
            0.5 (Qwen2-VL, InternVL2.5).
        least: share of the tokens; fewer merges are the last.
        cost: mean share over layers that stays, instead of a budget that is a mean over layers.
        variant: default or official_bug.
    """

    similarity: Cosine = 0.6
    least: Share = 0.1
    cost: Some | None = None
    variant: Reproduction = "default"
    adaptive: ClassVar[bool] = True
    data_timed: ClassVar[bool] = True
    text_aware: ClassVar[bool] = True
    centres: ClassVar[bool] = True
    category = "hybrid"
    aim = "hybrid"

    @property
    def uses_budget(self) -> bool:
        return self.cost is None

    def stages(self, depth: int) -> Sequence[Stage]:
        return self._calls(depth, average=self.cost is not None)

    def averaged(self, depth: int) -> Sequence[Stage]:
        return self._calls(depth, average=True)

    def _calls(self, depth: int, average: bool) -> list[Stage]:
        """One call in front of each layer; most of them find that all is done."""
        call = partial(self._call, depth, average)
        needs = [Needs(llm_attention=(layer - 1,) if layer else ()) for layer in range(depth)]
        return [Stage(layer, call, needs[layer], exact=False) for layer in range(depth)]

    def _call(self, depth: int, average: bool, ctx: StageContext) -> Selection | None:
        state = ctx.memory
        # after a cut grids are no grids any more, so columns are remembered by original number
        if "column" not in state:  # in front of the first layer
            state["column"] = _video.columns(ctx)
            state["ratios"] = torch.zeros(0, dtype=torch.float64)
            state["keep"] = torch.tensor(ctx.keep)
            state["merged"], state["done"] = torch.tensor(False), torch.tensor(False)
        if bool(state["done"]):
            return None
        present = len(ctx.visual)
        share = self._most(ctx, depth) if average else max(0.0, 1 - int(state["keep"]) / present)
        if bool(state["merged"]) or ctx.layer == depth - 1:
            state["done"] = torch.tensor(True)
            left = round(present * (1 - share))  # halves to even, as in the code
            if not average:
                left = int(state["keep"])
            if left < 1:
                ctx.note("framefusion: weak merges put the mean out of reach; one token is left")
            return self._pruned(ctx, max(1, left), share) if left < present else None
        return self._merged(ctx, share, None if average else present - int(state["keep"]))

    def _most(self, ctx: StageContext, depth: int) -> float:
        """The share of the present tokens that may go now, if none goes later."""
        ratios: list[float] = ctx.memory["ratios"].tolist()
        total = max([ctx.total, int(ctx.memory["keep"])])
        cost = int(ctx.memory["keep"]) / total if self.cost is None else self.cost
        return most_merged(ratios, cost, depth)

    def _merged(self, ctx: StageContext, share: float, most: int | None) -> Selection | None:
        """What is left when tokens join the ones before them."""
        present = len(ctx.visual)
        order, likeness = self._likeness(ctx)
        # a chain of joined tokens in a column goes into the one before it
        joins = likeness >= self.similarity
        number = int(joins.sum())  # waits for the device
        if number / present < share:
            ctx.memory["ratios"] = torch.cat(
                [ctx.memory["ratios"], torch.tensor([number / present], dtype=torch.float64)]
            )
            # ratio_lower_bound of the code: this merge was the last, the next call prunes
            ctx.memory["merged"] = torch.tensor(number / present < self.least)
        else:
            # equal ones by their place in the sequence, not by column
            by_place = torch.empty_like(likeness).index_copy(0, order, likeness)
            number = int(share * present) if most is None else max(0, most)
            chosen = torch.zeros_like(joins).index_fill(0, top_k(by_place, number), True)
            joins = chosen[order]
            ctx.memory["merged"] = ctx.memory["done"] = torch.tensor(True)
        if not number:
            return None
        slot = (~joins).cumsum(0) - 1
        keep = order[~joins]
        # a plain mean, whatever each token stands for already
        values = grouped_sum(ctx.visual_hidden[order], slot, len(keep))
        size = torch.bincount(slot, minlength=len(keep)).to(values)
        return Selection(keep, values / size[:, None], members=lambda: torch.stack([slot, order]))

    def _likeness(self, ctx: StageContext) -> tuple[Tensor, Tensor]:
        """Visual tokens column by column, each in order of time, and the cosine of each with the
        one before; -2 for the first of a column.
        """
        column = ctx.memory["column"].to(ctx.hidden.device)[ctx.vision_rows]
        order = column.argsort(stable=True)
        states = ctx.visual_hidden[order]
        alike = cosine_similarity(states[1:], states[:-1], dim=-1, eps=1e-8)
        same = column[order][1:] == column[order][:-1]
        likeness = torch.full_like(states[:, 0], -2)
        likeness[1:] = torch.where(same, alike, likeness[1:])
        return order, likeness

    def _pruned(self, ctx: StageContext, left: int, share: float) -> Selection:
        """The tokens that the last prompt token attends to at the layer before."""
        if self.variant == "default":
            return Selection(top_k(ctx.attention(ctx.layer - 1)[:, 0].mean(0), left))
        ctx.note("framefusion official_bug: text between frames takes its part of the number")
        qk = ctx.recorded(ctx.layer - 1)
        row = attention_rows(qk.query[:, -1:], qk.key, qk.scaling)[:, 0].mean(0)
        first, last = int(ctx.visual[0]), int(ctx.visual[-1])
        # the span from the first to the last visual token, text between frames included
        best = ranking(row[first : last + 1])[: round((last + 1 - first) * (1 - share))] + first
        return Selection(torch.isin(ctx.visual, best.to(ctx.visual.device)).nonzero()[:, 0])


def most_merged(ratios: Sequence[float], cost: float, depth: int) -> float:
    """The share that has to go now, if nothing goes later, for a mean over layers.

    Args:
        ratios: shares that went in front of the layers before.
        cost: mean share of the tokens that layers process.
        depth: number of layers.

    >>> round(most_merged([], 0.3, 28), 3), round(most_merged([0.5], 0.3, 28), 3)
    (0.7, 0.415)
    """
    left, processed = 1.0, 0.0
    for ratio in ratios:
        left *= 1 - ratio
        processed += left
    # what the remaining layers may process, in units of what is present
    remaining = (depth * cost - processed) / ((depth - len(ratios)) * left)
    return min(1.0, max(0.0, 1 - remaining))
