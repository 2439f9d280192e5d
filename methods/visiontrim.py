"""Dominant tokens of the vision tower, and text-guided cluster sums of the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor

from unibench import Method, Needs, Selection, Stage, StageContext
from unibench.annotations import Behind, Natural
from unibench.methods._cuts import Cuts, around_mean, text_attention, three_times
from unibench.ops import complement, membership, pairs, product, top_k, unit
from unibench.pruning.layout import Grid

ITERATIONS = 3
BY_PLACE = 0.5  # weight of the distance of places beside that of features, in ltam
WINDOW = 9  # tokens in the window of ltam, also at the border

Space = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class VisionTrim(Method):
    """Keeps what the tower attends to, and sums of the rest around what the question speaks of.

    Dominant tokens have the highest mean of CLS attention and attention received from other
    patches. Among the rest, the tokens nearest to the words of the question are centres, and every
    other one is added to the centre that it agrees with most over all words, three times.

    Paper: VisionTrim, ICLR 2026, arXiv 2601.22674.
    Code: hanxunyu/VisionTrim@22b686d6 llava/model/multimodal_encoder/clip_encoder.py:
        token_prune_visiontrim; llava/model/language_model/llava_llama.py (in comments).
    Finding: the released code computes the paper's local score (LTAM) and the adaptive mix and
        overwrites both; variant=ltam leaves the overwriting line out. Clusters are not averaged:
        each token is added up to three times. The numbers of the paper need a second stage inside
        the language model, which is in comments there and ranks by attention that causality makes
        zero; ``layer`` turns on its evident intention, attention of the text.
    Cost: O(N^2 C) for attention received, O((N - K) R C) for R centres.
    Deviations: float32; sums stand at their centres (official: appended). The words are compared in
        the CLIP that the tower comes from; a model without one compares projected tokens with the
        embeddings of the question, ours, and the row says so. Towers without a CLS token use
        attention received alone. One pool for all crops (officially each by itself:
        budget.scope=tile). With ``layer`` and budget.mode=at_stage the first stage leaves three
        times the budget.

    Attributes:
        sums: their number; None is a quarter of the budget, rounded, at least 1 of 4.
        layer: decoder layer whose input is cut again; None is nowhere (official comments: 1).
        variant: released or ltam.
    """

    sums: Natural | None = None
    layer: Behind | None = None
    variant: Literal["released", "ltam"] = "released"
    text_aware: ClassVar[bool] = True
    centres: ClassVar[bool] = True
    category = "ViT only"
    aim = "importance"

    def stages(self, depth: int) -> Sequence[Stage]:
        return self._cuts(three_times)

    def averaged(self, depth: int) -> Sequence[Stage]:
        return Cuts(tuple(self._cuts(around_mean))).averaged(depth)

    def _cuts(self, count: Callable[[int, int, int, int], int]) -> list[Stage]:
        needs = Needs(saliency=True, features=True, clip=True, question=True)
        if self.layer is None:
            return [Stage(0, self.select, needs)]
        again = Needs(llm_attention=(self.layer - 1,))
        return [
            Stage(0, self.select, needs, partial(count, 0, 1)),
            Stage(self.layer, self._again, again, partial(count, 1, 1)),
        ]

    def select(self, ctx: StageContext) -> Selection:
        # 16 of 64 are released; other splits are not
        quarter = max(int(ctx.keep / 4 + 0.5), int(ctx.keep >= 4))
        number = min(quarter if self.sums is None else self.sums, ctx.keep)
        features, project = ctx.encoder_features()
        dominant = top_k(self.metric(ctx, features), ctx.keep - number)
        rest = complement(dominant, len(features))
        words, common = self._common(ctx, project)
        shown = unit(common(features[rest]))
        # the mean of cosines is the cosine with the mean word; CLIP's temperature changes no order
        centres = top_k(product(shown, words.mean(0)), number)
        others = complement(centres, len(rest))
        spoken = product(shown[others], words.T)  # [n, L]
        rows, times = gathered(
            features[rest[centres]],
            features[rest[others]],
            lambda centre: product(spoken, product(words, unit(common(centre)).T)),
        )
        return Selection(
            torch.cat([dominant, rest[centres]]),
            torch.cat([ctx.visual_hidden[dominant], project(rows)]),
            members=lambda: pairs(times, rest[others], rest[centres], len(dominant)),
        )

    def metric(self, ctx: StageContext, features: Tensor) -> Tensor:
        """How dominant each token is, ``[N]``."""
        received = unit(ctx.vision.received(ctx.family.saliency_layer, others=True))
        # without CLS both halves of the mean are attention received
        seen = ctx.saliency() if ctx.family.prefix_tokens else received
        if self.variant == "released":
            return (unit(seen) + received) / 2
        # as in the code: softmax of a softmax, and the less varying one gets the greater weight
        near = local_affinity(features, ctx.grids()).softmax(0).softmax(0)
        whole = seen.softmax(0)
        of_whole, of_near = whole.var(correction=0), near.var(correction=0)
        weight = of_near / (of_whole + of_near).clamp_min(torch.finfo(near.dtype).tiny)
        return weight * whole + (1 - weight) * near

    def _common(self, ctx: StageContext, project: Space) -> tuple[Tensor, Space]:
        """Words of the question ``[L, P]``, of length one, and the way of tower states to them."""
        if ctx.family.clip is None:
            ctx.note("visiontrim-adapted: words from the language model's embeddings")
            return unit(ctx.hidden[ctx.question]), project
        space = ctx.family.clip()
        words = space.words(ctx.question_ids())
        device = ctx.hidden.device
        return unit(words.to(device)), lambda states: space.project(states).to(device)

    def _again(self, ctx: StageContext) -> Selection | None:
        """The second stage: what text attends to, with the others added to it."""
        ctx.note(f"visiontrim: {ctx.keep} tokens are left at layer {ctx.layer}")
        if ctx.keep >= len(ctx.visual):
            return None
        score = text_attention(ctx, ctx.layer - 1, ctx.instruction)
        centres = top_k(score, ctx.keep)
        states = ctx.visual_hidden
        rest = complement(centres, len(states))
        others = states[rest]
        rows, times = gathered(states[centres], others, lambda centre: product(others, centre.T))
        return Selection(centres, rows, members=lambda: pairs(times, rest, centres))


def gathered(centres: Tensor, others: Tensor, agreement: Space) -> tuple[Tensor, Tensor]:
    """Each centre with the means of the rows that agree with it most, added again and again; and
    how often each was added to each, ``[R, n]``.

    Args:
        centres: ``[R, C]``.
        others: ``[n, C]``; they stay what they are.
        agreement: of others ``[n]`` with centres as they are now ``[R, C]``, ``[n, R]``.
    """
    one = torch.ones(len(others), device=others.device)
    times = one.new_zeros(len(centres), len(others))
    if not len(centres) or not len(others):
        return centres, times
    for _ in range(ITERATIONS):
        inside = membership(agreement(centres).argmax(1), len(centres), one).to(others)
        # added to the centre as it is by now, and never averaged with it
        centres = centres + product(inside, others) / inside.sum(1, keepdim=True).clamp_min(1)
        times += inside
    return centres, times


def local_affinity(features: Tensor, grids: Sequence[Grid]) -> Tensor:
    """How like its neighbours in the 3 x 3 window each token is, in features and in place, ``[N]``.

    As in the code, the sum is divided by nine also at the border, whose tokens so score higher.
    """
    places = [
        side
        for grid in grids
        for side in (
            torch.arange(grid.height).repeat_interleave(grid.width),
            torch.arange(grid.width).repeat(grid.height),
        )
    ]
    tiny = torch.finfo(torch.float32).tiny
    by_place = BY_PLACE / max(float(torch.cat(places).float().var()), tiny)
    by_feature = 1 / features.var().clamp_min(tiny)
    found = torch.zeros_like(features[:, 0])
    for grid in grids:
        tokens = features[grid.rows].view(grid.height, grid.width, -1)
        total = tokens.new_zeros(grid.height, grid.width)
        # four of the eight neighbours; the other four are the same pairs seen from there
        for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
            here = slice(0, grid.height - down), slice(max(0, -right), grid.width - max(0, right))
            there = slice(down, grid.height), slice(max(0, right), grid.width - max(0, -right))
            apart = (tokens[here] - tokens[there]).square().sum(-1) * by_feature
            # squared distance of places: 1 beside, 2 across the corner
            apart = apart + by_place * (down + abs(right))
            total[here] -= apart
            total[there] -= apart
        found = found.index_copy(0, grid.rows, total.flatten() / WINDOW)
    return found
