"""Saliency times coverage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from unibench import Method, Needs, Selection, StageContext
from unibench.annotations import Weight
from unibench.ops import cosine_pairs, coverage


@dataclass(frozen=True)
class Scope(Method):
    """Keeps salient tokens that resemble what no kept token resembles yet.

    A facility location greedy: the gain in coverage of the whole picture, times the saliency.

    Paper: SCOPE, NeurIPS 2025, arXiv 2510.24214.
    Code: kinredon/SCOPE@6bf73069 scope/clip_encoder.py:SCOPE; Tencent/AngelSlim@67394ce5
        algorithm/scope.py (variant=angelslim: projected features, attention computed anew over the
        whole picture).
    Cost: O(N^2 C) and, for each pick, O(N) times the gains that are evaluated: few on a CPU,
        depending on the data; all N on a GPU. N x N floats.
    Deviations: float32; saliency is the mean over heads, not the sum (equal for ``multi``); towers
        without a CLS token use received attention; families whose projector joins patches use
        projected features. The row says which. One pool for all crops; original
        positions (official on LLaVA: positions=compact).

    Attributes:
        alpha: exponent of the saliency.
        combined: multi (gain times saliency) or add.
        variant: official or angelslim.
    """

    alpha: Weight = 1.0
    combined: Literal["multi", "add"] = "multi"
    variant: Literal["official", "angelslim"] = "official"
    data_timed: ClassVar[bool] = True  # few gains are evaluated where few change
    needs: ClassVar[Needs] = Needs(saliency=True, features=True)
    corrected = frozenset({"saliency"})
    category = "ViT only"
    aim = "hybrid"

    def select(self, ctx: StageContext) -> Selection:
        official = self.variant == "official"
        features = ctx.encoder_features()[0] if official else ctx.visual_hidden
        # AngelSlim's port computes attention anew, without the CLS key
        saliency = ctx.saliency(recomputed=not official) ** self.alpha

        def score(gain: Tensor, rows: Tensor) -> Tensor:
            return gain * saliency[rows] if self.combined == "multi" else gain + saliency[rows]

        # coverage starts at 0, so that negative cosines never count
        return Selection(coverage(cosine_pairs(features), ctx.keep, score))
