"""The processors that go with the tiny checkpoints."""

from __future__ import annotations

from typing import Any

from transformers import (
    InternVLProcessor,
    InternVLVideoProcessor,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)
from transformers.models.clip.image_processing_clip import CLIPImageProcessor
from transformers.models.got_ocr2.image_processing_got_ocr2 import GotOcr2ImageProcessor

from training._towers import CLIP_MEAN, CLIP_STD, HALF

_LARGEST = 672 * 448  # of a picture for Qwen, in pixels: larger ones are reduced to it
_LONGEST = 16 * _LARGEST  # of the frames of a video together
# Qwen3-VL enlarges pictures below this. Those of 336 x 336 then have 384 x 384 pixels and 12 x 12
# tokens as with the other families, and two characters of a sign do not fall into one token.
_LEAST = 147_000


def make_processor(family: str, tokenizer: PreTrainedTokenizerFast) -> Any:
    """The family's processor of the real class, for pictures and (where the family has them)
    videos.
    """
    colors = {"image_mean": list(CLIP_MEAN), "image_std": list(CLIP_STD)}
    template = tokenizer.chat_template
    if family == "qwen2_5_vl":
        size = {"shortest_edge": 112 * 112, "longest_edge": _LARGEST}
        return Qwen2_5_VLProcessor(
            image_processor=Qwen2VLImageProcessor(size=size),
            tokenizer=tokenizer,
            # frames of clips stay as they are, whatever a later default of transformers says
            video_processor=Qwen2VLVideoProcessor(
                size=size | {"longest_edge": _LONGEST}, cap_pixels_per_frame=False
            ),
            chat_template=template,
        )
    if family == "qwen3_vl":
        half = {"image_mean": list(HALF), "image_std": list(HALF)}
        return Qwen3VLProcessor(
            image_processor=Qwen2VLImageProcessor(
                size={"shortest_edge": _LEAST, "longest_edge": _LARGEST}, patch_size=16, **half
            ),
            tokenizer=tokenizer,
            video_processor=Qwen3VLVideoProcessor(
                size={"shortest_edge": 128 * 128, "longest_edge": _LONGEST},
                cap_pixels_per_frame=False,
                **half,
            ),
            chat_template=template,
        )
    if family == "llava":
        side = {"height": 224, "width": 224}
        return LlavaProcessor(
            image_processor=CLIPImageProcessor(
                size=side, do_center_crop=False, crop_size=side, **colors
            ),
            tokenizer=tokenizer,
            patch_size=14,
            vision_feature_select_strategy="default",
            num_additional_image_tokens=1,
            image_token="<image>",
            chat_template=template,
        )
    side = {"height": 336, "width": 336}
    return InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(
            size=side, crop_to_patches=False, min_patches=1, max_patches=1, **colors
        ),
        tokenizer=tokenizer,
        video_processor=InternVLVideoProcessor(size=side, **colors),
        image_seq_length=144,
        chat_template=template,
    )
