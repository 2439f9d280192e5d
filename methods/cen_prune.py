"""Tokens compared without what they all share, around a method that looks for diversity."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from unibench import Method, StageContext
from unibench.methods.divprune import DivPrune
from unibench.ops import product, unit
from unibench.pruning.wrapper import Wrapper


@dataclass(frozen=True)
class CenPrune(Wrapper):
    """Keeps what a method for diversity keeps when tokens are compared by what sets them apart.

    A wrapper. Features lose the mean of their picture before cosines are taken, which otherwise
    crowd together; how unlike the others a token was before that, its negated mean cosine scaled to
    0 to 1 within the picture, multiplies the method's gains.

    Paper: Centering before Pruning (Cen-Prune), arXiv 2608.30263, section 4.3, equations 3 to 8.
    Code: none that could be had; this is ours, from the paper's text.
    Cost: O(N D) beside the method's own.
    Deviations: the paper's standardised features are left out. Around dpp, whose kernel is
        cdpruner's, and greedy_diversity, whose search is divprune's, it is ours; around zoo_prune
        the preference multiplies its weight. The first token is picked as the method itself does.

    Attributes:
        inner: divprune, cdpruner, zoo_prune, dpp or greedy_diversity.
        options: on the command line, parameters of the method.
    """

    inner: Method = field(default=DivPrune(), metadata={"options": "options"})
    corrects: ClassVar = "geometry"
    category = "ViT only"
    aim = "diversity"

    def geometry(self, ctx: StageContext, features: Tensor) -> tuple[Tensor, Tensor | None]:
        centred, preference = features.clone(), torch.ones_like(features[:, 0])
        for item in ctx.items:
            rows = ((ctx.vision_rows >= item.start) & (ctx.vision_rows < item.stop)).nonzero()[:, 0]
            # a picture of one token has no mean to differ from
            if len(rows) < 2:
                continue
            own = features[rows]
            centred[rows] = own - own.mean(0)
            raw = unit(own)
            alike = product(raw, raw.mean(0)) * len(rows) - 1  # with the others, their sum
            low, high = alike.aminmax()
            apart = (high - alike) / (high - low)
            # equal tokens prefer nothing; their quotient above is 0 / 0
            preference[rows] = torch.where(high > low, apart, torch.ones_like(apart))
        return centred, preference
