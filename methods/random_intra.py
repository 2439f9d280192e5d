"""Uniform random choice inside the language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from unibench import Method, Selection, Stage, StageContext
from unibench.annotations import Natural


@dataclass(frozen=True)
class RandomIntra(Method):
    """Keeps a uniform random subset of the visual tokens that enter a decoder layer.

    Paper: UniPruneBench, arXiv 2511.02650 (Random-Intra).
    Code: TianfanPeng/VLMUniPruneBench@f93768fc methods/Random_IntraLLM.py.
    Cost: O(N).
    Deviations: at least one token stays; original positions are kept on every family.

    Attributes:
        layer: the decoder layer whose input is cut; the layers before it see everything.
    """

    layer: Natural = 2
    category = "random"
    aim = "none"

    def stages(self, depth: int) -> Sequence[Stage]:
        return (Stage(self.layer, self.select),)

    def select(self, ctx: StageContext) -> Selection:
        order = torch.randperm(len(ctx.visual), generator=ctx.generator())
        return Selection(order[: ctx.keep])
