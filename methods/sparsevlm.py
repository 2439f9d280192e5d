"""Words that ask for something rate the visual tokens; what is dropped is recycled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from unibench import Method, Needs, Selection, Stage, StageContext, UsageError
from unibench.annotations import Behind, Finite, Natural, Share, Weight
from unibench.cost.accounting import spread
from unibench.methods import _recycling
from unibench.ops import complement, pairs, product, top_k
from unibench.ops.clustering import density_peaks


@dataclass(frozen=True)
class SparseVLM(Method):
    """Keeps the visual tokens that the raters attend to most, and the best dropped ones as cluster
    means.

    Raters are the words after the picture whose embedding resembles the visual tokens more than the
    average word's. At each cut the attention of the layer before, head mean, averaged over raters,
    ranks the tokens; the top ``recycle`` share of the dropped are clustered (DPC-kNN, one cluster
    for ten), and the means stay in the places of their centres, counted in the budget.

    Paper: SparseVLM, ICML 2025, arXiv 2410.04417.
    Code: Gumpest/SparseVLMs@26a5f488 modelling_sparse_llama.py, score.py (v1.5);
        liuting20/MustDrop@909afa53 score.py:attn_postprocess_rank for the ranks.
    Cost: O(H R T) attention for R raters at each cut, O(n^2 D) for n recycled tokens.
    Deviations: merged tokens stand at their centre, with its position (official: appended,
        positions renumbered); of equal densities the lower index wins (official: noise); the
        published counts are scaled so that the last cut leaves ``keep``, merged ones included.

    Attributes:
        layers: decoder layers whose inputs are cut; empty is 3, 7 and 16 of 32, at the same
            relative depth.
        counts: tokens kept at each cut before recycling, instead of the budget.
        recycle: share of the dropped tokens that are clustered; 0 merges nothing.
        rank: counts from the rank of the raters' attention, ``rank_scale * rank + rank_bias``, as
            in the paper, instead of the budget; another number for every sample.
        rank_scale: see ``rank``.
        rank_bias: see ``rank``.
    """

    layers: tuple[Behind, ...] = ()
    counts: tuple[Natural, ...] = ()
    recycle: Share = 0.3
    rank: bool = False
    rank_scale: Weight = 1.0
    rank_bias: Finite = 0.0
    text_aware: ClassVar[bool] = True
    centres: ClassVar[bool] = True
    corrected = frozenset({"attention"})
    category = "hybrid"
    aim = "importance"

    @property
    def uses_budget(self) -> bool:
        return not (self.rank or self.counts)

    def stages(self, depth: int) -> Sequence[Stage]:
        layers = self.layers or spread((3, 7, 16), 32, depth)
        if self.counts and len(self.counts) != len(layers):
            raise UsageError(
                f"method.counts has {len(self.counts)} numbers for cuts at {len(layers)} layers"
            )
        cuts = [
            Stage(
                layer,
                partial(self._cut, number),
                Needs(llm_attention=(layer - 1,)),
                partial(self._count, number, len(layers)),
                exact=not (self.rank or self.counts),
            )
            for number, layer in enumerate(layers)
        ]
        return [Stage(0, self._find_raters, count=lambda keep, total: total), *cuts]

    def _find_raters(self, ctx: StageContext) -> None:
        text = ctx.hidden[ctx.instruction].float()
        # softmax over the text, of plain products: no norms and no square root, as in the code
        weight = product(ctx.visual_hidden, text.T).softmax(1).mean(0)
        # strict; the weights sum to 1
        above = weight > weight.mean()
        rows = ctx.instruction[above] if above.any() else ctx.instruction  # all alike: all rate
        ctx.memory["raters"] = ctx.origin[rows]

    def _cut(self, number: int, ctx: StageContext) -> Selection | None:
        present = len(ctx.visual)
        raters = torch.isin(ctx.origin, ctx.memory["raters"].to(ctx.origin.device)).nonzero()[:, 0]
        attention = ctx.attention(ctx.layer - 1, raters).mean(0)  # [raters, N]
        kept, clusters = self._numbers(number, attention, ctx)
        if kept >= present:
            return None
        score = attention.mean(0)
        top = top_k(score, kept)
        if not clusters:
            return Selection(top)
        dropped = complement(top, present)
        again = dropped[top_k(score[dropped], _recycling.recycled(len(dropped), self.recycle))]
        # as many neighbours in a density as there are clusters
        found = density_peaks(ctx.visual_hidden[again], clusters, clusters)
        inside = torch.nn.functional.one_hot(found.slot, clusters).T.float()
        means = product(inside, ctx.visual_hidden[again]) / inside.sum(1, keepdim=True)
        return Selection(
            torch.cat([top, again[found.centre]]),
            torch.cat([ctx.visual_hidden[top], means]),
            members=lambda: pairs(inside, again, first=len(top)),
        )

    def _numbers(self, number: int, attention: Tensor, ctx: StageContext) -> tuple[int, int]:
        """Tokens kept before recycling, and clusters of recycled ones."""
        present = len(ctx.visual)
        if not self.rank and not self.counts:
            kept = _recycling.kept_of(ctx.keep, present, self.recycle)
            return kept, ctx.keep - kept
        if self.rank:
            ctx.note("counts from the rank of the raters' attention; the budget is not used")
            # attn_postprocess_rank; the released SparseVLM has fixed counts only
            rank = int(torch.linalg.matrix_rank(attention))
            wanted = (
                max(1, int(rank * self.rank_scale + self.rank_bias)) if rank < present else present
            )
        else:
            ctx.note("stage counts given; the budget is not used")
            wanted = self.counts[number]
        # the code drops at least one token at a cut that is not skipped
        kept = wanted if self.rank and wanted == present else min(wanted, present - 1)
        return kept, _recycling.clusters(present - kept, self.recycle)

    def _count(self, number: int, cuts: int, keep: int, total: int) -> int:
        if self.rank:
            return total
        if self.counts:
            return _recycling.left(self.counts, total, self.recycle)[number]
        return keep if number == cuts - 1 else _recycling.scaled(number, keep, total, self.recycle)
