"""What a processor inside vLLM hands over to the model with each picture."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL.Image import Image

SETTINGS = "unibench_settings"
SAMPLE = "unibench_sample"  # argument of a request: the name by which methods draw
QUESTION = "unibench_question"  # field of a picture: token ids of the question
PICTURE = "unibench_picture"  # field of a picture: digest of its pixels, 8 bytes
NAME = "unibench_name"  # field of a picture: the bytes of SAMPLE
OURS = (SETTINGS, SAMPLE, QUESTION)  # of the processor's arguments
BETWEEN = "\x1f"  # the parts of a picture's name: no id of a sample has it
MODALITIES = ("image", "video")


def media_ids(config: Any) -> list[int]:
    """Token ids that stand for visual tokens."""
    names = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")
    found = (getattr(config, name, None) for name in names)
    return [token for token in found if token is not None]


def digest(item: Any) -> int:
    """What tells a picture or video from others: 63 bits of a hash of its pixels."""
    if isinstance(item, tuple):  # a video with what is known of its file
        item = item[0]
    if isinstance(item, list):
        pixels = np.stack([np.asarray(frame) for frame in item])
    elif isinstance(item, Image):
        pixels = np.asarray(item.convert("RGB"))
    else:
        pixels = np.asarray(item)
    state = hashlib.blake2b(str(pixels.shape).encode(), digest_size=8)
    state.update(np.ascontiguousarray(pixels).tobytes())
    return int.from_bytes(state.digest(), "big") >> 1


def without_ours(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that a processor of Hugging Face takes."""
    return {name: value for name, value in arguments.items() if name not in OURS}
