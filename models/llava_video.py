"""LLaVA-Video: LLaVA-OneVision for pictures; frames of a video are pooled by averages behind the
projector and parted by newline tokens.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from unibench.models._llava_video import with_newlines
from unibench.models.llava_onevision import LlavaOnevision
from unibench.pruning.family import VisionCall
from unibench.pruning.layout import Part


class LlavaVideo(LlavaOnevision):
    """LlavaVideoForConditionalGeneration of ``models/_llava_video.py``."""

    model_types: ClassVar[tuple[str, ...]] = ("llava_video",)

    def items(self, call: VisionCall, runs: list[int]) -> list[tuple[Part, ...]]:
        if call.modality == "image":
            return super().items(call, runs)
        videos, frames = call.arguments["pixel_values_videos"].shape[:2]
        # averages of 2 x 2 drop an odd last row: 27 patches become 13
        side, where = self.side // 2, self.model.config.video_newline
        if where == "frame":
            return [(Part(1, side, side, newline="end"),) * frames] * videos
        return [(Part(frames, side, side, newline="row" if where == "grid" else "end"),)] * videos

    def pack(self, values: Tensor, call: VisionCall, fill: float) -> Tensor:
        if call.modality == "image":
            return super().pack(values, call, fill)
        videos, frames = call.arguments["pixel_values_videos"].shape[:2]
        side = self.side // 2
        pooled = self.core.apply_pooling(values).reshape(videos, frames, side, side, -1)
        newline = values.new_full(values.shape[-1:], fill)
        return with_newlines(pooled, newline, self.model.config.video_newline).flatten(0, 1)
