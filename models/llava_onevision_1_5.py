"""LLaVA-OneVision-1.5: the RICE tower, which has a CLS row before each frame, and groups of 2 x 2
patches merged into tokens.

Its code comes with the checkpoint (``model.trust_remote_code=true``); transformers 5.23 has none.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from unibench.models.qwen2_vl import Qwen2VL
from unibench.pruning.family import VisionCall


class LlavaOnevision15(Qwen2VL):
    """LLaVAOneVision1_5_ForConditionalGeneration of the published code."""

    model_types: ClassVar[tuple[str, ...]] = ("llavaonevision1_5", "llava_onevision1_5")
    provides: ClassVar[frozenset[str]] = frozenset({"cls_token", "projector"})
    prefix_tokens = 1
    batches = False

    def pack(self, values: Tensor, call: VisionCall, fill: float) -> Tensor:
        # the published code takes the rows behind the first CLS row, so that a later picture's come
        # one row early for each before it
        patches = int(self.grid(call).prod(-1).sum())
        return super().pack(values[1 : patches + 1], call, fill)
