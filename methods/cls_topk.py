"""The patches that the vision tower's CLS token attends to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from unibench import Method, Needs, StageContext


@dataclass(frozen=True)
class ClsTopK(Method):
    """Keeps the tokens whose patches the CLS token of the vision tower attends to most.

    The CLS token sums the picture up, so its attention marks the patches that the summary rests on.

    Paper: FasterVLM, arXiv 2412.01818v1.
    Code: Theia-4869/VisPruner@aefa01ad llava/model/llava_arch.py:encode_images with important_ratio
        1; ModelTC/LightCompress@9701d035 token_reduction/fastervlm.py.
    Cost: O(N log N) after one row of attention (all rows without a CLS token).
    Deviations: towers without a CLS token have the attention each token receives, averaged over
        queries (recv_topk in reports; the row says so); ties by lower index; original positions are
        kept.
    """

    needs: ClassVar[Needs] = Needs(saliency=True)
    corrected = frozenset({"saliency"})
    category = "ViT only"
    aim = "importance"

    def score(self, ctx: StageContext) -> Tensor:
        return ctx.saliency()
