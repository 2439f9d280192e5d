"""Gemma 3: SigLIP pictures of one size, pooled to 256 tokens that see each other, on a decoder of
which five layers of six have a sliding window.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

from torch import Tensor, nn

from unibench.models._margins import behind
from unibench.pruning.family import Family, VisionCall
from unibench.pruning.layout import Part


class Gemma3(Family):
    """Gemma3ForConditionalGeneration."""

    model_types: ClassVar[tuple[str, ...]] = ("gemma3",)

    @cached_property
    def margins(self) -> tuple[int, int]:
        """As the template has them, behind the mark and the blank line that end a picture."""
        margins = super().margins
        return behind(margins, self.processor, _ending(self.processor))

    @property
    def vit_blocks(self) -> list[nn.Module]:
        tower = self.vision_tower
        return list(getattr(tower, "vision_model", tower).encoder.layers)  # before 5.20 a wrapper

    @property
    def side(self) -> int:
        """Tokens along an edge of a picture."""
        return int(self.core.multi_modal_projector.tokens_per_side)

    def items(self, call: VisionCall, runs: list[int]) -> list[tuple[Part, ...]]:
        # crops (pan and scan) are pictures of their own, with text between them
        return [(Part(1, self.side, self.side),)] * len(call.arguments["pixel_values"])

    def pack(self, values: Tensor, call: VisionCall, fill: float) -> Tensor:
        across = int(values.shape[1] ** 0.5)
        grid = values.transpose(1, 2).unflatten(2, (across, across))
        # the projector pools 4 x 4 patches to a token before its norm and projection
        pooled = nn.functional.avg_pool2d(grid, across // self.side)
        return pooled.flatten(2).transpose(1, 2).flatten(0, 1)


def _ending(processor: Any) -> str:
    """What the processor writes behind the tokens of a picture."""
    # its own image_token is what a template has, the mark that begins a picture
    token = processor.tokenizer.image_token
    ending: str = processor.full_image_sequence.rpartition(token)[2]
    return ending
