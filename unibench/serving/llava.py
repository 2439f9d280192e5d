"""LLaVA-1.5: a square of patches, positions of one dimension."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from vllm.model_executor.models.interfaces import SupportsMRoPE, SupportsMultiModalPruning
from vllm.model_executor.models.llava import (
    LlavaDummyInputsBuilder,
    LlavaForConditionalGeneration,
    LlavaMultiModalProcessor,
    LlavaProcessingInfo,
)
from vllm.multimodal import MULTIMODAL_REGISTRY

from unibench.pruning.layout import Part
from unibench.serving.model import Pruned, Shown
from unibench.serving.processing import PrunedProcessor
from unibench.serving.pruner import line


class PrunedInLine(Pruned):
    """Positions of one dimension, as three equal axes."""

    def whole_positions(self, tokens: list[int], features: list[Any]) -> Tensor:
        return line(len(tokens))


class _LlavaProcessor(PrunedProcessor, LlavaMultiModalProcessor):
    pass


@MULTIMODAL_REGISTRY.register_processor(
    _LlavaProcessor, info=LlavaProcessingInfo, dummy_inputs=LlavaDummyInputsBuilder
)
class PrunedLlava(
    PrunedInLine, LlavaForConditionalGeneration, SupportsMRoPE, SupportsMultiModalPruning
):
    """LlavaForConditionalGeneration."""

    @property
    def side(self) -> int:
        """Tokens along an edge of a picture."""
        vision = self.config.vision_config
        return int(vision.image_size // vision.patch_size)

    def items(self, arguments: Mapping[str, Any]) -> list[Shown]:
        part = Part(1, self.side, self.side)
        return [Shown("image", (part,), line(self.side**2))] * len(arguments["pixel_values"])

    def taken(
        self, arguments: Mapping[str, Any], shown: Sequence[Shown], first: int, stop: int
    ) -> dict[str, Any]:
        return {**arguments, "pixel_values": arguments["pixel_values"][first:stop]}

    def tokens(self, feature: Any) -> int:
        return self.side**2
