"""Random tiny architectures of the real classes, one per family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import (
    CLIPVisionConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    SiglipVisionConfig,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

from tests.support.remote.configuration_llavaonevision1_5 import Llavaonevision15Config
from tests.support.remote.modeling_llavaonevision1_5 import LLaVAOneVision15ForConditionalGeneration

VOCAB, LAYERS, HIDDEN = 200, 6, 64
IMAGE, VIDEO, VISION_START, VISION_END = 190, 191, 192, 193
PINPOINTS = [[56, 112], [112, 56], [112, 112], [168, 56], [56, 168]]

TEXT: dict[str, Any] = dict(
    vocab_size=VOCAB,
    hidden_size=HIDDEN,
    intermediate_size=128,
    num_hidden_layers=LAYERS,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=4096,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=None,
)
CLIP: dict[str, Any] = dict(
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=3,
    num_attention_heads=2,
    image_size=56,
    patch_size=14,
)
MROPE = dict(
    rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
)
TOKENS = dict(
    image_token_id=IMAGE,
    video_token_id=VIDEO,
    vision_start_token_id=VISION_START,
    vision_end_token_id=VISION_END,
)


def _qwen2_5_vl(attn: str) -> Any:
    vision = dict(
        depth=4, hidden_size=32, intermediate_size=64, num_heads=2, patch_size=14, window_size=56,
        fullatt_block_indexes=[1, 3], out_hidden_size=HIDDEN,
    )  # fmt: skip
    config = Qwen2_5_VLConfig(text_config={**TEXT, **MROPE}, vision_config=vision, **TOKENS)
    return Qwen2_5_VLForConditionalGeneration._from_config(config, attn_implementation=attn)


def _qwen2_vl(attn: str) -> Any:
    vision = dict(
        depth=4, embed_dim=32, hidden_size=HIDDEN, num_heads=2, patch_size=14, mlp_ratio=2
    )
    config = Qwen2VLConfig(text_config={**TEXT, **MROPE}, vision_config=vision, **TOKENS)
    return Qwen2VLForConditionalGeneration._from_config(config, attn_implementation=attn)


def _llava(attn: str) -> Any:
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**CLIP),
        text_config=LlamaConfig(**TEXT),
        image_token_index=IMAGE,
        image_seq_length=16,
    )
    return LlavaForConditionalGeneration._from_config(config, attn_implementation=attn)


def _internvl(attn: str) -> Any:
    vision = dict(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=[112, 112],
        patch_size=[14, 14],
    )
    config = InternVLConfig(
        vision_config=vision,
        text_config=Qwen2Config(**TEXT),
        image_token_id=IMAGE,
        image_seq_length=16,
        tie_word_embeddings=False,
    )
    return InternVLForConditionalGeneration._from_config(config, attn_implementation=attn)


def _qwen3_vl(attn: str) -> Any:
    vision = dict(
        depth=4, hidden_size=32, intermediate_size=64, num_heads=2, patch_size=14, out_hidden_size=HIDDEN,
        num_position_embeddings=64, deepstack_visual_indexes=[0, 2],
    )  # fmt: skip
    config = Qwen3VLConfig(
        text_config={**TEXT, **MROPE, "head_dim": 16}, vision_config=vision, **TOKENS
    )
    return Qwen3VLForConditionalGeneration._from_config(config, attn_implementation=attn)


def _llava_next(attn: str) -> Any:
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**CLIP), text_config=LlamaConfig(**TEXT), image_token_index=IMAGE,
        image_grid_pinpoints=PINPOINTS, image_seq_length=16,
    )  # fmt: skip
    return LlavaNextForConditionalGeneration._from_config(config, attn_implementation=attn)


def _llava_next_video(attn: str) -> Any:
    config = LlavaNextVideoConfig(
        vision_config=CLIPVisionConfig(**CLIP), text_config=LlamaConfig(**TEXT), image_token_index=IMAGE, video_token_index=VIDEO,
        image_grid_pinpoints=PINPOINTS, image_seq_length=16, video_seq_length=4,
    )  # fmt: skip
    return LlavaNextVideoForConditionalGeneration._from_config(config, attn_implementation=attn)


def _llava_onevision(attn: str) -> Any:
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**CLIP, vision_use_head=False), text_config=Qwen2Config(**TEXT), image_token_index=IMAGE,
        video_token_index=VIDEO, image_grid_pinpoints=PINPOINTS, vision_aspect_ratio="anyres_max_2",
    )  # fmt: skip
    return LlavaOnevisionForConditionalGeneration._from_config(config, attn_implementation=attn)


def _smolvlm(attn: str) -> Any:
    vision = {**CLIP, "image_size": 112}
    config = SmolVLMConfig(
        vision_config=vision,
        text_config=LlamaConfig(**TEXT),
        image_token_id=IMAGE,
        scale_factor=2,
        pad_token_id=0,
    )
    return SmolVLMForConditionalGeneration._from_config(config, attn_implementation=attn)


def _llava_onevision_1_5(attn: str) -> Any:
    vision = dict(
        depth=3,
        hidden_size=32,
        intermediate_size=64,
        num_heads=2,
        patch_size=14,
        temporal_patch_size=2,
        text_hidden_size=HIDDEN,
    )
    config = Llavaonevision15Config({**TEXT, "head_dim": 16}, vision, IMAGE, VIDEO, VISION_START)
    return LLaVAOneVision15ForConditionalGeneration._from_config(config, attn_implementation=attn)


ARCHITECTURES: dict[str, Callable[[str], Any]] = {
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen2_vl": _qwen2_vl,
    "qwen3_vl": _qwen3_vl,
    "llava": _llava,
    "llava_next": _llava_next,
    "llava_next_video": _llava_next_video,
    "llava_onevision": _llava_onevision,
    "llava_onevision_1_5": _llava_onevision_1_5,
    "internvl": _internvl,
    "smolvlm": _smolvlm,
}
