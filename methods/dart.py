"""Few pivots and the tokens least like them, inside the language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from unibench import Method, Needs, Selection, Stage, StageContext
from unibench.annotations import Behind, Count, Natural
from unibench.ops import product, unit


@dataclass(frozen=True)
class DART(Method):
    """Keeps a few pivot tokens and, for each pivot in turn, the visual tokens least similar to it.

    Duplication says more than importance: pivots are the visual and text tokens with the greatest
    keys (L1) at layer ``layer - 1``; similarity is the cosine of the states entering ``layer``
    after a norm. Every pivot gets ``(keep - pivots_image) // (pivots_image + pivots_text)`` tokens;
    what the division leaves over goes to the visual tokens with the greatest keys.

    Paper: Stop Looking for Important Tokens in MLLMs: Duplication Matters More, EMNLP 2025, arXiv
        2502.11494.
    Code: TianfanPeng/VLMUniPruneBench@f93768fc methods/DART_IntraLLM.py (variant=official_bug,
        norm=layer, 10 and 5 pivots), ModelTC/LightCompress@9701d035 token_reduction/dart.py and
        Tencent/AngelSlim@67394ce5 algorithm/dart.py (variant=angelslim, which IDPruner's tables ran
        after layer 0: ``method.layer=1``); the authors' own repository was not at hand.
    Cost: O(pivots N D); no attention.
    Deviations: exactly ``keep`` tokens (official: pivots_image + pivots * (keep // pivots)); pivots
        by descending norm, image first (official: the order of a Python set of positions); float32,
        ties by lower index.

    Attributes:
        layer: the decoder layer whose input is cut; at least 1.
        pivots_image: visual pivots, which are kept.
        pivots_text: pivots among the tokens after the picture.
        norm: that states pass before they are compared: ``final``, in front of the head, as in the
            authors' code, or ``layer``, in front of the layer whose input is cut.
        variant: ``default``; ``official_bug``: count and pivot order of the official code;
            ``angelslim``: states and norm of layer ``layer - 1``, pivots among all text, and for
            each pivot as many tokens as rounding up gives, so that the last ones may get none.
    """

    layer: Behind = 2
    pivots_image: Count = 4
    pivots_text: Natural = 4
    norm: Literal["final", "layer"] = "final"
    variant: Literal["default", "official_bug", "angelslim"] = "default"
    text_aware: ClassVar[bool] = True
    category = "LLM only"
    aim = "diversity"

    def stages(self, depth: int) -> Sequence[Stage]:
        before = Stage(self.layer - 1, self._remember, count=lambda keep, total: total)
        cut = Stage(
            self.layer,
            self.select,
            Needs(llm_attention=(self.layer - 1,)),
            exact=self.variant != "official_bug",
        )
        return (before, cut) if self.variant == "angelslim" else (cut,)

    def _remember(self, ctx: StageContext) -> None:
        """The states that the layer before the cut compares its tokens by."""
        ctx.memory["states"], ctx.memory["origin"] = ctx.input_norm(ctx.hidden), ctx.origin

    def select(self, ctx: StageContext) -> Selection:
        words = ctx.text if self.variant == "angelslim" else ctx.instruction
        norms = [
            # L1 over all heads joined, of keys after RoPE
            ctx.keys(ctx.layer - 1, rows).abs().sum((0, 2))
            for rows in (ctx.visual, words)
        ]
        visual, text = (norm.argsort(descending=True, stable=True) for norm in norms)
        own, asked = visual[: min(self.pivots_image, ctx.keep)], text[: self.pivots_text]
        pivots = torch.cat([ctx.visual[own], words[asked]])
        each = (ctx.keep - len(own)) // len(pivots)
        if self.variant == "official_bug":
            ctx.note("dart: official count and pivot order")
            # CPython iterates a set of small ints by hash slot, which is not the order of insertion
            pivots = pivots.new_tensor(list(set(pivots.tolist())))
            each = ctx.keep // len(pivots)
        elif self.variant == "angelslim":
            each = -((len(own) - ctx.keep) // len(pivots))  # rounded up
        normed = unit(self._states(ctx))
        picks, left = [own], ctx.keep - len(own)
        for similarity in product(normed[pivots], normed[ctx.visual].T):
            count = min(each, left) if self.variant == "angelslim" else each
            # each pivot takes from what earlier ones left, so their order decides
            picks.append(_first(similarity.argsort(stable=True), picks, count))
            left -= count
        if self.variant == "default":
            picks.append(_first(visual, picks, left))
        return Selection(torch.cat(picks))

    def _states(self, ctx: StageContext) -> Tensor:
        """``[L, D]`` what tokens are compared by."""
        if self.variant == "angelslim":
            # a chained method may have cut at the layer before, behind the stage that remembers
            rows = torch.searchsorted(ctx.memory["origin"], ctx.origin)
            return ctx.memory["states"][rows]
        return ctx.final_norm(ctx.hidden) if self.norm == "final" else ctx.input_norm(ctx.hidden)


def _first(order: Tensor, picks: list[Tensor], count: int) -> Tensor:
    """The first ``count`` of ``order`` that are in no earlier pick, found without waiting for the
    device.
    """
    taken = torch.zeros(len(order), dtype=torch.long, device=order.device).index_fill_(
        0, torch.cat(picks), 1
    )
    return order[taken[order].argsort(stable=True)][: min(count, len(order) - sum(map(len, picks)))]
