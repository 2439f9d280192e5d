"""The visual tokens that a decoder layer changed least leave, at three depths."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from unibench import Method, Selection, Stage, StageContext, UsageError
from unibench.annotations import Behind, Share
from unibench.cost.accounting import rounded, spread
from unibench.methods._cuts import Cuts, check_layers
from unibench.ops import at_least_float32, top_k

# shares kept at the first and at the second cut, of the tokens present; the third leaves one token.
# The rows called 64, 128 and 192 of 576: these numbers are means over the 32 layers
PUBLISHED = ((0.0, 0.0), (0.05, 0.05), (0.28, 0.25), (0.5, 0.3), (1.0, 1.0))

Count = Callable[[int, int, int], int]


@dataclass(frozen=True)
class V2Drop(Method):
    """Keeps, at three depths, the visual tokens that the decoder layer before changed most.

    The score is the L2 norm of what one layer added to a token's hidden state: a token that the
    layers leave alone has given what it had. Neither attention nor text is read, so that any
    kernel runs.

    Paper: V2Drop (Variation-aware Vision Token Dropping), CVPR 2026, arXiv 2509.01552.
    Code: xuyang-liu16/V2Drop@219e03ed llava/model/language_model/V2Drop.py;
        Qwen2-VL/Qwen2VL_V2Drop/modeling_qwen2_vl_self.py.
    Finding: the rows 192, 128 and 64 are means over the layers, and their shares are of the tokens
        present at each cut: (.5, .3, 0) gives 193.8, where shares of the original would give 207.
        Share 0 leaves one token. Runs before commit 219e03ed measured the PruMerge that was in the
        repository's tower.
    Cost: O(N D) at each cut; the N D numbers that entered the layer before are held meanwhile.
    Deviations: the norm is taken in float32, the official one in the model's dtype; the true visual
        span instead of positions 35 to 610. With budget.mode=layer_average, the published meaning,
        the first share follows from the budget, the second from the first as in the published
        rows, and one token is left; with at_stage, which the paper does not define, equal factors
        lead to ``keep`` after the last cut, and the row says so.

    Attributes:
        layers: decoder layers whose inputs are cut; empty is 3, 17 and 22 of 32 (3, 16, 22 of 28),
            at the same relative depth.
        retentions: share of the tokens present that stays at each cut, instead of the budget
            (released: 0.5, 0.5, 0); rounded down, at least one.
    """

    layers: tuple[Behind, ...] = ()
    retentions: tuple[Share, ...] = ()
    category = "LLM only"
    aim = "importance"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_layers("v2drop", self.layers, self.retentions, least=1)

    @property
    def uses_budget(self) -> bool:
        return not self.retentions

    def stages(self, depth: int) -> Sequence[Stage]:
        if self.retentions:
            return self._cuts(depth, self._of_present, "stage shares given, the budget is not used")
        return self._cuts(depth, self._to_keep, "v2drop: equal factors to the budget, ours")

    def averaged(self, depth: int) -> Sequence[Stage]:
        count = self._of_present if self.retentions else self._as_published
        return Cuts(tuple(self._cuts(depth, count))).averaged(depth)

    def _cuts(self, depth: int, count: Count, remark: str = "") -> list[Stage]:
        # the Qwen2-VL code's layers are not those of the same relative depth
        layers = self.layers or ((3, 16, 22) if depth == 28 else spread((3, 17, 22), 32, depth))
        if self.retentions and len(self.retentions) != len(layers):
            raise UsageError(
                f"method.retentions has {len(self.retentions)} shares for cuts at {len(layers)}"
                " layers"
            )
        found = []
        for number, layer in enumerate(layers):
            # stages of one layer run in this order: the cut there comes before the states behind it
            # are remembered for the next
            found.append(Stage(layer - 1, self._remember, count=lambda keep, total: total))
            found.append(Stage(layer, partial(self._cut, remark), count=partial(count, number)))
        return found

    def _remember(self, ctx: StageContext) -> None:
        """The states that enter the layer before a cut."""
        ctx.memory["entered"], ctx.memory["rows"] = ctx.hidden[ctx.visual], ctx.vision_rows

    def _cut(self, remark: str, ctx: StageContext) -> Selection | None:
        if remark:
            ctx.note(remark)
        return None if ctx.keep >= len(ctx.visual) else Selection(top_k(self.score(ctx), ctx.keep))

    def score(self, ctx: StageContext) -> Tensor:
        if ctx.layer <= ctx.family.deepstack:
            ctx.note(f"v2drop: what layer {ctx.layer - 1} added includes DeepStack features")
        # rows rise, and a chained method may have cut in between
        before = torch.searchsorted(ctx.memory["rows"], ctx.vision_rows)
        entered = at_least_float32(ctx.memory["entered"][before])
        moved: Tensor = (ctx.visual_hidden - entered).norm(dim=-1)
        return moved

    def _of_present(self, number: int, keep: int, total: int) -> int:
        """The shares given, one after the other."""
        for share in self.retentions[: number + 1]:
            # a share of the tokens present; 0 leaves one token, as in the code
            total = max(1, int(total * share))
        return total

    def _to_keep(self, number: int, keep: int, total: int) -> int:
        """Equal factors to ``keep``."""
        cuts = len(self.layers) or 3
        return (
            keep if number + 1 == cuts else rounded(total * (keep / total) ** ((number + 1) / cuts))
        )

    def _as_published(self, number: int, keep: int, total: int) -> int:
        """``keep`` after the first cut, then as in the published rows, one in the end."""
        cuts = len(self.layers) or 3
        if keep >= total or number == 0:
            return min(keep, total)
        if number + 1 == cuts:
            return 1
        for _ in range(number):
            # the share of one cut decides that of the next
            keep, total = max(1, int(keep * second_share(keep / total))), keep
        return keep


def second_share(first: float) -> float:
    """The share of the second cut that goes with the first, linear between the published pairs.

    >>> second_share(0.28), second_share(0.5), round(second_share(0.75), 3)
    (0.25, 0.3, 0.65)
    """
    place = min(bisect_right([low for low, _ in PUBLISHED], first), len(PUBLISHED) - 1)
    (low, before), (high, after) = PUBLISHED[place - 1], PUBLISHED[place]
    return before + (after - before) * (first - low) / (high - low)
