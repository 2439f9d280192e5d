"""Attention of the last prompt token, early in the language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from unibench import Method, Needs, Stage, StageContext
from unibench.annotations import Behind


@dataclass(frozen=True)
class FastV(Method):
    """Keeps the visual tokens that the last prompt token attends to most, after two decoder layers.

    The score is the mean over heads of the last row of the attention map of layer ``layer - 1``,
    computed from its queries and keys alone: the attention kernel stays what it is.

    Paper: An Image is Worth 1/2 Tokens After Layer 2, ECCV 2024, arXiv 2403.06764.
    Code: pkunlp-icler/FastV@d1659729 modeling_llama.py:LlamaModel.forward (in-place version);
        Tencent/AngelSlim@67394ce5 algorithm/attention_based.py (variant=angelslim, which IDPruner's
        tables ran after layer 0: ``method.layer=1``).
    Cost: O(H T) for one row of attention.
    Deviations: float32 scores, ties by lower index; the true visual span (the official start is one
        too high); sequence order is kept, and positions are those that ``positions=`` says
        (official: original). The prompt is ranked once: the official in-place version has no cache
        and ranks anew at each answer token.

    Attributes:
        layer: the decoder layer whose input is cut (K in the paper); at least 1.
        variant: ``official``: the softmax runs over all keys, so that text takes its share of each
            head; ``angelslim``: over the visual keys alone, so that every head counts the same.
    """

    layer: Behind = 2
    variant: Literal["official", "angelslim"] = "official"
    text_aware: ClassVar[bool] = True
    corrected = frozenset({"attention"})
    category = "LLM only"
    aim = "importance"

    def stages(self, depth: int) -> Sequence[Stage]:
        return (Stage(self.layer, self.select, Needs(llm_attention=(self.layer - 1,))),)

    def score(self, ctx: StageContext) -> Tensor:
        # the last row alone, as every code does; the paper's text averages over all rows
        given = ctx.attention(ctx.layer - 1)[:, 0]
        if self.variant == "angelslim":
            # a softmax over some of the keys is that over all of them, divided by their share;
            # a head whose share underflows says nothing
            share = given.sum(-1, keepdim=True).clamp_min(torch.finfo(given.dtype).tiny)
            given = given / share
        return given.mean(0)
