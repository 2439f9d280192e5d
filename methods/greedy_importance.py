"""Importance alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from unibench import StageContext
from unibench.methods._importance import FOLLOWS, ByImportance, Source


@dataclass(frozen=True)
class GreedyImportance(ByImportance):
    """Keeps the tokens of highest importance, whatever they repeat.

    One end of IDPruner's trade-off between importance and diversity.

    Paper: IDPruner, arXiv 2602.13315, section 3.2.
    Code: none published.
    Cost: that of the importance; O(N log N) itself.
    Deviations: the importance is a choice, since the paper's selector has no weights for most
        models; the row names it.

    Attributes:
        importance: saliency (CLS or received attention), visionselector, l2norm or random.
        selector_path: trained weights for visionselector.
    """

    importance: Source = "saliency"
    selector_path: str | None = field(default=None, metadata=FOLLOWS)
    category = "ViT only"
    aim = "importance"

    def score(self, ctx: StageContext) -> Tensor:
        return self.weights(ctx)
