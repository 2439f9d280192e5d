"""A determinantal point process with a given importance."""

from __future__ import annotations

from dataclasses import dataclass, field

from unibench import Selection, StageContext
from unibench.methods._importance import FOLLOWS, ByImportance, Source, Transform
from unibench.ops import cosine_pairs, quality_determinantal


@dataclass(frozen=True)
class Dpp(ByImportance):
    """Keeps the likeliest set of a determinantal point process: important tokens that span much.

    The kernel is cosine similarity times the importance of both tokens; the set is found greedily.
    Unlike MMR it has no weight to tune.

    Paper: IDPruner, arXiv 2602.13315, section 3.2 and table 7; kernel of CDPruner, arXiv
        2506.10967.
    Code: Theia-4869/CDPruner@9541616c llava/model/llava_arch.py:encode_images (kernel and search);
        none for this ablation.
    Cost: O(N^2 D + K^2 N), N x N and K x N floats.
    Deviations: residuals are clamped and picks masked, so ``keep`` distinct tokens come back beyond
        the kernel's rank too; the importance is a choice, and the row names it.

    Attributes:
        importance: saliency (CLS or received attention), visionselector, l2norm or random.
        importance_transform: raw or difftopk.
        selector_path: trained weights for visionselector.
    """

    importance: Source = "saliency"
    importance_transform: Transform = "raw"
    selector_path: str | None = field(default=None, metadata=FOLLOWS)
    corrected = frozenset({"geometry"})
    category = "ViT only"
    aim = "hybrid"

    def select(self, ctx: StageContext) -> Selection:
        relevance = self.weights(ctx, self.importance_transform)
        features, preference = ctx.geometry(ctx.visual_hidden)
        return Selection(
            quality_determinantal(cosine_pairs(features), relevance, ctx.keep, preference)
        )
