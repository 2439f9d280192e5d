"""LLaVA-NeXT (1.6): an overview tile, and tiles stitched into one grid whose padding is cut off and
whose rows end in a newline token.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

from unibench.models.llava import Llava
from unibench.pruning.family import VisionCall
from unibench.pruning.layout import Item, Part


class LlavaNext(Llava):
    """LlavaNextForConditionalGeneration."""

    model_types: ClassVar[tuple[str, ...]] = ("llava_next",)
    tower_merging = False  # the model stitches tiles of full size

    def items(self, call: VisionCall, runs: list[int]) -> list[tuple[Part, ...]]:
        tiles = torch.zeros(sum(self.tiles(call)), self.side**2, 1)
        return [self._parts(mark[:, 0].tolist()) for mark in self.stitched(tiles, call, 1.0)]

    def pack(self, values: Tensor, call: VisionCall, fill: float) -> Tensor:
        return torch.cat(self.stitched(values, call, fill))

    def split_pixels(self, values: Tensor, call: VisionCall, items: list[Item]) -> list[Tensor]:
        if call.modality == "video" or values.ndim != 5:
            return list(values)
        # pictures of fewer tiles than the largest are filled up with empty ones
        pairs = zip(values, self.tiles(call), strict=True)
        return [picture[:count] for picture, count in pairs]

    def tiles(self, call: VisionCall) -> list[int]:
        """Number of tiles of each picture."""
        config, sizes = self.model.config, call.arguments["image_sizes"]
        return [
            image_size_to_num_patches(
                size, config.image_grid_pinpoints, config.vision_config.image_size
            )
            for size in sizes
        ]

    def stitched(self, values: Tensor, call: VisionCall, fill: float) -> list[Tensor]:
        """Values per token ``[n, C]`` of each picture, by the model's own function."""
        newline = values.new_full((values.shape[-1],), fill)
        tiles = values.split(self.tiles(call))
        packed, _ = self.core.pack_image_features(
            tiles, call.arguments["image_sizes"], image_newline=newline, **self.packing
        )
        return list(packed)

    @property
    def packing(self) -> dict[str, Any]:
        """Further arguments of the model's function."""
        return {"vision_feature_select_strategy": self.model.config.vision_feature_select_strategy}

    def _parts(self, newline: list[float]) -> tuple[Part, ...]:
        """The overview and the stitched grid, from where the newline tokens stand."""
        detail = newline[self.side**2 :]
        if len(detail) == 1:
            return (Part(1, self.side, self.side, newline="end"),)
        width = detail.index(1.0)
        return Part(1, self.side, self.side, overview=True), Part(
            1, len(detail) // (width + 1), width, newline="row"
        )
