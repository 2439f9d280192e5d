"""LLaVA-OneVision: SigLIP tiles stitched as LLaVA-NeXT does, a large grid scaled down; frames of a
video are pooled after the projector.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor

from unibench.models.llava_next import LlavaNext
from unibench.pruning.family import VisionCall
from unibench.pruning.layout import Part


class LlavaOnevision(LlavaNext):
    """LlavaOnevisionForConditionalGeneration."""

    model_types: ClassVar[tuple[str, ...]] = ("llava_onevision",)
    provides: ClassVar[frozenset[str]] = frozenset({"projector"})
    saliency_layer = -1

    @property
    def feature_layer(self) -> int | None:
        return None  # scaling down behind the projector joins tokens

    def items(self, call: VisionCall, runs: list[int]) -> list[tuple[Part, ...]]:
        if call.modality == "image":
            return super().items(call, runs)
        videos, frames = call.arguments["pixel_values_videos"].shape[:2]
        # the model pools by bilinear interpolation to half, rounded up: 27 patches become 14
        side = math.ceil(self.side / 2)
        return [(Part(frames, side, side, newline="end"),)] * videos

    def added(self, call: VisionCall) -> int:
        if call.modality == "image":
            return 0
        # transformers 5.6 puts the newline behind a video in its forward, not with the features
        videos = self.items(call, [])
        missing = sum(len(part) for parts in videos for part in parts) - call.tokens
        return missing if missing == len(videos) else 0

    def pack(self, values: Tensor, call: VisionCall, fill: float) -> Tensor:
        if call.modality == "image":
            return super().pack(values, call, fill)
        videos = len(call.arguments["pixel_values_videos"])
        pooled = self.core.apply_pooling(values).reshape(videos, -1, values.shape[-1])
        newline = values.new_full((videos, 1, values.shape[-1]), fill)
        return torch.cat([pooled, newline], 1).flatten(0, 1)

    def tiles(self, call: VisionCall) -> list[int]:
        counts = super().tiles(call)
        images = call.arguments.get("batch_num_images")
        if images is None:
            return counts
        alone = [
            number == 1 for number in images for _ in range(number)
        ]  # several pictures of a prompt are not tiled
        return [count if single else 1 for count, single in zip(counts, alone, strict=True)]

    @property
    def packing(self) -> dict[str, Any]:
        return {"vision_aspect_ratio": self.model.config.vision_aspect_ratio}
