"""Fewer visual tokens at every quarter of the language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import Tensor

from unibench import Method, Needs, Stage, StageContext, UsageError
from unibench.annotations import Natural, Share
from unibench.cost.accounting import rounded, spread


@dataclass(frozen=True)
class PyramidDrop(Method):
    """Keeps, at several depths, the visual tokens that the last prompt token attends to most.

    Redundancy grows with depth, so the same factor is taken off at each cut. The score is the last
    row of the attention of the layer about to run, head mean, from its own norm and projections on
    the states that enter it. The factor is the one that leaves ``keep`` after the last cut; at
    an eighth of the tokens that is the published half each time.

    Paper: PyramidDrop, CVPR 2025, arXiv 2410.17247.
    Code: Cooperx521/PyramidDrop@6444f304 modeling_llama_pdrop.py:pdrop_rank_drop.
    Cost: at each cut the projections of one layer once more and one row of attention, O(T D^2 + H
        T).
    Deviations: original positions (official: positions=compact); counts are rounded,
        not floored, unless ``retentions`` are given; ties by lower index.

    Attributes:
        layers: decoder layers whose inputs are cut; empty is a quarter, half and three quarters of
            the depth.
        retentions: shares of the original tokens that stay after each cut, instead of the budget
            (published: 0.5, 0.25, 0.125); rounded down.
    """

    layers: tuple[Natural, ...] = ()
    retentions: tuple[Share, ...] = ()
    text_aware: ClassVar[bool] = True
    corrected = frozenset({"attention"})
    category = "LLM only"
    aim = "importance"

    @property
    def uses_budget(self) -> bool:
        return not self.retentions

    def stages(self, depth: int) -> Sequence[Stage]:
        layers = self.layers or spread((8, 16, 24), 32, depth)
        if self.retentions and len(self.retentions) != len(layers):
            raise UsageError(
                f"method.retentions has {len(self.retentions)} shares for cuts at {len(layers)}"
                " layers"
            )
        counts = [partial(self._count, number + 1, len(layers)) for number in range(len(layers))]
        needs = Needs(entering=True)
        return [
            Stage(layer, self.select, needs, count)
            for layer, count in zip(layers, counts, strict=True)
        ]

    def score(self, ctx: StageContext) -> Tensor:
        if self.retentions:
            ctx.note("stage shares given, the budget is not used")
        # of the layer about to run; UniPruneBench's port takes the layer before
        return ctx.attention(ctx.layer)[:, 0].mean(0)

    def _count(self, number: int, cuts: int, keep: int, total: int) -> int:
        if self.retentions:
            # of the original number, rounded down: pdrop's image_token_ratio_list
            return max(1, int(total * self.retentions[number - 1]))
        return keep if number == cuts else rounded(total * (keep / total) ** (number / cuts))
