"""Attention of the last prompt token, early in the language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from unibench import Method, Needs, Stage, StageContext
from unibench.annotations import Behind


@dataclass(frozen=True)
class FastV(Method):
    """Keeps the visual tokens that the last prompt token attends to most, after two decoder layers.

    The score is the mean over heads of the last row of the attention map of layer ``layer - 1``,
    computed from its queries and keys alone: the attention kernel stays what it is.

    Paper: An Image is Worth 1/2 Tokens After Layer 2, ECCV 2024, arXiv 2403.06764.
    Code: pkunlp-icler/FastV@d1659729 modeling_llama.py:LlamaModel.forward (in-place version).
    Cost: O(H T) for one row of attention.
    Deviations: float32 scores, ties by lower index; the true visual span (the official start is one
        too high); sequence order and original positions are kept.

    Attributes:
        layer: the decoder layer whose input is cut (K in the paper); at least 1.
    """

    layer: Behind = 2
    text_aware: ClassVar[bool] = True
    corrected = frozenset({"attention"})
    category = "LLM only"
    aim = "importance"

    def stages(self, depth: int) -> Sequence[Stage]:
        return (Stage(self.layer, self.select, Needs(llm_attention=(self.layer - 1,))),)

    def score(self, ctx: StageContext) -> Tensor:
        # the last row alone, as every code does; the paper's text averages over all rows
        return ctx.attention(ctx.layer - 1)[:, 0].mean(0)
