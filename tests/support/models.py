"""Random tiny models of the real classes, with inputs built by hand: what the engine's invariants run on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

VOCAB, LAYERS, HIDDEN = 200, 6, 64
IMAGE, VIDEO, VISION_START, VISION_END = 190, 191, 192, 193

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
CLIP: dict[str, Any] = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2, image_size=56, patch_size=14)
MROPE = dict(rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]})
TOKENS = dict(image_token_id=IMAGE, video_token_id=VIDEO, vision_start_token_id=VISION_START, vision_end_token_id=VISION_END)


def _qwen2_5_vl(attn: str) -> Any:
    vision = dict(
        depth=4, hidden_size=32, intermediate_size=64, num_heads=2, patch_size=14, window_size=56,
        fullatt_block_indexes=[1, 3], out_hidden_size=HIDDEN,
    )  # fmt: skip
    config = Qwen2_5_VLConfig(text_config={**TEXT, **MROPE}, vision_config=vision, **TOKENS)
    return Qwen2_5_VLForConditionalGeneration._from_config(config, attn_implementation=attn)


def _qwen2_vl(attn: str) -> Any:
    vision = dict(depth=4, embed_dim=32, hidden_size=HIDDEN, num_heads=2, patch_size=14, mlp_ratio=2)
    config = Qwen2VLConfig(text_config={**TEXT, **MROPE}, vision_config=vision, **TOKENS)
    return Qwen2VLForConditionalGeneration._from_config(config, attn_implementation=attn)


def _llava(attn: str) -> Any:
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**CLIP), text_config=LlamaConfig(**TEXT), image_token_index=IMAGE, image_seq_length=16
    )
    return LlavaForConditionalGeneration._from_config(config, attn_implementation=attn)


def _internvl(attn: str) -> Any:
    vision = dict(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64, image_size=[112, 112], patch_size=[14, 14]
    )
    config = InternVLConfig(
        vision_config=vision, text_config=Qwen2Config(**TEXT), image_token_id=IMAGE, image_seq_length=16, tie_word_embeddings=False
    )
    return InternVLForConditionalGeneration._from_config(config, attn_implementation=attn)


def _qwen_pictures(seed: int, images: int, g: torch.Generator) -> tuple[dict[str, Tensor], list[list[int]]]:
    grids = [[1, 8, 12], [1, 6, 10], [1, 10, 8]]
    grid = torch.tensor([grids[(seed + i) % 3] for i in range(images)])
    pixels = torch.randn(int(grid.prod(-1).sum()), 3 * 2 * 14 * 14, generator=g)
    spans = [[VISION_START] + [IMAGE] * int(one.prod() // 4) + [VISION_END] for one in grid]
    return {"pixel_values": pixels, "image_grid_thw": grid}, spans


def _llava_pictures(seed: int, images: int, g: torch.Generator) -> tuple[dict[str, Tensor], list[list[int]]]:
    return {"pixel_values": torch.randn(images, 3, 56, 56, generator=g)}, [[IMAGE] * 16 for _ in range(images)]


def _internvl_pictures(seed: int, images: int, g: torch.Generator) -> tuple[dict[str, Tensor], list[list[int]]]:
    tiles = [[3, 2, 4][(seed + i) % 3] for i in range(images)]
    spans = [[VISION_START] + [IMAGE] * (16 * count) + [VISION_END] for count in tiles]
    return {"pixel_values": torch.randn(sum(tiles), 3, 112, 112, generator=g)}, spans


@dataclass(frozen=True)
class TinyFamily:
    """How to build a model of a family and the pictures of a prompt."""

    model: Callable[[str], Any]
    pictures: Callable[[int, int, torch.Generator], tuple[dict[str, Tensor], list[list[int]]]]


FAMILIES = {
    "qwen2_5_vl": TinyFamily(_qwen2_5_vl, _qwen_pictures),
    "qwen2_vl": TinyFamily(_qwen2_vl, _qwen_pictures),
    "llava": TinyFamily(_llava, _llava_pictures),
    "internvl": TinyFamily(_internvl, _internvl_pictures),
}


@cache
def model_of(family: str, attn: str = "sdpa", seed: int = 0) -> Any:
    """A model whose weights are large enough that a wrong mask or position shows."""
    model = FAMILIES[family].model(attn)
    model.generation_config.pad_token_id = 0
    model.generation_config.eos_token_id = None
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.ndim >= 2:
                scale = 1.0 if "embed" in name else 1.6 * parameter[0].numel() ** -0.5
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
            elif any(part in name for part in ("bias", "newline", "class_embedding", "cls")):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


def inputs_of(family: str, seed: int = 0, images: int = 1) -> dict[str, Any]:
    """One sample, batch size 1; several images have text between them, none makes a text-only prompt."""
    g = torch.Generator().manual_seed(1000 + seed)

    def words(count: int) -> list[int]:
        return torch.randint(2, 180, (count,), generator=g).tolist()

    ids = words(4 + seed % 3)
    extra: dict[str, Tensor] = {}
    if images:
        extra, spans = FAMILIES[family].pictures(seed, images, g)
        for span in spans:
            ids += span + words(2)
    ids = torch.tensor([ids + words(6 + seed % 4)])
    sample = {**extra, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if family.startswith("qwen"):
        sample["mm_token_type_ids"] = torch.where(ids == IMAGE, 1, torch.where(ids == VIDEO, 2, 0))
    return sample


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """A left-padded batch."""
    length = max(sample["input_ids"].shape[1] for sample in samples)
    batch: dict[str, Any] = {}
    for key in samples[0]:
        values = [sample[key] for sample in samples if key in sample]
        if key in ("input_ids", "attention_mask", "mm_token_type_ids"):
            values = [torch.nn.functional.pad(value, (length - value.shape[1], 0)) for value in values]
        batch[key] = torch.cat(values)
    return batch


def generate(model: Any, inputs: dict[str, Any], steps: int = 8, **options: Any) -> tuple[Tensor, Tensor, Any]:
    """Greedy tokens ``[B, steps]``, logits ``[B, steps, V]`` and the cache."""
    out = model.generate(
        **copy.deepcopy(inputs), max_new_tokens=steps, do_sample=False, output_logits=True, return_dict_in_generate=True, **options
    )
    return out.sequences[:, inputs["input_ids"].shape[1] :], torch.stack(out.logits, 1), out.past_key_values
