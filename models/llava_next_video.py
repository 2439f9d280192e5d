"""LLaVA-NeXT-Video: LLaVA-NeXT for pictures; frames of a video are pooled before the projector."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from unibench.models.llava_next import LlavaNext
from unibench.pruning.family import VisionCall
from unibench.pruning.layout import Part


class LlavaNextVideo(LlavaNext):
    """LlavaNextVideoForConditionalGeneration."""

    model_types: ClassVar[tuple[str, ...]] = ("llava_next_video",)

    def items(self, call: VisionCall, runs: list[int]) -> list[tuple[Part, ...]]:
        if call.modality == "image":
            return super().items(call, runs)
        videos, frames = call.arguments["pixel_values_videos"].shape[:2]
        side = self.side // self.model.config.spatial_pool_stride
        return [(Part(frames, side, side),)] * videos

    def pack_joined(self, values: Tensor, call: VisionCall, fill: float) -> Tensor:
        # frames are pooled before the projector
        return (
            super().pack(values, call, fill) if call.modality == "image" else values.flatten(0, -2)
        )

    def pack(self, values: Tensor, call: VisionCall, fill: float) -> Tensor:
        if call.modality == "image":
            return super().pack(values, call, fill)
        # the model's pooler is an average or a maximum by configuration; a signal is averaged
        grid = values.transpose(1, 2).unflatten(2, (self.side, self.side))
        pooled = nn.functional.avg_pool2d(grid, self.model.config.spatial_pool_stride)
        return pooled.flatten(2).transpose(1, 2).flatten(0, 1)
