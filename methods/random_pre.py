"""Uniform random choice before the language model."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from unibench import Method, Selection, StageContext


@dataclass(frozen=True)
class RandomPre(Method):
    """Keeps a uniform random subset of the visual tokens before the language model.

    The floor that any method must beat. Report at least three seeds.

    Paper: UniPruneBench, arXiv 2511.02650 (Random-Pre).
    Code: TianfanPeng/VLMUniPruneBench@f93768fc methods/Random_PreLLM.py.
    Cost: O(N).
    Deviations: kept tokens stay in sequence order (the official InternVL path leaves them
        shuffled); the draw depends on seed and sample alone, not on what ran before.
    """

    category = "random"
    aim = "none"

    def select(self, ctx: StageContext) -> Selection:
        # a prefix of one permutation: a smaller budget keeps a subset of what a larger one keeps
        order = torch.randperm(len(ctx.visual), generator=ctx.generator())
        return Selection(order[: ctx.keep])
