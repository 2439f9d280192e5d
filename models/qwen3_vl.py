"""Qwen3-VL: Qwen2-VL whose tower also feeds the first decoder layers (DeepStack)."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from unibench.models.qwen2_vl import Qwen2VL


class Qwen3VL(Qwen2VL):
    """Qwen3VLForConditionalGeneration."""

    model_types: ClassVar[tuple[str, ...]] = ("qwen3_vl",)
    provides: ClassVar[frozenset[str]] = frozenset({"projector"})

    @property
    def projector(self) -> tuple[nn.Module, ...]:
        merger = self.vision_tower.merger
        return merger.linear_fc1, merger.act_fn, merger.linear_fc2

    @property
    def deepstack(self) -> int:
        return len(self.vision_tower.deepstack_visual_indexes)
