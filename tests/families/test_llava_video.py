"""LLaVA-Video: newline tokens, pooling, and the published layout of checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.families.test_architectures import spec_of
from tests.families.test_decoders import subject
from unibench.conformance import checks
from unibench.errors import UsageError
from unibench.models import wrap
from unibench.models._llava_video import is_published, open_published, with_newlines
from unibench.pruning.family import VisionCall

SIDE, FRAMES = 2, checks.FRAMES  # 5 x 5 patches pooled


def test_newlines_stand_where_the_mode_says() -> None:
    frames = torch.arange(8.0).reshape(1, 2, 2, 2, 1)
    mark = torch.tensor([-1.0])
    orders = {mode: with_newlines(frames, mark, mode).flatten().tolist()
              for mode in ("grid", "frame", "one_token")}  # fmt: skip
    assert orders["grid"] == [0, 1, -1, 2, 3, -1, 4, 5, -1, 6, 7, -1]
    assert orders["frame"] == [0, 1, 2, 3, -1, 4, 5, 6, 7, -1]
    assert orders["one_token"] == [0, 1, 2, 3, 4, 5, 6, 7, -1]


@pytest.mark.parametrize(
    ("mode", "newlines"), [("grid", FRAMES * SIDE), ("frame", FRAMES), ("one_token", 1)]
)
def test_a_mode_is_the_same_to_processor_model_and_family(mode: str, newlines: int) -> None:
    one = subject("llava_video_7b")
    config, processor = one.model.config, one.loaded.processor
    before = config.video_newline
    config.video_newline = processor.video_newline = mode
    try:
        inputs = one.prompt(0, video=True)
        placeholders = int((inputs["input_ids"] == config.video_token_index).sum())
        with torch.no_grad():
            features = one.model.model.get_video_features(inputs["pixel_values_videos"])
        family = one.loaded.family
        call = VisionCall("video", {"pixel_values_videos": inputs["pixel_values_videos"]})
        (parts,) = family.items(call, [placeholders])
        packed = family.pack(torch.ones(FRAMES, 25, 1), call, -1.0)[:, 0]
    finally:
        config.video_newline = processor.video_newline = before
    assert placeholders == FRAMES * SIDE**2 + newlines == features.pooler_output.shape[1]
    separators = [mark for part in parts for mark in part.separators]
    assert separators == (packed == -1).tolist() and sum(separators) == newlines


def test_pooling_averages_and_leaves_an_odd_edge_out() -> None:
    model = subject("llava_video_7b").model.model
    grid = torch.arange(25.0).reshape(1, 25, 1)
    pooled = model.apply_pooling(grid)[0, :, 0].tolist()
    assert pooled == [3.0, 5.0, 13.0, 15.0]  # of 5 x 5; the last row and column are gone


def published_names(name: str) -> str:
    """What LLaVA-NeXT's code calls a weight."""
    for own, theirs in {
        "model.language_model.": "model.",
        "model.vision_tower.": "model.vision_tower.vision_tower.vision_model.",
        "model.multi_modal_projector.linear_1.": "model.mm_projector.0.",
        "model.multi_modal_projector.linear_2.": "model.mm_projector.2.",
    }.items():
        if name.startswith(own):
            return theirs + name.removeprefix(own).removeprefix("vision_model.")
    return name


def published(folder: Path, model: Any, processor: Any) -> None:
    """Write a checkpoint as the published ones are laid out, in two files."""
    text = model.config.text_config
    plain = {
        "architectures": ["LlavaQwenForCausalLM"],
        "model_type": "llava",
        "mm_projector_type": "mlp2x_gelu",
        "mm_spatial_pool_mode": "average",
        "mm_spatial_pool_stride": 2,
        "mm_newline_position": "grid",
        "image_grid_pinpoints": model.config.image_grid_pinpoints,
        "vision_config": {
            key: getattr(model.config.vision_config, key)
            for key in (
                *("hidden_size", "intermediate_size", "num_hidden_layers"),
                *("num_attention_heads", "image_size", "patch_size"),
            )
        },
        **{
            key: getattr(text, key)
            for key in (
                *("hidden_size", "intermediate_size", "num_hidden_layers", "rms_norm_eps"),
                *("num_attention_heads", "num_key_value_heads", "vocab_size"),
                "max_position_embeddings",
            )
        },
        "rope_theta": text.rope_parameters["rope_theta"],
    }
    (folder / "config.json").write_text(json.dumps(plain), encoding="utf-8")
    processor.tokenizer.save_pretrained(folder)
    weights = {
        published_names(name): value.contiguous() for name, value in model.state_dict().items()
    }
    # stored and not used: the tower's last block
    weights["model.vision_tower.vision_tower.vision_model.encoder.layers.26.mlp.fc1.bias"] = (
        torch.ones(3)
    )
    names = sorted(weights)
    for number, part in enumerate((names[::2], names[1::2])):
        shard: dict[str, Tensor] = {name: weights[name] for name in part}
        save_file(shard, folder / f"model-{number + 1:05d}-of-00002.safetensors")


OPTIONS = {"dtype": torch.float32, "attn_implementation": "sdpa"}


def test_a_published_checkpoint_says_what_the_model_says(tmp_path: Path) -> None:
    one = subject("llava_video_7b")
    published(tmp_path, one.model, one.loaded.processor)
    assert is_published(tmp_path)
    settings = {"image_grid_pinpoints": one.model.config.image_grid_pinpoints}
    model, processor = open_published(tmp_path, settings, OPTIONS)
    loaded = wrap(model.eval(), processor)
    inputs = one.prompt(0, video=True)
    again = loaded.inputs(["what is it"], [one._noise(0, 1, True)], "video")
    assert again["pixel_values_videos"].shape == inputs["pixel_values_videos"].shape
    assert (again["input_ids"] == model.config.video_token_index).sum() == (
        inputs["input_ids"] == one.model.config.video_token_index
    ).sum()
    with torch.no_grad():
        expected = one.model(**inputs).logits
        # the placeholders' ids are those of another tokenizer, and are not read
        ids = inputs["input_ids"].clone()
        ids[ids == one.model.config.video_token_index] = model.config.video_token_index
        found = model(**{**inputs, "input_ids": ids}).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_checkpoint_of_another_kind_is_refused(tmp_path: Path) -> None:
    one = subject("llava_video_7b")
    published(tmp_path, one.model, one.loaded.processor)
    plain = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    file = tmp_path / "config.json"
    file.write_text(json.dumps(plain | {"mm_spatial_pool_mode": "bilinear"}), encoding="utf-8")
    with pytest.raises(UsageError, match="mm_spatial_pool_mode=bilinear"):
        open_published(tmp_path, {}, OPTIONS)
    file.write_text(json.dumps(plain), encoding="utf-8")
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UsageError, match="lacks"):
        open_published(tmp_path, {}, OPTIONS)


def test_the_card_is_of_the_published_size() -> None:
    spec = spec_of("llava_video_7b")
    assert spec.architecture["video_newline"] == "grid" and spec.family == "llava_video"
