"""Qwen2-VL and Qwen2.5-VL: native resolution, groups of 2 x 2 patches merged into tokens."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import vision_utils

from unibench.pruning.attention import QueryKey
from unibench.pruning.family import Family, Shape, VisionCall


class Qwen2VL(Family):
    """Qwen2_5_VLForConditionalGeneration and Qwen2VLForConditionalGeneration."""

    model_types: ClassVar[tuple[str, ...]] = ("qwen2_5_vl", "qwen2_vl")

    @property
    def vision_tower(self) -> Any:
        return self.core.visual

    @property
    def vit_blocks(self) -> list[nn.Module]:
        return list(self.vision_tower.blocks)

    @property
    def vit_attentions(self) -> list[nn.Module]:
        return [block.attn for block in self.vision_tower.blocks]

    @property
    def object_layer(self) -> int:
        """The block in the middle, or the last before it that sees the whole picture: 15 of 32."""
        middle = max(0, len(self.vit_blocks) // 2 - 1)
        full = getattr(self.vision_tower, "fullatt_block_indexes", None) or range(middle + 1)
        return max((block for block in full if block <= middle), default=min(full))

    def items(self, call: VisionCall, runs: list[int]) -> list[tuple[int, Shape | None]]:
        merge = self.vision_tower.spatial_merge_size
        grids = [(t, h // merge, w // merge) for t, h, w in self._grid(call).tolist()]
        return [(t * h * w, (t, h, w)) for t, h, w in grids]

    def join(self, chunks: list[Tensor]) -> Tensor:  # [1, tokens, ...] for each image or window
        return torch.cat(chunks, dim=1)[0]

    def whole(self, chunks: list[QueryKey], call: VisionCall) -> list[QueryKey]:
        query, key = (torch.cat([getattr(qk, part) for qk in chunks], dim=2) for part in ("query", "key"))
        sizes = [h * w for t, h, w in self._grid(call).tolist() for _ in range(t)]  # frames are attended one by one
        pairs = zip(query.split(sizes, 2), key.split(sizes, 2), strict=True)
        return [QueryKey(q, k, chunks[0].scaling) for q, k in pairs]

    def strip(self, hidden: Tensor) -> Tensor:
        return hidden

    def pack(self, values: Tensor, call: VisionCall, fill: float) -> Tensor:
        patches = self.vision_tower.spatial_merge_size**2
        tokens = values.reshape(-1, patches, *values.shape[1:]).mean(1)
        order = self._window_order(call)
        return tokens if order is None else tokens[order.to(tokens.device)]

    def _grid(self, call: VisionCall) -> Tensor:
        grid: Tensor = call.arguments["image_grid_thw" if call.modality == "image" else "video_grid_thw"]
        return grid

    def _window_order(self, call: VisionCall) -> Tensor | None:
        """Qwen2.5-VL computes its tower in windows and restores the order after the merger."""
        tower = self.vision_tower
        if not hasattr(tower, "window_size"):
            return None
        if hasattr(tower, "get_window_index"):  # transformers before 5.8
            index, _ = tower.get_window_index(self._grid(call))
        else:
            index, _ = vision_utils.get_vision_window_index(
                self._grid(call),
                spatial_merge_size=tower.spatial_merge_size,
                window_size=tower.window_size,
                patch_size=tower.patch_size,
            )
        return torch.argsort(torch.as_tensor(index))
