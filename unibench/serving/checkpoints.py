"""Tiny checkpoints that vLLM can run on a CPU.

vLLM's attention for CPUs knows heads of 32, 64, 80, ... numbers, and the repository's trained tiny
models have 40. Padded with zeros they compute the same function, hidden 160 -> 256, heads 4 x 40 ->
4 x 64: RMSNorm then divides by the mean of 256 numbers, so that its weight is scaled by
sqrt(160/256) and its epsilon by 160/256; queries are scaled by sqrt(64/40); the pairs that RoPE
turns, (i, i+20), go to (i, i+32) with theta ** (64/40), and spare sections of M-RoPE fall to zeros.

Families without a trained tiny model have random weights.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from unibench.config import model_path
from unibench.errors import UsageError, unknown

OLD, NEW, HEADS, OLD_HEAD, NEW_HEAD = 160, 256, 4, 40, 64
TRAINED = ("qwen2_5_vl", "llava", "internvl")
RANDOM = ("qwen2_vl", "qwen3_vl", "llava_onevision")
FAMILIES = (*TRAINED, *RANDOM)
PROJECTOR = ("merger.mlp.2", "multi_modal_projector.linear")


def made(family: str, root: Path) -> Path:
    """The folder of a tiny checkpoint of a family, made where it is not there yet.

    Args:
        family: one of :data:`FAMILIES`.
        root: of the folders.

    Raises:
        UsageError: there is no such family.
    """
    if family not in FAMILIES:
        raise unknown("family", family, FAMILIES)
    target = root / family
    if (target / "model.safetensors").exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    if family in TRAINED:
        source = model_path(f"pkg://unibench.models/tiny/{family}")
        assert source is not None
        padded(source, target)
    else:
        _random(family, target)
    return target


def padded(source: Path, target: Path) -> None:
    """Write a tiny trained checkpoint with heads of 64 numbers.

    Raises:
        UsageError: it is not one of the repository's.
    """
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    if config["text_config"]["hidden_size"] != OLD:
        raise UsageError(f"{source} has no hidden size of {OLD}: it is no tiny model of unibench")
    for file in source.iterdir():
        if file.suffix in (".json", ".jinja") and file.name != "config.json":
            shutil.copy(file, target)
    (target / "config.json").write_text(json.dumps(_config(config), indent=1), encoding="utf-8")
    weights = load_file(source / "model.safetensors")
    found = {_named(name, source.name): _weight(name, x.float()) for name, x in weights.items()}
    # the file of the weights last: a folder that has it is whole
    save_file(
        {name: x.contiguous() for name, x in found.items()},
        target / "model.safetensors",
        {"format": "pt"},
    )


def _config(config: dict[str, Any]) -> dict[str, Any]:
    text = config["text_config"]
    text |= {"hidden_size": NEW, "rms_norm_eps": text["rms_norm_eps"] * OLD / NEW}
    if "head_dim" in text:
        text["head_dim"] = NEW_HEAD
    rope = text["rope_parameters"]
    rope["rope_theta"] **= NEW_HEAD / OLD_HEAD
    if "mrope_section" in rope:
        rope["mrope_section"][-1] += (NEW_HEAD - OLD_HEAD) // 2
    if "out_hidden_size" in config["vision_config"]:
        config["vision_config"]["out_hidden_size"] = NEW
    config["dtype"] = text["dtype"] = "float32"
    return config


def _named(name: str, family: str) -> str:
    """A weight as vLLM 0.32 looks it up: transformers 5.2x has taken a level out of CLIP and
    SigLIP.
    """
    if family not in ("llava", "llava_onevision"):
        return name
    return re.sub(
        r"vision_tower\.(?=embeddings|encoder|pre_|post_)", "vision_tower.vision_model.", name
    )


def _weight(name: str, x: Tensor) -> Tensor:
    """A weight in its new size."""
    if any(part in name for part in PROJECTOR):
        # the layer that ends in the language model's width
        return _grown(x, NEW, NEW) if "linear_2.weight" in name else _grown(x, NEW, *x.shape[1:])
    decoder = ("model.layers", "model.embed_tokens", "model.norm", "lm_head")
    if "language_model" not in name and not name.startswith(decoder):
        return x
    for part, change in _CHANGES.items():
        if part in name:
            return change(x)
    raise KeyError(name)


def _grown(x: Tensor, *sizes: int) -> Tensor:
    out = x.new_zeros(sizes)
    out[tuple(slice(size) for size in x.shape)] = x
    return out


def _spread(x: Tensor, dim: int) -> Tensor:
    """The numbers of all heads at their new places along ``dim``."""
    half = OLD_HEAD // 2
    ends = [*range(half), *range(NEW_HEAD // 2, NEW_HEAD // 2 + half)]
    places = torch.tensor([head * NEW_HEAD + place for head in range(HEADS) for place in ends])
    shape = list(x.shape)
    shape[dim] = HEADS * NEW_HEAD
    return x.new_zeros(shape).index_copy(dim, places, x)


def _projected(x: Tensor) -> Tensor:
    """Weight or bias of queries, keys or values."""
    rows = _spread(x, 0)
    return rows if rows.ndim == 1 else _grown(rows, len(rows), NEW)


_CHANGES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "norm": lambda x: _grown(x * (OLD / NEW) ** 0.5, NEW),
    "embed_tokens": lambda x: _grown(x, len(x), NEW),
    "lm_head": lambda x: _grown(x, len(x), NEW),
    "q_proj": lambda x: _projected(x * (NEW_HEAD / OLD_HEAD) ** 0.5),
    "k_proj": _projected,
    "v_proj": _projected,
    "o_proj": lambda x: _grown(_spread(x, 1), NEW, HEADS * NEW_HEAD),
    "gate_proj": lambda x: _grown(x, len(x), NEW),
    "up_proj": lambda x: _grown(x, len(x), NEW),
    "down_proj": lambda x: _grown(x, NEW, x.shape[1]),
}


# -- random weights

TEXT: Mapping[str, Any] = {
    "vocab_size": 736,
    "hidden_size": NEW,
    "intermediate_size": 448,
    "num_hidden_layers": 4,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "eos_token_id": 2,
    "bos_token_id": None,
}
IDS = {
    "image_token_id": 6,
    "video_token_id": 7,
    "vision_start_token_id": 3,
    "vision_end_token_id": 4,
}
MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [12, 10, 10]}


def _random(family: str, target: Path) -> None:
    """Write a checkpoint with random weights, and the processor of Qwen's tiny model around it."""
    lender = model_path("pkg://unibench.models/tiny/qwen2_5_vl")
    assert lender is not None
    model = {"qwen2_vl": _qwen2_vl, "qwen3_vl": _qwen3_vl, "llava_onevision": _onevision}[family](
        lender, target
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, weight in sorted(model.named_parameters()):
            if weight.ndim > 1:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.08)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 2, 0
    model.to(torch.float32).save_pretrained(target)
    file = target / "model.safetensors"
    found = {_named(name, family): x for name, x in load_file(file).items()}
    save_file(found, file, {"format": "pt"})


