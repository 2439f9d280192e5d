"""LLaVA-OneVision: an overview and stitched tiles whose rows end in a newline token; positions of
one dimension.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers.models.llava_onevision.modeling_llava_onevision import (
    get_anyres_image_grid_shape,
    unpad_image,
)
from vllm.model_executor.models.interfaces import SupportsMRoPE, SupportsMultiModalPruning
from vllm.model_executor.models.llava_onevision import (
    LlavaOnevisionDummyInputsBuilder,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionMultiModalProcessor,
    LlavaOnevisionProcessingInfo,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from unibench.pruning.layout import Part
from unibench.serving.llava import PrunedInLine
from unibench.serving.model import Shown
from unibench.serving.processing import PrunedProcessor
from unibench.serving.pruner import line

MOST_TILES = 9  # vLLM scales larger grids down to so many, whatever the checkpoint says


class _LlavaOnevisionProcessor(PrunedProcessor, LlavaOnevisionMultiModalProcessor):
    pass


@MULTIMODAL_REGISTRY.register_processor(
    _LlavaOnevisionProcessor,
    info=LlavaOnevisionProcessingInfo,
    dummy_inputs=LlavaOnevisionDummyInputsBuilder,
)
class PrunedLlavaOnevision(
    PrunedInLine, LlavaOnevisionForConditionalGeneration, SupportsMRoPE, SupportsMultiModalPruning
):
    """LlavaOnevisionForConditionalGeneration."""

    @property
    def side(self) -> int:
        """Tokens along an edge of a tile."""
        vision = self.config.vision_config
        return int(vision.image_size // vision.patch_size)

    def items(self, arguments: Mapping[str, Any]) -> list[Shown]:
        sizes = arguments.get("image_sizes")
        rows = [] if sizes is None else [tuple(map(int, size)) for size in sizes]
        found = [_shown("image", self._parts(height, width)) for height, width in rows]
        for video in arguments.get("pixel_values_videos", ()):
            found.append(_shown("video", self._frames(len(video))))
        return found

    def taken(
        self, arguments: Mapping[str, Any], shown: Sequence[Shown], first: int, stop: int
    ) -> dict[str, Any]:
        names = ("pixel_values", "image_sizes", "pixel_values_videos")
        return {
            name: value[first:stop] if name in names and value is not None else value
            for name, value in arguments.items()
        }

    def tokens(self, feature: Any) -> int:
        if not self.prunes(feature.modality):
            return int(feature.mm_position.get_num_embeds())
        if feature.modality == "video":
            parts = self._frames(len(feature.data["pixel_values_videos"].data))
        else:
            height, width = map(int, feature.data["image_sizes"].data.reshape(-1).tolist())
            parts = self._parts(height, width)
        return sum(map(len, parts))

    def _frames(self, count: int) -> tuple[Part, ...]:
        # pooled to half, rounded up
        side = math.ceil(self.side / 2)
        return (Part(count, side, side, newline="end"),)

    def _parts(self, height: int, width: int) -> tuple[Part, ...]:
        """The overview and the stitched grid of a picture of so many pixels."""
        pinpoints, pixels = self.config.image_grid_pinpoints, self.config.vision_config.image_size
        down, across = get_anyres_image_grid_shape((height, width), pinpoints, pixels)
        whole = torch.empty(1, down * self.side, across * self.side, device="meta")
        _, rows, columns = unpad_image(whole, (height, width)).shape
        ratio = math.sqrt(rows * columns / (MOST_TILES * self.side**2))
        if ratio > 1.1:
            rows, columns = int(rows // ratio), int(columns // ratio)
        overview = Part(1, self.side, self.side, overview=True)
        return overview, Part(1, rows, columns, "row")


def _shown(modality: str, parts: tuple[Part, ...]) -> Shown:
    return Shown(modality, parts, line(sum(map(len, parts))))
