"""Tokens unlike the mean of the video and of their frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from unibench import Method, Selection, Stage, StageContext
from unibench.annotations import Some
from unibench.methods import _video
from unibench.ops import ranking, ranks, unit

if TYPE_CHECKING:
    from unibench.facts import ModelFacts
    from unibench.pruning import Family

BANDWIDTHS = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0)
TEMPERATURE = 0.01


@dataclass(frozen=True)
class VidCom2(Method):
    """Keeps the tokens that are least like the mean of their video and the mean of their frame, and
    more of them in frames that stand out.

    On the half of the channels that vary least, rows of length one are compared with both means by
    five Gaussian kernels; the sum says how redundant a token is. A frame that is less redundant
    than the others gets up to twice its share.

    Paper: Video Compression Commander, EMNLP 2025, arXiv 2505.14454.
    Code: xuyang-liu16/VidCom2@944a17d14f token_compressor/vidcom2/vidcom2.py (variant=official);
        vllm 0.32.0 vllm/multimodal/video_prune/vidcom2.py (variant=vllm).
    Cost: O(N D).
    Deviations: float32 (official: the model's dtype), ties by lower index, original positions. The
        frames' rounded numbers are brought to exactly ``keep`` over the whole video as vLLM does
        it; variant=official leaves them, variant=vllm has at least one token per frame on average.
        The token behind a video stays and counts, newlines behind rows go first (official: all
        stay, beyond the budget: ``newlines=all``). Each video by itself with its share of the
        budget; a picture is a video of one frame.

    Attributes:
        variant: default, official or vllm.
        retention: share kept that the frames' numbers are computed from, instead of the budget.
        newlines: counted or all.
        deepstack: whether rows are compared with their DeepStack features beside them, as vLLM has
            it on Qwen3-VL.
    """

    variant: Literal["default", "official", "vllm"] = "default"
    retention: Some | None = None
    newlines: Literal["counted", "all"] = "counted"
    deepstack: bool = False
    category = "ViT only"
    aim = "diversity"

    @property
    def uses_budget(self) -> bool:
        return self.variant != "official" or self.retention is None

    def requires(self, family: type[Family], model: ModelFacts) -> str | None:
        return _video.lacks_deepstack(family) if self.deepstack else None

    def stages(self, depth: int) -> Sequence[Stage]:
        exact = self.variant == "default" and self.newlines == "counted"
        return (Stage(0, self.select, exact=exact),)

    def select(self, ctx: StageContext) -> Selection:
        features, parts = _video.features(ctx, self.deepstack), _video.videos(ctx)
        if self.newlines == "all":
            ctx.note("vidcom2: newlines stay beyond the budget")
            staying = _video.beyond(ctx, "all", ctx.visual[:0])
            patches = sum(map(len, parts))
            # R is a share of patches alone where newlines stand outside of the budget
            budget = min(patches, max(1, round(ctx.keep * patches / len(ctx.visual))))
        else:
            budget, staying = _video.counted(ctx)
        if self.variant != "default":
            ctx.note(f"vidcom2 {self.variant}: the official count, not the budget")
        kept = [staying]
        for part, keep in zip(parts, _video.divided(budget, parts), strict=True):
            kept.append(part.rows.flatten()[self._chosen(features[part.rows], keep)])
        return Selection(torch.cat(kept))

    def _chosen(self, features: Tensor, keep: int) -> Tensor:
        """Places in ``features [T, n, D]``, flattened over frames."""
        video, frame = redundancy(features)
        retention = keep / video.numel() if self.retention is None else self.retention
        score = video + frame
        inside = ranks(-score) < frame_counts(video, retention)[:, None]
        if self.variant == "official":
            return inside.flatten().nonzero()[:, 0]
        # too many: the most redundant of them go; too few: the least redundant of the others come
        order = ranking(-score.flatten())
        order = order[ranking(inside.flatten()[order].long())]
        # vLLM's count: as many tokens as frames, on average one each
        return order[: max(keep, len(features)) if self.variant == "vllm" else keep]


def redundancy(features: Tensor) -> tuple[Tensor, Tensor]:
    """Likeness of each row of ``features [T, n, D]`` to the mean of the video and of its frame,
    each ``[T, n]`` in (0, 5].
    """
    # over all frames: the steadiest half of the channels carries what the video shares
    variance = features.flatten(0, 1).var(0, correction=0)
    steady = variance.argsort(stable=True)[: max(1, len(variance) // 2)]
    rows = unit(features[..., steady])

    def kernels(mean: Tensor) -> Tensor:
        apart = (rows - mean).square().sum(-1)
        return torch.stack([(-apart / (2 * width)).exp() for width in BANDWIDTHS]).sum(0)

    # means of unit rows, which are not made unit again
    return kernels(rows.mean((0, 1))), kernels(rows.mean(1, keepdim=True))


def frame_counts(video: Tensor, retention: float) -> Tensor:
    """Tokens of each frame before they are made to fit, ``[T]``; more in frames unlike the video.

    Args:
        video: ``[T, n]`` likeness to the mean of the video.
        retention: share kept.
    """
    frames, size = video.shape
    unlike = -video.mean(1)
    weight = ((unlike - unlike.max()) / TEMPERATURE).softmax(0)
    # between R (1 - 1/T) and R (2 - 1/T)
    share = (retention * (1 + weight - 1 / frames)).clamp_max(1)
    # round() to even, at least one, as in both codes
    return (share * size).round().clamp(1, size)
