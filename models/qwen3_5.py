"""Qwen3.5: Qwen3-VL without DeepStack, on a decoder of which most layers carry a state."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from unibench.models.qwen3_vl import Qwen3VL
from unibench.pruning.attention import QueryKey
from unibench.pruning.family import Family


class Qwen3_5(Qwen3VL):  # noqa: N801
    """Qwen3_5ForConditionalGeneration and Qwen3_5MoeForConditionalGeneration."""

    model_types: ClassVar[tuple[str, ...]] = ("qwen3_5", "qwen3_5_moe")
    provides: ClassVar[frozenset[str]] = frozenset({"projector"})
    pixel_dropping = True

    @property
    def mergers(self) -> list[nn.Module]:
        return [self.vision_tower.merger]

    @property
    def deepstack(self) -> int:
        return 0

    def unrotated(self, layer: int, hidden: Tensor) -> QueryKey:
        return gated_query_key(self, layer, hidden)


def gated_query_key(family: Family, layer: int, hidden: Tensor) -> QueryKey:
    """As :meth:`Family.unrotated`, of a decoder layer of Qwen3.5."""
    module: Any = family.llm_attention(layer)
    normed = family.text_model.layers[layer].input_layernorm(hidden.to(module.q_proj.weight))
    # the projection of queries makes a gate for the output beside each
    query, _ = module.q_proj(normed).unflatten(-1, (-1, 2 * module.head_dim)).chunk(2, dim=-1)
    key = module.k_proj(normed).unflatten(-1, (-1, module.head_dim))
    query, key = (
        norm(rows).transpose(0, 1)[None]
        for norm, rows in ((module.q_norm, query), (module.k_norm, key))
    )
    return QueryKey(query, key, float(module.scaling))
