"""PaliGemma and PaliGemma 2: SigLIP patches one by one; the whole prompt is read in both
directions.
"""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from unibench.pruning.family import Family, VisionCall
from unibench.pruning.layout import Part


class PaliGemma(Family):
    """PaliGemmaForConditionalGeneration."""

    model_types: ClassVar[tuple[str, ...]] = ("paligemma",)
    sees_ahead = True

    @property
    def vit_blocks(self) -> list[nn.Module]:
        tower = self.vision_tower
        return list(getattr(tower, "vision_model", tower).encoder.layers)  # before 5.20 a wrapper

    def items(self, call: VisionCall, runs: list[int]) -> list[tuple[Part, ...]]:
        config = self.model.config.vision_config
        side = config.image_size // config.patch_size
        return [(Part(1, side, side),)] * len(call.arguments["pixel_values"])
