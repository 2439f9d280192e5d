"""What is known of a model before its weights are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ModelFacts:
    """A model as its configuration describes it; what is not known is None.

    Attributes:
        name: of the model, as a message names it.
        family: name of the adapter.
        depth: number of decoder layers.
        full_attention: whether every decoder layer attends to all positions.
        width: of the language model's hidden states.
        positions: tokens that the language model was built for.
        tower_depth: number of blocks of the vision tower.
        one_feature_layer: whether the projector reads one layer of the tower.
        kernel: attention implementation of the language model, for example ``sdpa``.
        tower_kernel: that of the vision tower.
        clip: whether the model comes with the CLIP of its tower.
        selector: file or folder of a trained importance scorer.
    """

    name: str = "the model"
    family: str = ""
    depth: int | None = None
    full_attention: bool | None = None
    width: int | None = None
    positions: int | None = None
    tower_depth: int | None = None
    one_feature_layer: bool | None = None
    kernel: str | None = None
    tower_kernel: str | None = None
    clip: bool | None = None
    selector: str | None = None

    @classmethod
    def of_config(cls, config: Mapping[str, Any], **more: Any) -> ModelFacts:
        """The facts that a ``config.json`` states; its omissions are unknown.

        Args:
            config: of the whole model; the language model's part may be the top level itself.
            **more: facts that it does not hold.
        """
        text = config.get("text_config") or config
        tower = config.get("vision_config") or {}
        layer = config.get("vision_feature_layer")
        return cls(
            depth=text.get("num_hidden_layers"),
            full_attention=full_attention(text),
            width=text.get("hidden_size"),
            positions=text.get("max_position_embeddings"),
            tower_depth=tower.get("depth", tower.get("num_hidden_layers")),
            one_feature_layer=None if layer is None else isinstance(layer, int),
            **more,
        )


def full_attention(text: Mapping[str, Any]) -> bool | None:
    """Whether every layer of a language model attends to all positions; None if it is not said."""
    kinds = text.get("layer_types")
    if kinds:
        return set(kinds) <= {"full_attention"}
    if text.get("sliding_window"):
        # Qwen's files give a width that is not used
        return not text.get("use_sliding_window", True)
    return True if "num_hidden_layers" in text else None
