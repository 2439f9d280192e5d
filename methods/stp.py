"""A mix of diversity and feature magnitude."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unibench import Method, Selection, StageContext
from unibench.annotations import Finite
from unibench.ops import cosine_pairs, greedy, max_min, min_max, top_k
from unibench.ops.pairs import Pairs, nearest, rows_of


@dataclass(frozen=True)
class Stp(Method):
    """Keeps the tokens with the highest mix of distance to the chosen set and magnitude.

    Distance is that to the nearest token of DivPrune's choice; magnitude is the standardised norm
    times the largest entry. Nothing is differentiated, in spite of the paper's word "gradient".

    Paper: STP (Smart Token Pruning), section 3.2, equations 3 to 11.
    Code: none published.
    Cost: O(N^2 D + K N), N x N floats.
    Deviations: the paper leaves three things open, and each is an option: which set the distance is
        to (``reading``), the scale of the two terms (``normalize``; unscaled, magnitude decides
        alone), and which term alpha weighs (equations 3 and 11 disagree).

    Attributes:
        alpha: weight; 0.28 lies in the paper's tuned range.
        reading: two_stage (distance to DivPrune's set), one_shot (to any other token) or greedy (to
            the growing set).
        normalize: minmax or none.
        alpha_role: eq11 (alpha weighs diversity) or eq3 (alpha weighs magnitude).
    """

    alpha: Finite = 0.28
    reading: Literal["two_stage", "one_shot", "greedy"] = "two_stage"
    normalize: Literal["minmax", "none"] = "minmax"
    alpha_role: Literal["eq11", "eq3"] = "eq11"
    category = "ViT only"
    aim = "hybrid"

    def select(self, ctx: StageContext) -> Selection:
        features = ctx.visual_hidden
        magnitude, distance = _magnitude(features), cosine_pairs(features, distance=True)
        apart = (
            _to_others(distance, max_min(distance, ctx.keep))
            if self.reading == "two_stage"
            else nearest(distance)
        )
        # a set of one has nobody to be apart from
        apart = apart.masked_fill(apart.isinf(), 0)  # a token alone
        if self.reading != "greedy":
            return Selection(top_k(self._mixed(apart, magnitude), ctx.keep))
        gone = torch.zeros(len(features), dtype=torch.bool, device=features.device)

        def update(running: Tensor, pick: Tensor, step: int) -> Tensor:
            nonlocal apart
            gone.index_fill_(0, pick, True)
            row = rows_of(distance, pick)[0]
            apart = row if step == 0 else torch.minimum(apart, row)
            return self._mixed(apart, magnitude, gone)

        return Selection(greedy(self._mixed(apart, magnitude), ctx.keep, update))

    def _mixed(self, diversity: Tensor, magnitude: Tensor, gone: Tensor | None = None) -> Tensor:
        """The two terms mixed, diversity on the scale of the tokens that are not ``gone``."""
        if self.normalize == "minmax":
            diversity, magnitude = _scaled(diversity, gone), min_max(magnitude)
        # equation 11 selects; equation 3 has the weights the other way round
        weight = self.alpha if self.alpha_role == "eq11" else 1 - self.alpha
        return weight * diversity + (1 - weight) * magnitude


def _to_others(distance: Pairs, chosen: Tensor) -> Tensor:
    """Distance of each token to the nearest chosen one that is not itself, ``[N]``."""
    rows, own = rows_of(distance, chosen), torch.arange(len(chosen), device=chosen.device)
    return rows.index_put((own, chosen), rows.new_tensor(torch.inf)).amin(0)


def _magnitude(features: Tensor) -> Tensor:
    centred = features - features.mean(0)
    # population deviation, 1/M; 1e-6 is ours, the paper's epsilon has no value
    deviation = centred.square().mean(0).sqrt()  # half the time of torch's std of columns
    # greatest magnitude of the raw features, equation 10, without a copy of abs()
    largest = torch.maximum(features.amax(-1), -features.amin(-1))
    magnitude: Tensor = centred.div_(deviation + 1e-6).norm(dim=-1) * largest
    return magnitude


def _scaled(term: Tensor, gone: Tensor | None) -> Tensor:
    if gone is None:
        return min_max(term)
    low, high = term.masked_fill(gone, torch.inf).amin(), term.masked_fill(gone, -torch.inf).amax()
    return (term - low) / torch.where(high > low, high - low, torch.ones_like(high))
