"""Videos on their way to a processor: frames with their times, and bounds of their sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from PIL.Image import Image


class Clip(tuple[Image, ...]):
    """The frames of a video that is shown, and where they stood in it.

    Attributes:
        numbers: of the frames in the file.
        metadata: what the processor is told of them: ``total_num_frames``, ``fps`` of the file and
            ``frames_indices``. Without it processors take every clip for one of 24 frames a second,
            which Qwen2.5-VL's positions and Qwen3-VL's time stamps follow.
    """

    numbers: tuple[int, ...]
    metadata: Mapping[str, Any]

    def __new__(
        cls, frames: Iterable[Image], numbers: Sequence[int], metadata: Mapping[str, Any]
    ) -> Clip:
        """A clip of so many frames."""
        clip = super().__new__(cls, frames)
        clip.numbers, clip.metadata = tuple(numbers), dict(metadata)
        return clip


def told(videos: Sequence[Sequence[Image]]) -> dict[str, Any]:
    """What a processor is told of the times of some videos; nothing where a clip has no clock."""
    known = [dict(video.metadata) for video in videos if isinstance(video, Clip)]
    return {"video_metadata": known} if known and len(known) == len(videos) else {}


def options_of(processor: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for the video processor.

    Args:
        processor: of the model.
        settings: of a cell's videos, see :class:`unibench.config.VideoConfig`.
    """
    if settings.get("reader") == "qwen_vl_utils":
        return {"do_resize": False}  # the reader has resized the frames
    names = {"shortest_edge": "min_pixels", "longest_edge": "max_pixels"}
    given = {edge: settings[key] for edge, key in names.items() if key in settings}
    if not given:
        return {}
    own = processor.video_processor.size
    return {"size": {edge: given.get(edge, own[edge]) for edge in names}}
