"""A few patches leave in each later block of the vision tower, what they show goes to others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unibench import (
    EncoderContext,
    EncoderStage,
    Method,
    Selection,
    Stage,
    StageContext,
)
from unibench.annotations import Count, Natural, NotAll, Share
from unibench.facts import ModelFacts
from unibench.methods._tower import left_by_tower
from unibench.methods._variants import Reproduction
from unibench.ops import Matching, complement, cosine, places_within, ranking, top_k
from unibench.pruning import Family

WINDOW = 2  # patches along a window: in each the most redundant is pushed on
FACTOR = 2.0
UNWRITTEN = -1e9  # on the board of the official code


@dataclass(frozen=True)
class FiCoCoV(Method):
    """Keeps the patches that differ from the others or that CLS attends to; the rest is shared out.

    In each block of the vision tower from the middle on, the most redundant patches are discarded,
    at first one of each 2 x 2 window. Each goes, weighted by its attention, to the few retained
    patches that it agrees with most.

    Paper: Filter, Correlate, Compress (FiCoCo-V), AAAI 2026, arXiv 2411.17686.
    Code: kawhiiiileo/FiCoCo@8995e93b llava/model/multimodal_encoder/FiCoCo_V.py.
    Finding: the quantile that picks receivers gives one receiver in nearly every block. In the
        official code the CLS row comes back last, so that later blocks take a patch for it and the
        CLS row is handed on as an image token; contributions go to rows of the same number instead
        of the receivers; and the vector of scores that spreads the discards over windows is never
        reset, so that answers depend on the pictures before. variant=official_bug has these within
        one picture; what crosses to the next is not reproduced. 42 discarded in each block leave
        114 of 576 patches.
    Cost: O(T^2 C) and T x T floats in each merging block; the tower itself gets faster.
    Deviations: the receivers are chosen among retained patches, CLS stays first, and nothing
        survives a picture; each tile is merged by itself. Tokens that rounding leaves beyond the
        budget, the most redundant by mean cosine, are dropped behind the tower. Only towers with
        one token per patch can be merged in (LLaVA-1.5).

    Attributes:
        r: patches discarded in each block, instead of the budget (official: 42).
        first: first block that discards; None is the middle of the tower.
        weight: of CLS attention beside redundancy among patches.
        epsilon: quantile of a discarded patch's agreement above which retained patches receive.
        variant: default or official_bug.
    """

    r: Count | None = None
    first: Natural | None = None
    weight: Share = 0.35
    epsilon: NotAll = 0.998
    variant: Reproduction = "default"
    centres: ClassVar[bool] = True
    category = "ViT only"
    aim = "hybrid"

    @property
    def adaptive(self) -> bool:  # type: ignore[override]
        """With ``r`` given the number of blocks decides how many patches stay."""
        return self.r is not None

    @property
    def uses_budget(self) -> bool:
        return self.r is None

    def requires(self, family: type[Family], model: ModelFacts) -> str | None:
        if family.tower_merging and model.one_feature_layer is not False:
            return None
        return (
            f"FiCoCoV merges inside the vision tower, which family {model.family} does not allow:"
            " its tokens are joined or stitched from whole grids of patches"
        )

    def encoder(self, blocks: int) -> Sequence[EncoderStage]:
        first = self._first(blocks)
        return [EncoderStage(block, self._merge, weighted=False) for block in range(first, blocks)]

    def _first(self, blocks: int) -> int:
        """The projector reads the last block but one, so that half of the tower is one more."""
        return (blocks + 1) // 2 if self.first is None else self.first

    def stages(self, depth: int) -> Sequence[Stage]:
        return (Stage(0, self.select, exact=self.r is None),)

    def select(self, ctx: StageContext) -> Selection:
        if self.variant == "official_bug":
            ctx.note("ficoco_v official_bug: CLS among the patches, contributions to other rows")
        left = ctx.vision.merged
        if left is None:
            ctx.note("ficoco_v: nothing was merged in the vision tower")
            rows = torch.arange(len(ctx.visual), device=ctx.visual.device)
        else:
            rows = left.nonzero()[:, 0]
        if self.r is None and len(rows) > ctx.keep:
            redundant = cosine(ctx.visual_hidden[rows]).mean(1)
            rows = rows[top_k(-redundant, ctx.keep)]
        return Selection(rows) if ctx.vision.merged is None else left_by_tower(ctx, rows)

    def _merge(self, ctx: EncoderContext) -> Matching | None:
        """The merge of one block."""
        number = self._number(ctx)
        if not number:
            return None
        logits = ctx.logits()
        score = redundancy(logits, self.weight)
        if self.variant == "official_bug":
            board = ctx.memory.get("board", score.new_full((ctx.side**2,), UNWRITTEN))
            raised, ctx.memory["board"] = pushed_by_number(score, board, ctx.side)
            return shared_by_number(logits, raised, number, self.epsilon)
        place = ctx.anchor[ctx.prefix :] - ctx.prefix
        return shared_out(logits, pushed_by_place(score, place, ctx.side), number, self.epsilon)

    def _number(self, ctx: EncoderContext) -> int:
        """Patches that a block discards: the same number everywhere, one more in earlier ones."""
        present = len(ctx.tokens) - ctx.prefix
        first = self._first(ctx.blocks)
        share, more = divmod(ctx.side**2 - ctx.keep, ctx.blocks - first)
        number = share + (ctx.block - first < more) if self.r is None else self.r
        return min(number, present - 1)


def redundancy(logits: Tensor, weight: float) -> Tensor:
    """How well others stand for each patch, ``[n]``; CLS is in row 0 of ``[1 + n, 1 + n]``."""
    cls, mean = logits[0, 1:], logits[1:, 1:].mean(1)
    found: Tensor = (1 - weight) * mean / mean.norm() - weight * cls / cls.norm()
    return found


def pushed(score: Tensor, first: Tensor) -> Tensor:
    """Scores ``[n]`` that are raised where ``first``, whatever their sign."""
    # times or by two: a negative score rises when it is halved
    return torch.where(first, torch.where(score > 0, score * FACTOR, score / FACTOR), score)


def pushed_by_place(score: Tensor, place: Tensor, side: int) -> Tensor:
    """Scores raised at the most redundant patch present of each window.

    Args:
        score: ``[n]`` redundancy.
        place: ``[n]`` of the patches in the whole grid.
        side: of the grid.
    """
    return pushed(score, _first_of_window(score, place, side))


def pushed_by_number(score: Tensor, board: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """As the official code, which keeps a board of scores from block to block.

    Scores are written, in order, to the places that are not spent; the highest place of each window
    is spent, and the patch whose number it is raised. A window that is all spent raises its first.

    Args:
        score: ``[n]``.
        board: ``[side^2]``; minus infinity is spent.
        side: of the grid.

    Returns:
        The scores, and the board.
    """
    free = (board > -torch.inf).nonzero()[: len(score), 0]
    board = board.index_copy(0, free, score[: len(free)].to(board))
    numbers = torch.arange(len(board), device=score.device)
    first = _first_of_window(board, numbers, side) & (numbers < len(score))
    return pushed(score, first[: len(score)]), board.masked_fill(first, -torch.inf)


def _first_of_window(score: Tensor, place: Tensor, side: int) -> Tensor:
    """``[n]`` True on the highest score of each window; the lower index of equal ones."""
    across = -(-side // WINDOW)
    window = place // side // WINDOW * across + place % side // WINDOW
    return places_within(window, ranking(score), across**2) == 0


def shared_out(logits: Tensor, score: Tensor, number: int, epsilon: float) -> Matching:
    """The most redundant patches go; each is added to the retained ones that it agrees with most.

    Args:
        logits: ``[1 + n, 1 + n]``, CLS first.
        score: ``[n]`` by which patches are discarded.
        number: of patches discarded.
        epsilon: quantile of a patch's agreement above which the retained receive it.
    """
    gone = ranking(score)[:number].sort().values
    kept = complement(gone, len(score))
    agreement = logits[gone + 1][:, kept + 1]
    most = torch.nn.functional.one_hot(agreement.argmax(1), len(kept)).bool()
    receives = most | (agreement > agreement.quantile(epsilon, dim=1, keepdim=True))
    # softmax over all tokens, so shares are attention; they are normalised over receivers below
    share = logits[gone + 1].softmax(1)[:, kept + 1] * receives
    anchor = torch.cat([kept.new_zeros(1), kept + 1])
    weights = torch.zeros(len(anchor), len(logits), device=logits.device).to(logits)
    weights[torch.arange(len(anchor), device=anchor.device), anchor] = 1
    weights[1:, gone + 1] = (share / share.sum(1, keepdim=True)).T
    return _normalised(anchor, weights)


def shared_by_number(logits: Tensor, score: Tensor, number: int, epsilon: float) -> Matching:
    """As the official code: rows come back by rising redundancy with CLS last, and contributions go
    to rows of the survivors whose numbers are those of the receivers before.
    """
    order = torch.cat([ranking(score) + 1, torch.zeros_like(ranking(score)[:1])])
    gone, left = order[:number], order[number:]
    rows = logits[gone]
    above = (rows > rows.quantile(epsilon, dim=1, keepdim=True)).sum(1).amax().clamp_min(1)
    targets = rows.topk(int(above), dim=1).indices
    share = rows.softmax(1).gather(1, targets)
    share = share / share.sum(1, keepdim=True)
    # where most patches go, the official code finds no row of that number
    receiver = torch.where(targets < len(left), targets, targets - number).clamp_min(0)
    weights = torch.zeros(len(left), len(logits), device=logits.device).to(logits)
    weights[torch.arange(len(left), device=left.device), left] = 1
    giver = gone[:, None].expand_as(receiver)
    weights = weights.index_put((receiver, giver), share, accumulate=True)
    # the first row counts as CLS from now on and is dropped behind the tower; CLS takes its place
    anchor = left.clone()
    anchor[0], anchor[-1] = left[-1], left[0]
    return _normalised(anchor, weights)


def _normalised(anchor: Tensor, weights: Tensor) -> Matching:
    """Rows as means; each token counts for the row that it gives most to."""
    return Matching(anchor, weights.argmax(0), weights / weights.sum(1, keepdim=True))
