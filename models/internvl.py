"""InternVL2.5 / InternVL3 in Hugging Face-native form: tiles of a CLS tower, shuffled 2 x 2 into
tokens.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from unibench.pruning.family import Family, VisionCall
from unibench.pruning.layout import Part


class InternVL(Family):
    """InternVLForConditionalGeneration."""

    model_types: ClassVar[tuple[str, ...]] = ("internvl",)
    provides: ClassVar[frozenset[str]] = frozenset({"cls_token"})
    prefix_tokens = 1
    frames_are_pictures = True
    saliency_layer = -2

    @property
    def vit_blocks(self) -> list[nn.Module]:
        return list(self.vision_tower.encoder.layer)

    @property
    def vit_attentions(self) -> list[nn.Module]:
        return [block.attention for block in self.vision_tower.encoder.layer]

    def items(self, call: VisionCall, runs: list[int]) -> list[tuple[Part, ...]]:
        config = self.model.config
        height, width = (
            int(size // patch * config.downsample_ratio)
            for size, patch in zip(
                config.vision_config.image_size, config.vision_config.patch_size, strict=True
            )
        )
        thumbnail = Part(1, height, width, overview=True)  # the last of several tiles
        tiles = [run // (height * width) for run in runs]
        return [
            (Part(count - 1, height, width), thumbnail) if count > 1 else (Part(1, height, width),)
            for count in tiles
        ]

    def pack(self, values: Tensor, call: VisionCall, fill: float) -> Tensor:
        side = int(values.shape[1] ** 0.5)
        ratio = self.model.config.downsample_ratio
        shuffled = self.core.pixel_shuffle(
            values.reshape(len(values), side, side, -1), scale_factor=ratio
        )
        patches = round(ratio**-2)  # the shuffle lines up the channels of this many patches
        tokens: Tensor = shuffled.flatten(0, 2).unflatten(-1, (patches, -1)).mean(1)
        return tokens
