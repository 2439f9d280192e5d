"""A few visual tokens after every layer, by a recipe fitted beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from unibench import Method, Needs, Selection, Stage, StageContext, UsageError
from unibench.annotations import Weight
from unibench.cost.accounting import rounded
from unibench.methods import _calibration
from unibench.ops import top_k

# deleted after each layer of LLaVA-1.5-7B, of 576 tokens, for 60 and 90 per cent fewer FLOPs
PUBLISHED = (
    (
        14,
        33,
        89,
        36,
        36,
        20,
        55,
        21,
        18,
        4,
        7,
        5,
        2,
        5,
        7,
        4,
        26,
        5,
        11,
        24,
        4,
        18,
        2,
        1,
        0,
        0,
        1,
        0,
        1,
        0,
        0,
        0,
    ),
    (262, 153, 80, 19, 13, 1, 2, *[0] * 8, 1, 1, 2, 1, 2, 0, 1, *[0] * 5, 1, *[0] * 4),
)
CHUNK = 256  # query rows of an attention map held at once


@dataclass(frozen=True)
class FitPrune(Method):
    """Keeps, layer by layer, the visual tokens with much attention from the picture and from the
    text.

    After layer ``l`` has attended, the tokens with the smallest product of both (each the sum over
    query rows of the maximum over heads) go, as many as the recipe says. A recipe is fitted once on
    a few samples so that the attention distributions of a layer change least
    (``unibench.calibrate.removal_recipe``); its numbers are scaled so that ``keep`` tokens are left
    at the end.

    Paper: Fit and Prune, AAAI 2025, arXiv 2409.10197.
    Code: ywh187/FitPrune@d28e418c modeling_llama.py:LlamaAttention.forward.
    Cost: O(H T N) attention at almost every layer, in pieces of 256 rows.
    Deviations: the tokens leave before the next layer instead of before the projection and FFN of
        this one (their values are not used there); float32, ties stay with the lower index.

    Attributes:
        recipe: deletions after each decoder layer, in any unit; stretched over another depth. Empty
            takes the published tables of LLaVA-1.5-7B for 60 and 90 per cent, interpolated: an
            approximation for any other model, which the row says.
        calibration: file of ``calibrate method=fitprune to=...``, which holds the recipe instead.
    """

    recipe: tuple[Weight, ...] = ()
    calibration: str | None = None
    text_aware: ClassVar[bool] = True
    calibrated = "optional"
    corrected = frozenset({"attention"})
    category = "LLM only"
    aim = "importance"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.calibration is None:
            return
        _calibration.load(self.calibration, "fitprune", {"recipe": 1})
        if self.recipe:
            raise UsageError("method.recipe and method.calibration both say what fitprune deletes")

    @property
    def _recipe(self) -> tuple[float, ...]:
        if self.calibration is None:
            return self.recipe
        found = _calibration.load(self.calibration, "fitprune", {"recipe": 1})
        return tuple(found.tensors["recipe"].tolist())

    def stages(self, depth: int) -> Sequence[Stage]:
        recipe = self._recipe
        tables = [_stretched(table, depth) for table in ([recipe] if recipe else PUBLISHED)]
        return [
            Stage(
                layer + 1, self.select, Needs(llm_attention=(layer,)), partial(_left, tables, layer)
            )
            for layer in range(depth - 1)
            # layers after which neither table deletes need no cut and no attention
            if any(table[layer] > (table[layer - 1] if layer else 0) for table in tables)
        ]

    def select(self, ctx: StageContext) -> Selection | None:
        if not self.recipe and self.calibration is None:
            ctx.note("recipe of LLaVA-1.5-7B, not fitted to this model")
        if ctx.keep == len(ctx.visual):
            return None
        cross, own = attention_flow(ctx, ctx.layer - 1)
        return Selection(top_k(cross * own, ctx.keep))


def attention_flow(ctx: StageContext, layer: int) -> tuple[Tensor, Tensor]:
    """Attention that visual tokens receive from the text after them (sum) and from each other
    (mean), ``[N]`` each.

    Of every entry of the map the greatest head counts.
    """

    def received(rows: Tensor) -> Tensor:
        return torch.stack(
            # greatest head of each entry: the "mix attention map" of the paper
            [ctx.attention(layer, part).amax(0).sum(0) for part in rows.split(CHUNK)]
        ).sum(0)

    # a prompt that ends in its picture has no text row behind it
    text = ctx.instruction if len(ctx.instruction) else ctx.visual[-1:]
    return received(text), received(ctx.visual) / len(ctx.visual)


def _stretched(recipe: Sequence[float], depth: int) -> list[float]:
    """The share of all deletions that is done after each of ``depth - 1`` layers; the last layer's
    are of no use.
    """
    done = [0.0]
    for number in recipe:
        done.append(done[-1] + number)
    # by the share of the depth that has been passed, linear between two layers
    places = [(layer + 1) * len(recipe) / depth for layer in range(depth - 1)]
    reached = [
        done[int(place)] + (place % 1) * (done[min(int(place) + 1, len(recipe))] - done[int(place)])
        for place in places
    ]
    if not reached[-1:] or reached[-1] <= 0:
        raise UsageError(
            f"method.recipe={list(recipe)} deletes nothing before the last of {depth} layers"
        )
    return [share / reached[-1] for share in reached]


def _left(tables: Sequence[Sequence[float]], layer: int, keep: int, total: int) -> int:
    """Tokens left after a layer."""
    gone = [table[layer] for table in tables]
    share = gone[0] if len(tables) == 1 else _between(keep / total, *gone)
    return total - rounded((total - keep) * share)


def _between(retention: float, mild: float, harsh: float) -> float:
    """Interpolated between the two published tables by the share of tokens that they leave."""
    # both tables are of a 576-token picture
    low, high = (1 - sum(table) / 576 for table in reversed(PUBLISHED))
    weight = min(1.0, max(0.0, (retention - low) / (high - low)))
    return harsh + weight * (mild - harsh)
