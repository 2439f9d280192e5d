"""Qwen3-VL: Qwen2-VL whose tower also feeds the first decoder layers (DeepStack)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import nn

from unibench.models.qwen2_vl import Qwen2VL


class Qwen3VL(Qwen2VL):
    """Qwen3VLForConditionalGeneration and Qwen3VLMoeForConditionalGeneration."""

    model_types: ClassVar[tuple[str, ...]] = ("qwen3_vl", "qwen3_vl_moe")
    pixel_mean = pixel_std = (0.5, 0.5, 0.5)
    provides: ClassVar[frozenset[str]] = frozenset({"projector"})

    @property
    def projector(self) -> tuple[nn.Module, ...]:
        merger = self.vision_tower.merger
        return merger.linear_fc1, merger.act_fn, merger.linear_fc2

    @property
    def mergers(self) -> Sequence[nn.Module]:
        # every merger reshapes four rows to one, so each must get full groups back
        return [self.vision_tower.merger, *self.vision_tower.deepstack_merger_list]

    @property
    def deepstack(self) -> int:
        return len(self.vision_tower.deepstack_visual_indexes)