def _qwen2_vl(lender: Path, target: Path) -> Any:
    from transformers import (
        AutoTokenizer,
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    sizes = {"shortest_edge": 28 * 28, "longest_edge": 384 * 28 * 28}
    Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=14, merge_size=2, size=sizes),
        tokenizer=AutoTokenizer.from_pretrained(lender),
        video_processor=Qwen2VLVideoProcessor(patch_size=14, merge_size=2),
        chat_template=(lender / "chat_template.jinja").read_text(encoding="utf-8"),
    ).save_pretrained(target)
    vision = {"depth": 3, "embed_dim": 128, "num_heads": 2, "hidden_size": NEW, "patch_size": 14}
    config = Qwen2VLConfig(
        text_config={**TEXT, "rope_parameters": MROPE},
        vision_config=vision,
        tie_word_embeddings=True,
        **IDS,
    )
    return Qwen2VLForConditionalGeneration(config)


def _qwen3_vl(lender: Path, target: Path) -> Any:
    from transformers import (
        AutoTokenizer,
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    sizes = {"shortest_edge": 32 * 32, "longest_edge": 384 * 32 * 32}
    image = Qwen2VLImageProcessor(
        patch_size=16, merge_size=2, size=sizes, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    Qwen3VLProcessor(
        image_processor=image,
        tokenizer=AutoTokenizer.from_pretrained(lender),
        video_processor=Qwen3VLVideoProcessor(patch_size=16, merge_size=2),
        chat_template=(lender / "chat_template.jinja").read_text(encoding="utf-8"),
    ).save_pretrained(target)
    vision = {
        **{"depth": 3, "hidden_size": 128, "intermediate_size": 256, "num_heads": 2},
        **{"out_hidden_size": NEW, "patch_size": 16, "num_position_embeddings": 256},
        "deepstack_visual_indexes": [0, 1],
    }
    rope = {**MROPE, "mrope_interleaved": True}
    config = Qwen3VLConfig(
        text_config={**TEXT, "head_dim": NEW_HEAD, "rope_parameters": rope},
        vision_config=vision,
        tie_word_embeddings=True,
        **IDS,
    )
    return Qwen3VLForConditionalGeneration(config)


def _onevision(lender: Path, target: Path) -> Any:
    from transformers import (
        AutoTokenizer,
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionImageProcessor,
        LlavaOnevisionProcessor,
        LlavaOnevisionVideoProcessor,
    )

    side, pinpoints = 84, [[84, 168], [168, 84], [168, 168]]
    size = {"height": side, "width": side}
    tokenizer = AutoTokenizer.from_pretrained(lender)
    words = tokenizer.convert_ids_to_tokens([IDS["image_token_id"], IDS["video_token_id"]])
    template = (lender / "chat_template.jinja").read_text(encoding="utf-8")
    LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=pinpoints),
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=(side // 14) ** 2,
        vision_feature_select_strategy="full",
        image_token=words[0],
        video_token=words[1],
        chat_template=template,
    ).save_pretrained(target)
    vision = {
        **{"model_type": "siglip_vision_model", "hidden_size": 128, "intermediate_size": 256},
        **{"num_hidden_layers": 3, "num_attention_heads": 2, "image_size": side, "patch_size": 14},
        "vision_use_head": False,
    }
    config = LlavaOnevisionConfig(
        text_config={**TEXT, "model_type": "qwen2", "tie_word_embeddings": True},
        vision_config=vision,
        image_token_index=IDS["image_token_id"],
        video_token_index=IDS["video_token_id"],
        image_grid_pinpoints=pinpoints,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        tie_word_embeddings=True,
    )
    return LlavaOnevisionForConditionalGeneration(config)
