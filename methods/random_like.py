"""Uniform random choice at the layers of another method, of as many tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from unibench import Method, Selection, Stage, StageContext
from unibench.methods.fastv import FastV
from unibench.pruning import Needs

if TYPE_CHECKING:
    from unibench.facts import ModelFacts
    from unibench.pruning.family import Family

DEPTH = 32  # of the decoder whose stages tell whether a method can be stood beside


@dataclass(frozen=True)
class RandomLike(Method):
    """Keeps a uniform random subset at each layer where another method cuts, and as many tokens.

    A control: what a method gains over it is what its choice of tokens is worth, apart from how
    many go and where. At each cut the draw is among the tokens that are present, so later cuts keep
    subsets of earlier ones. Nothing is merged. Report at least three seeds.

    Paper: none.
    Code: none; ours.
    Cost: O(N) at each cut; beside a method that decides its own number, that of the method too.
    Deviations: none.

    Attributes:
        inner: the method that it stands beside.
        options: on the command line, its parameters.
    """

    inner: Method = field(default=FastV(), metadata={"options": "options"})
    category = "random"
    aim = "none"

    @property
    def adaptive(self) -> bool:  # type: ignore[override]
        return self.inner.adaptive

    @property
    def uses_budget(self) -> bool:
        return self.inner.uses_budget

    @property
    def wants(self) -> frozenset[str]:  # type: ignore[override]
        return self.inner.wants

    @property
    def text_aware(self) -> bool:  # type: ignore[override]
        return self._asks(self.inner.stages(DEPTH)) and self.inner.text_aware

    @property
    def data_timed(self) -> bool:  # type: ignore[override]
        return self._asks(self.inner.stages(DEPTH)) and self.inner.data_timed

    def requires(self, family: type[Family], model: ModelFacts) -> str | None:
        depth, name = model.depth or DEPTH, type(self.inner).__name__
        if self.inner.evicts or self.inner.rereads(depth) is not None:
            return f"random_like knows no counts of {name}, which takes tokens out of the cache too"
        stages = self.inner.stages(depth)
        # what such a method does at a later cut depends on the tokens that it kept itself
        elsewhere = self.inner.drops_pixels or self.inner.encoder(model.tower_depth or DEPTH)
        if self._asks(stages) and (len(stages) > 1 or elsewhere):
            return (
                f"random_like knows no counts of {name}, which decides at several places how many"
                " tokens stay; take random_pre"
            )
        return self.inner.requires(family, model)

    def stages(self, depth: int) -> Sequence[Stage]:
        return self._beside(self.inner.stages(depth))

    def averaged(self, depth: int) -> Sequence[Stage]:
        return self._beside(self.inner.averaged(depth))

    def select(self, ctx: StageContext) -> Selection:
        return self._drawn(ctx, ctx.keep)

    def _asks(self, stages: Sequence[Stage]) -> bool:
        """Whether the method itself has to say how many tokens stay."""
        return any(not stage.exact for stage in stages)

    def _beside(self, stages: Sequence[Stage]) -> list[Stage]:
        if self._asks(stages):
            return [
                replace(stage, select=partial(self._as_many, stage), weighted=False)
                for stage in stages
            ]
        return [
            replace(stage, select=self.select, needs=Needs(), weighted=False) for stage in stages
        ]

    def _as_many(self, stage: Stage, ctx: StageContext) -> Selection | None:
        found = stage.select(ctx)
        return None if found is None else self._drawn(ctx, len(found.keep))

    def _drawn(self, ctx: StageContext, count: int) -> Selection:
        # a prefix of one permutation, as random_pre draws: beside a method that cuts once at
        # layer 0 the two keep the same tokens
        order = torch.randperm(len(ctx.visual), generator=ctx.generator())
        return Selection(order[:count])
