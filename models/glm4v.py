"""GLM-4.1V, GLM-4.5V, GLM-4.6V: native resolution, 2 x 2 patches through a convolution; a video is
pictures between two marks.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from unibench.models.qwen2_vl import Qwen2VL
from unibench.pruning.attention import QueryKey


class Glm4v(Qwen2VL):
    """Glm4vForConditionalGeneration, Glm4vMoeForConditionalGeneration,
    Glm46VForConditionalGeneration.
    """

    model_types: ClassVar[tuple[str, ...]] = ("glm4v", "glm4v_moe", "glm46v")
    provides: ClassVar[frozenset[str]] = frozenset()
    pixel_dropping = False  # positions of patches are interpolated for the whole grid

    @property
    def projector(self) -> tuple[nn.Module, ...]:
        return ()

    def visual_kind(self, input_ids: Tensor) -> Tensor:
        config = self.model.config
        shown = input_ids == config.image_token_id
        begun, ended = (
            (input_ids == mark).cumsum(1)
            for mark in (config.video_start_token_id, config.video_end_token_id)
        )
        # frames of a video have the token of pictures
        kinds: Tensor = shown.long() + (shown & (begun > ended)).long()
        return kinds

    def rotated_back(self, qk: QueryKey, rotary: tuple[Tensor, Tensor]) -> QueryKey:
        cos, sin = (part.float() for part in rotary)
        half = cos.shape[-1] // 2
        # channels turn in pairs of neighbours, by the angles that stand in the first half
        cos, sin = (part[..., :half].repeat_interleave(2, dim=-1) for part in (cos, sin))

        def back(x: Tensor) -> Tensor:
            turned, still = x.float().split([2 * half, x.shape[-1] - 2 * half], dim=-1)
            beside = torch.stack([-turned[..., 1::2], turned[..., 0::2]], -1).flatten(-2)
            return torch.cat([turned * cos - beside * sin, still], -1)

        return QueryKey(back(qk.query), back(qk.key), qk.scaling)
