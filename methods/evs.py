"""What changed against the frame before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from unibench import Method, Selection, Stage, StageContext, UsageError
from unibench.methods import _video
from unibench.ops import cells, shares, top_k

if TYPE_CHECKING:
    from unibench.facts import ModelFacts
    from unibench.pruning import Family

FIRST = 255.0  # above every dissimilarity: the first frame is kept whole


@dataclass(frozen=True)
class EVS(Method):
    """Keeps the first frame of a video, and of the others the tokens that differ most from the
    token at the same place one frame earlier.

    Static surroundings repeat what the model has seen. All frames compete: a cut to another scene
    takes what it needs, a static scene may keep nothing.

    Paper: Efficient Video Sampling, arXiv 2510.14624.
    Code: vllm 0.32.0 vllm/multimodal/video_prune/evs.py.
    Cost: O(N D).
    Deviations: as in vLLM's code, cosine on the features decides, not the L1 difference of pixels,
        and the first frame counts within the budget. A budget below the first frame, which the code
        raises to it (variant=vllm), takes evenly spaced tokens of that frame, and the row says so.
        The token behind a video stays and counts. Pictures have no frame before: without a video
        the method is refused.

    Attributes:
        variant: default, or vllm: never less than the first frame.
        deepstack: whether rows are compared with their DeepStack features beside them, as vLLM has
            it on Qwen3-VL.
    """

    variant: Literal["default", "vllm"] = "default"
    deepstack: bool = False
    category = "ViT only"
    aim = "diversity"

    def requires(self, family: type[Family], model: ModelFacts) -> str | None:
        return _video.lacks_deepstack(family) if self.deepstack else None

    def stages(self, depth: int) -> Sequence[Stage]:
        return (Stage(0, self.select, exact=self.variant == "default"),)

    def select(self, ctx: StageContext) -> Selection:
        budget, staying = _video.counted(ctx)
        parts = _video.videos(ctx)
        patches, first = sum(map(len, parts)), sum(part.rows.shape[1] for part in parts)
        # a budget that keeps everything asks for no comparison
        if budget < patches and all(grid.video is None for grid in ctx.grids()):
            raise UsageError(
                "method=evs compares each frame with the one before, and this prompt has no video:"
                " give it videos, or take uniform_grid for pictures"
            )
        if budget < first and self.variant == "vllm":
            ctx.note("evs vllm: the first frame is kept whole, not the budget")
            budget = first
        if budget < first:
            ctx.note("evs: the budget is below the first frame; evenly spaced tokens of it")
            return Selection(torch.cat([staying, *_spaced(parts, budget)]))
        features = _video.features(ctx, self.deepstack)
        apart = torch.cat([dissimilarity(features[part.rows]).flatten() for part in parts])
        # one list for all videos and frames: they compete
        rows = torch.cat([part.rows.flatten() for part in parts])
        return Selection(torch.cat([staying, rows[top_k(apart, budget)]]))


def dissimilarity(features: Tensor) -> Tensor:
    """One minus the cosine with the same place one frame earlier, ``[T, n]`` of ``[T, n, D]``."""
    apart = features.new_full(features.shape[:2], FIRST)
    apart[1:] = 1 - cosine_similarity(features[1:], features[:-1], dim=-1, eps=1e-8)
    return apart


def _spaced(parts: Sequence[_video.Video], budget: int) -> list[Tensor]:
    """Evenly spaced tokens of the first frames."""
    counts = shares(budget, [part.rows.shape[1] for part in parts])
    return [
        part.rows[0][cells(part.height, part.width, count)]
        for part, count in zip(parts, counts, strict=True)
        if count
    ]
