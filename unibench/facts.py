"""What is known of a model before its weights are read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

FULL = "full_attention"
SLIDING = frozenset({"sliding_attention"})
# layers that carry a state from token to token, which nothing can be taken out of
RECURRENT = frozenset({"linear_attention", "conv"})

LAYERS = 10_000  # of a language model, far more than any has


@dataclass(frozen=True)
class ModelFacts:
    """A model as its configuration describes it; what is not known is None.

    Attributes:
        name: of the model, as a message names it.
        family: name of the adapter.
        depth: number of decoder layers.
        kinds: of each decoder layer what it looks back with, as transformers names it.
        softcap: largest logit of attention, where the eager kernel caps them.
        kv_shared: layers at the end that read keys and values of earlier ones.
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
    kinds: tuple[str, ...] | None = None
    softcap: float | None = None
    kv_shared: int | None = None
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
            kinds=layer_kinds(text),
            softcap=text.get("attn_logit_softcapping"),
            kv_shared=text.get("num_kv_shared_layers"),
            width=text.get("hidden_size"),
            positions=text.get("max_position_embeddings"),
            tower_depth=tower.get("depth", tower.get("num_hidden_layers")),
            one_feature_layer=None if layer is None else isinstance(layer, int),
            **more,
        )


def layer_kinds(text: Mapping[str, Any]) -> tuple[str, ...] | None:
    """What each layer of a language model looks back with; None if it is not said."""
    if kinds := text.get("layer_types"):
        return tuple(kinds)
    depth = text.get("num_hidden_layers")
    if not isinstance(depth, int) or not 0 < depth <= LAYERS:  # not said, or damage
        return None
    # Qwen's files give a width that is not used
    slides = bool(text.get("sliding_window") and text.get("use_sliding_window", True))
    return ("sliding_attention" if slides else FULL,) * depth


def misplaced(rule: str, provides: Collection[str], name: str) -> str | None:
    """Why a model cannot place the text behind a video by a rule, None if it can.

    Args:
        rule: ``text_after_video`` of the run.
        provides: what the model's family provides.
        name: of the model, for the message.
    """
    if rule == "max_side" or "video_time" in provides:
        return None
    return (
        f"text_after_video={rule}: {name} has no positions in time, or text between its frames;"
        " Qwen2-VL and Qwen2.5-VL have them"
    )
