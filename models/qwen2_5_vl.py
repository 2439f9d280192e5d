"""Qwen2.5-VL: Qwen2-VL whose tower attends in windows."""

from __future__ import annotations

import importlib
from typing import ClassVar

import torch
from torch import Tensor

from unibench.models.qwen2_vl import Qwen2VL
from unibench.pruning.family import VisionCall


class Qwen2_5VL(Qwen2VL):  # noqa: N801
    """Qwen2_5_VLForConditionalGeneration."""

    model_types: ClassVar[tuple[str, ...]] = ("qwen2_5_vl",)
    provides: ClassVar[frozenset[str]] = frozenset({"projector", "video_time"})

    @property
    def object_layer(self) -> int:
        """The last block up to the middle that sees the whole picture: 15 of 32."""
        full: list[int] = self.vision_tower.fullatt_block_indexes
        middle = super().object_layer
        return max((block for block in full if block <= middle), default=min(full))

    @property
    def local_layer(self) -> int:
        """The first block that sees the whole picture: 7 of 32."""
        return int(min(self.vision_tower.fullatt_block_indexes))

    def pack_joined(self, values: Tensor, call: VisionCall, fill: float) -> Tensor:
        return values[self._window_order(call).to(values.device)]

    def pack(self, values: Tensor, call: VisionCall, fill: float) -> Tensor:
        order = self._window_order(call)
        return super().pack(values, call, fill)[order.to(values.device)]

    def block_order(self, call: VisionCall) -> Tensor | None:
        # the inverse of a permutation is its argsort
        return torch.argsort(self._window_order(call))

    def _window_order(self, call: VisionCall) -> Tensor:
        """The tower computes in windows and restores the order after the merger."""
        tower = self.vision_tower
        if hasattr(tower, "get_window_index"):  # transformers before 5.8
            index, _ = tower.get_window_index(self.grid(call))
        else:
            vision_utils = importlib.import_module("transformers.vision_utils")  # not before 5.8
            index, _ = vision_utils.get_vision_window_index(
                self.grid(call),
                spatial_merge_size=tower.spatial_merge_size,
                window_size=tower.window_size,
                patch_size=tower.patch_size,
            )
        return torch.argsort(torch.as_tensor(index))
