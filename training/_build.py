"""Untrained models of the real classes, at the sizes of a recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    CLIPVisionConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from training._recipe import Recipe

PATCH = 14
THETA = 10_000.0
# Below the usual one, so that the channels of Qwen2.5-VL that turn with the column, which are its
# slowest ones, tell one column of twelve from another.
AXES_THETA = 2000.0
# Projections whose output is added to a residual stream, in any of the families.
_RESIDUAL = (
    *("o_proj", "down_proj", "out_proj", "mlp.fc2", "attn.proj", "projection_layer"),
    "mlp.linear_fc2",
)


def build(recipe: Recipe, tokens: Mapping[str, int], vocabulary: int, seed: int) -> Any:
    """An untrained model.

    Args:
        recipe: family and sizes.
        tokens: ids by role: ``eos``, ``pad``, ``image``, ``video``, and Qwen's ``start`` and
            ``end``.
        vocabulary: number of embeddings.
        seed: of the initial weights.
    """
    text = dict(
        vocab_size=vocabulary,
        hidden_size=recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        intermediate_size=recipe.inner,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        eos_token_id=tokens["eos"],
        pad_token_id=tokens["pad"],
        bos_token_id=tokens.get("bos"),
    )
    torch.manual_seed(seed)
    makers = {
        "qwen2_5_vl": _qwen,
        "qwen3_vl": _qwen3,
        "llava": _llava,
        "internvl": _internvl,
    }
    model = makers[recipe.family](recipe, text, tokens)
    _initialise(model, recipe)
    settings = model.generation_config
    settings.eos_token_id, settings.pad_token_id, settings.do_sample = (
        tokens["eos"],
        tokens["pad"],
        False,
    )
    return model.float()


def _qwen(recipe: Recipe, text: dict[str, Any], tokens: Mapping[str, int]) -> Any:
    rope = {
        "rope_type": "default",
        "rope_theta": AXES_THETA,
        # channels that turn with time, row and column, fastest first: 2, 4 and 10 of 16
        "mrope_section": _sections(recipe, 8, 4),
    }
    vision = dict(
        depth=recipe.vision_depth,
        hidden_size=recipe.vision_width,
        num_heads=recipe.vision_width // 64,
        intermediate_size=recipe.vision_width * 21 // 8,
        patch_size=PATCH,
        spatial_merge_size=2,
        temporal_patch_size=2,
        window_size=112,
        out_hidden_size=recipe.width,
        fullatt_block_indexes=list(range(1, recipe.vision_depth, 2)),
        tokens_per_second=12,  # one step of time for two frames, at the 24 a second of processors
    )
    config = Qwen2_5_VLConfig(
        text_config=dict(**text, rope_parameters=rope),
        vision_config=vision,
        **_marks(tokens),
        tie_word_embeddings=True,
    )
    return Qwen2_5_VLForConditionalGeneration(config)


def _marks(tokens: Mapping[str, int]) -> dict[str, int]:
    """What Qwen's configurations call the tokens around and in the place of pictures."""
    return {
        "image_token_id": tokens["image"],
        "video_token_id": tokens["video"],
        "vision_start_token_id": tokens["start"],
        "vision_end_token_id": tokens["end"],
    }


