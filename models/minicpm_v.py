"""MiniCPM-V 4.6: slices of native shape, 2 x 2 patches merged inside the tower and again behind it,
on the decoder of Qwen3.5.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor, nn

from unibench.models._margins import behind
from unibench.models.qwen3_5 import gated_query_key
from unibench.pruning.attention import QueryKey
from unibench.pruning.family import Family, VisionCall
from unibench.pruning.layout import Item, Part


class MiniCPMV(Family):
    """MiniCPMV4_6ForConditionalGeneration."""

    model_types: ClassVar[tuple[str, ...]] = ("minicpmv4_6",)
    resizing: ClassVar = "tiles"
    frames_are_pictures = True

    @cached_property
    def margins(self) -> tuple[int, int]:
        """As the template has them, behind the mark that ends a picture or a slice."""
        margins = super().margins
        return behind(margins, self.processor, self.processor.image_end_token)

    @property
    def vit_blocks(self) -> list[nn.Module]:
        return list(self.vision_tower.encoder.layers)

    def sizes(self, call: VisionCall) -> list[tuple[int, int]]:
        """Rows and columns of patches of each slice or frame."""
        name = "target_sizes" if call.modality == "image" else "target_sizes_videos"
        return [(height, width) for height, width in call.arguments[name].tolist()]

    def edge(self, call: VisionCall) -> int:
        """Patches along an edge of a token."""
        config = self.model.config
        behind = int(config.merge_kernel_size[0] ** config.merger_times)
        mode = call.arguments.get("downsample_mode") or config.downsample_mode
        return behind if mode == "4x" else 2 * behind

    def items(self, call: VisionCall, runs: list[int]) -> list[tuple[Part, ...]]:
        # text separates the overview, the slices and the frames: each counts as a picture
        edge = self.edge(call)
        return [(Part(1, height // edge, width // edge),) for height, width in self.sizes(call)]

    def split_pixels(self, values: Tensor, call: VisionCall, items: list[Item]) -> list[Tensor]:
        # patches stand side by side in one row, [1, channels, patch, patches * patch]
        side = values.shape[2]
        return list(values.split([h * w * side for h, w in self.sizes(call)], dim=-1))

    def join(self, chunks: list[Tensor]) -> Tensor:  # [1, patches, ...] for each slice
        return torch.cat(chunks, dim=1)[0]

    def whole(self, chunks: list[QueryKey], call: VisionCall) -> list[QueryKey]:
        query, key = (
            torch.cat([getattr(qk, part) for qk in chunks], dim=2) for part in ("query", "key")
        )
        grids = self._grids(query.shape[2], call)
        lengths = [height * width for height, width in grids]
        pairs = zip(query.split(lengths, 2), key.split(lengths, 2), strict=True)
        return [QueryKey(q, k, chunks[0].scaling) for q, k in pairs]

    def unrotated(self, layer: int, hidden: Tensor) -> QueryKey:
        return gated_query_key(self, layer, hidden)

    def strip(self, hidden: Tensor) -> Tensor:
        return hidden[0]

    def pack(self, values: Tensor, call: VisionCall, fill: float) -> Tensor:
        grids, packed = self._grids(len(values), call), []
        edge = self.edge(call) * grids[0][0] // self.sizes(call)[0][0]
        for rows, (height, width) in zip(
            values.split([height * width for height, width in grids]), grids, strict=True
        ):
            # both mergers join the channels of patches; a signal of theirs is their mean
            windows = rows.unflatten(0, (height // edge, edge, width // edge, edge))
            packed.append(windows.mean((1, 3)).flatten(0, 1))
        return torch.cat(packed)

    def _grids(self, rows: int, call: VisionCall) -> list[tuple[int, int]]:
        """The grids that a block works on, told by its number of rows: behind the merger inside the
        tower a quarter is left.
        """
        sizes = self.sizes(call)
        if rows == sum(height * width for height, width in sizes):
            return sizes
        return [(height // 2, width // 2) for height, width in sizes]
