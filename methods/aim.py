"""Merging within frames before the model, and importance by random walks in its second half."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from unibench import Method, Needs, Selection, Stage, StageContext, UsageError
from unibench.annotations import Behind, Natural
from unibench.cost.accounting import spread
from unibench.methods import _video
from unibench.methods.tome import halvings
from unibench.ops import bipartite, mean_weights, owned, product, shares, top_k
from unibench.pruning.attention import QUERY_CHUNK, QueryKey, attention_rows

TEMPERATURE = 0.1
PASSES = 5  # of the walk


@dataclass(frozen=True)
class AIM(Method):
    """Keeps the means of tokens that are alike within each frame, and drops them layer by layer in
    the second half of the language model, those first that attention leads to least.

    Every other token of a frame joins the most similar of the others, half of them at a time, until
    the frame's share of the budget is left. Then, in front of eight layers, an eighth of the tokens
    that entered goes each time, until none is left. Their importance is where a walk along the
    sharpened attention of the layer before ends after five steps from anywhere, root mean square
    over heads.

    Paper: AIM, ICCV 2025, arXiv 2412.03248.
    Code: LaVi-Lab/AIM@edc24e9f3d llava/model/token_merge.py, llava_arch.py:get_2dPool,
        other_packages/transformers/src/transformers/models/qwen2/modeling_qwen2.py:get_importance.
    Cost: O(n^2 D) for a frame of n tokens; five times the attention of a layer at each of the cuts.
    Deviations: the budget is what enters the language model, where all of it is gone in the end, as
        published; with ``budget.mode=layer_average`` it is the mean over layers. Tokens are removed
        where the official code hides their keys, so that they no longer vote. Frames are merged to
        their share of the budget (official: to a quarter), pictures too. Sequence order and
        original positions. Separators are not merged; the one behind a video stays and counts,
        newlines behind rows go first.

    Attributes:
        merge: whether tokens are merged before the language model.
        schedule: tokens of a frame merged in each step, at most half; empty is half of what is left
            until the budget is met.
        prune: whether tokens are dropped in the language model.
        layers: decoder layers whose inputs are cut, in equal parts down to none; empty is 15 to 22
            of 28, at the same relative depth.
    """

    merge: bool = True
    schedule: tuple[Natural, ...] = ()
    prune: bool = True
    layers: tuple[Behind, ...] = ()
    adaptive: ClassVar[bool] = True
    text_aware: ClassVar[bool] = True
    centres: ClassVar[bool] = True
    category = "hybrid"
    aim = "hybrid"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.merge and not self.prune:
            raise UsageError("method.merge=false and method.prune=false leave aim nothing to do")

    @property
    def uses_budget(self) -> bool:
        return self.merge and not self.schedule

    def stages(self, depth: int) -> Sequence[Stage]:
        layers = self.layers or spread(range(15, 23), 28, depth)
        exact = not self.schedule
        stages = [Stage(0, self._merged, exact=exact)] if self.merge else []
        for number, layer in enumerate(layers) if self.prune else ():
            # rate_l of the code: .875 after layer 14, 0 after layer 21
            part = 1 - (number + 1) / len(layers)
            needs, count = Needs(llm_attention=(layer - 1,)), partial(self._count, part)
            stages.append(Stage(layer, partial(self._cut, part), needs, count, exact=exact))
        return stages

    def _count(self, part: float, keep: int, total: int) -> int:
        """Tokens after a cut, of those that entered the language model."""
        # int() as the code counts
        return int((keep if self.merge else total) * part)

    def _merged(self, ctx: StageContext) -> Selection:
        features, parts = ctx.visual_hidden, _video.videos(ctx)
        budget, staying = _video.counted(ctx)
        frames = [part.rows[frame] for part in parts for frame in range(len(part.rows))]
        kept, values = [staying], [features[staying]]
        owner = torch.full_like(ctx.visual, -1)
        for rows, keep in zip(frames, shares(budget, [len(rows) for rows in frames]), strict=True):
            if keep or self.schedule:
                steps = self.schedule or halvings(len(rows), keep)
                anchors, slot, merged = _alike(features[rows], steps)
                kept.append(rows[anchors])
                values.append(merged)
                owner[rows] = kept[-1][slot]
        if self.schedule:
            ctx.note("aim: steps given, the budget is not used")
        places = torch.cat(kept)
        return Selection(places, torch.cat(values), members=lambda: owned(owner, places))

    def _cut(self, part: float, ctx: StageContext) -> Selection:
        # with given steps the number that entered follows from the frames, not from the budget
        entered = ctx.memory.setdefault("entered", torch.tensor(len(ctx.visual)))
        left = int(int(entered) * part) if self.schedule else ctx.keep
        if not left:
            return Selection(torch.arange(0, device=ctx.visual.device))
        return Selection(top_k(importance(ctx.recorded(ctx.layer - 1))[ctx.visual], left))


def importance(qk: QueryKey) -> Tensor:
    """Where a walk along the attention of a layer ends, from anywhere, ``[L]``.

    Args:
        qk: ``[heads, L, head_dim]``, all tokens of a sample; causal. The map is never held whole.
    """
    heads, length, _ = qk.query.shape
    rows = torch.arange(length, device=qk.query.device)
    # from anywhere and without damping, so that mass drifts to the first tokens, as published
    mass = torch.full((heads, length), 1 / length, device=qk.query.device)
    key = qk.key.float()
    for _ in range(PASSES):
        reached = torch.zeros_like(mass)
        for part in rows.split(QUERY_CHUNK):
            # softmax(z / 0.1): the temperature goes into the factor of the products
            given = attention_rows(qk.query[:, part], key, qk.scaling / TEMPERATURE, part)
            reached += product(mass[:, None, part], given)[:, 0]
        mass = reached
    return mass.square().mean(0).sqrt()


def _alike(features: Tensor, steps: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """The token that each row stands at, the row that each token went into, and the rows, after
    steps of bipartite matching.
    """
    anchors = slot = torch.arange(len(features), device=features.device)
    for merges in steps:
        match = bipartite(features, min(merges, len(features) // 2))
        # plain means: what merged before does not weigh more, unlike in ToMe
        weights = mean_weights(match.slot, len(match.anchor), torch.ones_like(match.slot))
        features = product(weights.to(features), features)
        anchors, slot = anchors[match.anchor], match.slot[slot]
    return anchors, slot, features