def _qwen3(recipe: Recipe, text: dict[str, Any], tokens: Mapping[str, int]) -> Any:
    rope = {
        "rope_type": "default",
        "rope_theta": AXES_THETA,
        "mrope_interleaved": True,
        "mrope_section": _sections(recipe, 16 / 6, 16 / 5),
    }
    depth = recipe.vision_depth
    vision = dict(
        depth=depth,
        hidden_size=recipe.vision_width,
        num_heads=recipe.vision_width // 64,
        intermediate_size=recipe.vision_width * 7 // 2,  # below four million parameters
        patch_size=16,
        spatial_merge_size=2,
        temporal_patch_size=2,
        out_hidden_size=recipe.width,
        num_position_embeddings=24 * 24,
        # of three of the real one's 24 blocks at 5, 11 and 17
        deepstack_visual_indexes=[max(0, depth // 2 - 1), max(0, depth - 2)],
    )
    head = recipe.width // recipe.heads
    config = Qwen3VLConfig(
        text_config=dict(**text, head_dim=head, rope_parameters=rope),
        vision_config=vision,
        **_marks(tokens),
        tie_word_embeddings=True,
    )
    return Qwen3VLForConditionalGeneration(config)


def _sections(recipe: Recipe, time: float, row: float) -> list[int]:
    """Rotary channels by axis: one in ``time``, one in ``row``, what is left for the column."""
    half = recipe.width // recipe.heads // 2
    first, second = round(half / time), round(half / row)
    return [first, second, half - first - second]


def _llava(recipe: Recipe, text: dict[str, Any], tokens: Mapping[str, int]) -> Any:
    vision = CLIPVisionConfig(
        hidden_size=recipe.vision_width,
        num_hidden_layers=recipe.vision_depth,
        num_attention_heads=recipe.vision_width // 64,
        intermediate_size=recipe.vision_width * 4,
        image_size=224,
        patch_size=PATCH,
        projection_dim=recipe.vision_width,
        hidden_act="quick_gelu",
    )
    config = LlavaConfig(
        text_config=LlamaConfig(
            **text, rope_parameters={"rope_type": "default", "rope_theta": THETA}
        ),
        vision_config=vision,
        image_token_index=tokens["image"],
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_seq_length=256,
        tie_word_embeddings=True,
    )
    return LlavaForConditionalGeneration(config)


def _internvl(recipe: Recipe, text: dict[str, Any], tokens: Mapping[str, int]) -> Any:
    vision = InternVLVisionConfig(
        hidden_size=recipe.vision_width,
        num_hidden_layers=recipe.vision_depth,
        num_attention_heads=recipe.vision_width // 64,
        intermediate_size=recipe.vision_width * 4,
        image_size=[336, 336],
        patch_size=[PATCH, PATCH],
    )
    config = InternVLConfig(
        text_config=Qwen2Config(
            **text, rope_parameters={"rope_type": "default", "rope_theta": THETA}
        ),
        vision_config=vision,
        image_token_id=tokens["image"],
        image_seq_length=144,
        downsample_ratio=0.5,
        tie_word_embeddings=True,
    )
    return InternVLForConditionalGeneration(config)


def _initialise(model: nn.Module, recipe: Recipe) -> None:
    """The usual 0.02 is for widths of a thousand; at 160 it leaves attention uniform for very
    long.
    """
    for name, parameter in model.named_parameters():
        if "embed_tokens" in name:
            nn.init.normal_(parameter, std=0.05)
        elif parameter.dim() == 2 and "lm_head" not in name and "position" not in name:
            gain = (2 * recipe.layers) ** -0.5 if any(part in name for part in _RESIDUAL) else 1.0
            nn.init.normal_(parameter, std=gain / math.sqrt(parameter.shape[1]))
    for layer in model.model.language_model.layers:  # type: ignore[union-attr]
        _mimetic(layer.self_attn)
    tower = getattr(model.model, "visual", None)
    for merger in getattr(tower, "deepstack_merger_list", ()):
        # the first layers of the shared decoder begin as they were learnt, without DeepStack
        nn.init.zeros_(merger.linear_fc2.weight)
        nn.init.zeros_(merger.linear_fc2.bias)


@torch.no_grad()
def _mimetic(attention: Any) -> None:
    """Heads that match equal content and copy it (W_q = W_k, W_o ~ W_v^T).

    Trockman and Kolter, Mimetic Initialization of Self-Attention Layers, ICML 2023. It made looking
    things up in the picture start to be learnt about three times earlier.
    """

    def orthogonal(like: Tensor) -> Tensor:
        return nn.init.orthogonal_(torch.empty_like(like))

    match, copy = 0.7 * orthogonal(attention.q_proj.weight), orthogonal(attention.v_proj.weight)
    attention.q_proj.weight.copy_(match)
    attention.k_proj.weight.copy_(match + 0.01 * torch.randn_like(match))
    attention.v_proj.weight.copy_(copy)
    attention.o_proj.weight.copy_(0.4 * copy.T + 0.01 * torch.randn_like(copy))
