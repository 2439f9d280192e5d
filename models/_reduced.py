"""Published architectures at reduced depth and width, with random weights: what every rule of a
family can be tried on in seconds.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

from unibench.config import ModelConfig
from unibench.errors import UsageError
from unibench.models._processors import FORMS
from unibench.models._sources import built

LAYERS, HIDDEN = 6, 64  # of the decoder; more layers where a pattern is longer

# what every decoder and every tower is reduced to, as far as its configuration has the field
TEXT: Mapping[str, Any] = {
    "vocab_size": 1024,
    "vocab_size_per_layer_input": 1024,
    "hidden_size": HIDDEN,
    "intermediate_size": 128,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 4096,
    "sliding_window": 12,  # shorter than any prompt: it must bind
    "query_pre_attn_scalar": 16,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
}
TOWER: Mapping[str, Any] = {
    "depth": 4,
    "num_hidden_layers": 4,
    "hidden_size": 32,
    "embed_dim": 32,
    "intermediate_size": 64,
    "num_heads": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "out_hidden_size": HIDDEN,
    "projection_dim": HIDDEN,
    # two tokens of 28 pixels along an edge, so that even a small picture has several windows
    "window_size": 56,
    "fullatt_block_indexes": [1, 3],
    "deepstack_visual_indexes": [0, 2],
    "num_position_embeddings": 64,
}


@dataclass(frozen=True)
class Reduced:
    """What a family changes besides.

    Attributes:
        top: fields of the whole configuration.
        text: of the decoder.
        tower: of the vision tower.
        processor: settings of the image processor.
    """

    top: Mapping[str, Any] = field(default_factory=dict)
    text: Mapping[str, Any] = field(default_factory=dict)
    tower: Mapping[str, Any] = field(default_factory=dict)
    processor: Mapping[str, Any] = field(default_factory=dict)


_SQUARE = {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}
_SIDES = {"height": 56, "width": 56}
_PINPOINTS = [[56, 112], [112, 56], [112, 112], [168, 56], [56, 168]]
_QWEN = {"size": {"shortest_edge": 28 * 28 * 4, "longest_edge": 28 * 28 * 30}}
_QWEN3 = Reduced(
    text={"rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]}},
    processor={"size": {"shortest_edge": 32 * 32 * 4, "longest_edge": 32 * 32 * 30}},
)
_QWEN3_5 = Reduced(
    text={
        "head_dim": 32,
        "rope_parameters": {
            "rope_type": "default", "partial_rotary_factor": 0.5, "mrope_section": [4, 2, 2],
        },
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "layer_types": [*["linear_attention"] * 3, "full_attention"] * 2,
        "num_hidden_layers": 8,
    },
    processor=_QWEN3.processor,
)  # fmt: skip
_MROPE = {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]}}
_ROPES = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    "full_attention": {"rope_type": "default", "rope_theta": 1000000.0},
}
SMALL: Mapping[str, Reduced] = {
    "llava": Reduced({"image_seq_length": 16}, tower={"image_size": 56}, processor=_SQUARE),
    "llava_next": Reduced(
        {"image_seq_length": 16, "image_grid_pinpoints": _PINPOINTS},
        tower={"image_size": 56},
        processor={**_SQUARE, "image_grid_pinpoints": _PINPOINTS},
    ),
    "llava_next_video": Reduced(
        {"image_seq_length": 16, "video_seq_length": 4, "image_grid_pinpoints": _PINPOINTS},
        tower={"image_size": 56},
        processor={**_SQUARE, "image_grid_pinpoints": _PINPOINTS, "video": _SQUARE},
    ),
    "llava_video": Reduced(  # an odd number of patches along an edge, as the real one has
        {
            "image_grid_pinpoints": [[70, 140], [140, 70], [140, 140]],
            "vision_aspect_ratio": "anyres_max_2",
        },
        tower={"image_size": 70},
        processor={
            "size": {"height": 70, "width": 70},
            "image_grid_pinpoints": [[70, 140], [140, 70], [140, 140]],
            "video": {"size": {"height": 70, "width": 70}},
        },
    ),
    "llava_onevision": Reduced(
        {"image_grid_pinpoints": _PINPOINTS, "vision_aspect_ratio": "anyres_max_2"},
        tower={"image_size": 56},
        processor={"size": _SIDES, "image_grid_pinpoints": _PINPOINTS, "video": {"size": _SIDES}},
    ),
    "internvl": Reduced(
        {"image_seq_length": 16},
        tower={"image_size": [112, 112]},
        processor={
            "size": {"height": 112, "width": 112},
            "video": {"size": {"height": 112, "width": 112}},
        },
    ),
    "smolvlm": Reduced(
        {"scale_factor": 2},
        tower={"image_size": 112},
        processor={
            "size": {"longest_edge": 224},
            "max_image_size": {"longest_edge": 112},
            "video": {"size": {"longest_edge": 112}, "max_image_size": {"longest_edge": 112}},
        },
    ),
    "qwen2_vl": Reduced(text=_MROPE, tower={"hidden_size": HIDDEN}, processor=_QWEN),
    "qwen2_5_vl": Reduced(text=_MROPE, processor=_QWEN),
    "qwen3_vl": _QWEN3,
    "qwen3_vl_moe": _QWEN3,
    "qwen3_5": _QWEN3_5,
    "qwen3_5_moe": _QWEN3_5,
    "glm4v": Reduced(
        text={
            "rope_parameters": {
                "rope_type": "default", "partial_rotary_factor": 1.0, "mrope_section": [2, 3, 3],
            }
        },
        tower={"image_size": 56},
        processor=_QWEN,
    ),
    "gemma3": Reduced(
        {"mm_tokens_per_image": 16},
        text={
            "rope_parameters": _ROPES,
            "layer_types": [*["sliding_attention"] * 2, "full_attention"] * 2,
        },
        tower={"image_size": 112},
        processor={"size": {"height": 112, "width": 112}},
    ),
    "gemma4": Reduced(
        text={
            "rope_parameters": {
                **_ROPES,
                "full_attention": {
                    "rope_type": "proportional",
                    "partial_rotary_factor": 0.25,
                    "rope_theta": 1000000.0,
                },
            },
            "layer_types": ["sliding_attention", "full_attention"] * 3,
            "global_head_dim": 32,
            "hidden_size_per_layer_input": 8,
            "num_kv_shared_layers": 2,
            "num_experts": None,
            "moe_intermediate_size": None,
        },
        tower={"position_embedding_size": 64},
        processor={"max_soft_tokens": 70, "video": {"max_soft_tokens": 70}},
    ),
    "minicpmv4_6": Reduced(
        {"insert_layer_id": 1},
        text=_QWEN3_5.text,
        tower={"image_size": 96, "patch_size": 8},
        processor={
            "patch_size": 8,
            "scale_resolution": 96,
            "max_slice_nums": 4,
            "video": {"patch_size": 8, "scale_resolution": 96, "max_slice_nums": 1},
        },
    ),
    "molmo2": Reduced(
        {
            "adapter_config": {
                "vision_feature_layer": [3, 1],
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_attention_heads": 2,
                "num_key_value_heads": 2,
                "head_dim": 16,
                "text_hidden_size": HIDDEN,
            }
        },
        tower={"image_size": [84, 84], "num_position_embeddings": 36},
        processor={
            "size": {"height": 84, "width": 84},
            "overlap_margins": [1, 1],
            "max_crops": 4,
            "video": {"size": {"height": 84, "width": 84}},
        },
    ),
    "paligemma": Reduced(
        {"projection_dim": HIDDEN},
        text={"layer_types": ["sliding_attention", "full_attention"] * 3},
        tower={"image_size": 56},
        processor={"size": _SIDES, "image_seq_length": 16},
    ),
}  # fmt: skip


def reduced(spec: ModelConfig, attn: str = "sdpa", seed: int = 0) -> tuple[Any, Any]:
    """A small model of the architecture of ``spec``, and its processor.

    Args:
        spec: of a model card with an architecture.
        attn: attention implementation.
        seed: of the weights, which are large enough that a wrong mask or position shows.

    Raises:
        UsageError: the card has no architecture, or nothing is known of how to reduce it.
    """
    kind = spec.architecture.get("model_type", spec.family)
    if kind not in SMALL or not spec.architecture:
        raise UsageError(
            f"model={spec.name}: check builds its architecture at reduced size, which needs"
            f" `architecture:` in its card and an entry for {kind} in"
            " models/_reduced.py"
        )
    if kind not in CONFIG_MAPPING:
        raise ValueError(f"transformers {transformers.__version__} has no {kind}")
    config, processor = built(kind, *_settings(spec, SMALL[kind]))
    torch.manual_seed(seed)  # for what has no more than one axis
    model = AutoModelForImageTextToText.from_config(config, attn_implementation=attn)
    _draw(model, processor, seed)
    return model.eval(), processor


def _settings(spec: ModelConfig, change: Reduced) -> tuple[dict[str, Any], dict[str, Any]]:
    """Configuration and settings of the processor."""
    whole = copy.deepcopy(dict(spec.architecture))
    for part, usual, own in (
        ("text_config", TEXT, change.text),
        ("vision_config", TOWER, change.tower),
    ):
        known = whole.get(part, {})
        # only fields that the published configuration has: others would be accepted and unused
        known |= {key: value for key, value in usual.items() if key in known} | dict(own)
        whole[part] = known
    whole |= change.top
    settings = {**copy.deepcopy(dict(spec.processor)), **change.processor}
    return whole, settings


def _draw(model: Any, processor: Any, seed: int) -> None:
    """Fill the weights; the head never says a token that stands for a picture."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.ndim >= 2:
                fan = parameter.shape[-1] if "experts" in name else parameter[0].numel()
                # transformers' 0.02 makes attention so flat that a missing mask hardly shows
                scale = 1.0 if "embed" in name else 1.6 * fan**-0.5
                if "pooling" in name:
                    # attention over a handful of patches would else look at one of them alone
                    scale /= 10
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
            elif any(part in name for part in ("bias", "newline", "class_embedding", "cls")):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
        tokens = FORMS[model.config.model_type].tokens.values()
        ids = processor.tokenizer.convert_tokens_to_ids(list(tokens))
        # a generated placeholder would pass for a picture in the prompt read anew
        model.get_output_embeddings().weight[ids] = 0
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    # random weights may end at once, and there would be no step to compare
    model.generation_config.eos_token_id = None
