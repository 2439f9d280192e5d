"""SmolVLM: SigLIP tiles shuffled 3 x 3 or 4 x 4 into tokens, with text between the tiles."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

from torch import Tensor, nn

from unibench.models._margins import behind
from unibench.pruning.family import Family, VisionCall
from unibench.pruning.layout import Item, Part


class SmolVLM(Family):
    """SmolVLMForConditionalGeneration."""

    model_types: ClassVar[tuple[str, ...]] = ("smolvlm",)
    resizing: ClassVar = "tiles"
    frames_are_pictures = True

    @cached_property
    def margins(self) -> tuple[int, int]:
        """As the template has them, behind the mark that ends a picture."""
        margins = super().margins
        return behind(margins, self.processor, self.processor.fake_image_token)

    @property
    def text_model(self) -> Any:
        return self.core.text_model

    @property
    def vision_tower(self) -> Any:
        return self.core.vision_model

    @property
    def vit_blocks(self) -> list[nn.Module]:
        return list(self.vision_tower.encoder.layers)

    def items(self, call: VisionCall, runs: list[int]) -> list[tuple[Part, ...]]:
        sides = [
            round(run**0.5) for run in runs
        ]  # text separates the tiles: each counts as a picture
        return [(Part(1, side, side),) for side in sides]

    def split_pixels(self, values: Tensor, call: VisionCall, items: list[Item]) -> list[Tensor]:
        tiles = values.flatten(0, 1)
        # prompts of fewer tiles than the largest are filled up with black ones, as the model knows
        return list(tiles[tiles.flatten(1).any(1)])

    def pack(self, values: Tensor, call: VisionCall, fill: float) -> Tensor:
        scale = self.model.config.scale_factor
        shuffled: Tensor = self.core.connector.pixel_shuffle(values.contiguous(), scale)
        tokens: Tensor = (
            shuffled.flatten(0, 1).unflatten(-1, (scale**2, -1)).mean(1)
        )  # channels of the patches lie side by side
        return tokens
