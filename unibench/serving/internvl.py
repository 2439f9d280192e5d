"""InternVL: tiles and an overview, positions of one dimension."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vllm.model_executor.models.interfaces import SupportsMRoPE, SupportsMultiModalPruning
from vllm.model_executor.models.interns1 import (
    InternS1DummyInputsBuilder,
    InternS1ForConditionalGeneration,
    InternS1MultiModalProcessor,
    InternS1ProcessingInfo,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from unibench.pruning.layout import Part
from unibench.serving.llava import PrunedInLine
from unibench.serving.model import Shown
from unibench.serving.processing import PrunedProcessor
from unibench.serving.pruner import line

PIXELS = {"image": "pixel_values", "video": "pixel_values_videos"}


class _InternVLProcessor(PrunedProcessor, InternS1MultiModalProcessor):
    modalities = ("image",)  # text stands between the frames of a video


@MULTIMODAL_REGISTRY.register_processor(
    _InternVLProcessor, info=InternS1ProcessingInfo, dummy_inputs=InternS1DummyInputsBuilder
)
class PrunedInternVL(
    PrunedInLine, InternS1ForConditionalGeneration, SupportsMRoPE, SupportsMultiModalPruning
):
    """InternVLForConditionalGeneration; its videos are left whole."""

    def prunes(self, modality: str) -> bool:
        return modality == "image"

    @property
    def side(self) -> int:
        """Tokens along an edge of a tile."""
        return int(self.config.image_seq_length**0.5)

    def items(self, arguments: Mapping[str, Any]) -> list[Shown]:
        found = []
        for modality in ("image", "video"):
            for count in arguments.get(f"{modality}_num_patches", ()):
                tiles = int(count)
                parts: tuple[Part, ...] = (Part(tiles, self.side, self.side),)
                if modality == "image" and tiles > 1:  # the last tile shows the whole picture
                    overview = Part(1, self.side, self.side, overview=True)
                    parts = (Part(tiles - 1, self.side, self.side), overview)
                found.append(Shown(modality, parts, line(tiles * self.side**2)))
        return found

    def taken(
        self, arguments: Mapping[str, Any], shown: Sequence[Shown], first: int, stop: int
    ) -> dict[str, Any]:
        modality = shown[0].modality  # the runner encodes items of one modality at a time
        pixels, count = PIXELS[modality], f"{modality}_num_patches"
        tiles = [len(item) // self.side**2 for item in shown]
        start = sum(tiles[:first])
        return {
            **arguments,
            pixels: arguments[pixels][start : start + sum(tiles[first:stop])],
            count: arguments[count][first:stop],
        }

    def tokens(self, feature: Any) -> int:
        if not self.prunes(feature.modality):
            return int(feature.mm_position.get_num_embeds())
        return int(feature.data["image_num_patches"].data) * self.side**2
