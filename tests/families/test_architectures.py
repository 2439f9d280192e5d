"""Every configured real model on the meta device: modules where the adapters look, published layers
and token counts.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from transformers import AutoModelForImageTextToText

from unibench import registry
from unibench.compose import compose_cells, options
from unibench.config import ModelConfig
from unibench.facts import RECURRENT
from unibench.models import LoadedModel
from unibench.models._sources import blueprint
from unibench.pruning.family import VisionCall

# decoder layers, vision blocks, the block whose attention is read by default
PUBLISHED = {
    "internvl3_1b": (24, 24, 22),
    "internvl3_8b": (28, 24, 22),
    "llava_1_5_13b": (40, 24, 22),
    "llava_1_5_7b": (32, 24, 22),
    "llava_next_7b": (32, 24, 22),
    "llava_next_video_7b": (32, 24, 22),
    "llava_onevision_7b": (28, 26, 25),
    "qwen2_5_vl_3b": (36, 32, 31),
    "qwen2_5_vl_7b": (28, 32, 31),
    "qwen2_vl_7b": (28, 32, 31),
    "qwen3_vl_8b": (36, 27, 26),
    "smolvlm2_2b": (24, 27, 26),
    "gemma3_4b": (34, 27, 26),
    "gemma4_e2b": (35, 16, 15),
    "glm4_1v_9b": (40, 24, 23),
    "llava_video_7b": (28, 26, 25),
    "minicpm_v_4_6": (24, 27, 26),
    "molmo2_8b": (36, 25, 24),
    "paligemma2_3b": (26, 27, 26),
    "qwen3_5_9b": (32, 27, 26),
}
# of a family and a shape that are tried above
OTHER_SIZES = {
    "gemma3_12b": (48, 27, 26),
    "gemma3_27b": (62, 27, 26),
    "internvl3_5_1b": (28, 24, 22),
    "internvl3_5_2b": (28, 24, 22),
    "internvl3_5_4b": (36, 24, 22),
    "internvl3_5_8b": (36, 24, 22),
    "qwen3_5_35b_a3b": (40, 27, 26),
    "qwen3_vl_2b": (28, 24, 23),
    "qwen3_vl_4b": (36, 24, 23),
    "qwen3_vl_32b": (64, 27, 26),
    "qwen3_vl_30b_a3b": (48, 27, 26),
    "qwen3_vl_235b_a22b": (94, 27, 26),
}
PARAMETERS = {
    "llava_1_5_7b": 7.06,
    "llava_1_5_13b": 13.35,
    "qwen2_5_vl_7b": 8.29,
    "qwen2_5_vl_3b": 3.75,
    "qwen2_vl_7b": 8.29,
    "internvl3_8b": 7.94,
    "llava_video_7b": 8.03,
    "gemma3_4b": 4.30,
}


def spec_of(name: str) -> ModelConfig:
    (cell,) = compose_cells([f"model={name}"], sweep=False)
    return cell.model


@cache
def real(name: str) -> LoadedModel:
    """The real architecture without memory, with its pinned processor."""
    spec = spec_of(name)
    config, processor = blueprint(spec)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    family = registry.family_of(config.model_type).load()(model)
    return LoadedModel(replaced(model), processor, family, "", dict(spec.pixels["native"]))


def replaced(model: Any) -> Any:
    """The model, saying that its inputs belong on the CPU."""
    return type(
        "Shown", (), {"device": torch.device("cpu"), "config": model.config, "whole": model}
    )()


def test_every_configured_model_is_here() -> None:
    configured = [name for name in options("model") if not name.startswith("tiny_")]
    # the code of LLaVA-OneVision-1.5 is not part of transformers
    assert set(configured) - {"llava_onevision_1_5_8b"} == {*PUBLISHED, *OTHER_SIZES}


@pytest.mark.parametrize(
    "name",
    [*PUBLISHED, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHER_SIZES)],
)
def test_modules_and_layers_are_the_published_ones(name: str) -> None:
    family = real(name).family
    layers, blocks, saliency = {**PUBLISHED, **OTHER_SIZES}[name]
    assert len(family.text_model.layers) == layers
    assert len(family.vit_blocks) == len(family.vit_attentions) == blocks
    assert family.saliency_layer % blocks == saliency and 0 <= family.object_layer < blocks
    for module in (
        *family.vit_attentions,
        *(
            family.llm_attention(layer)
            for layer, kind in enumerate(family.kinds)
            if kind not in RECURRENT
        ),
    ):
        assert isinstance(module, nn.Module) and "Attention" in type(module).__name__
    names = {module: path for path, module in family.model.named_modules()}
    assert all(
        module in names
        for module in (family.core, family.text_model, family.vision_tower, *family.vit_blocks)
    )
    assert callable(family.core.get_image_features)


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_size_is_the_published_one(name: str) -> None:
    count = sum(parameter.numel() for parameter in real(name).family.model.parameters())
    assert count / 1e9 == pytest.approx(PARAMETERS[name], abs=0.01)


def parts(
    name: str, *sizes: tuple[int, int], preset: str = "native", video: int = 0
) -> tuple[int, list[int]]:
    """Placeholders in the prompt of pictures (width, height), and tokens with a patch of each of
    the engine's items.
    """
    loaded = replace(real(name), image_options=dict(spec_of(name).pixels[preset]))
    frames = [Image.new("RGB", size) for size in sizes]
    inputs = loaded.inputs(["what is it"], [frames * max(1, video)], "video" if video else "image")
    kind = loaded.family.visual_kind(inputs["input_ids"])
    assert bool((kind > 0).any())
    value = int(kind.max())
    runs = [len(list(run)) for key, run in itertools.groupby(kind[0].tolist()) if key == value]
    items = loaded.family.items(VisionCall("video" if value == 2 else "image", dict(inputs)), runs)
    assert sum(len(part) for item in items for part in item) == sum(runs)
    return sum(runs), [sum(len(part) - sum(part.separators) for part in item) for item in items]


def test_llava_has_576_tokens_a_picture() -> None:
    for name in ("llava_1_5_7b", "llava_1_5_13b"):
        assert parts(name, (640, 480), (100, 900)) == (1152, [576, 576])


def test_llava_next_has_at_most_2880_tokens_with_a_patch() -> None:
    for name in ("llava_next_7b", "llava_next_video_7b"):
        assert parts(name, (672, 672)) == (2880 + 48, [2880])
        for size in itertools.product((200, 336, 500, 1000, 1700), repeat=2):
            total, (patches,) = parts(name, size)
            assert 576 < patches <= 2880 and patches < total <= patches + 72


def test_internvl_has_256_tokens_a_tile_and_the_thumbnail_last() -> None:
    for name in ("internvl3_1b", "internvl3_8b"):
        assert parts(name, (448, 448)) == (256, [256])
        assert parts(name, (1792, 1344)) == (13 * 256, [13 * 256])
        (item,) = real(name).family.items(VisionCall("image", {}), [13 * 256])
        assert [(part.frames, part.overview) for part in item] == [(12, False), (1, True)]


def test_qwen_counts_follow_the_pixel_preset() -> None:
    for name in ("qwen2_5_vl_3b", "qwen2_5_vl_7b", "qwen2_vl_7b"):
        assert parts(name, (1920, 1080)) == (2691, [2691])
        assert parts(name, (1920, 1080), preset="paper") == (1222, [1222])
    assert parts("qwen3_vl_8b", (1920, 1080)) == (60 * 34, [60 * 34])  # 32 pixels a token


def test_frames_have_their_published_number_of_tokens() -> None:
    assert parts("llava_next_video_7b", (640, 360), video=8) == (8 * 144, [8 * 144])
    assert parts("llava_onevision_7b", (640, 360), video=8) == (8 * 196 + 1, [8 * 196])
    assert parts("internvl3_8b", (640, 360), video=8) == (8 * 256, [256] * 8)
    assert parts("llava_video_7b", (640, 360), video=8) == (8 * (169 + 13), [8 * 169])


def test_gemma_pictures_have_their_published_number_of_tokens() -> None:
    assert parts("gemma3_4b", (1000, 700), (300, 900)) == (512, [256, 256])
    assert parts("paligemma2_3b", (640, 480)) == (1024, [1024])
    for preset, most in (("native", 280), ("tokens_70", 70), ("tokens_1120", 1120)):
        total, items = parts("gemma4_e2b", (1920, 1080), preset=preset)
        assert items == [total] and most * 0.8 < total <= most


def test_other_tiles_have_their_published_number_of_tokens() -> None:
    total, items = parts("smolvlm2_2b", (1536, 1536))
    assert set(items) == {81} and total == 81 * len(items) == 81 * 17
    assert parts("llava_onevision_7b", (384, 384), (500, 300)) == (2 * 730, [729, 729])


def test_slices_and_crops_have_their_published_number_of_tokens() -> None:
    # 448 x 448 pixels are 32 x 32 patches, of which 4 x 4 become a token
    assert parts("minicpm_v_4_6", (448, 448)) == (64, [64])
    total, items = parts("minicpm_v_4_6", (1344, 1344))
    assert len(items) == 10 and total == sum(items) and max(items) <= 64
    # 27 x 27 patches pooled 2 x 2, of the overview and of a single crop
    assert parts("molmo2_8b", (378, 378)) == (2 * 14 * 14, [2 * 14 * 14])
    total, (whole,) = parts("molmo2_8b", (1000, 700))
    assert total == whole > 2 * 14 * 14
