"""LLaVA-1.5: CLIP tower, one token per patch."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from unibench.pruning.family import Family, VisionCall
from unibench.pruning.layout import Part


class Llava(Family):
    """LlavaForConditionalGeneration.

    The tables that papers print for LLaVA were made with LLaVA's own code, which renumbers what is
    left: ``positions=compact`` (the default is ``original``).
    """

    model_types: ClassVar[tuple[str, ...]] = ("llava",)
    provides: ClassVar[frozenset[str]] = frozenset({
        "cls_token", "token_projector", "clip_tower", "projector",
    })  # fmt: skip
    tower_merging = True
    saliency_layer = -2

    @property
    def prefix_tokens(self) -> int:  # type: ignore[override]
        """The CLS token, where the model drops it behind the tower."""
        return int(self.model.config.vision_feature_select_strategy == "default")

    @property
    def vit_blocks(self) -> list[nn.Module]:
        return list(self.vision_tower.encoder.layers)

    @property
    def feature_layer(self) -> int | None:
        layer = self.model.config.vision_feature_layer
        if not isinstance(layer, int):
            return None  # several layers side by side
        return layer if layer < 0 else layer - 1  # hidden_states starts with the embeddings

    @property
    def projector(self) -> tuple[nn.Module, ...]:
        module = self.core.multi_modal_projector
        return module.linear_1, module.act, module.linear_2

    def halves(self, block: Any) -> tuple[nn.Module, nn.Module]:
        return block.layer_norm2, block.mlp

    def project(self, features: Tensor) -> Tensor:
        projector = self.core.multi_modal_projector
        projected: Tensor = projector(features.to(next(projector.parameters()).dtype)).float()
        return projected

    @property
    def side(self) -> int:
        """Patches along an edge of a tile."""
        config = self.model.config.vision_config
        return int(config.image_size // config.patch_size)

    def items(self, call: VisionCall, runs: list[int]) -> list[tuple[Part, ...]]:
        return [(Part(1, self.side, self.side),)] * len(call.arguments["pixel_values"])
