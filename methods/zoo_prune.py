"""Diverse tokens that the projector is sensitive to, found by random pushes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call

from unibench import Method, Needs, Selection, StageContext
from unibench.annotations import Count, Positive
from unibench.ops import cosine_pairs, greedy, min_max, product
from unibench.ops.pairs import rows_of

ROWS = 8192  # pushed tokens in the projector at once
SLACK = 1e-8  # of the scale of sensitivities, as the official code has it

# float32 factors of the linear layers of a projector, as long as the layer lives, by rank
_FACTORS: WeakKeyDictionary[nn.Module, dict[Any, tuple[Tensor, ...]]] = WeakKeyDictionary()


@dataclass(frozen=True)
class ZooPrune(Method):
    """Keeps tokens that are far from those kept before and that the projector is sensitive to.

    Sensitivity is the mean length of what the projector makes of a small push, over random
    directions, forwards and backwards. Each pick has the greatest product of sensitivity and
    cosine distance to the nearest pick.

    Paper: ZOO-Prune, CVPR 2026, arXiv 2509.24837.
    Code: AIM-SKKU/ZOO-Prune@159f7f96 LLaVA/llava/model/llava_arch.py,
        language_model/llava_llama.py (low-rank projector).
    Finding: the official pushes are made in half precision, whose spacing is about the push itself:
        at features of standard deviation 3 the estimate correlates .2 with the exact one, and most
        of the ranking is rounding. The official directions are never seeded.
    Cost: two passes of the projector for each direction and token, 2 m N C D multiply-adds (half of
        it here: what is linear at its ends is not computed twice), more than a pruned prefill; then
        O(N^2 D + K N), N x N floats.
    Deviations: float32; directions from the sample's own seed, the same for all tokens; newline
        tokens go first (officially all stay, beyond the budget); one pool for all crops (officially
        each by itself: budget.scope=tile). Projectors that join patches push the joined patches;
        what is pooled behind its projector pushes the pooled input (ours).

    Attributes:
        directions: pushes for each token.
        step: length of a push.
        rank: of a cheaper copy of the projector's matrices; None is the projector itself (official:
            128 for LLaVA-NeXT).
    """

    directions: Count = 64
    step: Positive = 0.01
    rank: Count | None = None
    needs: ClassVar[Needs] = Needs(projector=True)
    wants: ClassVar[frozenset[str]] = frozenset({"projector"})
    corrected = frozenset({"geometry"})
    category = "ViT only"
    aim = "hybrid"

    def select(self, ctx: StageContext) -> Selection:
        entered = ctx.vision.projector_input()
        pushes = self.pushes(ctx, entered.shape[1]).to(entered)
        score = sensitivity(entered, pushes, ctx.family.projector, self.step, self.rank)
        scaled = min_max(score, eps=SLACK)
        # a linear projector moves all tokens alike: then distance alone decides
        weight = torch.where(score.amax() > score.amin(), scaled, torch.ones_like(scaled))
        features, preference = ctx.geometry(ctx.visual_hidden)
        distance = cosine_pairs(features, distance=True)
        worth = weight if preference is None else weight * preference
        nearest = torch.full_like(weight, torch.inf)

        def update(_: Tensor, pick: Tensor, step: int) -> Tensor:
            torch.minimum(nearest, rows_of(distance, pick)[0], out=nearest)
            return worth * nearest

        # the first pick by sensitivity alone, the others by its product with distance
        return Selection(greedy(weight, ctx.keep, update))

    def pushes(self, ctx: StageContext, width: int) -> Tensor:
        """Directions of length one, ``[m, C]``."""
        # one set for all tokens, so that lengths compare
        drawn = torch.randn(self.directions, width, generator=ctx.generator())
        directions: Tensor = drawn / drawn.norm(dim=1, keepdim=True)
        return directions


def sensitivity(
    entered: Tensor, pushes: Tensor, layers: Sequence[nn.Module], step: float, rank: int | None
) -> Tensor:
    """Mean slope of a projector along directions, at each token, ``[N]``.

    Args:
        entered: ``[N, C]`` what enters the first layer.
        pushes: ``[m, C]`` of length one.
        layers: of the projector, in order.
        step: distance pushed forwards and backwards.
        rank: of the linear layers; None is their own.
    """
    maps = [_wide(layer, rank) for layer in layers]
    front, back = isinstance(layers[0], nn.Linear), isinstance(layers[-1], nn.Linear)
    # what is linear in front is applied to tokens and pushes apart, behind to differences
    base, moves = (maps[0](entered, True), maps[0](pushes, False)) if front else (entered, pushes)
    inner = maps[int(front) : len(maps) - int(back)]
    total = entered.new_zeros(len(entered))
    # directions times tokens at once would take 300 MB of float16 for one picture
    for part in moves.split(max(1, ROWS // len(entered))):
        apart = base.new_zeros(())
        for way in (step, -step):
            rows = (base[None] + way * part[:, None]).flatten(0, 1)
            for layer in inner:
                rows = layer(rows, True)
            apart = apart + rows if way > 0 else apart - rows
        # the bias behind drops out of a difference
        apart = maps[-1](apart, False) if back else apart
        total += apart.norm(dim=-1).view(len(part), -1).sum(0)
    return total / (2 * step * len(pushes))


def _wide(layer: nn.Module, rank: int | None) -> Callable[[Tensor, bool], Tensor]:
    """A layer in float32, as a function of rows and of whether its bias is added."""
    if isinstance(layer, nn.Linear):
        factors, bias = _factors(layer, rank), layer.bias

        def linear(rows: Tensor, biased: bool) -> Tensor:
            for factor in factors:
                rows = product(rows, factor.T)
            return rows + bias.to(rows) if biased and bias is not None else rows

        return linear
    wide = {name: value.float() for name, value in layer.named_parameters()}
    if not wide:
        return lambda rows, biased: layer(rows)
    return lambda rows, biased: functional_call(layer, wide, (rows,))


def _factors(layer: nn.Linear, rank: int | None) -> tuple[Tensor, ...]:
    """Matrices whose product is a layer's, or nearest to it of their rank."""
    weight = layer.weight.detach()
    known = _FACTORS.setdefault(layer, {})
    # weights that were moved or trained since are others
    key = rank, weight.data_ptr(), weight._version
    if key not in known:
        known.clear()
        wide = weight.float()
        known[key] = (wide,)
        if rank is not None and rank < min(wide.shape):
            left, values, right = torch.linalg.svd(wide, full_matrices=False)
            known[key] = right[:rank].contiguous(), (left[:, :rank] * values[:rank]).contiguous()
    return known[key]
