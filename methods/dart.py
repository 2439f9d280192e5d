"""Few pivots and the tokens least like them, inside the language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from unibench import Method, Needs, Selection, Stage, StageContext
from unibench.annotations import Behind, Count, Natural
from unibench.methods._variants import Reproduction
from unibench.ops import product, unit


@dataclass(frozen=True)
class DART(Method):
    """Keeps a few pivot tokens and, for each pivot in turn, the visual tokens least similar to it.

    Duplication says more than importance: pivots are the visual and text tokens with the greatest
    keys (L1) at layer ``layer - 1``; similarity is the cosine of the states entering ``layer``
    after the model's final norm. Every pivot gets ``(keep - pivots_image) // (pivots_image +
    pivots_text)`` tokens; what the division leaves over goes to the visual tokens with the greatest
    keys.

    Paper: Stop Looking for Important Tokens in MLLMs: Duplication Matters More, EMNLP 2025, arXiv
        2502.11494.
    Code: TianfanPeng/VLMUniPruneBench@f93768fc methods/DART_IntraLLM.py and
        ModelTC/LightCompress@9701d035 token_reduction/dart.py (the authors' own repository was not
        at hand).
    Cost: O(pivots N D); no attention.
    Deviations: exactly ``keep`` tokens (official: pivots_image + pivots * (keep // pivots)); pivots
        by descending norm, image first (official: the order of a Python set of positions); float32,
        ties by lower index.

    Attributes:
        layer: the decoder layer whose input is cut; at least 1.
        pivots_image: visual pivots, which are kept.
        pivots_text: pivots among the tokens after the picture.
        variant: ``default``, or ``official_bug``: count and pivot order of the official code.
    """

    layer: Behind = 2
    pivots_image: Count = 4
    pivots_text: Natural = 4
    variant: Reproduction = "default"
    text_aware: ClassVar[bool] = True
    category = "LLM only"
    aim = "diversity"

    def stages(self, depth: int) -> Sequence[Stage]:
        return (
            Stage(
                self.layer,
                self.select,
                Needs(llm_attention=(self.layer - 1,)),
                exact=self.variant == "default",
            ),
        )

    def select(self, ctx: StageContext) -> Selection:
        norms = [
            # L1 over all heads joined, of keys after RoPE
            ctx.keys(ctx.layer - 1, rows).abs().sum((0, 2))
            for rows in (ctx.visual, ctx.instruction)
        ]
        visual, text = (norm.argsort(descending=True, stable=True) for norm in norms)
        own, asked = visual[: min(self.pivots_image, ctx.keep)], text[: self.pivots_text]
        pivots = torch.cat([ctx.visual[own], ctx.instruction[asked]])
        if self.variant == "official_bug":
            ctx.note("dart: official count and pivot order")
            # CPython iterates a set of small ints by hash slot, which is not the order of insertion
            pivots = pivots.new_tensor(list(set(pivots.tolist())))
            each = ctx.keep // len(pivots)
        else:
            each = (ctx.keep - len(own)) // len(pivots)
        # the final norm, as in the authors' code; UniPruneBench's takes the layer's input norm
        normed = unit(ctx.final_norm(ctx.hidden))
        picks = [own]
        for similarity in product(normed[pivots], normed[ctx.visual].T):
            # each pivot takes from what earlier ones left, so their order decides
            picks.append(_first(similarity.argsort(stable=True), picks, each))
        if self.variant == "default":
            picks.append(_first(visual, picks, ctx.keep - len(own) - each * len(pivots)))
        return Selection(torch.cat(picks))


def _first(order: Tensor, picks: list[Tensor], count: int) -> Tensor:
    """The first ``count`` of ``order`` that are in no earlier pick, found without waiting for the
    device.
    """
    taken = torch.zeros(len(order), dtype=torch.long, device=order.device).index_fill_(
        0, torch.cat(picks), 1
    )
    return order[taken[order].argsort(stable=True)][: min(count, len(order) - sum(map(len, picks)))]
