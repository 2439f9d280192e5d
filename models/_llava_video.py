"""LLaVA-Video for transformers, which has none: LLaVA-OneVision whose frames are pooled by averages
and parted by newline tokens; and its published checkpoints, which are laid out as LLaVA-NeXT's code
has them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionModel,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
)
from transformers.models.llava_onevision.image_processing_llava_onevision import (
    LlavaOnevisionImageProcessor,
)

from unibench.errors import UsageError

Newline = Literal["grid", "frame", "one_token"]
NEWLINES = ("grid", "frame", "one_token")
# the conversation of Qwen 1.5, which the checkpoints were trained on
TEMPLATE = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% elif part['type'] == 'video' %}<video>\n"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# parts of a published name, and what transformers calls them
NAMES = (
    ("model.vision_tower.vision_tower.vision_model.", "model.vision_tower."),
    ("model.mm_projector.0.", "model.multi_modal_projector.linear_1."),
    ("model.mm_projector.2.", "model.multi_modal_projector.linear_2."),
    ("model.image_newline", "model.image_newline"),
    ("model.", "model.language_model."),
)


class LlavaVideoConfig(LlavaOnevisionConfig):  # type: ignore[misc]
    """Configuration of LLaVA-OneVision with the place of newline tokens in videos.

    Attributes:
        video_newline: ``"grid"``: one behind each row of a frame; ``"frame"``: one behind each
            frame; ``"one_token"``: one behind the video.
    """

    model_type = "llava_video"
    video_newline: str = "grid"


def with_newlines(frames: Tensor, newline: Tensor, where: str) -> Tensor:
    """Frames ``[videos, frames, height, width, C]`` with newline rows ``[C]`` among them, as
    ``[videos, tokens, C]``.
    """
    videos, count, height, _, channels = frames.shape
    # the parameter may be of another precision or device than the features
    newline = newline.to(frames)
    if where == "grid":
        # LLaVA-NeXT's add_token_per_grid puts it behind each row of each frame
        column = newline.expand(videos, count, height, 1, channels)
        return torch.cat([frames, column], 3).flatten(1, 3)
    if where == "frame":
        last = newline.expand(videos, count, 1, channels)
        return torch.cat([frames.flatten(2, 3), last], 2).flatten(1, 2)
    return torch.cat([frames.flatten(1, 3), newline.expand(videos, 1, channels)], 1)


class LlavaVideoModel(LlavaOnevisionModel):  # type: ignore[misc]
    """LLaVA-OneVision without its head, its videos pooled by averages."""

    config: LlavaVideoConfig

    def apply_pooling(self, image_features: Tensor) -> Tensor:
        """Patches of frames ``[frames, patches, C]``, the mean of 2 x 2; an odd last row and column
        are left out.
        """
        side = self.config.vision_config.image_size // self.config.vision_config.patch_size
        grid = image_features.unflatten(1, (side, side)).permute(0, 3, 1, 2)
        return nn.functional.avg_pool2d(grid, 2).flatten(2).transpose(1, 2)

    def get_video_features(self, pixel_values_videos: Tensor, **kwargs: Any) -> Any:
        """As LLaVA-OneVision's, with newline tokens where the configuration has them."""
        # a configuration may ask for tuples, in which nothing can be replaced
        output = super().get_video_features(pixel_values_videos, **{**kwargs, "return_dict": True})
        videos, count = pixel_values_videos.shape[:2]
        pooled = output.pooler_output[:, :-1]  # without the newline behind the video
        side = int((pooled.shape[1] // count) ** 0.5)
        frames = pooled.reshape(videos, count, side, side, -1)
        output.pooler_output = with_newlines(frames, self.image_newline, self.config.video_newline)
        return output


class LlavaVideoForConditionalGeneration(LlavaOnevisionForConditionalGeneration):  # type: ignore[misc]
    """LLaVA-Video."""

    config: LlavaVideoConfig
    config_class = LlavaVideoConfig

    def __init__(self, config: LlavaVideoConfig) -> None:
        super().__init__(config)
        self.model = LlavaVideoModel(config)
        self.post_init()


class LlavaVideoProcessor(LlavaOnevisionProcessor):  # type: ignore[misc]
    """Processor of LLaVA-OneVision that counts the tokens of LLaVA-Video.

    Args:
        image_processor, tokenizer, video_processor: by name, as transformers looks them up.
        video_newline: see :class:`LlavaVideoConfig`.
        **options: of the base.
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        video_processor: Any = None,
        video_newline: str = "grid",
        **options: Any,
    ) -> None:
        self.video_newline = video_newline
        super().__init__(image_processor, tokenizer, video_processor, **options)

    def replace_video_token(self, video_inputs: Any, video_idx: int, **kwargs: Any) -> str:
        """Placeholders of a video."""
        count = len(video_inputs["pixel_values_videos"][video_idx])
        side = int(self.num_image_tokens**0.5) // 2
        newlines = {"grid": count * side, "frame": count, "one_token": 1}[self.video_newline]
        placeholders: str = self.video_token * (count * side**2 + newlines)
        return placeholders


def is_published(folder: Path) -> bool:
    """Whether a folder holds a checkpoint as LLaVA-NeXT's code writes them."""
    file = folder / "config.json"
    return file.is_file() and "mm_projector_type" in json.loads(file.read_text(encoding="utf-8"))


def open_published(
    folder: Path, settings: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[Any, Any]:
    """Model and processor of a published checkpoint.

    Args:
        folder: of the checkpoint.
        settings: of the image processor.
        options: ``dtype`` and ``attn_implementation``.

    Raises:
        UsageError: it is of another kind than LLaVA-Video's, or weights are missing.
    """
    plain = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = published_config(plain)
    words = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    processor = processor_of(config, words, settings)
    # weights are assigned below; a random 7B would be drawn first for nothing
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, **options)
    # strict=False with a check of our own: the published files hold more than is used
    weights = _weights(folder, model, options["dtype"])
    missing, left = model.load_state_dict(weights, strict=False, assign=True)
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    if wrong := sorted({*missing} - tied):
        raise UsageError(
            f"model.path={folder} lacks {len(wrong)} weights, for example {wrong[0]}; left over:"
            f" {left[:1] or 'none'}"
        )
    model.tie_weights()
    _fill_buffers(model)
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    return model, processor


def published_config(plain: Mapping[str, Any]) -> LlavaVideoConfig:
    """The configuration of a published ``config.json``.

    Raises:
        UsageError: it says something that this class does not do.
    """
    known = {
        "mm_projector_type": ("mlp2x_gelu",),
        "mm_spatial_pool_mode": ("average",),
        "mm_spatial_pool_stride": (2,),
        "mm_newline_position": NEWLINES,
    }
    for key, allowed in known.items():
        if plain.get(key, allowed[0]) not in allowed:
            raise UsageError(
                f"the checkpoint has {key}={plain[key]}; LLaVA-Video is read with"
                f" {' or '.join(map(str, allowed))}"
            )
    text = {
        key: plain[key]
        for key in (
            *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
            *("num_key_value_heads", "vocab_size", "max_position_embeddings", "rms_norm_eps"),
            *("rope_theta", "tie_word_embeddings"),
        )
        if key in plain
    }
    tower = plain.get("vision_config") or {}
    return LlavaVideoConfig(
        text_config={"model_type": "qwen2", **text},
        vision_config={"model_type": "siglip_vision_model", **SIGLIP, **tower},
        image_grid_pinpoints=plain.get("image_grid_pinpoints"),
        tie_word_embeddings=plain.get("tie_word_embeddings", False),
        video_newline=plain.get("mm_newline_position", "grid"),
    )


# google/siglip-so400m-patch14-384 without its last block and its head
SIGLIP: Mapping[str, Any] = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 26,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
    "vision_use_head": False,
}


def processor_of(config: LlavaVideoConfig, tokenizer: Any, settings: Mapping[str, Any]) -> Any:
    """The processor of a published checkpoint, which brings a tokenizer alone; the ids of its
    placeholders are written into the configuration.
    """
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>", "<video>"]})
    config.image_token_index, config.video_token_index = tokenizer.convert_tokens_to_ids(
        ["<image>", "<video>"]
    )
    side = config.vision_config.image_size
    usual = {"size": {"height": side, "width": side}}
    images = {key: value for key, value in settings.items() if key != "video"}
    pinpoints = {"image_grid_pinpoints": config.image_grid_pinpoints}
    return LlavaVideoProcessor(
        image_processor=LlavaOnevisionImageProcessor(**{**usual, **pinpoints, **images}),
        tokenizer=tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(**{**usual, **settings.get("video", {})}),
        chat_template=TEMPLATE,
        num_image_tokens=(side // config.vision_config.patch_size) ** 2,
        vision_feature_select_strategy="full",
        vision_aspect_ratio=config.vision_aspect_ratio,
        video_newline=config.video_newline,
    )


def _weights(folder: Path, model: Any, dtype: torch.dtype) -> dict[str, Tensor]:
    """Weights of all files of a checkpoint under the names of the model."""
    known, found = set(model.state_dict()), {}
    # before 5.20 the tower stood in a wrapper
    wrapped = any(".vision_tower.vision_model." in name for name in known)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UsageError(f"model.path={folder} has no file of weights (*.safetensors)")
    for file in files:
        for name, value in load_file(file).items():
            new = next(
                (to + name.removeprefix(of) for of, to in NAMES if name.startswith(of)), name
            )
            if wrapped:
                new = new.replace(".vision_tower.", ".vision_tower.vision_model.")
            # the last block of the tower and its head are stored and not used
            if new in known:
                found[new] = value.to(dtype)
    return found


def _fill_buffers(model: nn.Module) -> None:
    """Compute what no checkpoint stores: positions of patches and frequencies of rotations."""
    for module in model.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            if buffer.device.type != "meta":
                continue
            if name == "position_ids":
                module.register_buffer(name, torch.arange(buffer.shape[-1])[None], persistent=False)
            elif hasattr(module, "config"):
                fresh = type(module)(config=module.config)
                for own, value in fresh.named_buffers(recurse=False):
                    module.register_buffer(own, value, persistent=False)
                break


AutoConfig.register("llava_video", LlavaVideoConfig, exist_ok=True)
AutoModelForImageTextToText.register(
    LlavaVideoConfig, LlavaVideoForConditionalGeneration, exist_ok=True
)
AutoProcessor.register(LlavaVideoConfig, LlavaVideoProcessor, exist_ok=True)
