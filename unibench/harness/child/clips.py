"""Videos in files, read by the rule of a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from decord import VideoReader
from PIL import Image
from transformers.video_utils import VideoMetadata

from unibench.errors import UsageError
from unibench.models import Clip
from unibench.videos import evenly, taken


def clip_of(file: str, sampling: Mapping[str, Any], processor: Any) -> Clip:
    """The frames of a video that are shown.

    Args:
        file: of the video.
        sampling: see :attr:`unibench.benchmark.Convention.sampling`.
        processor: of the model; readers for Qwen's models ask it for its sizes.

    Raises:
        UsageError: the video is too short for its reader.
    """
    try:
        if sampling["reader"] == "qwen_vl_utils":
            return _fetched(file, sampling, processor)
        video = VideoReader(file)
        total, rate = len(video), float(video.get_avg_fps())
        if sampling["reader"] == "processor":
            numbers = _by_processor(total, rate, sampling, processor)
        else:
            numbers = evenly(0, total - 1, taken(total, rate, sampling))
    except ValueError as error:
        raise UsageError(f"{file}: {error}") from None
    pixels = video.get_batch(numbers).asnumpy()
    return _clip(
        pixels, numbers, {"total_num_frames": total, "fps": rate, "frames_indices": numbers}
    )


def _clip(pixels: Any, numbers: Sequence[int], metadata: Mapping[str, Any]) -> Clip:
    return Clip((Image.fromarray(frame) for frame in pixels), numbers, metadata)


def _by_processor(
    total: int, rate: float, sampling: Mapping[str, Any], processor: Any
) -> list[int]:
    """The frames that the model's video processor would take of the whole file."""
    own = processor.video_processor
    rule = (
        {"fps": sampling["fps"]}
        if "fps" in sampling
        else {"num_frames": min(sampling["frames"], total)}
    )
    most = {"max_frames": sampling["most"]} if "most" in sampling else {}
    facts = VideoMetadata(total_num_frames=total, fps=rate)
    return [int(number) for number in own.sample_frames(facts, **rule, **most)]


def _fetched(file: str, sampling: Mapping[str, Any], processor: Any) -> Clip:
    """As qwen-vl-utils takes and resizes frames, and a second sampling of them."""
    from qwen_vl_utils.vision_process import fetch_video  # optional, with the harnesses

    request: dict[str, Any] = {"video": file}
    if "fps" in sampling:
        request["fps"] = sampling["fps"]
        if "most" in sampling:
            # its own default also looks at the length of the file
            request["max_frames"] = min(sampling["most"], len(VideoReader(file)))
    else:
        # an even number, as lmms-eval's class makes it
        request["nframes"] = max(2, min(sampling["frames"], len(VideoReader(file))) // 2 * 2)
    bounds = ("min_pixels", "max_pixels", "total_pixels")
    request |= {key: sampling[key] for key in bounds if key in sampling}
    (pixels, metadata), rate = fetch_video(
        request,
        image_patch_size=processor.video_processor.patch_size,
        return_video_sample_fps=True,
        return_video_metadata=True,
    )
    numbers = [int(number) for number in metadata["frames_indices"]]
    told = {key: metadata[key] for key in ("total_num_frames", "fps")} | {"frames_indices": numbers}
    if (count := sampling.get("thin")) is not None and count < len(numbers):
        places = evenly(0, len(numbers) - 1, count)
        pixels, numbers = pixels[places], [numbers[place] for place in places]
        # steps stay those of the first sampling, whatever time the frames now span
        told = {"total_num_frames": count, "fps": rate, "frames_indices": list(range(count))}
    shown = pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return _clip(np.ascontiguousarray(shown), numbers, told)
