"""InternVL2.5 / InternVL3 in Hugging Face-native form: tiles of a CLS tower, shuffled 2 x 2 into
tokens.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from torch import Tensor, nn

from unibench.models._margins import behind
from unibench.pruning.family import Family, VisionCall
from unibench.pruning.layout import Item, Part

OVERVIEW = 28  # pixels along an edge to which tiles and overview are brought to be compared


class InternVL(Family):
    """InternVLForConditionalGeneration."""

    model_types: ClassVar[tuple[str, ...]] = ("internvl",)
    provides: ClassVar[frozenset[str]] = frozenset({"cls_token", "projector"})
    resizing: ClassVar = "tiles"
    prefix_tokens = 1
    frames_are_pictures = True
    saliency_layer = -2

    @cached_property
    def margins(self) -> tuple[int, int]:
        """As the template has them, behind the mark that ends a picture."""
        margins = super().margins
        return behind(margins, self.processor, self.processor.end_image_token)

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

    def split_pixels(self, values: Tensor, call: VisionCall, items: list[Item]) -> list[Tensor]:
        return list(values.split([sum(part.frames for part in item.parts) for item in items]))

    def tiles_across(self, call: VisionCall, first: int, tiles: int) -> int:
        """The arrangement in which the tiles look most like the overview, scaled down."""
        pixels = call.arguments["pixel_values"].float()
        # all tiles have as many tokens, so tokens tell the tile
        start = first * len(pixels) // call.tokens
        shown = nn.functional.adaptive_avg_pool2d(pixels[start : start + tiles + 1], OVERVIEW)
        apart = {}
        for across in (width for width in range(1, tiles + 1) if tiles % width == 0):
            bands = shown[:tiles].unflatten(0, (-1, across)).permute(2, 0, 3, 1, 4)
            whole = bands.flatten(3, 4).flatten(1, 2)
            small = nn.functional.adaptive_avg_pool2d(whole, OVERVIEW)
            apart[across] = float((small - shown[tiles]).square().mean())
        # of equal ones (a blank picture) the one nearest to a square
        return min(apart, key=lambda across: (apart[across], abs(across - tiles / across)))

    @property
    def projector(self) -> tuple[nn.Module, ...]:
        module = self.core.multi_modal_projector
        return module.layer_norm, module.linear_1, module.act, module.linear_2

    def pack_joined(self, values: Tensor, call: VisionCall, fill: float) -> Tensor:
        return values.flatten(0, -2)

    def pack(self, values: Tensor, call: VisionCall, fill: float) -> Tensor:
        side = int(values.shape[1] ** 0.5)
        ratio = self.model.config.downsample_ratio
        shuffled = self.core.pixel_shuffle(
            values.reshape(len(values), side, side, -1), scale_factor=ratio
        )
        patches = round(ratio**-2)  # the shuffle lines up the channels of this many patches
        tokens: Tensor = shuffled.flatten(0, 2).unflatten(-1, (patches, -1)).mean(1)
        return tokens
