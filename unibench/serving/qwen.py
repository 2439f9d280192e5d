"""Qwen2-VL, Qwen2.5-VL, Qwen3-VL: grids of any size, positions on three axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vllm.model_executor.models.interfaces import SupportsMultiModalPruning
from vllm.model_executor.models.qwen2_5_vl import (
    Qwen2_5_VLDummyInputsBuilder,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLMultiModalProcessor,
    Qwen2_5_VLProcessingInfo,
)
from vllm.model_executor.models.qwen2_vl import (
    Qwen2VLDummyInputsBuilder,
    Qwen2VLForConditionalGeneration,
    Qwen2VLMultiModalProcessor,
    Qwen2VLProcessingInfo,
)
from vllm.model_executor.models.qwen3_vl import (
    Qwen3VLDummyInputsBuilder,
    Qwen3VLForConditionalGeneration,
    Qwen3VLMultiModalProcessor,
    Qwen3VLProcessingInfo,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from unibench.pruning.layout import Part
from unibench.serving.model import Pruned, Shown
from unibench.serving.processing import PrunedProcessor
from unibench.serving.pruner import raster

PIXELS = {"image": "pixel_values", "video": "pixel_values_videos"}


class PrunedQwen(Pruned):
    """A picture or video is a grid of patches, of which ``merge`` times ``merge`` make a token."""

    def items(self, arguments: Mapping[str, Any]) -> list[Shown]:
        found = []
        for modality in ("image", "video"):
            grids = arguments.get(f"{modality}_grid_thw")
            rows = [] if grids is None else grids.tolist()
            for number, (frames, height, width) in enumerate(rows):
                height, width = height // self.merge, width // self.merge
                step = 1.0 if modality == "image" else self._step(arguments, number)
                times = [int(frame * step) for frame in range(frames)]
                positions = raster(height, width, times)
                found.append(Shown(modality, (Part(frames, height, width),), positions))
        return found

    def _step(self, arguments: Mapping[str, Any], number: int) -> float:
        """How far frames of a video stand apart on the axis of time."""
        seconds = arguments.get("second_per_grid_ts")
        rate = float(getattr(self.config.vision_config, "tokens_per_second", 1.0))
        return rate * (1.0 if seconds is None else float(seconds[number]))

    def taken(
        self, arguments: Mapping[str, Any], shown: Sequence[Shown], first: int, stop: int
    ) -> dict[str, Any]:
        modality = shown[0].modality  # the runner encodes items of one modality at a time
        pixels = PIXELS[modality]
        sizes = [len(item) * self.merge**2 for item in shown]
        start = sum(sizes[:first])
        found = dict(arguments)
        found[pixels] = arguments[pixels][start : start + sum(sizes[first:stop])]
        for name in (f"{modality}_grid_thw", "second_per_grid_ts", "timestamps"):
            if found.get(name) is not None:
                found[name] = found[name][first:stop]
        return found

    def tokens(self, feature: Any) -> int:
        if not self.prunes(feature.modality):
            return int(feature.mm_position.get_num_embeds())
        return int(feature.data[f"{feature.modality}_grid_thw"].data.prod()) // self.merge**2

    @property
    def merge(self) -> int:
        """Patches along an edge of a token."""
        return int(self.config.vision_config.spatial_merge_size)


class _Qwen2VLProcessor(PrunedProcessor, Qwen2VLMultiModalProcessor):
    pass


@MULTIMODAL_REGISTRY.register_processor(
    _Qwen2VLProcessor, info=Qwen2VLProcessingInfo, dummy_inputs=Qwen2VLDummyInputsBuilder
)
class PrunedQwen2VL(PrunedQwen, Qwen2VLForConditionalGeneration, SupportsMultiModalPruning):
    """Qwen2VLForConditionalGeneration."""

    def _step(self, arguments: Mapping[str, Any], number: int) -> float:
        return 1.0  # frames are counted, whatever time lies between them


class _Qwen25VLProcessor(PrunedProcessor, Qwen2_5_VLMultiModalProcessor):
    pass


@MULTIMODAL_REGISTRY.register_processor(
    _Qwen25VLProcessor, info=Qwen2_5_VLProcessingInfo, dummy_inputs=Qwen2_5_VLDummyInputsBuilder
)
class PrunedQwen2_5VL(PrunedQwen, Qwen2_5_VLForConditionalGeneration):  # noqa: N801
    """Qwen2_5_VLForConditionalGeneration."""


class _Qwen3VLProcessor(PrunedProcessor, Qwen3VLMultiModalProcessor):
    modalities = ("image",)  # frames and time stamps alternate in a video's placeholder


@MULTIMODAL_REGISTRY.register_processor(
    _Qwen3VLProcessor, info=Qwen3VLProcessingInfo, dummy_inputs=Qwen3VLDummyInputsBuilder
)
class PrunedQwen3VL(PrunedQwen, Qwen3VLForConditionalGeneration):
    """Qwen3VLForConditionalGeneration; its videos are left whole."""

    def prunes(self, modality: str) -> bool:
        return modality == "image"

    def _step(self, arguments: Mapping[str, Any], number: int) -> float:
        return 0.0  # each frame stands behind its time stamp, and counts from there
