"""Gemma 4: pictures of any shape within a budget of tokens, 3 x 3 patches pooled to one, on a
decoder with sliding windows, of which the last layers share keys and values.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from unibench.models._margins import behind
from unibench.pruning.family import Family, VisionCall
from unibench.pruning.layout import Item, Part


class Gemma4(Family):
    """Gemma4ForConditionalGeneration."""

    model_types: ClassVar[tuple[str, ...]] = ("gemma4",)

    @cached_property
    def margins(self) -> tuple[int, int]:
        """As the template has them, behind the mark that ends a picture."""
        margins = super().margins
        return behind(margins, self.processor, self.processor.eoi_token)

    @property
    def vit_blocks(self) -> list[nn.Module]:
        return list(self.vision_tower.encoder.layers)

    @property
    def kernel(self) -> int:
        """Patches along an edge of a token."""
        return int(self.model.config.vision_config.pooling_kernel_size)

    def places(self, call: VisionCall) -> Tensor:
        """``[pictures or frames, patches, 2]`` column and row of each patch; -1 on padding."""
        name = "image_position_ids" if call.modality == "image" else "video_position_ids"
        places: Tensor = call.arguments[name]
        # transformers 5.6 has an axis for videos in front of that for frames
        return places.flatten(0, -3)

    def items(self, call: VisionCall, runs: list[int]) -> list[tuple[Part, ...]]:
        sizes = ((self.places(call).amax(1) + 1) // self.kernel).tolist()  # columns, rows
        grids = [Part(1, rows, columns) for columns, rows in sizes]
        if call.modality == "image":
            return [(grid,) for grid in grids]
        found, start = list[tuple[Part, ...]](), 0
        for frames in self.frames(call):
            # the frames of a video are of one size
            grid = grids[start]
            found.append((Part(frames, grid.height, grid.width),))
            start += frames
        return found

    def frames(self, call: VisionCall) -> list[int]:
        """Frames of each video of a call."""
        counts = call.arguments.get("num_frames_per_video")
        if counts is not None:
            return [int(count) for count in counts]
        videos, frames = call.arguments["pixel_values_videos"].shape[:2]  # transformers 5.6
        return [frames] * videos

    def split_pixels(self, values: Tensor, call: VisionCall, items: list[Item]) -> list[Tensor]:
        places = self.places(call)
        pictures = zip(values.reshape(len(places), -1, values.shape[-1]), places, strict=True)
        patches = [rows[place[:, 0] >= 0] for rows, place in pictures]
        if call.modality == "image":
            return patches
        frames = iter(patches)
        return [torch.cat([next(frames) for _ in range(item.parts[0].frames)]) for item in items]

    def pack(self, values: Tensor, call: VisionCall, fill: float) -> Tensor:
        packed: list[Tensor] = []
        for rows, place in zip(values, self.places(call).to(values.device), strict=True):
            there = place[:, 0] >= 0
            column, row = (place[there] // self.kernel).unbind(-1)
            # raster order over the picture's own width, as the pooler numbers its cells
            token = column + (int(column.max()) + 1) * row
            sums: Any = rows.new_zeros(int(token.max()) + 1, rows.shape[-1])
            # every cell is full: the processor makes sides multiples of the kernel
            packed.append(sums.index_add(0, token, rows[there]) / self.kernel**2)
        return torch.cat(packed)
