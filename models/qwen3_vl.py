"""Qwen3-VL: Qwen2-VL whose tower also feeds the first decoder layers (DeepStack)."""

from __future__ import annotations

from typing import ClassVar

from unibench.models.qwen2_vl import Qwen2VL


class Qwen3VL(Qwen2VL):
    """Qwen3VLForConditionalGeneration."""

    model_types: ClassVar[tuple[str, ...]] = ("qwen3_vl",)

    @property
    def deepstack(self) -> int:
        return len(self.vision_tower.deepstack_visual_indexes)
