"""Alignment with the question, then spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from unibench import Method, Needs, Selection, Stage, StageContext
from unibench.annotations import Some
from unibench.ops import (
    at_least_float32,
    complement,
    cosine,
    cosine_pairs,
    euclidean,
    max_min,
    mutual_information,
    rep_max,
    top_k,
)


@dataclass(frozen=True)
class TrimTokenator(Method):
    """Keeps tokens close to the question's words in embedding space, then those least similar on
    average.

    Closeness stands in for mutual information between the modalities; the second step (Greedy
    RepMax) takes the token with the smallest mean similarity to those taken.

    Paper: TrimTokenator, arXiv 2509.00320, sections 4.2 and 4.3; ablations in appendix D.
    Code: none published.
    Cost: O(N M D + N^2 D + K N), N x N floats; align=mi O(N M D^2).
    Deviations: none to compare with; the text is the question alone, since the paper leaves it
        open. With the L2 alignment of the paper the first step mostly drops the longest vectors,
        whatever the question.

    Attributes:
        n1: share of the tokens that the first step leaves.
        align: l2, cos, or mi: the estimate of mutual information that l2 replaces.
        intra: similarity of the second step, cos or l2.
        order: align_first, repmax_first, align_only or repmax_only.
        stage2: repmax, or divprune (the paper's DivPrune*).
        text_scope: question, or all text of the prompt.
    """

    n1: Some = 0.8
    align: Literal["l2", "cos", "mi"] = "l2"
    intra: Literal["cos", "l2"] = "cos"
    order: Literal["align_first", "repmax_first", "align_only", "repmax_only"] = "align_first"
    stage2: Literal["repmax", "divprune"] = "repmax"
    text_scope: Literal["question", "all"] = "question"
    text_aware: ClassVar[bool] = True
    category = "ViT only"
    aim = "hybrid"

    def stages(self, depth: int) -> Sequence[Stage]:
        return (Stage(0, self.select, Needs(question=self.text_scope == "question")),)

    def select(self, ctx: StageContext) -> Selection:
        features = ctx.visual_hidden
        # N1 = floor(0.8 N), and never below the budget
        middle = max(ctx.keep, int(self.n1 * len(features)))
        if self.order == "repmax_only":
            return Selection(self._spread(features, ctx.keep))
        alignment = self.alignment(ctx)
        if self.order == "align_only":
            return Selection(top_k(alignment, ctx.keep))
        if self.order == "repmax_first":
            # in sequence order, so that equal alignments go to the lower index
            kept = self._spread(features, middle).sort().values
            return Selection(kept[top_k(alignment[kept], ctx.keep)])
        kept = top_k(alignment, middle)
        return Selection(kept[self._spread(features[kept], ctx.keep)])

    def alignment(self, ctx: StageContext) -> Tensor:
        """Closeness of each visual token to the text, ``[N]``."""
        rows = (
            ctx.question
            if self.text_scope == "question"
            else complement(ctx.visual, len(ctx.hidden))
        )
        features, text = ctx.visual_hidden, at_least_float32(ctx.hidden[rows])
        if self.align == "l2":
            # equation 3, the plain distance; equation 20 derives the squared one
            return -euclidean(features, text).mean(1)
        return (
            cosine(features, text) if self.align == "cos" else mutual_information(features, text)
        ).mean(1)

    def _spread(self, features: Tensor, keep: int) -> Tensor:
        if self.stage2 == "divprune":
            return max_min(cosine_pairs(features, distance=True), keep)
        return rep_max(
            cosine_pairs(features) if self.intra == "cos" else -euclidean(features, features), keep
        )
