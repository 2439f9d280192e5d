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
)

from training._recipe import Recipe

PATCH = 14
# Projections whose output is added to a residual stream, in any of the families.
_RESIDUAL = ("o_proj", "down_proj", "out_proj", "fc2", "attn.proj", "projection_layer")


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
    model = {"qwen2_5_vl": _qwen, "llava": _llava, "internvl": _internvl}[recipe.family](
        recipe, text, tokens
    )
    _initialise(model, recipe)
    settings = model.generation_config
    settings.eos_token_id, settings.pad_token_id, settings.do_sample = (
        tokens["eos"],
        tokens["pad"],
        False,
    )
    return model.float()


def _qwen(recipe: Recipe, text: dict[str, Any], tokens: Mapping[str, int]) -> Any:
    # rotary frequencies, shared by time, height and width
    half = recipe.width // recipe.heads // 2
    space = 3 * half // 8
    rope = {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [half - 2 * space, space, space],
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
    )
    config = Qwen2_5_VLConfig(
        text_config=dict(**text, rope_parameters=rope),
        vision_config=vision,
        image_token_id=tokens["image"],
        video_token_id=tokens["video"],
        vision_start_token_id=tokens["start"],
        vision_end_token_id=tokens["end"],
        tie_word_embeddings=True,
    )
    return Qwen2_5_VLForConditionalGeneration(config)


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
            **text, rope_parameters={"rope_type": "default", "rope_theta": 10000.0}
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
            **text, rope_parameters={"rope_type": "default", "rope_theta": 10000.0}
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
