"""Attention within stretches of the picture, each with a budget of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unibench import Method, Needs, Selection, StageContext
from unibench.annotations import Count, Weight
from unibench.ops import product, ranks, top_k, unit


@dataclass(frozen=True)
class HoloV(Method):
    """Keeps the most attended tokens of every stretch of the picture, more where the stretch is
    salient and varied.

    The token sequence is cut into runs; attention and the variance of similarity within a run set
    its budget, attention alone picks inside it. So no region is left without a token.

    Paper: HoloV, NeurIPS 2025, arXiv 2510.02912.
    Code: obananas/HoloV@1d2e65e9 llava/model/utils.py:HoloV, qwen-model-HoloV/utils.py:HoloV.
    Finding: the variance of a run is scaled to the run's own mean attention, so that every run's
        score is (1 + beta) times its attention and beta cancels in the budgets; kept as in the
        official code.
    Cost: O(N^2 D / runs) after one row of attention.
    Deviations: a run's budget beyond its size goes to the most attended tokens left, where the
        official code pads with zero vectors; sequence order; towers without a CLS token use
        received attention, and the row says so; the number of runs follows the formula of the Qwen
        code everywhere; original positions (official on LLaVA: positions=compact).

    Attributes:
        beta: weight of the variance.
        num_patches: number of runs; None is 1024/576 * N / keep.
    """

    beta: Weight = 0.09
    num_patches: Count | None = None
    needs: ClassVar[Needs] = Needs(saliency=True)
    corrected = frozenset({"saliency"})
    category = "ViT only"
    aim = "hybrid"

    def select(self, ctx: StageContext) -> Selection:
        attention, features = ctx.saliency(), unit(ctx.visual_hidden)
        count = len(attention)
        # the Qwen code's formula; the LLaVA call has 16 runs and 64 tokens written into it
        runs = min(count, self.num_patches or max(1, int(1024 / 576 * count / ctx.keep)))
        longest = -(-count // runs)
        long = count % runs or runs  # so many runs have the full length, the others one token less
        place = torch.arange(runs * longest, device=attention.device).view(runs, longest)
        place = place - (torch.arange(runs, device=attention.device) - long).clamp_min(0)[:, None]
        real = torch.ones_like(place, dtype=torch.bool)
        real[long:, -1] = False
        place = place.clamp_max(count - 1)

        budget = self._budget(
            attention[place] * real, features[place] * real[..., None], real, ctx.keep
        )
        first = ranks(attention[place].masked_fill(~real, -torch.inf)) < budget[:, None]
        chosen = torch.zeros_like(attention).index_add_(
            0, place.flatten(), (first & real).flatten().to(attention)
        )
        # chosen ones first, then the most attended of the rest: no run's surplus is lost
        return Selection(top_k(attention.masked_fill(chosen > 0, torch.inf), ctx.keep))

    def _budget(self, attention: Tensor, features: Tensor, real: Tensor, keep: int) -> Tensor:
        """Tokens for each run, from attention ``[runs, n]`` and unit features ``[runs, n, D]``,
        zero where not ``real``.
        """
        length = real.sum(1, keepdim=True)
        others = (length - 1).clamp_min(1)
        likeness = product(features, features.transpose(1, 2))
        likeness.diagonal(dim1=1, dim2=2).zero_()
        mean = likeness.sum(-1) / others
        variance = (
            ((likeness - mean[..., None]) ** 2 * real[:, None]).sum(-1) / others * real
        )  # j = i counts, as in the code
        attended = 1000 * attention
        scale = (
            attended.sum(1, keepdim=True) / length / (variance.sum(1, keepdim=True) / length + 1e-6)
        )
        score = ((attended + self.beta * scale * variance).sum(1, keepdim=True) / length)[:, 0]
        # a run of one token has no variance, and its attention is not multiplied, as in the code
        score = torch.where(length[:, 0] == 1, attention.sum(1), score)
        weight = score / (score.sum() + 1e-6)
        budget = (weight * keep).floor()
        return budget + (ranks(weight) < keep - budget.sum())
