"""Processors of the real classes made from a model's configuration, where no checkpoint brings its
own.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from transformers import (
    AutoTokenizer,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlavaNextProcessor,
    LlavaNextVideoProcessor,
    LlavaNextVideoVideoProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    LlavaProcessor,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)
from transformers.models.clip.image_processing_clip import CLIPImageProcessor
from transformers.models.got_ocr2.image_processing_got_ocr2 import GotOcr2ImageProcessor
from transformers.models.llava_next.image_processing_llava_next import LlavaNextImageProcessor
from transformers.models.llava_onevision.image_processing_llava_onevision import (
    LlavaOnevisionImageProcessor,
)
from transformers.models.smolvlm.image_processing_smolvlm import SmolVLMImageProcessor

from unibench.models._llava_video import LlavaVideoProcessor

TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() }}: {% if message['content'] is string"
    " %}{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if part['type'] =="
    " 'image' %}IMAGE{% elif part['type'] == 'video' %}VIDEO{% else %}{{ part['text'] }}{% endif"
    " %}{% endfor %}{% endif %}\n{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


@dataclass(frozen=True)
class Form:
    """A family's processor.

    Attributes:
        processor, image, video: classes; or, of families that not every release of transformers
            has, ``module:class`` below ``transformers.models``.
        show: what stands for a picture and for a video in a conversation.
        tokens: special tokens by the name under which the processor looks them up on the tokenizer.
        more: further parts, by the name of the argument.
    """

    processor: Any
    image: Any
    video: Any = None
    show: tuple[str, str] = ("<image>\n", "<video>\n")
    tokens: dict[str, str] = field(
        default_factory=lambda: {"image_token": "<image>", "video_token": "<video>"}
    )
    more: Mapping[str, Any] = field(default_factory=dict)


_QWEN: Any = {
    "image": Qwen2VLImageProcessor,
    "show": (
        "<|vision_start|><|image_pad|><|vision_end|>",
        "<|vision_start|><|video_pad|><|vision_end|>",
    ),
    "tokens": {
        "vision_start_token": "<|vision_start|>",
        "vision_end_token": "<|vision_end|>",
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
    },
}
FORMS = {
    "llava": Form(LlavaProcessor, CLIPImageProcessor),
    "llava_next": Form(LlavaNextProcessor, LlavaNextImageProcessor),
    "llava_next_video": Form(
        LlavaNextVideoProcessor, LlavaNextImageProcessor, LlavaNextVideoVideoProcessor
    ),
    "llava_onevision": Form(
        LlavaOnevisionProcessor, LlavaOnevisionImageProcessor, LlavaOnevisionVideoProcessor
    ),
    "llava_video": Form(
        LlavaVideoProcessor, LlavaOnevisionImageProcessor, LlavaOnevisionVideoProcessor
    ),
    "qwen2_vl": Form(Qwen2VLProcessor, video=Qwen2VLVideoProcessor, **_QWEN),
    "qwen2_5_vl": Form(Qwen2_5_VLProcessor, video=Qwen2VLVideoProcessor, **_QWEN),
    "qwen3_vl": Form(Qwen3VLProcessor, video=Qwen3VLVideoProcessor, **_QWEN),
    "qwen3_vl_moe": Form(Qwen3VLProcessor, video=Qwen3VLVideoProcessor, **_QWEN),
    "qwen3_5": Form(Qwen3VLProcessor, video=Qwen3VLVideoProcessor, **_QWEN),
    "qwen3_5_moe": Form(Qwen3VLProcessor, video=Qwen3VLVideoProcessor, **_QWEN),
    "glm4v": Form(
        "glm4v.processing_glm4v:Glm4vProcessor",
        "glm4v.image_processing_glm4v:Glm4vImageProcessor",
        "glm4v.video_processing_glm4v:Glm4vVideoProcessor",
        show=(
            "<|begin_of_image|><|image|><|end_of_image|>",
            "<|begin_of_video|><|video|><|end_of_video|>",
        ),
        tokens={
            "image_start_token": "<|begin_of_image|>",
            "image_end_token": "<|end_of_image|>",
            "video_start_token": "<|begin_of_video|>",
            "video_end_token": "<|end_of_video|>",
            "image_token": "<|image|>",
            "video_token": "<|video|>",
        },
    ),
    "gemma3": Form(
        "gemma3.processing_gemma3:Gemma3Processor",
        "gemma3.image_processing_gemma3:Gemma3ImageProcessor",
        show=("<start_of_image>", ""),
        tokens={
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "image_token": "<image_soft_token>",
        },
    ),
    "gemma4": Form(
        "gemma4.processing_gemma4:Gemma4Processor",
        "gemma4.image_processing_gemma4:Gemma4ImageProcessor",
        "gemma4.video_processing_gemma4:Gemma4VideoProcessor",
        show=("<|image|>", "<|video|>"),
        tokens={
            "boi_token": "<|image>",
            "eoi_token": "<image|>",
            "image_token": "<|image|>",
            "boa_token": "<|audio>",
            "eoa_token": "<audio|>",
            "audio_token": "<|audio|>",
        },
        more={"feature_extractor": "gemma4.feature_extraction_gemma4:Gemma4AudioFeatureExtractor"},
    ),
    "minicpmv4_6": Form(
        "minicpmv4_6.processing_minicpmv4_6:MiniCPMV4_6Processor",
        "minicpmv4_6.image_processing_minicpmv4_6:MiniCPMV4_6ImageProcessor",
        "minicpmv4_6.video_processing_minicpmv4_6:MiniCPMV4_6VideoProcessor",
        show=("<|image_pad|>\n", "<|video_pad|>\n"),
        tokens={
            "image_token": "<|image_pad|>",
            "video_token": "<|video_pad|>",
            "image_start_token": "<image>",
            "image_end_token": "</image>",
            "slice_start_token": "<slice>",
            "slice_end_token": "</slice>",
            "image_id_start_token": "<image_id>",
            "image_id_end_token": "</image_id>",
        },
    ),
    "molmo2": Form(
        "molmo2.processing_molmo2:Molmo2Processor",
        "molmo2.image_processing_molmo2:Molmo2ImageProcessor",
        "molmo2.video_processing_molmo2:Molmo2VideoProcessor",
        show=("<|image|>", "<|video|>"),
        tokens={
            "image_token": "<|image|>",
            "video_token": "<|video|>",
            "image_patch_token": "<im_patch>",
            "image_start_token": "<im_start>",
            "low_res_image_start_token": "<low_res_im_start>",
            "image_end_token": "<im_end>",
            "image_col_token": "<im_col>",
            "image_low_token": "<im_low>",
            "frame_start_token": "<frame_start>",
            "frame_end_token": "<frame_end>",
        },
    ),
    "paligemma": Form(
        "paligemma.processing_paligemma:PaliGemmaProcessor",
        "siglip.image_processing_siglip:SiglipImageProcessor",
        show=("<image>", ""),
        tokens={"image_token": "<image>", "bos_token": "<bos>"},
    ),
    "internvl": Form(
        InternVLProcessor,
        GotOcr2ImageProcessor,
        InternVLVideoProcessor,
        show=("<IMG_CONTEXT>\n", "<video>\n"),
        tokens={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
    ),
    "smolvlm": Form(
        SmolVLMProcessor,
        SmolVLMImageProcessor,
        SmolVLMVideoProcessor,
        tokens={
            "image_token": "<image>",
            "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
        },
    ),
}


def make_processor(config: Any, lender: str, settings: Mapping[str, Any]) -> Any:
    """The processor of a model, and the ids of its placeholders written into the configuration.

    Args:
        config: of the model.
        lender: folder of a tokenizer; the family's special tokens are added to it.
        settings: of the image processor; ``video`` holds those of the video processor.
    """
    form = FORMS[config.model_type]
    # a token that every tokenizer has an attribute for is no extra one
    named = {name: token for name, token in form.tokens.items() if name != "bos_token"}
    given = {name: token for name, token in form.tokens.items() if name == "bos_token"}
    # processors look placeholders up as attributes of the tokenizer
    tokenizer = AutoTokenizer.from_pretrained(
        lender, extra_special_tokens=named, trust_remote_code=False, **given
    )
    parts = {
        "tokenizer": tokenizer,
        "image_processor": _class(form.image)(
            **{key: value for key, value in settings.items() if key != "video"}
        ),
    }
    if form.video is not None:
        parts["video_processor"] = _class(form.video)(**settings.get("video", {}))
    parts |= {name: _class(part)() for name, part in form.more.items()}
    template = TEMPLATE.replace("IMAGE", form.show[0]).replace("VIDEO", form.show[1])
    processor = _class(form.processor)(**parts, chat_template=template, **_options(config))
    for name, token in form.tokens.items():
        # placeholders have other ids in a borrowed tokenizer than in the published one
        if hasattr(config, f"{name}_id"):
            setattr(config, f"{name}_id", tokenizer.convert_tokens_to_ids(token))
    if config.model_type == "internvl":
        config.image_token_id = processor.image_token_id
    if config.model_type == "molmo2":
        # what stands in the prompt of the model; "<|image|>" is what the processor replaces
        config.image_patch_id = tokenizer.convert_tokens_to_ids("<im_patch>")
    if config.model_type == "gemma4":
        config.video_token_id = processor.video_token_id
    return processor


def _class(named: Any) -> Any:
    """A class, or the one that ``module:class`` names."""
    if not isinstance(named, str):
        return named
    module, _, name = named.partition(":")
    return getattr(importlib.import_module(f"transformers.models.{module}"), name)


def _options(config: Any) -> dict[str, Any]:
    """What the processor of a family must know of the model to count placeholders."""
    vision = config.vision_config
    if config.model_type.startswith(("qwen", "glm", "gemma4", "minicpm", "molmo")):
        return {}
    if config.model_type == "gemma3":
        return {"image_seq_length": config.mm_tokens_per_image}
    if config.model_type == "internvl":
        return {"image_seq_length": config.image_seq_length}
    if config.model_type == "paligemma":
        return {}
    patches = (vision.image_size // vision.patch_size) ** 2
    if config.model_type == "smolvlm":
        return {"image_seq_len": patches // config.scale_factor**2}
    strategy = config.vision_feature_select_strategy
    if config.model_type in ("llava_onevision", "llava_video"):
        newline = {"video_newline": config.video_newline} if "video" in config.model_type else {}
        return {
            "num_image_tokens": patches,
            "vision_feature_select_strategy": strategy,
            "vision_aspect_ratio": config.vision_aspect_ratio,
            **newline,
        }
    return {
        "patch_size": vision.patch_size,
        "vision_feature_select_strategy": strategy,
        # CLIP's CLS token, which the strategy "default" takes off again
        "num_additional_image_tokens": 1,
    }
