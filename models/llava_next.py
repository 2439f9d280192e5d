"""LLaVA-NeXT (1.6): an overview tile, and tiles stitched into one grid whose padding is cut off and
whose rows end in a newline token.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers.models.llava_next.modeling_llava_next import (
    get_anyres_image_grid_shape,
    image_size_to_num_patches,
)

from unibench.models.llava import Llava
from unibench.pruning.family import VisionCall
from unibench.pruning.layout import Item, Part


class LlavaNext(Llava):
    """LlavaNextForConditionalGeneration."""

    model_types: ClassVar[tuple[str, ...]] = ("llava_next",)
    resizing: ClassVar = "tiles"
    tower_merging = False  # the model stitches tiles of full size

    def items(self, call: VisionCall, runs: list[int]) -> list[tuple[Part, ...]]:
        places = []
        shapes = self.shapes(call)
        for count, (_, across) in zip(self.tiles(call), shapes, strict=True):
            tile = torch.arange(-1, count - 1).clamp_min(0)  # the overview comes first
            # each patch carries the place of its tile through the model's stitching and unpadding
            places.append(torch.stack([tile // across, tile % across], 1))
        # contiguous below: the model's function calls view()
        marks = torch.cat(places).float()[:, None].expand(-1, self.side**2, -1)
        stitched = self.stitched(marks.contiguous(), call, -1.0)
        return [self._parts(*pair) for pair in zip(stitched, shapes, strict=True)]

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

    def shapes(self, call: VisionCall) -> list[tuple[int, int]]:
        """Rows and columns of tiles of each picture, the overview not counted."""
        config = self.model.config
        found = []
        for count, size in zip(self.tiles(call), call.arguments["image_sizes"], strict=True):
            down, across = get_anyres_image_grid_shape(
                size, config.image_grid_pinpoints, config.vision_config.image_size
            )
            # LLaVA-OneVision does not tile several pictures of a prompt
            found.append((down, across) if down * across == count - 1 else (1, max(1, count - 1)))
        return found

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

    def _parts(self, places: Tensor, shape: tuple[int, int]) -> tuple[Part, ...]:
        """The overview and the stitched grid, from the tile ``[n, 2]`` of each token; a newline
        token has -1.
        """
        detail = places[self.side**2 :].round().long()  # scaling down mixes neighbours
        if len(detail) == 1:
            return (Part(1, self.side, self.side, newline="end"),)
        width = detail[:, 0].tolist().index(-1)
        grid = detail.view(-1, width + 1, 2)[:, :width]
        starts = [
            tuple(int((line < tile).sum()) for tile in range(tiles))
            for line, tiles in zip((grid[:, 0, 0], grid[0, :, 1]), shape, strict=True)
        ]
        overview = Part(1, self.side, self.side, overview=True)
        stitched = Part(1, len(grid), width, "row", rows=starts[0], columns=starts[1])
        return overview, stitched
